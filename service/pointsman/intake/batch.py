"""A batch of reports in its transaction: the reports of each ticket, and what was decided about all of them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.domain.ticket import Changes, DeliveryTargets, Ticket
from pointsman.intake.incoming import Incoming
from pointsman.storage.delivery_writer import TicketState


class TicketBatch(msgspec.Struct):
    """The reports of a batch that belong to one ticket, in order."""

    ticket: Ticket
    reports: Sequence[Incoming]
    unseen_seconds: float | None = None
    """Seconds between the previous report and this batch; None for a new ticket."""
    predecessor: Ticket | None = None
    """The ticket of the previous generation, if this batch started a new one."""

    @property
    def is_new(self) -> bool:
        """Return whether the first of the reports opens the ticket."""
        return self.ticket.next_event == 1

    @property
    def threshold_report(self) -> Incoming | None:
        """Return the report by which a ticket below its threshold reaches it."""
        if not (self.ticket.below_threshold or (self.is_new and self.reports[0].below_threshold)):
            return None
        return next(
            (report for report in self.reports if report.destination_ids and report.is_occurrence), None
        )


class BatchDecision(msgspec.Struct):
    """What was decided about a batch: the changes, the locked tickets, and which report belongs to which ticket."""

    changes: Changes
    now: dt.datetime | None = None
    """The database's time, if a report needs it."""
    tickets: dict[uuid.UUID, Ticket] = {}
    stored_states: dict[uuid.UUID, TicketState] = {}
    ticket_of: dict[uuid.UUID, uuid.UUID] = {}
    """The ticket of each report."""
    successors: dict[uuid.UUID, TicketBatch] = {}
    """The batches of new generations, by the report that starts each."""
    threshold_targets: dict[uuid.UUID, DeliveryTargets] = {}
    """Targets of tickets that reach their threshold, by the report with which they do."""
    window_ends: dict[uuid.UUID, dt.datetime] = {}
    """When the rate window of each summary ticket ends."""
    throttle_started: list[str] = []
    """Slugs of sources that exceed their rate since this batch."""


class ReportResult(msgspec.Struct, frozen=True):
    """The result for one report.

    ``repeated``: a report with its key was accepted before; ``same_body``: with the same bytes.
    """

    report_id: uuid.UUID
    ticket_id: uuid.UUID | None
    repeated: bool = False
    same_body: bool = True
    parked: bool = False


class BatchResult(msgspec.Struct, frozen=True):
    """The committed results of a batch, in its order, and the sources whose throttle started with it."""

    reports: list[ReportResult]
    throttle_started: Sequence[str] = ()
