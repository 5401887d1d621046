"""Turns at asking trackers, and the issues to ask about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("reconcile")


class Poll(NamedTuple):
    """A turn at asking: the database's time now, and up to when changes are known. Without the former it is not ours."""

    asked_at: dt.datetime | None
    polled_to: dt.datetime | None
    wait_seconds: float


async def take_poll(database: Database, destination_id: int, lasts_seconds: float) -> Poll:
    """Win the right to ask a destination for changes for so long, or learn when to try again."""
    row = await database.fetchrow(SQL["acquire_poll"], destination_id, seconds(lasts_seconds))
    return Poll(*row) if row is not None else Poll(None, None, lasts_seconds)


async def give_back(database: Database, destination_ids: Sequence[int]) -> None:
    """Let others have the turns that are ours."""
    if destination_ids:
        await database.execute(SQL["release_polls"], list(destination_ids))


async def polled(database: Database, destination_id: int, up_to: dt.datetime) -> None:
    """Changes up to a time are known, and asking works."""
    await database.execute(SQL["record_poll"], destination_id, up_to)


async def links_page(database: Database, destination_id: int, after_lane: int, limit: int) -> Sequence[Row]:
    """The next issues that tickets have at a destination."""
    return await database.fetch(SQL["list_links"], destination_id, after_lane, limit)


async def state_waits(con: Connection, lane_id: int) -> bool:
    """Whether a close or reopen of ours is still to reach the lane's issue."""
    waits: bool = await con.fetchval(SQL["has_pending_state_change"], lane_id)
    return waits


async def state_sent_since(con: Connection, lane_id: int, since: dt.datetime) -> bool:
    """Whether a close or reopen of ours may have changed the lane's issue after a time."""
    sent: bool = await con.fetchval(SQL["state_change_sent_since"], lane_id, since)
    return sent


async def clock(database: Database) -> dt.datetime:
    """The database's time."""
    now: dt.datetime = await database.fetchval(SQL["current_time"])
    return now
