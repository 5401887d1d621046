"""What passes between the core and plugins: settings, issues, comments, news, answers."""

from __future__ import annotations

import datetime as dt
import json as _json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pointsman.plugin_api.errors import (
    AuthFailed,
    Conflict,
    IssueMoved,
    Misconfigured,
    NotFound,
    PluginError,
    RateLimited,
    Refused,
    UnknownOutcome,
)


class Secret:
    """A secret text that does not show itself: ``reveal()`` gives it, ``repr`` and ``str`` don't."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plugin's settings.

    One field a setting; a field of type ``Secret`` holds a credential. A help text goes into
    ``Annotated[str, msgspec.Meta(description=...)]``. Raise ValueError in ``__post_init__`` for what can't be,
    with the cure in the message.
    """


class Person(msgspec.Struct, frozen=True):
    """Somebody who asked for help. The address leaves Pointsman's database only where a route of the operator says so."""

    email: str = ""
    name: str = ""


class Marker(msgspec.Struct, frozen=True):
    """Our sign in an issue or comment, by which we find our own work again.

    ``text`` is a short ASCII token without spaces (``pm1-<uuid>-<check>``) that is unique to one delivery and can't
    be invented by others. Put it where people need not see it; give the same text back from finds and webhooks.
    """

    text: str


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An issue to be: Markdown in CommonMark with GFM tables; ``labels`` in addition to those in the settings.

    Strangers' words in it are inert in Markdown; what stands in code is verbatim. A tracker that obeys commands in texts
    (lines with a slash, say) must disarm them, in code too.

    ``facts`` are plain texts about the ticket (``ticket``, ``kind``, ``source``, ``title``, ``level``, ``environment``,
    ``release``, ``url``), for settings that refer to them. They are a stranger's words, except ``ticket``, ``kind`` and
    ``source``.
    """

    title: str
    body: str
    marker: Marker
    labels: tuple[str, ...] = ()
    facts: Mapping[str, str] = {}


class IssueRef(msgspec.Struct, frozen=True):
    """Which issue. ``remote_id`` never changes within its destination; ``key`` is what people call it; ``url``
    opens it in a browser (empty if there is no such page). Keys look as people there write them: ``12``, ``OPS-1``.

    ``notes``, of a create only: what could not be done as asked, in words for the ticket's timeline (an assignee that
    the tracker refused, say).
    """

    remote_id: str
    key: str
    url: str = ""
    notes: tuple[str, ...] = ()


class CommentRef(msgspec.Struct, frozen=True):
    """Which comment."""

    remote_id: str
    url: str = ""


class Actor(msgspec.Struct, frozen=True):
    """Who did something on the tracker, as the tracker names accounts."""

    account_id: str
    name: str = ""


State = Literal["open", "closed"]
CloseReason = Literal["completed", "not_planned", "duplicate"]


class IssueState(msgspec.Struct, frozen=True, kw_only=True):
    """How an issue stood at ``version`` (the tracker's own time of its last change, None if it has none).

    ``actor`` did what the news is about; ``author`` wrote the issue. ``markers`` were found in it, by whomever they were
    put there.
    """

    ref: IssueRef
    state: State
    close_reason: CloseReason | None = None
    version: dt.datetime | None = None
    actor: Actor | None = None
    author: Actor | None = None
    markers: tuple[str, ...] = ()


class IssueRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """An issue was deleted, or moved out of the destination (``to`` says where, if known)."""

    ref: IssueRef
    moved_to: str = ""
    actor: Actor | None = None


class IgnoredWebhook(msgspec.Struct, frozen=True):
    """A webhook that does not concern us; ``why`` in a few words, for the operator."""

    reason: str


WebhookEvent = IssueState | IssueRemoved | IgnoredWebhook


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a check: what was looked at, whether it is well, what breaks otherwise, and how to mend it."""

    level: Literal["ok", "warning", "error"]
    message: str
    impact: str = ""
    remedy: str = ""
    public: bool = False
    """Everybody may read the issues there. By itself that is ``ok``: the core knows what goes there, and makes a warning of
    it where too little is masked.
    """


class Quota(msgspec.Struct, frozen=True):
    """A limit that the tracker publishes: one credential may write ``calls`` times in any ``seconds``.

    ``scope`` is the word by which RateLimited names the same limit. One that starts with ``issue`` holds for each issue
    by itself.
    """

    scope: str
    calls: int
    seconds: float

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        if not self.scope or ":" in self.scope or self.calls < 1 or not 0 < self.seconds < float("inf"):
            raise ValueError("a budget has a scope without a colon, at least one call, and some seconds")


class TrackerCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a tracker can do. What it can't, the core does without and says so.

    ``settle_seconds``: after an unknown outcome the core waits so long before each look for the marker, and creates
    anew only when every look found nothing. ``poll_seconds``: how often ``list_changes`` is asked. ``budgets``: the
    tracker's published limits for writes, of which the core uses 80 %; none means that nothing is held back.
    """

    webhooks: bool = False
    find: bool = False
    list_changes: bool = False
    close_reasons: bool = False
    settle_seconds: tuple[float, ...] = (30.0,)
    poll_seconds: float = 600.0
    request_timeout_seconds: float = 30.0
    quotas: tuple[Quota, ...] = ()


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tracker's API lives and what identifies us there; the headers go to that origin only.

    Destinations with the same origin and the same credential share its budgets. ``account``: a text that tells whose
    calls these are where the headers don't, since the token is made later.
    """

    base_url: str
    headers: Mapping[str, Secret] = {}
    account: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What the tracker answered. Header names are lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. A body that is none raises UnknownOutcome: something answered, but not the API."""
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
        """The beginning of the body, for the operator."""
        return self.body[: limit * 4].decode("utf-8", "replace")[:limit]

    def retry_after(self) -> float | None:
        """Seconds from the ``Retry-After`` header, None if it is absent or not a number."""
        value = self.headers.get("retry-after", "")
        return min(float(value), 86400.0) if value.isascii() and value.isdigit() else None

    def error(
        self, message: str, *, fields: Mapping[str, str] | None = None, about_issue: bool = True
    ) -> PluginError:
        """The error that an answer's status stands for where the tracker has no special rule of its own.

        ``about_issue``: the address names the issue, so that a 404 means it is gone; else it is Misconfigured.

        A plugin looks at its tracker's own signs first (a 403 that is a rate limit, say) and raises this for the rest.
        """
        try:
            _json.loads(self.body)
            is_json = True
        except (ValueError, RecursionError):
            is_json = False
        shown: dict[str, Any] = {"status": self.status, "excerpt": self.text(), "is_json": is_json}
        said = f"{message}: {self.method} {self.path} answered {self.status}"
        status = self.status
        if status == 429 or (status == 503 and "retry-after" in self.headers and self.method == "GET"):
            return RateLimited(said, retry_after=self.retry_after(), **shown)
        if status in (301, 302, 303, 307, 308):
            return IssueMoved(said, to=self.headers.get("location", ""), status=status, excerpt=self.text())
        if status == 401:
            return AuthFailed(said, **shown)
        if status in (403, 405, 423):
            return Misconfigured(said, **shown)
        if status in (404, 410):
            return NotFound(said, **shown) if about_issue else Misconfigured(said, **shown)
        if status == 409:
            return Conflict(said, **shown)
        if status in (400, 413, 414, 415, 422):
            return Refused(said, fields=fields, **shown)
        return UnknownOutcome(said, **shown)
