"""Test double of GitHub: issues, comments and webhooks of one repository, in memory, over HTTP.

It answers as GitHub does, traps included: pull requests are listed among the issues, labels are dropped without the
right to push, a refused assignee refuses the whole issue, an invisible repository is 404, rate limits come as 403.

https://docs.github.com/en/rest/issues and https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from pointsman_github.testing.admin import GitHubAdministration, error, invalid, json_object
from pointsman_github.testing.model import (
    GitHubApp,
    GitHubComment,
    GitHubHook,
    GitHubIssue,
    GitHubWebhook,
    marker_of,
)

__all__ = ["FakeGitHub", "GitHubApp", "GitHubComment", "GitHubHook", "GitHubIssue", "GitHubWebhook"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]
_BY = web.RequestKey("by", str)
_VERSIONS = ("2022-11-28", "2026-03-10")
_BODY_CHARACTERS = 65536
_TITLE_CHARACTERS = 256
_REASONS = ("completed", "not_planned", "duplicate", "reopened", None)


class FakeGitHub(GitHubAdministration):
    """One repository on GitHub; ``api`` is the URL of its API, with ``enterprise`` below ``/api/v3``.

    A test may set at any time:

    * ``webhook_url``, ``webhook_secret``: the repository's webhook; without a URL none is sent;
    * ``webhook_seconds``: the timeout of webhook calls; GitHub never retries by itself;
    * ``echo``: whether API calls send webhooks too, as GitHub does, in the background;
    * ``may_see``, ``may_write_issues``, ``may_triage``, ``may_push``, ``may_administer``: the token's rights; without
      the first everything is 404;
    * ``app``: a GitHub App whose tokens are valid in addition to ``token``; ``hooks``: the repository's webhooks;
    * ``assignable``: who can be assigned; ``labels``: the names of the repository's labels;
    * ``has_issues``, ``archived``, ``private``: the repository's switches;
    * ``hidden``: numbers of issues that no list shows yet;
    * ``calls_left``: calls until the primary limit; ``content_left``: writes until the secondary limit, which names
      ``secondary_retry_after`` seconds or none;
    * ``token_headers``: headers about the token in every response;
    * ``page_max``: the largest page; ``now``: GitHub's clock.

    ``effects`` records what API calls did; what a person did is in ``issues`` only.
    """

    def routes(self) -> list[web.RouteDef]:
        """Return the calls of the REST API that this double knows."""
        repo = "/repos/{owner}/{name}"
        calls: list[tuple[str, str, _Handler]] = [
            ("GET", "/user", self._get_user),
            ("GET", "/users/{login}", self._get_account),
            ("GET", "/app", self._get_app),
            ("POST", "/app/installations/{id}/access_tokens", self._post_app_token),
            ("GET", "/repositories/{id}/issues/{number}", self._get_moved),
            ("GET", repo, self._get_repository),
            ("GET", f"{repo}/assignees/{{login}}", self._get_assignee),
            ("GET", f"{repo}/hooks", self._get_hooks),
            ("POST", f"{repo}/hooks", self._post_hook),
            ("PATCH", f"{repo}/hooks/{{id}}", self._patch_hook),
            ("GET", f"{repo}/hooks/{{id}}/deliveries", self._get_deliveries),
            ("POST", f"{repo}/hooks/{{id}}/deliveries/{{call}}/attempts", self._post_attempt),
            ("GET", f"{repo}/issues", self._get_issues),
            ("POST", f"{repo}/issues", self._post_issue),
            ("GET", f"{repo}/issues/{{number}}", self._get_issue),
            ("PATCH", f"{repo}/issues/{{number}}", self._patch_issue),
            ("DELETE", f"{repo}/issues/comments/{{id}}", self._delete_comment),
            ("GET", f"{repo}/issues/{{number}}/comments", self._get_comments),
            ("POST", f"{repo}/issues/{{number}}/comments", self._post_comment),
        ]
        return [web.route(method, self.prefix + path, self._guarded(call)) for method, path, call in calls]

    # -- before every call -------------------------------------------------------------------------------------------

    def _guarded(self, handler: _Handler) -> _Handler:
        """Check headers, credential, limits and repository before the call itself, and add the limit's headers."""

        async def guarded(request: web.Request) -> web.Response:
            refusal = self._refusal(request)
            answer = await handler(request) if refusal is None else refusal
            answer.headers.update(self._limit_headers())
            return answer

        return guarded

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not request.headers.get("User-Agent"):
            return web.Response(status=403, text="Request forbidden by administrative rules.")
        if request.headers.get("X-GitHub-Api-Version", _VERSIONS[0]) not in _VERSIONS:
            return error(400, "The API version is not supported")
        credential = request.headers.get("Authorization", "").partition(" ")[2]
        if request.path.startswith(f"{self.prefix}/app"):
            return self._refused_jwt(credential)
        if credential == self.token:
            request[_BY] = self.bot
        elif self.app is not None and self._is_app_token(credential):
            request[_BY] = self.app.login
        else:
            return error(401, "Bad credentials")
        limited = self._limited(request)
        return self._elsewhere(request) if limited is None else limited

    def _limited(self, request: web.Request) -> web.Response | None:
        if self.calls_left <= 0:
            return error(403, "API rate limit exceeded for user ID 1000.")
        self.calls_left -= 1
        if request.method == "GET":
            return None
        if self.content_left <= 0:
            answer = error(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
            if self.secondary_retry_after is not None:
                answer.headers["Retry-After"] = str(self.secondary_retry_after)
            return answer
        self.content_left -= 1
        return None

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        if "owner" not in request.match_info:
            return None
        named = f"{request.match_info['owner']}/{request.match_info['name']}"
        if named in self._former_names:
            return _moved(f"{self.api}/repositories/7{request.path_qs.partition(named)[2]}")
        if named.lower() != self.repository.lower() or not self.may_see:
            return error(404, "Not Found")
        if "/hooks" in request.path and not self._may_hook(request[_BY]):
            return error(404, "Not Found")
        if "/issues" in request.path and not self.has_issues:
            return error(410, "Issues are disabled for this repo")
        if request.method != "GET" and self.archived:
            return error(403, "Repository was archived so is read-only.")
        if request.method != "GET" and "/issues" in request.path and not self._may_write(request[_BY]):
            answer = error(403, "Resource not accessible by personal access token")
            answer.headers["X-Accepted-GitHub-Permissions"] = "issues=write"
            return answer
        return None

    def _limit_headers(self) -> dict[str, str]:
        reset = int(self.now().timestamp()) + 1800
        return {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": str(max(self.calls_left, 0)),
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-Resource": "core",
            "X-GitHub-Request-Id": f"FAKE:{len(self.requests)}",
            **({"X-GitHub-Enterprise-Version": "3.19.1"} if self.prefix else {}),
            **self.token_headers,
        }

    def _find_issue(self, request: web.Request) -> GitHubIssue | web.Response:
        """Return the issue of a call, or the response if it does not exist any more."""
        number = request.match_info["number"]
        issue = self.issues.get(int(number)) if number.isdigit() else None
        if issue is None:
            return error(404, "Not Found")
        if issue.deleted:
            return error(410, "This issue was deleted")
        if issue.moved_to is not None:
            rest = request.path.partition(f"/issues/{number}")[2]
            return _moved(f"{self.api}/repositories/8/issues/{issue.moved_to[1]}{rest}")
        return issue

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _get_user(self, request: web.Request) -> web.Response:
        if request[_BY] != self.bot:
            return error(403, "Resource not accessible by integration")
        return web.json_response(self._user(self.bot))

    async def _get_repository(self, _: web.Request) -> web.Response:
        return web.json_response(self._repository())

    async def _get_moved(self, request: web.Request) -> web.Response:
        """Return the new location of a transferred issue."""
        for issue in self.issues.values():
            if issue.moved_to is not None and str(issue.moved_to[1]) == request.match_info["number"]:
                return web.json_response(self._issue(issue))
        return error(404, "Not Found")

    async def _get_issues(self, request: web.Request) -> web.Response:
        query = request.query
        matching: Iterable[GitHubIssue] = self.issues.values()
        matching = [issue for issue in matching if not issue.deleted and issue.moved_to is None]
        state = query.get("state", "open")
        if state not in ("open", "closed", "all"):
            return invalid("state", "invalid")
        matching = [issue for issue in matching if state in ("all", issue.state)]
        if creator := query.get("creator"):
            matching = [issue for issue in matching if issue.author.lower() == creator.lower()]
        try:
            since = dt.datetime.fromisoformat(query.get("since") or "1970-01-01T00:00:00Z")
        except ValueError:
            return invalid("since", "invalid")
        matching = [issue for issue in matching if issue.updated_at.replace(microsecond=0) >= since]
        shown = [issue for issue in matching if issue.number not in self.hidden]
        moment = "updated_at" if query.get("sort") == "updated" else "created_at"
        shown.sort(
            key=lambda issue: (getattr(issue, moment), issue.number),
            reverse=query.get("direction", "desc") == "desc",
        )
        return self._page(request, [self._issue(issue) for issue in shown])

    async def _post_issue(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        if body is None:
            return error(400, "Problems parsing JSON")
        refusal = _too_long(body) if isinstance(body.get("title"), str) else invalid("title", "missing_field")
        if refusal is not None:
            return refusal
        labels = [name if isinstance(name, str) else name["name"] for name in body.get("labels") or []]
        assignees = body.get("assignees") or []
        if not self.may_push:
            labels, assignees = [], []
        known = {login.lower(): login for login in self.assignable}
        for login in assignees:
            if login.lower() not in known:
                return invalid("assignees", "invalid", value=login)
        issue = self._add_issue(body["title"], body.get("body") or "", request[_BY])
        issue.labels, issue.assignees = labels, [known[login.lower()] for login in assignees]
        self.labels |= set(labels)
        self.record_effect("issue", str(issue.number), marker_of(issue.body), issue.title)
        self._echo(issue, "opened", *["labeled"] * len(labels), *["assigned"] * len(assignees))
        return web.json_response(self._issue(issue), status=201)

    async def _get_issue(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        return issue if isinstance(issue, web.Response) else web.json_response(self._issue(issue))

    async def _patch_issue(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        issue = self._find_issue(request)
        if isinstance(issue, web.Response):
            return issue
        if body is None:
            return error(400, "Problems parsing JSON")
        if not self.may_triage and issue.author != request[_BY]:
            return error(403, "Resource not accessible by personal access token")
        if body.get("state", "open") not in ("open", "closed"):
            return invalid("state", "invalid")
        if body.get("state_reason") not in _REASONS:
            return invalid("state_reason", "invalid")
        refusal = _too_long(body)
        if refusal is not None:
            return refusal
        self._edit(issue, body)
        return web.json_response(self._issue(issue))

    def _edit(self, issue: GitHubIssue, body: dict[str, Any]) -> None:
        if "title" in body or "body" in body:
            issue.title = body.get("title", issue.title)
            issue.body = body.get("body", issue.body) or ""
            issue.updated_at = self.now()
            self.record_effect("edit", str(issue.number), marker_of(issue.body))
            self._echo(issue, "edited")
        state = body.get("state", issue.state)
        if state != issue.state:
            self._set_state(issue, state, body.get("state_reason"))
            self.record_effect("state", str(issue.number), marker_of(issue.body), state)
            self._echo(issue, "closed" if state == "closed" else "reopened")

    async def _get_comments(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        if isinstance(issue, web.Response):
            return issue
        since = dt.datetime.fromisoformat(request.query.get("since") or "1970-01-01T00:00:00Z")
        matching = [
            comment for comment in issue.comments if comment.updated_at.replace(microsecond=0) >= since
        ]
        return self._page(request, [self._comment(issue, comment) for comment in matching])

    async def _delete_comment(self, request: web.Request) -> web.Response:
        for issue in self.issues.values():
            for comment in issue.comments:
                if str(comment.id) == request.match_info["id"]:
                    if comment.author != request[_BY] and not self.may_push:
                        return error(403, "Must have admin rights to Repository.")
                    issue.comments.remove(comment)
                    self.record_effect("delete", str(issue.number), marker_of(comment.body))
                    return web.Response(status=204)
        return error(404, "Not Found")

    async def _post_comment(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        issue = self._find_issue(request)
        if isinstance(issue, web.Response):
            return issue
        if body is None:
            return error(400, "Problems parsing JSON")
        if issue.locked and not self.may_push:
            return error(403, "Unable to create comment because issue is locked.")
        if not isinstance(body.get("body"), str) or not body["body"].strip():
            return invalid("body", "missing_field", resource="IssueComment")
        if len(body["body"]) > _BODY_CHARACTERS:
            payload = f"body is too long (maximum is {_BODY_CHARACTERS} characters)"
            return invalid("data", "unprocessable", resource="IssueComment", message=payload)
        created = self._add_comment(issue, body["body"], request[_BY])
        self.record_effect("comment", str(issue.number), marker_of(created.body))
        self._echo(issue, "created", comment=created)
        return web.json_response(self._comment(issue, created), status=201)


def _moved(to: str) -> web.Response:
    payload = {"message": "Moved Permanently", "url": to, "documentation_url": "https://docs.github.com/rest"}
    return web.json_response(payload, status=301, headers={"Location": to})


def _too_long(body: dict[str, Any]) -> web.Response | None:
    title, text = body.get("title"), body.get("body")
    if isinstance(title, str) and len(title) > _TITLE_CHARACTERS:
        return invalid("title", "custom", message="title is too long")
    if isinstance(text, str) and len(text) > _BODY_CHARACTERS:
        return invalid(
            "body", "custom", message=f"body is too long (maximum is {_BODY_CHARACTERS} characters)"
        )
    return None
