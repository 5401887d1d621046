"""Read everything that explains one ticket, find tickets by reference, and list deliveries by filter."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("explain")

EVENTS_LIMIT, DELIVERIES_LIMIT, ATTEMPTS_LIMIT = 200, 1000, 2000
"""How many rows of a ticket are read at most."""
EVENT_BYTES = 2**20
"""Bytes of events' data after which no older events are read."""


class HistoryTicketRow(NamedTuple):
    """A ticket with its source's slug."""

    id: uuid.UUID
    kind: int
    status: int
    close_reason: str | None
    source: str
    title: str
    description: str
    url: str
    level: str
    environment: str
    release: str
    reporter_name: str
    reporter_email: str
    opened_at: dt.datetime
    last_seen_at: dt.datetime
    closed_at: dt.datetime | None
    occurrences: int
    fingerprint: str
    generation: int
    summary_ticket_id: uuid.UUID | None
    below_threshold: bool


class StoredReportRow(NamedTuple):
    """A stored report without its body."""

    id: uuid.UUID
    received_at: dt.datetime
    source: str
    ticket_id: uuid.UUID | None
    action: str | None
    state: int
    error: str | None
    kinds: list[str] | None = None
    """Kinds of the events that it caused."""


class HistoryEventRow(NamedTuple):
    """An event of a ticket. ``data`` is JSON."""

    n: int
    kind: str
    data: str
    report_id: uuid.UUID | None
    at: dt.datetime


class HistoryLaneRow(NamedTuple):
    """A ticket's lane with its link, its destination's state and everything that can delay it."""

    id: int
    state: int
    due_at: dt.datetime
    lease_until: dt.datetime | None
    holder: uuid.UUID | None
    head_seq: int
    next_seq: int
    park_reason: str | None
    destination: str
    tracker: str
    destination_kind: int
    retired: bool
    breaker: int
    open_until: dt.datetime | None
    blocked_until: dt.datetime | None
    pause_reason: str | None
    failures: int
    failed_at: dt.datetime | None
    failure_type: str | None
    failure_message: str | None
    max_inflight: int
    remote_key: str | None
    url: str | None
    link_state: int | None
    remote_state: int | None
    limited_until: dt.datetime | None
    leased_lanes: int
    lanes_ahead: int
    verify_writes_until: dt.datetime | None
    verify_writes: bool
    now: dt.datetime


class HistoryDeliveryRow(NamedTuple):
    """A delivery of a ticket. ``masked`` is JSON: how many values of each kind were redacted."""

    lane_id: int
    seq: int
    event_n: int
    kind: int
    state: int
    attempts: int
    outcome_unknown: bool
    verify_after: dt.datetime | None
    verify_attempts: int
    resent_at: dt.datetime | None
    coalesced_count: int
    expires_at: dt.datetime
    last_outcome: str | None
    last_error: str | None
    created_at: dt.datetime
    done_at: dt.datetime | None
    masked: str | None
    template_problem: str | None


class HistoryAttemptRow(NamedTuple):
    """An attempt at a delivery. The delivery itself may have been removed by retention."""

    lane_id: int
    seq: int
    started_at: dt.datetime
    ended_at: dt.datetime
    outcome: str
    status: int | None
    error: str | None


class OccurrenceTimesRow(NamedTuple):
    """When a ticket below its threshold was reported, oldest first, and the database's time."""

    occurred_at: list[dt.datetime]
    now: dt.datetime


class TicketSummaryRow(NamedTuple):
    """The columns that distinguish several tickets with the same reference."""

    id: uuid.UUID
    generation: int
    status: int
    title: str
    source: str


class FoundDeliveryRow(NamedTuple):
    """A delivery that fits a filter, with its lane and destination."""

    lane_id: int
    seq: int
    kind: int
    state: int
    attempts: int
    outcome_unknown: bool
    last_outcome: str | None
    last_error: str | None
    created_at: dt.datetime
    done_at: dt.datetime | None
    park_reason: str | None
    due_at: dt.datetime
    ticket_id: uuid.UUID
    destination: str


class HistoryRows(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one ticket that its history is built from."""

    ticket: HistoryTicketRow
    events: Sequence[HistoryEventRow]
    lanes: Sequence[HistoryLaneRow]
    deliveries: Sequence[HistoryDeliveryRow]
    attempts: Sequence[HistoryAttemptRow]
    throttled_tickets: int = 0
    """How many throttled tickets this ticket lists."""
    occurrences: OccurrenceTimesRow | None = None
    """Set when the ticket is below its threshold."""

    @property
    def has_older_events(self) -> bool:
        """Return whether the ticket has older events than were read."""
        return bool(self.events) and self.events[0].n > 1

    @property
    def truncated(self) -> bool:
        """Return whether more rows may exist than were read."""
        return (
            self.has_older_events
            or len(self.deliveries) >= DELIVERIES_LIMIT
            or len(self.attempts) >= ATTEMPTS_LIMIT
        )


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that listed deliveries must all meet. ``older_than``: created at least this long ago."""

    state: int | None = None
    destination: str | None = None
    ticket_id: uuid.UUID | None = None
    parked: bool = False
    outcome: str | None = None
    kind: int | None = None
    outcome_unknown: bool = False
    older_than: dt.timedelta | None = None


async def read_history(
    database: Database, ticket_id: uuid.UUID, *, events_before: int | None = None
) -> HistoryRows | None:
    """Return the rows about one ticket, or None if it does not exist: its newest events before a number, if one is given."""
    ticket = row_of(HistoryTicketRow, await database.fetchrow(SQL["history_ticket"], ticket_id))
    if ticket is None:
        return None
    return HistoryRows(
        ticket=ticket,
        events=rows_of(
            HistoryEventRow,
            await database.fetch(SQL["history_events"], ticket_id, EVENTS_LIMIT, events_before, EVENT_BYTES),
        ),
        lanes=rows_of(HistoryLaneRow, await database.fetch(SQL["history_lanes"], ticket_id)),
        deliveries=rows_of(
            HistoryDeliveryRow, await database.fetch(SQL["history_deliveries"], ticket_id, DELIVERIES_LIMIT)
        ),
        attempts=rows_of(
            HistoryAttemptRow, await database.fetch(SQL["history_attempts"], ticket_id, ATTEMPTS_LIMIT)
        ),
        throttled_tickets=await database.fetchval(SQL["count_throttled_tickets"], ticket_id),
        occurrences=row_of(
            OccurrenceTimesRow, await database.fetchrow(SQL["occurrences_below_threshold"], ticket_id)
        )
        if ticket.below_threshold
        else None,
    )


async def report(database: Database, report_id: uuid.UUID) -> StoredReportRow | None:
    """Return one report without its body, or None if it is not stored (any more)."""
    return row_of(StoredReportRow, await database.fetchrow(SQL["report"], report_id))


async def ticket_exists(database: Database, ticket_id: uuid.UUID) -> bool:
    """Return whether a ticket has this id."""
    return await database.fetchval(SQL["ticket_exists"], ticket_id) is True


async def ticket_of_lane(database: Database, lane_id: int) -> uuid.UUID | None:
    """Return the id of the ticket that a lane belongs to."""
    ticket_id: uuid.UUID | None = await database.fetchval(SQL["ticket_of_lane"], lane_id)
    return ticket_id


async def tickets_of_issue(
    database: Database, keys: Sequence[str], url: str | None = None
) -> list[uuid.UUID]:
    """Return the ids of tickets whose issue has one of ``keys``, and the URL ``url`` if that is given."""
    rows = await database.fetch(SQL["tickets_of_keys"], keys, url)
    if not rows and url is not None:
        rows = await database.fetch(SQL["tickets_of_url"], url)
    return [row["ticket_id"] for row in rows]


async def tickets_of_fingerprint(database: Database, fingerprint: str) -> list[uuid.UUID]:
    """Return the ids of the tickets with a fingerprint."""
    rows = await database.fetch(SQL["tickets_of_fingerprint"], fingerprint)
    return [row["ticket_id"] for row in rows]


async def ticket_summaries(database: Database, ticket_ids: Sequence[uuid.UUID]) -> list[TicketSummaryRow]:
    """Return the columns that distinguish tickets with the same reference."""
    return rows_of(TicketSummaryRow, await database.fetch(SQL["ticket_summaries"], ticket_ids))


async def find_deliveries(
    database: Database, conditions: DeliveryFilter, limit: int
) -> list[FoundDeliveryRow]:
    """Return the deliveries that meet all conditions, newest first."""
    records = await database.fetch(
        SQL["find_deliveries"],
        conditions.state,
        conditions.destination,
        conditions.ticket_id,
        conditions.parked,
        conditions.outcome,
        conditions.kind,
        conditions.outcome_unknown,
        conditions.older_than,
        limit,
    )
    return rows_of(FoundDeliveryRow, records)
