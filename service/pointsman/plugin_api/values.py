"""Values that the core and plugins exchange: issues, comments, states, findings, responses."""

from __future__ import annotations

import datetime as dt
import json as _json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pointsman.plugin_api.errors import (
    AuthFailed,
    Blocked,
    Conflict,
    IssueMoved,
    Misconfigured,
    NotFound,
    PluginError,
    RateLimited,
    Refused,
    UnknownOutcome,
)
from pointsman.plugin_api.settings import Secret


class Person(msgspec.Struct, frozen=True):
    """The requester of a support ticket. The address leaves Pointsman's database only if a route says so."""

    email: str = ""
    name: str = ""


class Marker(msgspec.Struct, frozen=True):
    """Our identifier in an issue or comment, by which we find our own work again.

    ``text`` is a short ASCII token without spaces (``pm1-<uuid>-<check>``), unique to one delivery and not guessable. Put it
    where people do not see it; return the same text from searches and webhooks.
    """

    text: str


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An issue to create: Markdown (CommonMark with GFM tables).

    ``labels`` are in addition to those in the settings; the core sets none yet. Untrusted text in title and body is
    escaped for Markdown; text in code is verbatim. A tracker that executes commands in texts (such as lines that begin with a
    slash) must disarm them, in code too.

    ``facts`` are plain texts about the ticket (``ticket``, ``kind``, ``source``, ``title``, ``level``, ``environment``,
    ``release``, ``url``), for settings that refer to them. They are untrusted, except ``ticket``, ``kind`` and ``source``.
    """

    title: str
    body: str
    marker: Marker
    labels: tuple[str, ...] = ()
    facts: Mapping[str, str] = {}


class IssueRef(msgspec.Struct, frozen=True):
    """Reference to an issue.

    ``remote_id`` never changes within the destination. ``key`` is the name that people use (``12``, ``OPS-1``). ``url`` opens
    the issue in a browser; empty if there is no such page.

    ``notes``, after a create only: what the tracker did not do as asked, as sentences for the ticket's timeline (such as an
    assignee that was refused).
    """

    remote_id: str
    key: str
    url: str = ""
    notes: tuple[str, ...] = ()


class CommentRef(msgspec.Struct, frozen=True):
    """Reference to a comment."""

    remote_id: str
    url: str = ""


class Actor(msgspec.Struct, frozen=True):
    """An account on the tracker."""

    account_id: str
    name: str = ""


State = Literal["open", "closed"]
CloseReason = Literal["completed", "not_planned", "duplicate"]


class IssueState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an issue at ``version``: the tracker's own time of the last change, None if it has none.

    ``actor`` made the change that is reported; ``author`` wrote the issue. ``markers`` are those in its text, whoever put
    them there.
    """

    ref: IssueRef
    state: State
    close_reason: CloseReason | None = None
    version: dt.datetime | None = None
    actor: Actor | None = None
    author: Actor | None = None
    markers: tuple[str, ...] = ()


class IssueRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """An issue was deleted, or moved out of the destination; ``moved_to`` is its new address, if known."""

    ref: IssueRef
    moved_to: str = ""
    actor: Actor | None = None


class IgnoredWebhook(msgspec.Struct, frozen=True):
    """A webhook without a change of an issue's state; ``reason`` is a short text for the operator."""

    reason: str


WebhookEvent = IssueState | IssueRemoved | IgnoredWebhook


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a check: what was found, its impact, and its remedy."""

    level: Literal["ok", "warning", "error"]
    message: str
    impact: str = ""
    remedy: str = ""
    public: bool = False
    """Everybody can read the issues there. Report that with level ``ok``: the core knows how much of the data is masked
    and makes it a warning if that is too little for a public place."""


class Quota(msgspec.Struct, frozen=True):
    """A published limit on writes: at most ``calls`` in any ``seconds``, for one credential.

    ``scope`` is the name by which RateLimited refers to the same limit. A scope that begins with ``issue`` applies to each
    issue separately.
    """

    scope: str
    calls: int
    seconds: float

    def __post_init__(self) -> None:
        """Refuse values that are not a limit."""
        if not self.scope or ":" in self.scope or self.calls < 1 or not 0 < self.seconds < float("inf"):
            raise ValueError("a quota has a scope without a colon, at least one call, and some seconds")


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Base URL of an API and the headers that authenticate us; the headers are sent to that origin only.

    Destinations with the same origin and the same credential share its quotas. ``account`` identifies the credential where
    the headers do not, because the token is requested later.
    """

    base_url: str
    headers: Mapping[str, Secret] = {}
    account: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The response to a request. Header names are in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Return whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the decoded body. Raises UnknownOutcome if it is not JSON: something other than the API responded."""
        try:
            return _json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnknownOutcome(
                f"{self.method} {self.path} answered {self.status} with a body that is not JSON",
                status=self.status,
                excerpt=self.text(),
                is_json=False,
            ) from error

    def text(self, limit: int = 2000) -> str:
        """Return the beginning of the body, for the operator."""
        return self.body[: limit * 4].decode("utf-8", "replace")[:limit]

    def retry_after(self) -> float | None:
        """Return the seconds of the ``Retry-After`` header, None if it is absent or not a number."""
        value = self.headers.get("retry-after", "")
        return min(float(value), 86400.0) if value.isascii() and value.isdigit() else None

    def error(
        self, message: str, *, fields: Mapping[str, str] | None = None, about_issue: bool = True
    ) -> PluginError:
        """Return the error that the status stands for where the tracker has no special rule.

        ``about_issue``: the path names the issue, so that a 404 means that the issue is gone, and a 403 that this issue
        can't be changed (Blocked); otherwise both are Misconfigured. A plugin examines its tracker's own signs first (such as a 403 that is a rate limit) and uses this
        method for the rest.
        """
        try:
            _json.loads(self.body)
            is_json = True
        except (ValueError, RecursionError):
            is_json = False
        details: dict[str, Any] = {"status": self.status, "excerpt": self.text(), "is_json": is_json}
        text = f"{message}: {self.method} {self.path} answered {self.status}"
        status = self.status
        if status == 429 or (status == 503 and "retry-after" in self.headers and self.method == "GET"):
            return RateLimited(text, retry_after=self.retry_after(), **details)
        if status in (301, 302, 303, 307, 308):
            return IssueMoved(text, to=self.headers.get("location", ""), status=status, excerpt=self.text())
        if status == 401:
            return AuthFailed(text, **details)
        if status in (403, 405, 423):
            return Blocked(text, **details) if about_issue else Misconfigured(text, **details)
        if status in (404, 410):
            return NotFound(text, **details) if about_issue else Misconfigured(text, **details)
        if status == 409:
            return Conflict(text, **details)
        if status in (400, 413, 414, 415, 422):
            return Refused(text, fields=fields, **details)
        return UnknownOutcome(text, **details)
