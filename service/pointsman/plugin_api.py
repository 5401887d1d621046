"""The contract between Pointsman and its plugins: what a stranger may rely on.

A plugin is a distribution with an entry point in the group ``pointsman``. The module it names has one or both
hooks, each called once at start::

    from pointsman.plugin_api import hookimpl

    @hookimpl
    def pointsman_register_trackers(register):
        register(MyTracker)

Everything after that is a plain method call on the classes below. A plugin never opens its own HTTP session and
never retries: it raises the error that fits, and the core decides what comes next.

The errors, as a tree::

    PluginError
    ├── Unavailable      surely not done; the service can't be reached or can't serve now
    ├── RateLimited      not done; come again after ``retry_after`` seconds
    ├── Refused          not done; the content is at fault, and a repeat fails alike
    ├── AuthFailed       not done; the credential is missing, wrong or expired
    ├── Misconfigured    not done; a right, a project or a setting is missing
    ├── NotFound         not done; the issue or comment is not there (any more)
    ├── Moved            not done; the issue lives elsewhere now
    ├── Conflict         not done; somebody else changed it meanwhile: read and decide again
    └── UnknownOutcome   it may have been done: the core finds out before it tries again

A time-out counts as UnknownOutcome. Any other exception is a defect of the plugin: in doubt like UnknownOutcome, tried
three times and then given up with the plugin's name.
"""

from __future__ import annotations

import abc
import datetime as dt
import json as _json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import pluggy

from pointsman.signing import hmac_sha256_matches

__all__ = [
    "API_VERSION",
    "Actor",
    "Answer",
    "AuthFailed",
    "Capabilities",
    "CommentRef",
    "Conflict",
    "Connection",
    "Draft",
    "Finding",
    "Ignored",
    "IssueGone",
    "IssueRef",
    "IssueSeen",
    "Marker",
    "Misconfigured",
    "Moved",
    "NotFound",
    "Person",
    "PluginError",
    "PluginSettings",
    "RateLimited",
    "Refused",
    "Report",
    "Secret",
    "Source",
    "Tracker",
    "TrackerClient",
    "Unavailable",
    "UnknownOutcome",
    "Unreadable",
    "WebhookNews",
    "hmac_sha256_matches",
    "hookimpl",
    "hookspec",
]

API_VERSION = 1
"""The major version of this contract. A class names the one it was written for in ``api_version``."""

hookspec = pluggy.HookspecMarker("pointsman")
hookimpl = pluggy.HookimplMarker("pointsman")


class Hooks:
    """The two hooks a plugin module may have."""

    @hookspec
    def pointsman_register_trackers(self, register: Callable[[type[Tracker]], None]) -> None:
        """Call ``register`` with each Tracker class of the plugin."""

    @hookspec
    def pointsman_register_sources(self, register: Callable[[type[Source]], None]) -> None:
        """Call ``register`` with each Source class of the plugin."""


# -- errors ----------------------------------------------------------------------------------------------------


class PluginError(Exception):
    """Something a plugin could not do.

    ``status`` and ``excerpt`` are what the remote side answered, for the operator's eyes; the core scrubs secrets
    out of them before they are kept.
    """

    def __init__(
        self, message: str, *, status: int | None = None, excerpt: str = "", is_json: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.excerpt = excerpt[:2000]
        self.is_json = is_json


class Unavailable(PluginError):
    """The service can't be reached or can't serve now, and surely nothing was done."""


class RateLimited(PluginError):
    """The service asks to wait.

    ``retry_after`` is in seconds, None if the service did not say. ``scope`` names what is limited: ``all`` for
    the whole credential, or a narrower word of the plugin's.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        scope: str = "all",
        status: int | None = None,
        excerpt: str = "",
        is_json: bool | None = None,
    ) -> None:
        super().__init__(message, status=status, excerpt=excerpt, is_json=is_json)
        self.retry_after = retry_after
        self.scope = scope


class Refused(PluginError):
    """The content was refused. ``fields`` maps a field's name to the service's words about it."""

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        status: int | None = None,
        excerpt: str = "",
        is_json: bool | None = None,
    ) -> None:
        super().__init__(message, status=status, excerpt=excerpt, is_json=is_json)
        self.fields = dict(fields or {})


class AuthFailed(PluginError):
    """The credential is missing, wrong or expired."""


class Misconfigured(PluginError):
    """A right, a project, a repository or a setting is missing."""


class NotFound(PluginError):
    """The issue or comment that was asked for is not there; its ticket loses the link.

    Only where the request names the issue. A repository, a project or an account that is missing is Misconfigured.
    """


class Moved(PluginError):
    """The issue lives at ``to`` now (an address or a key, as the service names it).

    For a move that may be followed by and by, such as a renamed repository. One that is final is IssueGone in what
    ``list_changes`` and webhooks say.
    """

    def __init__(self, message: str, *, to: str, status: int | None = None, excerpt: str = "") -> None:
        super().__init__(message, status=status, excerpt=excerpt)
        self.to = to


class Conflict(PluginError):
    """Somebody changed the thing at the same time."""


class UnknownOutcome(PluginError):
    """The request left and nobody knows whether it took effect."""


# -- values ----------------------------------------------------------------------------------------------------


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
    """Somebody who asked for help. The address never leaves Pointsman's database."""

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


class IssueSeen(msgspec.Struct, frozen=True, kw_only=True):
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


class IssueGone(msgspec.Struct, frozen=True, kw_only=True):
    """An issue was deleted, or moved out of the destination (``to`` says where, if known)."""

    ref: IssueRef
    to: str = ""
    actor: Actor | None = None


class Ignored(msgspec.Struct, frozen=True):
    """A webhook that does not concern us; ``why`` in a few words, for the operator."""

    why: str


WebhookNews = IssueSeen | IssueGone | Ignored


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a check: what was looked at, whether it is well, what breaks otherwise, and how to mend it."""

    level: Literal["ok", "warning", "error"]
    what: str
    breaks: str = ""
    mend: str = ""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a tracker can do. What it can't, the core does without and says so.

    ``settle_seconds``: after an unknown outcome the core waits so long before each look for the marker, and creates
    anew only when every look found nothing. ``poll_seconds``: how often ``list_changes`` is asked.
    """

    webhooks: bool = False
    find: bool = False
    list_changes: bool = False
    close_reasons: bool = False
    settle_seconds: tuple[float, ...] = (30.0,)
    poll_seconds: float = 600.0
    request_timeout_seconds: float = 30.0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tracker's API lives and what identifies us there; the headers go to that origin only."""

    base_url: str
    headers: Mapping[str, Secret] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
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

    def problem(
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
            return Moved(said, to=self.headers.get("location", ""), status=status, excerpt=self.text())
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


class TrackerClient(Protocol):
    """HTTP towards one tracker, given by the core.

    Bound to the destination's base address, with its credential, time limits, a cap on answers and the address
    guard. Redirects are not followed. Answers of any status are returned; raises Unavailable if nothing was sent and
    UnknownOutcome if the request may have left.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; ``path`` is relative to the base address, or a full address on the same origin."""
        ...


# -- trackers --------------------------------------------------------------------------------------------------


class Tracker(abc.ABC):
    """A kind of place where issues live. One instance serves one destination.

    Methods that read or write may raise the errors above. The webhook methods are pure: they get raw bytes, do no
    I/O, and must come to a decision on any input.
    """

    kind: ClassVar[str]
    """The word used in configuration and in webhook addresses, such as ``forgejo``."""
    title: ClassVar[str]
    """The name people know it by."""
    api_version: ClassVar[int]
    """The major version of this contract that the class was written for."""
    Settings: ClassVar[type[PluginSettings]]
    capabilities: ClassVar[Capabilities]
    webhook_url: str = ""
    """Where we hear this destination's webhooks, for ``check``; set by the core, empty if it has no public address."""

    def __init__(self, settings: Any, client: TrackerClient) -> None:
        self.settings = settings
        self.client = client

    @classmethod
    def connection(cls, settings: Any) -> Connection | None:
        """Where to connect to, None for a tracker that needs no HTTP."""
        raise NotImplementedError

    @abc.abstractmethod
    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue that carries the draft's marker."""

    @abc.abstractmethod
    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment (Markdown) that carries the marker."""

    @abc.abstractmethod
    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueSeen | None:
        """Close or reopen an issue. Called again for an issue already in that state, it changes nothing.

        Gives back how the issue stands afterwards if the tracker's answer says so: its version tells a late webhook
        about the time before from news.
        """

    async def who_am_i(self) -> Actor:
        """The account behind the credential, named as ``IssueSeen.author`` names accounts."""
        raise NotImplementedError

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body."""
        raise NotImplementedError

    async def read_issue(self, issue: IssueRef) -> IssueSeen:
        """How the issue stands now. Raises NotFound if it is gone and Moved if it lives elsewhere."""
        raise NotImplementedError

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Issues of ours that carry the marker, oldest first, made at ``since`` or later.

        Ask an endpoint that reads the database, not a search index, and count an issue only if our own account
        wrote it. ``since`` has five minutes to spare already. A list that can't be read to its end raises: half a list
        proves nothing. Needs ``capabilities.find``.
        """
        raise NotImplementedError

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Comments of ours on an issue that carry the marker, oldest first. Needs ``capabilities.find``."""
        raise NotImplementedError

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueSeen | IssueGone]:
        """Issues changed at ``since`` or later, as they stand now. Needs ``capabilities.list_changes``."""
        raise NotImplementedError

    async def check(self) -> Sequence[Finding]:
        """What stands in the way of working with this destination; changes nothing."""
        return ()

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """See to it that the tracker calls ``url`` with this secret, once.

        The secret is the first of the destination's ``webhook_secrets``.
        """
        raise NotImplementedError

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether one of the secrets vouches for this call: it signs the raw bytes or, where the tracker knows no better,
        came along with them. Header names are lower case. Reading the clock, for signatures that hold a time, is fine.
        """
        return False

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:
        """The tracker's own id of this webhook call, None if it sends none.

        Unique to one call and the same when that call is repeated; known for 30 days, cut at 200 characters.
        """
        return None

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookNews:
        """What a verified webhook says."""
        return Ignored("this tracker has no webhooks")


# -- sources ---------------------------------------------------------------------------------------------------

Action = Literal["opened", "recurred", "regressed", "unmuted", "commented", "test"]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a source read out of one request.

    ``fingerprint`` names the problem within its source: reports with the same one belong to one ticket, and an empty
    one makes each report a problem of its own. ``dedupe``
    names the report itself, so that a repeat of the same request is known; None means the body's digest. All texts
    are a stranger's: the core makes them inert before they reach a tracker. ``facts`` are short label and value
    pairs, ``text`` is prose, ``code`` is shown as it is (a stack trace, say).
    """

    action: Action
    fingerprint: str
    title: str = ""
    text: str = ""
    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    url: str = ""
    level: str = ""
    environment: str = ""
    release: str = ""
    person: Person | None = None
    dedupe: str | None = None


class Unreadable(ValueError):
    """A body that is not one of this kind's; ``field`` says where. The sender is told, and nothing is kept."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Source(abc.ABC):
    """A kind of origin of reports. One instance serves one configured source."""

    kind: ClassVar[str]
    title: ClassVar[str]
    api_version: ClassVar[int]
    Settings: ClassVar[type[PluginSettings]]
    ticket_kind: ClassVar[Literal["alert", "support"]]
    owns_tickets: ClassVar[bool] = False
    """Whether the source's token may read and comment its own tickets; if not, it can only add reports."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abc.abstractmethod
    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """What the request says. Pure. ``decoded`` is the body as JSON, its texts free of NUL and surrogates.

        Raises Unreadable for what the sender must mend. Any other exception parks the report: it is kept, the
        operator is told, and it runs again when the cause is mended.
        """
