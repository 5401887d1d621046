"""Read open tickets that no route took."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.rows import rows_of

SQL = queries("unrouted")


class UnroutedTicket(NamedTuple):
    """An open ticket without a route; ``data`` is the data of its opening event, as JSON."""

    id: uuid.UUID
    source_id: int
    kind: int
    environment: str
    level: str
    release: str
    title: str
    data: str


async def unrouted_tickets(database: Database, after: uuid.UUID, limit: int) -> list[UnroutedTicket]:
    """Return open tickets without a route, oldest first, with ids after the given one."""
    return rows_of(UnroutedTicket, await database.fetch(SQL["unrouted_tickets"], after, limit))


async def count_unrouted_tickets(database: Database) -> int:
    """Return the number of open tickets without a route."""
    count: int = await database.fetchval(SQL["count_unrouted_tickets"])
    return count
