"""Turns at jobs that one replica does for all, such as keeping house.

A job's steps can be repeated, so two that do it at once waste work and break nothing; a turn keeps that rare.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("leases")


class Turn(NamedTuple):
    """A turn at a named job, won by one replica."""

    name: str
    holder: uuid.UUID
    epoch: int


async def take_turn(database: Database, name: str, holder: uuid.UUID, lasts_seconds: float) -> Turn | None:
    """Win a turn that nobody gets again before its time is over; None: it is not ours."""
    epoch = await database.fetchval(SQL["acquire_lease"], name, holder, seconds(lasts_seconds))
    return Turn(name, holder, epoch) if epoch is not None else None


async def is_ours(database: Database, turn: Turn) -> bool:
    """Whether a turn is still ours."""
    ours: bool = await database.fetchval(SQL["is_lease_held"], *turn)
    return ours
