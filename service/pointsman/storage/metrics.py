"""What the metrics show of the database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pointsman.storage import rate_limits
from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries

SQL = queries("metrics")


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """How everything stands."""

    destinations: Sequence[Row]
    dead: Sequence[Row]
    rate_limits: Sequence[Row]
    house: Row


async def now(database: Database) -> Now:
    """Read it; reads nothing that is done."""
    return Now(
        destinations=await database.fetch(SQL["destinations_now"]),
        dead=await database.fetch(SQL["dead_now"]),
        rate_limits=await rate_limits.standing(database),
        house=await database.fetchrow(SQL["house_now"]),
    )


def connections(database: Database) -> tuple[int, int]:
    """Connections of the pool that are in use, and how many there may be."""
    pool = database.pool
    return pool.get_size() - pool.get_idle_size(), pool.get_max_size()
