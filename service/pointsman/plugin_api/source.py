"""Sources: origins of reports."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from pointsman.plugin_api.values import Person, PluginSettings

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
