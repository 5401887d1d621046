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
    """An event of a ticket; ``data`` is JSON."""

    number: int
    kind: str
    at: dt.datetime
    data: str


async def read_ticket(database: Database, ticket_id: uuid.UUID) -> TicketRow | None:
    """Return one ticket, or None if it does not exist."""
    return row_of(TicketRow, await database.fetchrow(SQL["read_ticket"], ticket_id))


async def read_page(
    database: Database,
    *,
    before: uuid.UUID | None = None,
    source_id: int | None = None,
    status: int | None = None,
    kind: int | None = None,
    limit: int = 50,
) -> list[TicketRow]:
    """Return tickets, newest first, older than the cursor ``before``."""
    rows = await database.fetch(SQL["read_ticket_page"], before, source_id, status, kind, limit)
    return rows_of(TicketRow, rows)


async def read_links(database: Database, ticket_ids: Sequence[uuid.UUID]) -> list[LinkRow]:
    """Return one row for each ticket and destination, whether or not the issue exists yet."""
    return rows_of(LinkRow, await database.fetch(SQL["read_links"], ticket_ids))


async def read_events(database: Database, ticket_id: uuid.UUID) -> list[EventRow]:
    """Return the events of a ticket in their order."""
    return rows_of(EventRow, await database.fetch(SQL["read_events"], ticket_id))


async def read_opening_event(database: Database, ticket_id: uuid.UUID) -> str | None:
    """Return the data of the event that opened a ticket, as JSON."""
    data: str | None = await database.fetchval(SQL["read_opening_event"], ticket_id)
    return data
