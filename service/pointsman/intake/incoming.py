"""A report that is being accepted, with its routing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pointsman.domain.repeats import SETTLE_SECONDS, KeyBasis
from pointsman.domain.routing import RecurrenceRule, Route
from pointsman.domain.states import TicketKind
from pointsman.domain.ticket import NON_OCCURRENCES
from pointsman.plugin_api import Report


@dataclass(slots=True)
class Incoming:
    """A report that is being accepted. ``report`` is None where our code failed on it; ``error`` then says why."""

    report_id: uuid.UUID
    source_id: int
    key_hash: bytes
    body: bytes
    body_sha256: bytes
    headers: dict[str, str]
    ticket_kind: TicketKind
    report: Report | None
    error: str | None = None
    destination_ids: tuple[int, ...] = ()
    new_ticket_id: uuid.UUID = field(default_factory=uuid.uuid4)
    """Id of its ticket if it opens one; replaced by the id of the existing ticket."""
    source_slug: str = ""
    ticket_rate_limit: int = 0
    """Most tickets that the source may open in a minute before the rest is throttled; 0: no limit."""
    member: bytes | None = None
    """Digest of the source's own fingerprint, if a route's template replaced it: the ticket may stand for several alerts."""
    key_basis: KeyBasis = KeyBasis.REQUEST
    """What its key identifies."""
    settle_seconds: float = SETTLE_SECONDS
    """How long after a change of state the same words are a late copy."""
    enqueued_at: float = 0.0
    """Seconds of the event loop's clock."""
    matched_routes: tuple[Route, ...] = ()
    """The routes that match, the first one's options count. Below every threshold: those that would match."""
    candidate_routes: tuple[Route, ...] = ()
    """The routes that may match, if that depends on the history of the problem: they are evaluated in the transaction."""
    below_threshold: bool = False
    """No route matches, and some would but for a threshold."""
    occurrences: int = 0
    """Reports of the problem within the time that its routes ask for, this one included."""

    @property
    def recurrence_rules(self) -> Sequence[RecurrenceRule]:
        """Return the rules of the first matching route for problems that recur."""
        return self.matched_routes[0].options.recurrence if self.matched_routes else ()

    @property
    def needs_times(self) -> bool:
        """Return whether the database's time and that of the previous report are needed."""
        return bool(self.candidate_routes) or any(
            route.options.quiet_hours is not None for route in self.matched_routes
        )

    @property
    def is_occurrence(self) -> bool:
        """Return whether the report counts as an occurrence of its problem."""
        return self.report is not None and self.report.action not in NON_OCCURRENCES

    @property
    def is_test(self) -> bool:
        """Return whether the report only tests the connection."""
        return self.report is not None and self.report.action == "test"
