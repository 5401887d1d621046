"""Replay deliveries that were given up, by filter: read in batches, each delivery replayed in a transaction of its own.

A replay locks its lane. Locking many lanes in one transaction could block intake or deadlock with it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("replay")
QUEUE = queries("queue")

BATCH_ROWS = 500

Moment: TypeAlias = dt.datetime | dt.timedelta | None
"""A time, an age, or no limit."""


class _DestinationRow(NamedTuple):
    destination_id: int
    now: dt.datetime


class _StoppedRow(NamedTuple):
    lane_id: int
    seq: int
    kind: int
    outcome_unknown: bool


class ReplayFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries of one destination that stopped with one outcome in a period. ``until`` is always set."""

    destination_id: int
    outcome: str
    since: dt.datetime | None
    until: dt.datetime


async def replay_delivery(
    database: Database, lane_id: int, seq: int, *, assume_not_applied: bool = False
) -> bool:
    """Try a dead letter, or the first delivery of a parked lane, again. Return False if it is neither.

    ``assume_not_applied``: an unknown outcome is taken for "had no effect" instead of being verified.
    """
    if await database.fetchval(QUEUE["replay_parked"], lane_id, seq, assume_not_applied) is not None:
        return True
    return await database.fetchval(QUEUE["replay_passed"], lane_id, seq, assume_not_applied) is not None


async def replay_filter(
    database: Database, slug: str, outcome: str, since: Moment, until: Moment
) -> ReplayFilter | None:
    """Return a filter whose ages count from the database's time, or None if the destination does not exist."""
    row = row_of(_DestinationRow, await database.fetchrow(SQL["replay_destination"], slug))
    if row is None:
        return None
    first, last = (
        row.now - moment if isinstance(moment, dt.timedelta) else moment for moment in (since, until)
    )
    return ReplayFilter(
        destination_id=row.destination_id,
        outcome=outcome,
        since=first,
        until=row.now if last is None else min(last, row.now),
    )


async def count(database: Database, conditions: ReplayFilter) -> Counter[tuple[int, bool]]:
    """Count the deliveries that would be replayed, by kind and whether their outcome is unknown."""
    counts: Counter[tuple[int, bool]] = Counter()
    async for row in _stopped(database, conditions):
        counts[row.kind, row.outcome_unknown] += 1
    return counts


async def run(database: Database, conditions: ReplayFilter) -> Counter[tuple[int, bool]]:
    """Replay deliveries in lane order. Return how many, by kind and whether their outcome is unknown.

    If it is interrupted, the same call replays the rest: replayed deliveries no longer match.
    """
    counts: Counter[tuple[int, bool]] = Counter()
    async for row in _stopped(database, conditions):
        if await replay_delivery(database, row.lane_id, row.seq):
            counts[row.kind, row.outcome_unknown] += 1
    return counts


async def write_audit(database: Database, slug: str, detail: Mapping[str, object]) -> None:
    """Record in the audit log that an operator replayed deliveries."""
    await database.execute(SQL["write_replay_audit"], slug, json.dumps(detail, default=str))


async def _stopped(database: Database, conditions: ReplayFilter) -> AsyncIterator[_StoppedRow]:
    after = (0, 0)
    while True:
        records = await database.fetch(
            SQL["stopped_deliveries"],
            conditions.destination_id,
            conditions.outcome,
            conditions.since,
            conditions.until,
            *after,
            BATCH_ROWS,
        )
        rows = rows_of(_StoppedRow, records)
        for row in rows:
            yield row
        if len(rows) < BATCH_ROWS:
            return
        after = (rows[-1].lane_id, rows[-1].seq)
