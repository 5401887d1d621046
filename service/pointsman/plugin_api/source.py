"""Sources: origins of reports, and what may be asked of them and told them."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from pointsman.plugin_api.errors import Misconfigured
from pointsman.plugin_api.tracker import ApiClient
from pointsman.plugin_api.values import (
    CloseReason,
    CommentRef,
    Connection,
    Finding,
    Marker,
    Person,
    PluginSettings,
    State,
)

Action = Literal["opened", "recurred", "regressed", "unmuted", "resolved", "commented", "test"]

MAX_REPORTS = 100
"""So many reports one request may hold."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a source read out of one request.

    ``fingerprint`` names the problem within its source: reports with the same one belong to one ticket, and an empty
    one makes each report a problem of its own. ``dedupe``
    names the report itself, so that a repeat of the same request is known; None means the body's digest, an empty text that
    each request counts. All texts
    are a stranger's: the core makes them inert before they reach a tracker. ``facts`` are short label and value
    pairs, ``text`` is prose, ``code`` is shown as it is (a stack trace, say).

    ``problem`` is the source's own id of the problem, by which it is asked about it and told of it later; a report without
    one is neither enriched nor answered. ``happening`` is its id of what happened (of one event, say). ``seen_at`` is when
    it happened by the source's clock: a report found by asking is known that way from one that came by itself.

    ``resolved`` says that the problem is over: its ticket, if there is an open one, is told ``text``, and is closed too where
    ``close_reason`` names why. It never opens a ticket.
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
    problem_id: str = ""
    event_id: str = ""
    seen_at: dt.datetime | None = None
    close_reason: CloseReason | None = None


class Unreadable(ValueError):
    """A body that is not one of this kind's; ``field`` says where. The sender is told, and nothing is kept."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Which problem the source is asked about or told of: what its report said, word for word."""

    id: str
    event_id: str = ""
    action: Action = "opened"
    url: str = ""


class EnrichmentResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the source knows beyond its report. All texts are a stranger's, as in a report; ``tags`` are names and values."""

    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    level: str = ""
    environment: str = ""
    release: str = ""


class BackfillResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a source was asked for: requests it made, or would have made, in their order, and how far it was looked.

    ``bodies`` are decoded JSON as ``read_report`` takes it, so that a report reads alike however it came. ``complete_until`` is
    up to when everything is in it, by the source's clock; None: up to now.
    """

    bodies: Sequence[Any] = ()
    complete_until: dt.datetime | None = None


class SourceCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a source can do beyond reading reports. What it can't, the core does without.

    ``enrich``: it tells more of a problem. ``backfill``: it is asked every ``poll_seconds`` for reports that never came.
    ``set_state``, ``comment``: it is told that an issue was closed or reopened, and where it was made.
    ``request_timeout_seconds`` holds for each call of its API.
    """

    enrich: bool = False
    backfill: bool = False
    set_state: bool = False
    comment: bool = False
    poll_seconds: float = 300.0
    request_timeout_seconds: float = 10.0

    @property
    def writes_back(self) -> bool:
        """Whether it is told anything."""
        return self.set_state or self.comment


class Source(abc.ABC):
    """A kind of origin of reports. One instance serves one configured source."""

    kind: ClassVar[str]
    title: ClassVar[str]
    api_version: ClassVar[int]
    Settings: ClassVar[type[PluginSettings]]
    ticket_kind: ClassVar[Literal["alert", "support"]]
    owns_tickets: ClassVar[bool] = False
    """Whether the source's token may read and comment its own tickets; if not, it can only add reports."""
    kept_headers: ClassVar[tuple[str, ...]] = ()
    """The headers that ``read_report`` needs beside ``content-type`` and ``user-agent``, in lower case; ``x-*`` names all that
    begin so. They are kept with the report: no credentials here."""
    capabilities: SourceCapabilities = SourceCapabilities()
    """What it can do; a source whose settings decide that sets its own in ``__init__``."""
    intake_url: str = ""
    """Where it reaches us, its token as ``TOKEN``, for ``check``; set by the core, empty without a public address."""

    def __init__(self, settings: Any, client: ApiClient | None = None) -> None:
        self.settings = settings
        self.client: ApiClient = client or _NoClient()

    @classmethod
    def connection(cls, settings: Any) -> Connection | None:
        """Where the source's API lives; None, if it has none or its settings name none."""
        return None

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a request may be taken whose token was right already: for kinds that sign what they send. Pure but for the
        clock; header names are lower case. A False is answered with 401.
        """
        return True

    @abc.abstractmethod
    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """What the request says. Pure. ``decoded`` is the body as JSON, its texts free of NUL and surrogates.

        Several reports, MAX_REPORTS at most, are accepted together or not at all. None: the request is fine and concerns
        nobody; it is answered, counted and not kept.

        Raises Unreadable for what the sender must mend. Any other exception parks the report: it is kept, the
        operator is told, and it runs again when the cause is mended.
        """

    async def enrich(self, problem: Problem) -> EnrichmentResult:
        """What more there is to say of a problem. Raises NotFound if the source no longer has it.

        Asked after a report without ``code`` was accepted, with a few seconds' patience before the issue is made; an issue
        that was made without is completed later. Needs ``capabilities.enrich``.
        """
        raise NotImplementedError

    async def backfill(self, since: dt.datetime, known: Problem | None) -> BackfillResult:
        """Reports that may have been lost on their way since then. Those that came are known again, by ``dedupe`` or
        ``seen_at``. ``known``: the problem of this source that was reported last; None if there was none yet.

        Of one found this way that says ``recurred`` only what happened after its ticket was closed is news.
        Needs ``capabilities.backfill``.
        """
        raise NotImplementedError

    async def set_state(self, problem: Problem, state: State, reason: CloseReason | None) -> None:
        """The problem's issue was closed or reopened: do alike. Done twice it changes nothing.

        Raises NotFound if the source no longer has the problem. Needs ``capabilities.set_state``.
        """
        raise NotImplementedError

    async def add_comment(self, problem: Problem, text: str, marker: Marker) -> CommentRef:
        """Say something about the problem, as plain text, so that ``find_comment`` finds it by the marker.

        Needs ``capabilities.comment``.
        """
        raise NotImplementedError

    async def find_comment(self, problem: Problem, marker: Marker) -> Sequence[CommentRef]:
        """Comments with the marker. A source that can't tell says none, and one may come to stand there twice."""
        return ()

    async def check(self) -> Sequence[Finding]:
        """What stands in the way of working with this source; changes nothing."""
        return ()


class _NoClient:
    """For sources without a connection."""

    async def request(self, *_: Any, **__: Any) -> Any:
        raise Misconfigured("this source has no connection: its settings name no API")
