"""The base class of sources, and the values they exchange with the core."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal

import msgspec

from pointsman.plugin_api.capabilities import SourceCapabilities
from pointsman.plugin_api.client import ApiClient, NoApiClient
from pointsman.plugin_api.settings import PluginSettings, SettingsT
from pointsman.plugin_api.values import (
    CloseReason,
    CommentRef,
    Connection,
    Finding,
    Marker,
    Person,
    State,
)

Action = Literal["opened", "recurred", "regressed", "unmuted", "resolved", "commented", "test"]

MAX_REPORTS = 1000
"""The most reports that one request may contain."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One report that a source read from a request. All texts are untrusted: the core escapes them.

    ``fingerprint`` identifies the problem within its source: reports with the same fingerprint belong to one ticket; an
    empty fingerprint makes each report a problem of its own. ``dedupe`` identifies the report, so that a repeated request is
    recognized: None stands for the digest of the body, an empty text turns the recognition off. ``dedupe_by`` tells what
    ``dedupe`` identifies: with ``request`` one request or event, which is a repeat whenever it comes again; with ``state`` a
    state that the source reports repeatedly ("alert X fires since noon"), which is news again once the source reported the
    opposite in between.

    ``facts`` are short pairs of label and value, ``text`` is prose, ``code`` is shown verbatim (a stack trace, say).

    ``problem_id`` is the source's own id of the problem, with which it is asked about the problem and told about it; a
    report without it is neither enriched nor answered. ``event_id`` is the source's id of the occurrence. ``seen_at`` is the
    time of the occurrence by the source's clock: a report from a backfill is recognized by it.

    The action ``resolved`` says that the problem is over: an open ticket gets ``text`` as a comment, and is closed if
    ``close_reason`` is given. It never opens a ticket.
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
    dedupe_by: Literal["request", "state"] = "request"
    problem_id: str = ""
    event_id: str = ""
    seen_at: dt.datetime | None = None
    close_reason: CloseReason | None = None


class Unreadable(ValueError):
    """The body does not have the format of this kind of source; ``field`` names the place. The sender gets the message."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The problem that a source is asked about or told about, with the values of its report."""

    id: str
    event_id: str = ""
    action: Action = "opened"
    url: str = ""


class EnrichmentResult(msgspec.Struct, frozen=True, kw_only=True):
    """Details of a problem that its report did not contain. All texts are untrusted. ``tags`` are names and values."""

    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    level: str = ""
    environment: str = ""
    release: str = ""


class BackfillResult(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that the source sent, or would have sent, in their order.

    ``bodies`` are decoded JSON as ``read_report`` takes it. ``complete_until`` is the time by the source's clock up to which
    the result is complete, None for now.
    """

    bodies: Sequence[Any] = ()
    complete_until: dt.datetime | None = None


class Source(abc.ABC, Generic[SettingsT]):
    """A kind of origin of reports. One instance serves one configured source.

    Subclass ``Source[YourSettings]``. Only ``read_report`` is required; the methods that call the source's API are used only
    if ``capabilities`` declares them.
    """

    kind: ClassVar[str]
    """The name in configuration, such as ``bugsink``."""
    title: ClassVar[str]
    """The product name, for people."""
    api_version: ClassVar[int]
    """The major version of this contract that the class was written for."""
    Settings: ClassVar[type[PluginSettings]]
    ticket_kind: ClassVar[Literal["alert", "support"]]
    owns_tickets: ClassVar[bool] = False
    """Whether the source's token may read and comment on its own tickets; otherwise it can only send reports."""
    kept_headers: ClassVar[tuple[str, ...]] = ()
    """The headers that ``read_report`` needs beside ``content-type`` and ``user-agent``, in lower case; ``x-*`` stands for all
    that begin with ``x-``. They are stored with the report: no credentials here."""
    takes_empty_body: ClassVar[bool] = False
    """Whether a request without a body can be a report, all of which is in its headers; ``decoded`` is None then."""
    capabilities: SourceCapabilities = SourceCapabilities()
    """What it can do. A source whose settings decide that assigns its own in ``__init__``."""

    def __init__(self, settings: SettingsT, client: ApiClient | None = None) -> None:
        self.settings = settings
        self.client: ApiClient = client or NoApiClient()

    @classmethod
    def connection(cls, settings: SettingsT) -> Connection | None:
        """Return the base URL and the credential of the source's API, None if there is none."""
        return None

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether a request with a valid token is accepted, for kinds that sign their requests.

        Pure, except that it may read the clock. Header names are in lower case. False is answered with 401.
        """
        return True

    @abc.abstractmethod
    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return the reports in a request. Pure. ``decoded`` is the body as JSON, without NUL and surrogates in its texts.

        Up to MAX_REPORTS reports are accepted together or not at all. For an empty sequence the request is valid and
        irrelevant: it is answered, counted and not stored.

        Raises Unreadable for what the sender must correct. Any other exception parks the report: it is stored, the
        operator is notified, and it is processed again when the cause is removed.
        """

    async def enrich(self, problem: Problem) -> EnrichmentResult:
        """Return details of a problem. Raises NotFound if the source no longer has it.

        Called after a report without ``code`` was accepted; the creation of the issue waits a few seconds for it. An issue
        that was created without the details gets them later as a comment.
        """
        raise NotImplementedError

    async def backfill(self, since: dt.datetime, known: Problem | None) -> BackfillResult:
        """Return reports since then that may have been lost.

        Those that did arrive are recognized by ``dedupe`` or ``seen_at``. ``known`` is the problem of this source that was
        reported last, None if there is none. Of a report with the action ``recurred``, only an occurrence after its ticket
        was closed counts.
        """
        raise NotImplementedError

    async def set_state(self, problem: Problem, state: State, reason: CloseReason | None) -> None:
        """Close or reopen the problem, as its issue was. A problem that is already in that state is not changed.

        Raises NotFound if the source no longer has the problem.
        """
        raise NotImplementedError

    async def add_comment(self, problem: Problem, text: str, marker: Marker) -> CommentRef:
        """Add a comment (plain text) that contains the marker."""
        raise NotImplementedError

    async def find_comment(
        self, problem: Problem, marker: Marker, since: dt.datetime
    ) -> Sequence[CommentRef]:
        """Return the comments that contain the marker and were written at ``since`` or later, oldest first."""
        raise NotImplementedError

    async def check(self, intake_url: str = "") -> Sequence[Finding]:
        """Check credential, rights and configuration without changing anything.

        ``intake_url`` is where the source sends its reports, with the text ``TOKEN`` in place of its token; empty if
        Pointsman has no public address.
        """
        raise NotImplementedError
