"""Reading tickets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries

SQL = queries("tickets")


async def ticket(database: Database, ticket_id: uuid.UUID) -> Row | None:
    """One ticket, None if there is none."""
    return await database.fetchrow(SQL["ticket"], ticket_id)


async def page(
    database: Database,
    *,
    before: uuid.UUID | None = None,
    source_id: int | None = None,
    status: int | None = None,
    kind: int | None = None,
    limit: int = 50,
) -> Sequence[Row]:
    """Tickets, newest first, older than the cursor ``before``."""
    return await database.fetch(SQL["tickets_page"], before, source_id, status, kind, limit)


async def links(database: Database, ticket_ids: Sequence[uuid.UUID]) -> Sequence[Row]:
    """Where the tickets' issues are."""
    return await database.fetch(SQL["links_of"], ticket_ids)


async def events(database: Database, ticket_ids: Sequence[uuid.UUID]) -> Sequence[Row]:
    """What happened to the tickets, in order."""
    return await database.fetch(SQL["events_of"], ticket_ids)


async def opening(database: Database, ticket_id: uuid.UUID) -> str | None:
    """What the event that opened a ticket says, as JSON."""
    found: str | None = await database.fetchval(SQL["opening"], ticket_id)
    return found
