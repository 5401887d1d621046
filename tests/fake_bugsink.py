"""Test double of Bugsink: issues, events, histories and comments of one installation, in memory, over HTTP.

``error`` makes an application fail; the alerts that follow are posted once to ``intake_url``, as the real Bugsink
does, or are lost. It answers as Bugsink 2.6.2 does, or as an older version: https://www.bugsink.com/docs/api/
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, web

from pointsman.testing.fake import FakeTracker

_Handler = Callable[[web.Request], Awaitable[web.Response]]
ALL_RIGHTS = frozenset({"issues:read", "events:read", "issues:triage", "issues:comment", "projects:read"})


@dataclass(slots=True)
class BugsinkIssue:
    """One issue, with the ids of its events, the newest last."""

    id: str
    number: int
    project: int
    kind: str
    value: str
    first_seen: dt.datetime
    last_seen: dt.datetime
    events: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    is_resolved: bool = False
    is_muted: bool = False
    how: str = ""
    """The call by which it was resolved."""

    @property
    def comments(self) -> list[str]:
        """Return the comments, the oldest first."""
        return [item["comment"] for item in self.history if item["kind"] == "manual_annotation"]


class FakeBugsink(FakeTracker):
    """One Bugsink installation.

    A test may set at any time: ``version``, (2, 6, 2) or an older one, whose API has less; ``rights`` of the token;
    ``intake_url``, the target of alerts; ``alerts``, whether they are sent at all; ``switched_off``, the project's
    alert switches that are off; ``page_size``.
    """

    def __init__(
        self, *, token: str = "0123456789abcdef" * 2 + "01234567", project: int = 7, port: int = 0
    ) -> None:
        super().__init__(port=port)
        self.token = token
        self.project = project
        self.version = (2, 6, 2)
        self.rights: frozenset[str] = ALL_RIGHTS
        self.intake_url = ""
        self.alerts = True
        self.switched_off: set[str] = set()
        self.page_size = 250
        self.issues: dict[str, BugsinkIssue] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.posted: list[tuple[str, int]] = []
        """The reason of each alert with the status of its response; 0 without a response."""
        self._history_entries = 0

    # -- what happens --------------------------------------------------------------------------------------------

    async def error(
        self,
        kind: str = "KeyError",
        value: str = "'basket'",
        *,
        release: str = "shop@1.0",
        environment: str = "production",
        at: dt.datetime | None = None,
        **data: Any,
    ) -> BugsinkIssue:
        """Make an application fail; return its issue once the alert was sent, if the event caused one."""
        now = at or dt.datetime.now(dt.UTC)
        issue = next(
            (item for item in self.issues.values() if (item.kind, item.value) == (kind, value)), None
        )
        reason = ""
        if issue is None:
            number = len(self.issues) + 1
            issue = BugsinkIssue(str(uuid.uuid4()), number, self.project, kind, value, now, now)
            self.issues[issue.id] = issue
            reason = "NEW"
        issue.last_seen = now
        event = str(uuid.uuid4())
        issue.events.append(event)
        if release not in issue.releases:
            issue.releases.append(release)
        self.events[event] = _event(event, issue, now, release, environment, data)
        if issue.is_resolved:
            issue.is_resolved, reason = False, "REGRESSED"
        elif issue.is_muted:
            issue.is_muted, reason = False, "UNMUTED"
        if reason:
            kinds = {"NEW": "first_seen", "REGRESSED": "regressed", "UNMUTED": "unmuted"}
            self._add_history(issue, kinds[reason], now, event)
            await self.alert(issue, reason)
        return issue

    async def alert(self, issue: BugsinkIssue, reason: str) -> int:
        """Post an alert, once; return the status of the response, 0 if there was none."""
        if not (self.alerts and self.intake_url):
            return 0
        status = 0
        try:
            async with (
                ClientSession() as session,
                session.post(self.intake_url, json=self.body(issue, reason)) as answer,
            ):
                status = answer.status
        except (TimeoutError, ClientError, OSError):
            pass
        self.posted.append((reason, status))
        return status

    def body(self, issue: BugsinkIssue, reason: str) -> dict[str, Any]:
        """Return the body of an alert of the kind *Custom*."""
        payload = {
            **self._shown(issue),
            "title": f"{issue.kind}: {issue.value}",
            "project_name": "Shop",
            "url": f"{self.url}/issues/issue/{issue.id}/event/last/",
            "alert_reason": reason,
        }
        return (
            payload
            if reason != "UNMUTED"
            else {**payload, "unmute_reason": "More than 2 events per 1 hour occurred."}
        )

    def delete(self, issue: BugsinkIssue) -> None:
        """Delete an issue, as a person."""
        del self.issues[issue.id]
        for event in issue.events:
            del self.events[event]

    def _add_history(
        self,
        issue: BugsinkIssue,
        kind: str,
        at: dt.datetime | None = None,
        event: str | None = None,
        comment: str = "",
    ) -> int:
        self._history_entries += 1
        issue.history.append(
            {
                "id": self._history_entries,
                "issue": issue.id,
                "project": issue.project,
                "triggering_event": event,
                "timestamp": _time(at or dt.datetime.now(dt.UTC)),
                "kind": kind,
                "comment": comment,
                "metadata": {},
            }
        )
        return self._history_entries

    def _shown(self, issue: BugsinkIssue) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": issue.id,
            "friendly_id": f"SHOP-{issue.number}",
            "project": issue.project,
            "digest_order": issue.number,
            "last_seen": _time(issue.last_seen),
            "first_seen": _time(issue.first_seen),
            "digested_event_count": len(issue.events),
            "stored_event_count": len(issue.events),
            "calculated_type": issue.kind,
            "calculated_value": issue.value,
            "transaction": "/basket",
            "is_resolved": issue.is_resolved,
            "is_muted": issue.is_muted,
        }
        if self.version >= (2, 6, 2):
            shown["events_at"] = issue.releases
        return shown

    # -- the API -------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """Return the calls that this double knows."""
        base = "/api/canonical/0"
        may = self._guarded
        return [
            web.get(f"{base}/issues/", may("issues:read", self._get_issues)),
            web.get(f"{base}/issues/{{issue}}/", may("issues:read", self._get_issue)),
            web.post(f"{base}/issues/{{issue}}/{{action}}/", may("issues:triage", self._act)),
            web.get(f"{base}/events/", may("events:read", self._get_events)),
            web.get(f"{base}/events/{{event}}/", may("events:read", self._get_event)),
            web.get(f"{base}/issue-history/", may("issues:read", self._get_history)),
            web.post(f"{base}/issue-comments/", may("issues:comment", self._comment)),
            web.get(f"{base}/projects/", may("projects:read", self._get_projects)),
            web.get(f"{base}/projects/{{project}}/", may("projects:read", self._get_project)),
        ]

    def _guarded(self, right: str, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                headers = {"WWW-Authenticate": "Bearer"}
                return web.json_response({"detail": "Invalid Bearer token."}, status=401, headers=headers)
            if right not in self.rights:
                payload = f"This token does not have the required capability: {right}."
                return web.json_response({"detail": payload}, status=403)
            return await handler(request)

        return guarded

    def _find_issue(self, named: str) -> BugsinkIssue:
        for item in self.issues.values():
            if named.lower() in (item.id, f"shop-{item.number}"):
                return item
        raise web.HTTPNotFound(
            text='{"detail": "No Issue matches the given query."}', content_type="application/json"
        )

    def _page(self, request: web.Request, objects: list[dict[str, Any]]) -> web.Response:
        start = int(request.query.get("cursor", "0"))
        end = start + self.page_size
        more = f"http://elsewhere.invalid{request.path}?cursor={end}" if end < len(objects) else None
        return web.json_response({"next": more, "previous": None, "results": objects[start:end]})

    async def _get_issues(self, request: web.Request) -> web.Response:
        wanted = request.query.get("project")
        if wanted is None and self.version < (2, 6, 2):
            return web.json_response({"project": ["This field is required."]}, status=400)
        matching = [item for item in self.issues.values() if wanted in (None, str(item.project))]
        matching.sort(key=lambda item: item.last_seen, reverse=request.query.get("order") == "desc")
        return self._page(request, [self._shown(item) for item in matching])

    async def _get_issue(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(self._find_issue(request.match_info["issue"])))

    async def _act(self, request: web.Request) -> web.Response:
        action = request.match_info["action"]
        if self.version < ((2, 4, 0) if action == "reopen" else (2, 2, 1)):
            return _no_such_address()
        issue = self._find_issue(request.match_info["issue"])
        if action == "reopen":
            if not issue.is_resolved:
                return web.json_response({"detail": "Issue is not resolved."}, status=400)
            issue.is_resolved = False
            self._add_history(issue, "reopened")
        else:
            if issue.is_resolved:
                return web.json_response({"detail": "Issue is already resolved."}, status=400)
            issue.is_resolved, issue.how = True, action
            self._add_history(issue, "resolved")
        self.record_effect("state", issue.id, detail=action)
        return web.json_response(self._shown(issue))

    async def _get_events(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request.query.get("issue", ""))
        shown = [
            {key: value for key, value in self.events[item].items() if key != "data"}
            for item in reversed(issue.events)
        ]
        return self._page(request, shown)

    async def _get_event(self, request: web.Request) -> web.Response:
        event = self.events.get(request.match_info["event"])
        if event is None:
            return web.json_response({"detail": "No Event matches the given query."}, status=404)
        return web.json_response(event)

    async def _get_history(self, request: web.Request) -> web.Response:
        if self.version < (2, 6, 2):
            return _no_such_address()
        if "issue" not in request.query:
            return web.json_response({"issue": ["This field is required."]}, status=400)
        return self._page(request, list(reversed(self._find_issue(request.query["issue"]).history)))

    async def _comment(self, request: web.Request) -> web.Response:
        if self.version < (2, 2, 1):
            return _no_such_address()
        payload = await request.json()
        issue = next((item for item in self.issues.values() if item.id == payload.get("issue")), None)
        if issue is None:
            return web.json_response({"issue": ["Invalid issue."]}, status=400)
        if not payload.get("comment"):
            return web.json_response({"comment": ["This field may not be blank."]}, status=400)
        number = self._add_history(issue, "manual_annotation", comment=payload["comment"])
        self.record_effect("comment", issue.id, detail=payload["comment"])
        return web.json_response({"id": number, **payload, "user": None}, status=201)

    async def _get_projects(self, request: web.Request) -> web.Response:
        return self._page(request, [self._project()])

    async def _get_project(self, request: web.Request) -> web.Response:
        if request.match_info["project"] != str(self.project):
            return web.json_response({"detail": "No Project matches the given query."}, status=404)
        return web.json_response(self._project())

    def _project(self) -> dict[str, Any]:
        names = ("alert_on_new_issue", "alert_on_regression", "alert_on_unmute")
        return {"id": self.project, "name": "Shop", **{name: name not in self.switched_off for name in names}}


def _time(at: dt.datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _no_such_address() -> web.Response:
    return web.Response(status=404, text="<h1>Not Found</h1>", content_type="text/html")


def _event(
    event: str, issue: BugsinkIssue, now: dt.datetime, release: str, environment: str, data: dict[str, Any]
) -> dict[str, Any]:
    frame = {
        "filename": "shop/basket.py",
        "function": "total",
        "lineno": 12,
        "in_app": True,
        "pre_context": ["def total(session):", "    # what it costs"],
        "context_line": '    return session["basket"].total',
        "post_context": [""],
        "vars": {"session": "{'card': '4111 1111 1111 1111'}"},
    }
    payload = {
        "level": "error",
        "release": release,
        "environment": environment,
        "server_name": "web-1",
        "tags": {"tenant": "acme", "user.email": "ada@customer.example"},
        "user": {"email": "ada@customer.example"},
        "exception": {
            "values": [{"type": issue.kind, "value": issue.value, "stacktrace": {"frames": [frame]}}]
        },
        **data,
    }
    return {
        "id": event,
        "event_id": event.replace("-", ""),
        "issue": issue.id,
        "project": issue.project,
        "timestamp": _time(now),
        "digest_order": len(issue.events),
        "data": payload,
    }
