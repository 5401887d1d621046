"""Test double of a Forgejo server: issues, comments, labels and webhooks of one repository, in memory, over HTTP.

It answers as Forgejo does, silent traps included: an edit is answered with 201, labels go by id and unknown labels
are dropped, a title is cut at 255 bytes, a keyword search lags behind, some refusals have an empty body.

https://forgejo.org/docs/latest/user/api-usage/ and https://forgejo.org/docs/latest/user/webhooks/
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from pointsman_forgejo.testing.hooks import ForgejoHookCalls, json_object
from pointsman_forgejo.testing.state import (
    ForgejoComment,
    ForgejoHook,
    ForgejoIssue,
    ForgejoWebhook,
    marker_of,
)

__all__ = ["FakeForgejo", "ForgejoComment", "ForgejoHook", "ForgejoIssue", "ForgejoWebhook"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class FakeForgejo(ForgejoHookCalls):
    """One repository on a Forgejo server.

    A test may set at any time:

    * ``webhook_url``, ``webhook_secret``: a webhook that a person created; without a URL there is none;
    * ``hooks``: webhooks by id, those created by the API included; ``webhooks_enabled``: the operator's switch;
    * ``brand``: ``forgejo`` or ``gitea``, which sends no ``X-Forgejo-`` headers;
    * ``webhook_seconds``: the timeout of webhook calls; the server never retries by itself;
    * ``echo``: whether API calls send webhooks too, as the real server does, in the background;
    * ``may_write``: whether the bot may write to the repository; without it labels and assignees are dropped;
    * ``may_admin``: whether it may read and create webhooks;
    * ``members``: who can be assigned; ``known_users``: other existing users;
    * ``has_issues``, ``archived``, ``private``: the repository's switches;
    * ``labels``, ``org_labels``: names by id; ``org_labels`` is None if the owner is a person;
    * ``scopes``: the token's scopes: ``user``, ``repository``, ``issue``, ``organization``; ``read_only``: those
      without write access;
    * ``indexed``: numbers of issues that a keyword search finds already;
    * ``hidden``: numbers of issues that no list shows yet;
    * ``blocked``: numbers of issues with open dependencies, which can't be closed;
    * ``newest_first``: whether issues are listed in Forgejo's order;
    * ``page_max``: the largest page; ``now``: the server's clock.

    ``effects`` records what API calls did; what a person did is in ``issues`` only.
    """

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """Return the calls of API version 1 that this double knows."""
        repo = "/api/v1/repos/{owner}/{name}"
        return [
            web.get("/api/v1/version", self._get_version),
            web.get("/api/v1/user", self._guarded("user", self._get_user)),
            web.get("/api/v1/orgs/{org}/labels", self._guarded("organization", self._get_org_labels)),
            web.get(repo, self._guarded("repository", self._get_repository)),
            web.get(f"{repo}/assignees", self._guarded("repository", self._get_assignees)),
            web.get(f"{repo}/hooks", self._guarded("repository", self.get_hooks)),
            web.post(f"{repo}/hooks", self._guarded("repository", self.post_hook)),
            web.patch(f"{repo}/hooks/{{id}}", self._guarded("repository", self.patch_hook)),
            web.get(f"{repo}/labels", self._guarded("issue", self._get_labels)),
            web.post(f"{repo}/labels", self._guarded("issue", self._post_label)),
            web.get(f"{repo}/issues", self._guarded("issue", self._get_issues)),
            web.post(f"{repo}/issues", self._guarded("issue", self._post_issue)),
            web.get(f"{repo}/issues/{{number}}", self._guarded("issue", self._get_issue)),
            web.patch(f"{repo}/issues/{{number}}", self._guarded("issue", self._patch_issue)),
            web.delete(f"{repo}/issues/comments/{{id}}", self._guarded("issue", self._delete_comment)),
            web.get(f"{repo}/issues/{{number}}/comments", self._guarded("issue", self._get_comments)),
            web.post(f"{repo}/issues/{{number}}/comments", self._guarded("issue", self._post_comment)),
        ]

    def _guarded(self, scope: str, handler: _Handler) -> _Handler:
        """Check credential, scope and repository before the call itself."""

        async def guarded(request: web.Request) -> web.Response:
            received = request.headers.get("Authorization", "")
            if received not in (f"token {self.token}", f"Bearer {self.token}"):
                return self._error(401, "invalid username, password or token")
            if scope not in self.scopes:
                need = f"{'read' if request.method == 'GET' else 'write'}:{scope}"
                return self._error(403, self._lacks(need))
            if scope in self.read_only and request.method != "GET":
                return self._error(403, self._lacks(f"write:{scope}"))
            if "owner" in request.match_info:
                named = f"{request.match_info['owner']}/{request.match_info['name']}"
                if named in self._former_names:
                    rest = request.path_qs.partition(named)[2]
                    return self._error(307, "", {"Location": f"/api/v1/repos/{self.repository}{rest}"})
                if named.lower() != self.repository.lower():
                    return self._error(404, "The target couldn't be found.")
                if "/issues" in request.path and not self.has_issues:
                    return self._error(404, "The target couldn't be found.")
            return await handler(request)

        return guarded

    def _lacks(self, scope: str) -> str:
        """Return the message about a token without a scope; newer Gitea adds the scopes that it has."""
        if self.brand == "gitea":
            return (
                f"token does not have at least one of required scope(s), required=[{scope}], "
                "token scope=read:user,write:misc"
            )
        return f"token does not have at least one of required scope(s): [{scope}]"

    def _find_issue(self, request: web.Request) -> ForgejoIssue | None:
        number = request.match_info["number"]
        return self.issues.get(int(number)) if number.isdigit() else None

    async def _get_version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "15.0.3+gitea-1.22.0" if self.brand == "forgejo" else "1.24.2"})

    async def _get_user(self, _: web.Request) -> web.Response:
        return web.json_response(self._user(self.bot))

    async def _get_repository(self, _: web.Request) -> web.Response:
        return web.json_response(self._repository())

    async def _get_assignees(self, _: web.Request) -> web.Response:
        return web.json_response([self._user(login) for login in sorted(self.members)])

    async def _get_labels(self, request: web.Request) -> web.Response:
        return self._page(request, [self._label(number) for number in self.labels])

    async def _get_org_labels(self, request: web.Request) -> web.Response:
        if self.org_labels is None or request.match_info["org"] != self.repository.partition("/")[0]:
            return self._error(404, "The target couldn't be found.")
        return self._page(request, [self._label(number) for number in self.org_labels])

    async def _post_label(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        if not self.may_write:
            return self._error(403, "user should have a permission to write to a repo")
        if not (body.get("name") and re.fullmatch(r"#?[0-9a-fA-F]{6}", str(body.get("color", "")))):
            return self._error(422, "[Color]: Required")
        number = self._new_label(body["name"])
        self.record_effect("label", body["name"])
        return web.json_response(self._label(number), status=201)

    async def _get_issues(self, request: web.Request) -> web.Response:
        query = request.query
        matching: Iterable[ForgejoIssue] = self.issues.values()
        state = query.get("state", "open")
        if state != "all":
            matching = [
                issue for issue in matching if issue.state == ("closed" if state == "closed" else "open")
            ]
        if query.get("type") in ("issues", "pulls"):
            matching = [issue for issue in matching if issue.is_pull == (query["type"] == "pulls")]
        if creator := query.get("created_by"):
            if creator not in self.known_users | self.members:
                return self._error(404, f"user does not exist [uid: 0, name: {creator}]")
            matching = [issue for issue in matching if issue.author == creator]
        if query.get("since"):
            try:
                since = dt.datetime.fromisoformat(query["since"])
            except ValueError as error:
                return self._error(422, str(error))
            matching = [issue for issue in matching if issue.updated_at.replace(microsecond=0) >= since]
        wanted = {
            number for number, name in self.labels.items() if name in query.get("labels", "").split(",")
        }
        if wanted:  # a filter by labels that do not exist is no filter
            matching = [issue for issue in matching if wanted <= set(issue.labels)]
        if keyword := query.get("q", "").strip().lower():
            matching = [
                issue
                for issue in matching
                if issue.number in self.indexed and keyword in f"{issue.title} {issue.body}".lower()
            ]
        shown = [issue for issue in matching if issue.number not in self.hidden]
        shown.sort(key=lambda issue: issue.number, reverse=self.newest_first)
        return self._page(request, [self._issue(issue) for issue in shown])

    async def _post_issue(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        if self.archived:
            return self._error(423, f"repository {self.repository} is archived")
        if not isinstance(body.get("title"), str) or not body["title"].strip():
            return self._error(422, "[Title]: Required")
        labels, assignees = body.get("labels") or [], body.get("assignees") or []
        if not all(isinstance(number, int) for number in labels):
            return self._error(
                422, "json: cannot unmarshal string into CreateIssueOption.labels of type int64"
            )
        if not self.may_write:
            labels, assignees = [], []
        logins = {login.lower(): login for login in self.known_users | self.members}
        for login in assignees:
            if login.lower() not in logins:
                return self._error(422, f"Assignee does not exist: [name: {login}]")
            if logins[login.lower()] not in self.members:
                return self._error(422, f"user doesn't have access to repo [user_id: 0, repo_name: {login}]")
        issue = self._add_issue(body["title"], body.get("body") or "", self.bot)
        issue.labels = [number for number in labels if number in {**self.labels, **(self.org_labels or {})}]
        issue.assignees = [logins[login.lower()] for login in assignees]
        self.record_effect("issue", str(issue.number), marker_of(issue.body), issue.title)
        news = [("assigned", "issue_assign")] * bool(assignees) + [("opened", "issues")]
        self._echo(issue, *news, *[("label_updated", "issue_label")] * bool(issue.labels))
        return web.json_response(self._issue(issue), status=201)

    async def _get_issue(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        if issue is None:
            return self._error(404, "The target couldn't be found.")
        return web.json_response(self._issue(issue))

    async def _patch_issue(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        issue = self._find_issue(request)
        if issue is None:
            return self._error(404, "The target couldn't be found.")
        if not self.may_write and issue.author != self.bot:
            return web.Response(status=403)
        if body.get("title") or body.get("body") is not None:
            issue.title = body.get("title") or issue.title
            issue.body = issue.body if body.get("body") is None else body["body"]
            issue.updated_at = self.now()
            self.record_effect("edit", str(issue.number), marker_of(issue.body))
            self._echo(issue, ("edited", "issues"))
        if "state" in body:
            state = "closed" if body["state"] == "closed" else "open"
            if state == "closed" and issue.number in self.blocked:
                return self._error(412, "cannot close this issue because it still has open dependencies")
            if state != issue.state:
                self._set_state(issue, state)
                self.record_effect("state", str(issue.number), marker_of(issue.body), state)
                self._echo(issue, ("closed" if state == "closed" else "reopened", "issues"))
        return web.json_response(self._issue(issue), status=201)

    async def _get_comments(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        if issue is None:
            return self._error(404, "The target couldn't be found.")
        since = dt.datetime.fromisoformat(request.query.get("since") or "1970-01-01T00:00:00Z")
        matching = [
            comment for comment in issue.comments if comment.updated_at.replace(microsecond=0) >= since
        ]
        return web.json_response([self._comment(issue, comment) for comment in matching])

    async def _post_comment(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        issue = self._find_issue(request)
        if issue is None:
            return self._error(404, "The target couldn't be found.")
        if self.archived:
            return self._error(423, f"repository {self.repository} is archived")
        if issue.locked and not self.may_write:
            return self._error(403, "You cannot comment on a locked issue.")
        if not body.get("body"):
            return self._error(422, "[Body]: Required")
        created = self._add_comment(issue, body["body"], self.bot)
        self.record_effect("comment", str(issue.number), marker_of(created.body))
        self._echo(issue, ("created", "issue_comment"), comment=created)
        return web.json_response(self._comment(issue, created), status=201)

    async def _delete_comment(self, request: web.Request) -> web.Response:
        for issue in self.issues.values():
            for comment in issue.comments:
                if str(comment.id) == request.match_info["id"]:
                    if comment.author != self.bot and not self.may_admin:
                        return self._error(403, "")
                    issue.comments.remove(comment)
                    self.record_effect("delete", str(issue.number), marker_of(comment.body))
                    return web.Response(status=204)
        return self._error(404, "The target couldn't be found.")
