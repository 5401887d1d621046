"""Write reports, events, tickets and deliveries; lock the tickets and lanes that they belong to."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pointsman.domain.states import DestinationKind, TicketKind, TicketStatus
from pointsman.domain.ticket import Ticket
from pointsman.storage.db import Connection, Row
from pointsman.storage.queries import queries

SQL = queries("delivery_writer")

MAX_CLOSED_AT_ONCE = 3_000
"""At most so many throttled tickets are closed together with their summary ticket; the rest stays open."""
_to_json = msgspec.json.Encoder().encode


class ReportRow(NamedTuple):
    """A report to be inserted."""

    id: uuid.UUID
    source_id: int
    ticket_id: uuid.UUID | None
    action: str | None
    headers: str
    body: bytes
    body_sha256: bytes
    state: int
    error: str | None


class EventRow(NamedTuple):
    """An event to be inserted; ``data`` is JSON."""

    ticket_id: uuid.UUID
    n: int
    kind: str
    data: str
    report_id: uuid.UUID | None


class LaneRow(NamedTuple):
    """A lane that gets deliveries at its end. An idle lane becomes due at ``due_at``, or at once."""

    ticket_id: uuid.UUID
    destination_id: int
    delivery_count: int
    due_at: dt.datetime | None


class DeliveryRow(NamedTuple):
    """A delivery to be inserted; ``from_end`` is 1 for the last delivery of its lane."""

    ticket_id: uuid.UUID
    destination_id: int
    from_end: int
    event_n: int
    kind: int
    marker: uuid.UUID
    coalesce_key: str | None
    coalesced_count: int


class CoalescingDelivery(NamedTuple):
    """A planned delivery with a coalesce key; ``leads``: it is the first one planned for its lane."""

    ticket_id: uuid.UUID
    destination_id: int
    coalesce_key: str
    event_n: int
    marker: uuid.UUID
    coalesced_count: int
    leads: bool


class TicketState(NamedTuple):
    """The part of a ticket that decisions change."""

    status: TicketStatus
    close_reason: str | None
    next_event: int
    summary_ticket_id: uuid.UUID | None
    below_threshold: bool
    recurrence_announced: bool
    reported_resolved: bool = False
    unrouted: bool = False


def as_json(value: Any) -> str:
    """Encode a value the way Postgres takes it for jsonb."""
    return _to_json(value).decode()


def ticket_from(row: Row) -> Ticket:
    """Return the ticket of a locked row."""
    return Ticket(
        id=row["id"],
        source_id=row["source_id"],
        kind=TicketKind(row["kind"]),
        fingerprint=row["fingerprint"],
        generation=row["generation"],
        status=TicketStatus(row["status"]),
        close_reason=row["close_reason"],
        next_event=row["next_event"],
        reporter_email=row["reporter_email"],
        summary_ticket_id=row["summary_ticket_id"],
        below_threshold=row.get("below_threshold", False),
        recurrence_announced=row.get("recurrence_announced", False),
        release=row.get("release", ""),
        reported_resolved=row.get("reported_resolved", False),
        unrouted=row.get("unrouted", False),
    )


def state_of(ticket: Ticket) -> TicketState:
    """Return the part of a ticket that decisions change."""
    return TicketState(
        ticket.status,
        ticket.close_reason,
        ticket.next_event,
        ticket.summary_ticket_id,
        ticket.below_threshold,
        ticket.recurrence_announced,
        ticket.reported_resolved,
        ticket.unrouted,
    )


def restore(ticket: Ticket, state: TicketState) -> None:
    """Set a ticket back to an earlier state."""
    (
        ticket.status,
        ticket.close_reason,
        ticket.next_event,
        ticket.summary_ticket_id,
        ticket.below_threshold,
        ticket.recurrence_announced,
        ticket.reported_resolved,
        ticket.unrouted,
    ) = state


async def lock_ticket(con: Connection, ticket_id: uuid.UUID) -> Ticket | None:
    """Lock a ticket until the end of the transaction. Return None if there is none."""
    row = await con.fetchrow(SQL["lock_ticket"], ticket_id)
    return ticket_from(row) if row is not None else None


async def lock_tracker_destinations(
    con: Connection, ticket_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[int, ...]]:
    """Lock the lanes of locked tickets. Return the ids of the tracker destinations that each ticket has."""
    destinations: dict[uuid.UUID, tuple[int, ...]] = dict.fromkeys(ticket_ids, ())
    for row in await con.fetch(SQL["lock_lanes_of_tickets"], ticket_ids):
        if row["kind"] == DestinationKind.TRACKER:
            destinations[row["ticket_id"]] += (row["destination_id"],)
    return destinations


async def write_tickets(con: Connection, tickets: Sequence[Ticket]) -> None:
    """Write the changed state of tickets."""
    await con.execute(
        SQL["update_tickets"],
        [ticket.id for ticket in tickets],
        [ticket.status for ticket in tickets],
        [ticket.close_reason for ticket in tickets],
        [ticket.next_event for ticket in tickets],
        [ticket.summary_ticket_id for ticket in tickets],
        [ticket.below_threshold for ticket in tickets],
        [ticket.recurrence_announced for ticket in tickets],
        [ticket.release for ticket in tickets],
        [ticket.reported_resolved for ticket in tickets],
        [ticket.unrouted for ticket in tickets],
    )


async def append(
    con: Connection,
    reports: Sequence[ReportRow],
    events: Sequence[EventRow],
    lanes: Sequence[LaneRow],
    deliveries: Sequence[DeliveryRow],
) -> None:
    """Insert reports and events, and append deliveries to their lanes. Lanes that are missing are created."""
    await con.execute(
        SQL["insert_changes"],
        *_columns(ReportRow, reports),
        *_columns(EventRow, events),
        *_columns(LaneRow, lanes),
        *_columns(DeliveryRow, deliveries),
    )


async def coalesce_unsent(
    con: Connection, deliveries: Sequence[CoalescingDelivery]
) -> list[tuple[uuid.UUID, int]]:
    """Move unsent deliveries at the ends of lanes on to newer events with the same coalesce key.

    Return the lanes (ticket and destination) whose leading planned delivery is not needed any more.
    """
    rows = await con.fetch(SQL["coalesce_deliveries"], *_columns(CoalescingDelivery, deliveries))
    return [(row["ticket_id"], row["destination_id"]) for row in rows if row["moves"]]


async def close_throttled(
    con: Connection, summary_id: uuid.UUID, reason: str, event_data: str
) -> list[Ticket]:
    """Close the tickets that a summary ticket lists, each with an event. Return those that were closed."""
    rows = await con.fetch(SQL["close_throttled_tickets"], summary_id, reason, event_data, MAX_CLOSED_AT_ONCE)
    return [ticket_from(row) for row in rows]


def _columns(row_type: type[NamedTuple], rows: Sequence[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * len(row_type._fields)
