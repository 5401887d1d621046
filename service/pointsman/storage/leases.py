"""Leases of tasks that one replica does for all, such as housekeeping.

The steps of such a task can be repeated, so two replicas that do it at the same time waste work and break nothing.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from pointsman.storage.db import Database, seconds
from pointsman.storage.queries import queries

SQL = queries("leases")


class Lease(NamedTuple):
    """The right of one replica to do a named task."""

    name: str
    holder: uuid.UUID
    epoch: int


async def acquire_lease(
    database: Database, name: str, holder: uuid.UUID, duration_seconds: float
) -> Lease | None:
    """Acquire a lease that nobody can acquire again before it expires. Return None if another replica has it."""
    epoch = await database.fetchval(SQL["acquire_lease"], name, holder, seconds(duration_seconds))
    return Lease(name, holder, epoch) if epoch is not None else None


async def is_held(database: Database, lease: Lease) -> bool:
    """Return whether a lease is still held."""
    valid: bool = await database.fetchval(SQL["is_lease_held"], *lease)
    return valid
