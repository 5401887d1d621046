"""Test double of a GitLab server: one project's issues, notes and webhooks, in memory, over HTTP.

It answers as GitLab does, silent traps included: quick actions in texts are executed, a note of nothing else is
answered with 202, labels and assignees are dropped for guests, an issue has one assignee without a licence, a hidden
project does not exist, pages have a next page and no total. https://docs.gitlab.com/api/rest/
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pointsman_gitlab.testing.state import (
    BOT,
    PERSON,
    GitLabHook,
    GitLabIssue,
    GitLabNote,
    GitLabState,
    marker_of,
)

__all__ = ["BOT", "PERSON", "FakeGitLab", "GitLabHook", "GitLabIssue", "GitLabNote"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]
_GUEST = 10


class FakeGitLab(GitLabState):
    """One project on a GitLab server.

    A test may set at any time:

    * ``webhook_url``, ``webhook_secret``: the webhook for actions of people; a secret that begins with ``whsec_``
      signs the calls; ``has_idempotency_keys``: whether calls have ids, as since GitLab 17.4;
    * ``hooks``: webhooks that the API created; ``signs``: whether the server knows signing tokens;
    * ``role``: the account's role, 10 Guest, 15 Planner, 20 Reporter; ``may_admin``: whether it may see webhooks;
    * ``users``: existing users by username; ``members``: who can be assigned; ``licensed``: whether several at once;
    * ``archived``, ``issues_enabled``, ``visibility``, ``former_names``: the project's; ``hidden``: issues hidden
      from the account;
    * ``scopes``, ``expires_at``: the token's.
    """

    def routes(self) -> list[web.RouteDef]:
        """Return the calls of API version 4 that this double knows."""
        project = "/api/v4/projects/{project}"
        issue = f"{project}/issues/{{iid}}"
        return [
            web.get("/api/v4/user", self._guarded(self._get_user)),
            web.get("/api/v4/users", self._guarded(self._get_users)),
            web.get("/api/v4/personal_access_tokens/self", self._guarded(self._get_token)),
            web.get(project, self._guarded(self._get_project)),
            web.get(f"{project}/hooks", self._guarded(self._get_hooks)),
            web.post(f"{project}/hooks", self._guarded(self._post_hook)),
            web.put(f"{project}/hooks/{{id}}", self._guarded(self._put_hook)),
            web.get(f"{project}/issues", self._guarded(self._get_issues)),
            web.post(f"{project}/issues", self._guarded(self._post_issue)),
            web.get(issue, self._guarded(self._get_issue)),
            web.put(issue, self._guarded(self._put_issue)),
            web.get(f"{issue}/notes", self._guarded(self._get_notes)),
            web.post(f"{issue}/notes", self._guarded(self._post_note)),
            web.delete(f"{issue}/notes/{{note}}", self._guarded(self._delete_note)),
        ]

    def _guarded(self, handler: _Handler) -> _Handler:
        """Check credential, scope and project before the call itself."""

        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("PRIVATE-TOKEN") != self.token:
                return _message(401, "401 Unauthorized")
            if "api" not in self.scopes and not (request.method == "GET" and "read_api" in self.scopes):
                payload = {
                    "error": "insufficient_scope",
                    "error_description": "The request requires higher privileges",
                }
                return web.json_response(payload, status=403)
            named = request.match_info.get("project")
            if named in self.former_names:
                rest = request.path_qs.partition("/issues")
                where = f"{self.url}/api/v4/projects/{self.project_id}{rest[1]}{rest[2]}"
                return web.json_response({"message": "moved"}, status=301, headers={"Location": where})
            if named is not None and named.lower() not in (self.project.lower(), str(self.project_id)):
                return _message(404, "404 Project Not Found")
            return await handler(request)

        return guarded

    def _find_issue(self, request: web.Request) -> GitLabIssue:
        """Return the issue of a path; a hidden issue does not exist."""
        iid = request.match_info["iid"]
        issue = self.issues.get(int(iid)) if iid.isdigit() else None
        if issue is None or issue.iid in self.hidden or not self.issues_enabled:
            raise web.HTTPNotFound(text='{"message": "404 Not found"}', content_type="application/json")
        return issue

    # -- account and project -----------------------------------------------------------------------------------------

    async def _get_user(self, _: web.Request) -> web.Response:
        return web.json_response(self.user(BOT))

    async def _get_users(self, request: web.Request) -> web.Response:
        wanted = request.query.get("username", "").lower()
        return web.json_response([self.user(name) for name in self.users if name.lower() == wanted])

    async def _get_token(self, _: web.Request) -> web.Response:
        payload = {
            "id": 1,
            "scopes": self.scopes,
            "active": True,
            "revoked": False,
            "expires_at": self.expires_at,
        }
        return web.json_response(payload)

    async def _get_project(self, _: web.Request) -> web.Response:
        access = "enabled" if self.issues_enabled else "disabled"
        return web.json_response(
            {
                "id": self.project_id,
                "path_with_namespace": self.project,
                "archived": self.archived,
                "visibility": self.visibility,
                "issues_access_level": access,
                "permissions": {"project_access": {"access_level": self.role}, "group_access": None},
            }
        )

    # -- issues ------------------------------------------------------------------------------------------------------

    async def _get_issues(self, request: web.Request) -> web.Response:
        query = request.query
        matching = [
            item for item in self.issues.values() if self.issues_enabled and item.iid not in self.hidden
        ]
        if query.get("scope") != "all":
            matching = [item for item in matching if item.author == BOT]
        if author := query.get("author_id"):
            matching = [item for item in matching if str(self.users[item.author]) == author]
        for name in ("created", "updated"):
            if after := query.get(f"{name}_after"):
                moment = dt.datetime.fromisoformat(after)
                matching = [item for item in matching if getattr(item, f"{name}_at") >= moment]
        order = query.get("order_by", "created_at")
        matching.sort(key=lambda item: (getattr(item, order), item.iid), reverse=query.get("sort") != "asc")
        return self._page(request, [self.issue_json(item) for item in matching])

    async def _post_issue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.archived or not self.issues_enabled:
            return _message(403, "403 Forbidden")
        title = body.get("title")
        if not isinstance(title, str) or not title.strip():
            return web.json_response({"error": "title is missing"}, status=400)
        if len(title) > 255:
            return _message(400, {"title": ["is too long (maximum is 255 characters)"]})
        issue = self.add_issue(title, body.get("description") or "", BOT)
        if self.role > _GUEST:
            issue.labels += [name for name in str(body.get("labels") or "").split(",") if name]
            names = {number: name for name, number in self.users.items()}
            wanted = [names[number] for number in body.get("assignee_ids") or [] if number in names]
            issue.assignees = [name for name in wanted if name in self.members][
                : None if self.licensed else 1
            ]
        issue.confidential = body.get("confidential") is True
        self.record_effect("issue", str(issue.iid), marker_of(issue.description), issue.title)
        return web.json_response(self.issue_json(issue), status=201)

    async def _get_issue(self, request: web.Request) -> web.Response:
        return web.json_response(self.issue_json(self._find_issue(request)))

    async def _put_issue(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        body = await request.json()
        if self.role <= _GUEST and issue.author != BOT:
            return _message(403, "403 Forbidden")
        event = body.get("state_event")
        if event not in (None, "close", "reopen"):
            return web.json_response({"error": "state_event does not have a valid value"}, status=400)
        state = "closed" if event == "close" else "opened"
        if event and self.set_state(issue, state, BOT):
            self.record_effect("state", str(issue.iid), marker_of(issue.description), state)
        if "title" in body or "description" in body:
            issue.title = body.get("title", issue.title)
            issue.description = self.obey(issue, body.get("description", issue.description))
            issue.updated_at = self.now()
            self.record_effect("edit", str(issue.iid), marker_of(issue.description))
        return web.json_response(self.issue_json(issue))

    async def _get_notes(self, request: web.Request) -> web.Response:
        notes = list(self._find_issue(request).notes)
        if request.query.get("sort", "desc") == "desc":
            notes.reverse()
        return self._page(request, [self.note_json(item) for item in notes])

    async def _post_note(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        body = await request.json()
        if not body.get("body"):
            return web.json_response({"error": "body is missing"}, status=400)
        note = self.add_note(issue, body["body"], BOT)
        if note is None:
            return web.json_response({"commands_changes": {}, "summary": ["Done."]}, status=202)
        self.record_effect("comment", str(issue.iid), marker_of(note.body))
        return web.json_response(self.note_json(note), status=201)

    async def _delete_note(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        for note in issue.notes:
            if str(note.id) == request.match_info["note"] and not note.system:
                if note.author != BOT:
                    return _message(403, "403 Forbidden")
                issue.notes.remove(note)
                self.record_effect("delete", str(issue.iid), marker_of(note.body))
                return web.Response(status=204)
        return _message(404, "404 Note Not Found")

    def _page(self, request: web.Request, items: list[Any]) -> web.Response:
        size = min(int(request.query.get("per_page", "20")), 100)
        page = int(request.query.get("page", "1"))
        following = str(page + 1) if len(items) > page * size else ""
        return web.json_response(
            items[(page - 1) * size : page * size], headers={"X-Next-Page": following, "X-Page": str(page)}
        )

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def _get_hooks(self, request: web.Request) -> web.Response:
        if not self.may_admin:
            return _message(403, "403 Forbidden")
        return self._page(request, [self.hook_json(hook) for hook in self.hooks.values()])

    async def _post_hook(self, request: web.Request) -> web.Response:
        if not self.may_admin:
            return _message(403, "403 Forbidden")
        hook = GitLabHook(len(self.hooks) + 1, "", flags={"push_events": True})
        self._write_hook(hook, await request.json())
        self.hooks[hook.id] = hook
        self.record_effect("hook", str(hook.id))
        return web.json_response(self.hook_json(hook), status=201)

    async def _put_hook(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        hook = self.hooks.get(int(number)) if number.isdigit() else None
        if not self.may_admin or hook is None:
            return _message(404, "404 Not found")
        self._write_hook(hook, await request.json())
        self.record_effect("hook", str(hook.id))
        return web.json_response(self.hook_json(hook))

    def _write_hook(self, hook: GitLabHook, body: dict[str, Any]) -> None:
        hook.url = body["url"]
        hook.token = body.get("token", hook.token)
        if self.signs:
            hook.signing_token = body.get("signing_token", hook.signing_token)
        hook.flags |= {key: value for key, value in body.items() if isinstance(value, bool)}


def _message(status: int, message: Any) -> web.Response:
    return web.json_response({"message": message}, status=status)
