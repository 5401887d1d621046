"""Polls of trackers, and the linked issues to compare with their tickets."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.storage.db import Connection, Database, seconds
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("reconcile")


class Poll(NamedTuple):
    """The right to poll a destination: the database's time, and up to when changes are known.

    ``asked_at`` is None while another replica has it, for about ``wait_seconds``.
    """

    asked_at: dt.datetime | None
    polled_to: dt.datetime | None
    wait_seconds: float


class LinkedIssue(NamedTuple):
    """An issue of a ticket.

    ``waits``: a close or reopen of ours is pending. ``dead_seq``: the last close or reopen is this dead letter.
    """

    lane_id: int
    ticket_id: uuid.UUID
    remote_id: str
    remote_key: str
    url: str
    status: int
    waits: bool
    dead_seq: int | None


async def acquire_poll(database: Database, destination_id: int, lease_seconds: float) -> Poll:
    """Acquire the right to poll a destination for a while."""
    record = await database.fetchrow(SQL["acquire_poll"], destination_id, seconds(lease_seconds))
    return row_of(Poll, record) or Poll(None, None, lease_seconds)


async def release_polls(database: Database, destination_ids: Sequence[int]) -> None:
    """Release polls before their time, so that other replicas can poll."""
    if destination_ids:
        await database.execute(SQL["release_polls"], list(destination_ids))


async def record_poll(database: Database, destination_id: int, up_to: dt.datetime) -> None:
    """Record that changes up to a time are known; clears the failure of an earlier poll."""
    await database.execute(SQL["record_poll"], destination_id, up_to)


async def list_links(
    database: Database, destination_id: int, after_lane: int, limit: int
) -> list[LinkedIssue]:
    """Return the next page of the issues at a destination."""
    return rows_of(LinkedIssue, await database.fetch(SQL["list_links"], destination_id, after_lane, limit))


async def has_pending_state_change(con: Connection, lane_id: int) -> bool:
    """Return whether a close or reopen of ours is pending for the lane's issue."""
    pending: bool = await con.fetchval(SQL["has_pending_state_change"], lane_id)
    return pending


async def state_change_sent_since(con: Connection, lane_id: int, since: dt.datetime) -> bool:
    """Return whether a close or reopen of ours may have changed the lane's issue after a time."""
    sent: bool = await con.fetchval(SQL["state_change_sent_since"], lane_id, since)
    return sent


async def current_time(database: Database) -> dt.datetime:
    """Return the database's time."""
    now: dt.datetime = await database.fetchval(SQL["current_time"])
    return now
