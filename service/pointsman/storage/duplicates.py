"""Markers with several issues, and deliveries that were sent again."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("duplicates")


async def due(database: Database) -> tuple[bool, bool]:
    """Whether it is time for a turn, and whether an issue that was made twice waits."""
    row = await database.fetchrow(SQL["duplicate_repair_due"])
    assert row is not None
    return row["full_check"], row["known_duplicates"]


async def mark_twins(database: Database) -> None:
    """Put sightings together that two replicas wrote in the same moment."""
    await database.execute(SQL["mark_duplicates"])


async def twins(database: Database, limit: int) -> Sequence[Row]:
    """Markers with more than one issue that nobody has seen to."""
    return await database.fetch(SQL["list_duplicates"], limit)


async def issues_of(database: Database, destination_id: int, marker: uuid.UUID) -> list[tuple[str, str, str]]:
    """The issues (id, key, address) that a marker was seen in, first one first."""
    rows = await database.fetch(queries("marker_observations")["issues_with_marker"], destination_id, marker)
    return [(row["remote_id"], row["remote_key"], row["url"]) for row in rows]


async def prefer(database: Database, destination_id: int, marker: uuid.UUID, remote_id: str) -> None:
    """From now on this issue counts as the first one seen with the marker."""
    await database.execute(SQL["set_canonical_issue"], destination_id, marker, remote_id)


async def move_link(
    database: Database,
    lane_id: int,
    linked: str,
    issue: tuple[str, str, str],
    remote_state: int,
    version: dt.datetime | None,
) -> bool:
    """Tie a ticket to another issue than ``linked``; False if somebody else did."""
    moved = await database.fetchval(SQL["move_link"], lane_id, linked, *issue, remote_state, version)
    return moved is not None


async def repaired(database: Database, destination_id: int, marker: uuid.UUID) -> bool:
    """A marker's issues are seen to; False if somebody else had done it."""
    return bool(await database.fetch(SQL["mark_repaired"], destination_id, marker))


async def resent(database: Database, settled_seconds: float, limit: int) -> Sequence[Row]:
    """Deliveries that were sent again, done for so long, and not looked after since."""
    return await database.fetch(SQL["list_resent_deliveries"], seconds(settled_seconds), limit)


async def swept(database: Database, lane_id: int, seq: int, kept: str | None = None) -> bool:
    """A delivery was looked after; ``kept`` is the id of the comment that stays. False if somebody else was quicker."""
    return await database.fetchval(SQL["mark_duplicates_checked"], lane_id, seq, kept) is not None


async def free_quiet_lanes(database: Database) -> None:
    """Lanes that were parked for going round in a circle and have nothing to do are idle again after an hour."""
    await database.execute(SQL["release_loop_parked_lanes"])
