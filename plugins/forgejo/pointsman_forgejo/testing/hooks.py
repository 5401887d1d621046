"""API calls that create and change webhooks, with their traps.

Taken from the server's source, ``routers/api/v1/utils/hook.go``: a webhook is inactive unless ``active`` is sent, no
``events`` mean ``push``, an edit empties what it does not mention and keeps the secret.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from pointsman_forgejo.testing.people import ForgejoPeople
from pointsman_forgejo.testing.state import ForgejoHook

_ISSUE_EVENTS = ("issue_assign", "issue_label", "issue_milestone", "issue_comment")


class ForgejoHookCalls(ForgejoPeople):
    """Lists, creates and edits webhooks."""

    async def get_hooks(self, request: web.Request) -> web.Response:
        """Return the webhooks of the repository, in pages."""
        return self._hooks_closed() or self._page(request, [self._hook(hook) for hook in self.hooks.values()])

    async def post_hook(self, request: web.Request) -> web.Response:
        """Create a webhook. A second webhook with the same URL is created silently."""
        if closed := self._hooks_closed():
            return closed
        body = await json_object(request)
        kinds = {"gitea", "gogs", "slack", "discord"} | ({"forgejo"} if self.brand == "forgejo" else set())
        if body.get("type") not in kinds:
            return self._error(422, f"Invalid hook type: {body.get('type')}")
        config = body.get("config") or {}
        for name in ("url", "content_type"):
            if name not in config:
                return self._error(422, f"Missing config option: {name}")
        if config["content_type"] not in ("json", "form"):
            return self._error(422, "Invalid content type")
        if not str(config["url"]).startswith(("http://", "https://")):
            return self._error(422, "Invalid url")
        self._ids += 1
        hook = ForgejoHook(
            self._ids,
            config["url"],
            config.get("secret", ""),
            config["content_type"],
            _event_names(body.get("events") or ["push"]),
            active=body.get("active") is True,
            branch_filter=body.get("branch_filter", ""),
            authorization=body.get("authorization_header", ""),
            type=body["type"],
        )
        self.hooks[hook.id] = hook
        self.record_effect("hook", str(hook.id), detail=hook.url)
        return web.json_response(self._hook(hook), status=201)

    async def patch_hook(self, request: web.Request) -> web.Response:
        """Edit a webhook."""
        if closed := self._hooks_closed():
            return closed
        number = request.match_info["id"]
        hook = self.hooks.get(int(number)) if number.isdigit() else None
        if hook is None:
            return self._error(404, "The target couldn't be found.")
        body = await json_object(request)
        config = body.get("config") or {}
        hook.url = config.get("url", hook.url)
        hook.content_type = config.get("content_type", hook.content_type)
        hook.events = _event_names(body.get("events") or ["push"])
        hook.branch_filter = body.get("branch_filter", "")
        hook.authorization = body.get("authorization_header", "")
        hook.active = body.get("active", hook.active)
        self.record_effect("hook", str(hook.id), detail=hook.url)
        return web.json_response(self._hook(hook))

    def _hooks_closed(self) -> web.Response | None:
        if not self.may_admin:
            return self._error(
                403, "user should be an owner or a collaborator with admin write of a repository"
            )
        if not self.webhooks_enabled:
            return self._error(403, "webhooks disabled by administrator")
        return None

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
        payload: dict[str, Any] = {"message": message, "url": f"{self.url}/api/swagger"}
        if status == 404:
            payload["errors"] = []
        return web.json_response(payload, status=status, headers=headers)

    def _page(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        """Return one page of a list, with the headers about the rest."""
        page = max(int(request.query.get("page", "1")), 1)
        limit = min(int(request.query.get("limit", "30")) or 30, self.page_max)
        headers = {"X-Total-Count": str(len(items))}
        if page * limit < len(items):
            following = request.url.update_query(page=page + 1, limit=limit)
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(items[(page - 1) * limit : page * limit], headers=headers)


def _event_names(events: list[str]) -> set[str]:
    """Return the names under which events are listed: ``issues`` stands for five, ``issues_only`` for one."""
    if "issues" in events:
        return {*events, *_ISSUE_EVENTS}
    return {"issues" if event == "issues_only" else event for event in events}


async def json_object(request: web.Request) -> dict[str, Any]:
    """Return the request's JSON object; anything else counts as empty, and lacks the required fields."""
    try:
        raw = json.loads(await request.read())
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}
