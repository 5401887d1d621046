"""A report on its way in, with what the routes say of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pointsman.domain.routing import Again, Route
from pointsman.domain.ticket import QUIET, TicketKind
from pointsman.plugin_api import Report


@dataclass(slots=True)
class Incoming:
    """One report on its way in. ``report`` is None where our code could not decide; ``error`` then says why."""

    report_id: uuid.UUID
    source_id: int
    key_hash: bytes
    body: bytes
    body_sha256: bytes
    headers: dict[str, str]
    ticket_kind: TicketKind
    report: Report | None
    error: str | None = None
    routed: tuple[int, ...] = ()
    new_ticket_id: uuid.UUID = field(default_factory=uuid.uuid4)
    source: str = ""
    """The source's slug."""
    allowed: int = 0
    """How many tickets its source may open in a minute before the rest is listed in a storm; 0: any number."""
    since: float = 0.0
    """Since when its sender waits, in seconds of the loop's clock."""
    took: tuple[Route, ...] = ()
    """The rules that took it; the first says what else is done with it. Below every threshold: those that would."""
    fit: tuple[Route, ...] = ()
    """The rules that may take it, if that depends on the problem's past: ``routed`` and ``took`` are settled then."""
    held: bool = False
    """It is below every threshold."""
    times: int = 0
    """How often its problem was reported within the time that its rules ask for, this report counted."""

    @property
    def rules(self) -> Sequence[Again]:
        """What the rule that took it says of a problem that comes back."""
        return self.took[0].options.recurrence if self.took else ()

    @property
    def asks_time(self) -> bool:
        """Whether it matters when it came, and when its problem was reported before."""
        return bool(self.fit) or any(route.options.quiet_hours is not None for route in self.took)

    @property
    def counts(self) -> bool:
        """Whether it is an occurrence of its problem."""
        return self.report is not None and self.report.action not in QUIET
