"""Running again what was given up, by filter: found in batches, each delivery replayed by itself.

One by one, because a replay locks its lane: many lanes at once, in an order of our own, could stand in the way of
reports and of each other.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

import msgspec

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries
from pointsman.storage.queue import replay

SQL = queries("replay")

BATCH_ROWS = 500

When: TypeAlias = dt.datetime | dt.timedelta | None
"""A time, an age, or open."""


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What to run again: deliveries of one destination and class that stopped in a time. ``until`` is never open."""

    destination_id: int
    cls: str
    since: dt.datetime | None
    until: dt.datetime


async def stopped(database: Database, slug: str, cls: str, since: When, until: When) -> Stopped | None:
    """What is meant by a destination, a class and a time, by the database's clock; None: no such destination."""
    row = await database.fetchrow(SQL["moment"], slug)
    if row is None:
        return None
    now = row["moment"]
    first, last = (now - one if isinstance(one, dt.timedelta) else one for one in (since, until))
    until_now = now if last is None else min(last, now)
    return Stopped(destination_id=row["destination_id"], cls=cls, since=first, until=until_now)


async def count(database: Database, wanted: Stopped) -> Counter[tuple[int, bool]]:
    """How many would run again, by kind and whether they are in doubt."""
    found: Counter[tuple[int, bool]] = Counter()
    async for row in _stopped(database, wanted):
        found[row["kind"], row["in_doubt"]] += 1
    return found


async def run(database: Database, wanted: Stopped) -> Counter[tuple[int, bool]]:
    """Let them run again, in the order of their lanes; what ran, by kind and whether it is in doubt.

    Stopped half way, the rest can be run by the same call: what runs is no longer stopped.
    """
    ran: Counter[tuple[int, bool]] = Counter()
    async for row in _stopped(database, wanted):
        if await replay(database, row["lane_id"], row["seq"]):
            ran[row["kind"], row["in_doubt"]] += 1
    return ran


async def note(database: Database, slug: str, detail: Mapping[str, object]) -> None:
    """Write into the audit that an operator ran deliveries again."""
    await database.execute(SQL["note_replay"], slug, json.dumps(detail, default=str))


async def _stopped(database: Database, wanted: Stopped) -> AsyncIterator[Row]:
    after = (0, 0)
    while True:
        rows = await database.fetch(
            SQL["stopped"],
            wanted.destination_id,
            wanted.cls,
            wanted.since,
            wanted.until,
            *after,
            BATCH_ROWS,
        )
        for row in rows:
            yield row
        if len(rows) < BATCH_ROWS:
            return
        after = (rows[-1]["lane_id"], rows[-1]["seq"])
