"""Markers seen in several issues, and deliveries that were sent again and may exist twice."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import NamedTuple

from pointsman.storage.db import Database, seconds
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("duplicates")


class RepairDue(NamedTuple):
    """Whether a full check is due, and whether a known duplicate waits for its repair."""

    full_check: bool
    known_duplicates: bool


class DuplicateMarker(NamedTuple):
    """A marker that was seen in more than one issue, with its delivery and link, if they still exist."""

    destination_id: int
    marker: uuid.UUID
    first_at: dt.datetime
    first_sent_at: dt.datetime | None
    delivery_state: int | None
    lane_id: int | None
    lane_state: int | None
    status: int | None
    linked: str | None
    """The ``remote_id`` of the linked issue."""


class ResentDelivery(NamedTuple):
    """A finished delivery that was sent again after all verifications found nothing; with its issue, if it is linked."""

    lane_id: int
    seq: int
    kind: int
    marker: uuid.UUID
    first_sent_at: dt.datetime
    destination_id: int
    remote_id: str | None
    remote_key: str | None
    url: str | None


async def repair_due(database: Database) -> RepairDue:
    """Return which repairs are due."""
    due = row_of(RepairDue, await database.fetchrow(SQL["duplicate_repair_due"]))
    assert due is not None
    return due


async def mark_duplicates(database: Database) -> None:
    """Mark observations of one marker in several issues that two replicas inserted at the same time."""
    await database.execute(SQL["mark_duplicates"])


async def list_duplicates(database: Database, limit: int) -> list[DuplicateMarker]:
    """Return markers with more than one issue that are not repaired."""
    return rows_of(DuplicateMarker, await database.fetch(SQL["list_duplicates"], limit))


async def set_canonical(database: Database, destination_id: int, marker: uuid.UUID, remote_id: str) -> None:
    """Make an issue the first one in which its marker was seen, so that verification finds it too."""
    await database.execute(SQL["set_canonical_issue"], destination_id, marker, remote_id)


async def move_link(
    database: Database,
    lane_id: int,
    linked: str,
    issue: tuple[str, str, str],
    remote_state: int,
    version: dt.datetime | None,
) -> bool:
    """Link a ticket to another issue than ``linked``. Return False if another replica did."""
    moved = await database.fetchval(SQL["move_link"], lane_id, linked, *issue, remote_state, version)
    return moved is not None


async def mark_repaired(database: Database, destination_id: int, marker: uuid.UUID) -> bool:
    """Mark the duplicates of a marker as repaired. Return False if another replica did."""
    return bool(await database.fetch(SQL["mark_repaired"], destination_id, marker))


async def list_resent_deliveries(
    database: Database, settled_seconds: float, limit: int
) -> list[ResentDelivery]:
    """Return deliveries that were sent again, done for so long, and not checked for duplicates since."""
    records = await database.fetch(SQL["list_resent_deliveries"], seconds(settled_seconds), limit)
    return rows_of(ResentDelivery, records)


async def mark_duplicates_checked(
    database: Database, lane_id: int, seq: int, comment_id: str | None = None
) -> bool:
    """Mark a delivery as checked; ``comment_id`` is the comment that was kept. Return False if another replica did."""
    return await database.fetchval(SQL["mark_duplicates_checked"], lane_id, seq, comment_id) is not None


async def release_loop_parked_lanes(database: Database) -> None:
    """Release lanes that were parked for an update loop and have no work, after an hour without events."""
    await database.execute(SQL["release_loop_parked_lanes"])
