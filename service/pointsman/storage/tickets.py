"""Read tickets, their links and their events."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("tickets")

EVENTS_LIMIT = 200
PAGE_BYTES = 2**20
"""Bytes of untrusted text after which a page of tickets or events ends."""


class TicketRow(NamedTuple):
    """A ticket with the slug of its source."""

    id: uuid.UUID
    source_id: int
    source: str
    kind: int
    status: int
    fingerprint: str
    title: str
    description: str
    url: str
    level: str
    environment: str
    release: str
    reporter_email: str
    reporter_name: str
    close_reason: str | None
    occurrences: int
    opened_at: dt.datetime
    last_seen_at: dt.datetime
    closed_at: dt.datetime | None


class TicketSummaryRow(NamedTuple):
    """A ticket without its long texts."""

    id: uuid.UUID
    source: str
    kind: int
    status: int
    title: str
    occurrences: int
    opened_at: dt.datetime
    last_seen_at: dt.datetime


class LinkRow(NamedTuple):
    """A ticket's issue at one destination. Without an issue ``link_state`` and the fields of the issue are None."""

    ticket_id: uuid.UUID
    destination: str
    tracker: str
    issue_key: str | None
    issue_url: str | None
    link_state: int | None
    issue_state: int | None
    lane_state: int
    park_reason: str | None
    last_outcome: str | None
    last_error: str | None


class EventRow(NamedTuple):
    """An event of a ticket; ``data`` is JSON, ``last`` the number of the ticket's newest event."""

    number: int
    kind: str
    at: dt.datetime
    data: str
    last: int


async def read_ticket(database: Database, ticket_id: uuid.UUID) -> TicketRow | None:
    """Return one ticket, or None if it does not exist."""
    return row_of(TicketRow, await database.fetchrow(SQL["read_ticket"], ticket_id))


async def read_page(
    database: Database,
    *,
    before: uuid.UUID | None = None,
    source_id: int | None = None,
    status: int | None = None,
    limit: int = 50,
) -> tuple[list[TicketRow], bool]:
    """Return tickets, newest first, older than the cursor ``before``, and whether there are more.

    At most ``limit`` tickets are returned, and at least one, with texts of about PAGE_BYTES in total.
    """
    ids: list[uuid.UUID] = []
    size = 0
    rows = await database.fetch(SQL["read_page_sizes"], before, source_id, status, limit + 1)
    for row in rows[:limit]:
        size += row["bytes"]
        if ids and size > PAGE_BYTES:
            break
        ids.append(row["id"])
    tickets = rows_of(TicketRow, await database.fetch(SQL["read_tickets"], ids)) if ids else []
    return tickets, len(rows) > len(ids)


async def read_summaries(
    database: Database,
    *,
    before: uuid.UUID | None = None,
    status: int | None = None,
    kind: int | None = None,
    limit: int = 50,
) -> list[TicketSummaryRow]:
    """Return tickets without their long texts, newest first, older than the cursor ``before``."""
    return rows_of(TicketSummaryRow, await database.fetch(SQL["read_summaries"], before, status, kind, limit))


async def read_links(database: Database, ticket_ids: Sequence[uuid.UUID]) -> list[LinkRow]:
    """Return one row for each ticket and destination, whether or not the issue exists yet."""
    return rows_of(LinkRow, await database.fetch(SQL["read_links"], ticket_ids))


async def read_events(
    database: Database, ticket_id: uuid.UUID, *, after: int = 0, limit: int = EVENTS_LIMIT
) -> list[EventRow]:
    """Return the events of a ticket with larger numbers than ``after``, in their order.

    At most ``limit`` events are returned, and at least one, with data of about PAGE_BYTES in total.
    """
    return rows_of(EventRow, await database.fetch(SQL["read_events"], ticket_id, after, limit, PAGE_BYTES))


async def read_opening_event(database: Database, ticket_id: uuid.UUID) -> str | None:
    """Return the data of the event that opened a ticket, as JSON."""
    data: str | None = await database.fetchval(SQL["read_opening_event"], ticket_id)
    return data
