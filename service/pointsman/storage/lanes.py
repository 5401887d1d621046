"""The queue: lanes claimed whole under a fenced lease, and the steps of an attempt."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries

SQL = queries("lanes")

LEASE_SECONDS = 60.0
TRUST_MARGIN_SECONDS = 5.0

DONE, DEAD, SKIPPED = 1, 2, 3
LEASED = 2


def seconds(value: float) -> dt.timedelta:
    """An interval for Postgres."""
    return dt.timedelta(seconds=value)


@dataclass(slots=True)
class Lane:
    """A lane in our hands. ``trust_until`` is on the monotonic clock, counted from before the claim was sent."""

    id: int
    epoch: int
    lease_id: uuid.UUID
    ticket_id: uuid.UUID
    destination_id: int
    trust_until: float


class Lanes:
    """Statements on lanes and deliveries; each one that a holder issues names its lease."""

    def __init__(
        self, database: Database, holder: uuid.UUID, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.database = database
        self.holder = holder
        self.lease_seconds = lease_seconds

    def _trust(self, before: float) -> float:
        return before + self.lease_seconds - min(TRUST_MARGIN_SECONDS, self.lease_seconds / 4)

    async def claim(self, room: int) -> list[Lane]:
        """Reap what others let go, then claim up to ``room`` due lanes."""
        look = await self.database.fetchrow(SQL["anything_to_do"])
        assert look is not None
        if look["lapsed"]:
            await self.database.fetch(SQL["reap_lanes"])
        elif not look["due"]:
            return []
        before = time.monotonic()
        async with self.database.transaction() as con:
            turn = await con.fetch(SQL["destinations_in_turn"], 64)
            if not turn:
                return []
            rows = await con.fetch(
                SQL["claim_lanes"],
                self.holder,
                room,
                seconds(self.lease_seconds),
                [row["destination_id"] for row in turn],
            )
        return [
            Lane(
                row["id"],
                row["epoch"],
                row["lease_id"],
                row["ticket_id"],
                row["destination_id"],
                self._trust(before),
            )
            for row in rows
        ]

    async def renew(self, lanes: Sequence[Lane]) -> set[int]:
        """Renew the leases; the ids of lanes that are still ours."""
        before = time.monotonic()
        rows = await self.database.fetch(
            SQL["renew_leases"],
            [lane.id for lane in lanes],
            [lane.lease_id for lane in lanes],
            seconds(self.lease_seconds),
        )
        kept = {row["id"] for row in rows}
        for lane in lanes:
            if lane.id in kept:
                lane.trust_until = self._trust(before)
        return kept

    async def release(self, lane: Lane, delay_seconds: float = 0.0) -> None:
        """Give a lane back untouched."""
        await self.database.execute(SQL["release_lane"], lane.id, lane.lease_id, seconds(delay_seconds))

    async def head(self, lane: Lane) -> Row | None:
        """The first unfinished delivery with all that sending it needs; None if the lane is not ours any more."""
        return await self.database.fetchrow(SQL["head_of_lane"], lane.id, lane.lease_id)

    async def intent(
        self, lane: Lane, seq: int, *, in_doubt: bool, settle_seconds: float, draft: Any
    ) -> int | None:
        """Write down that a request is about to leave; the attempts so far, None if the lease is lost."""
        attempts: int | None = await self.database.fetchval(
            SQL["write_intent"],
            lane.id,
            lane.lease_id,
            seq,
            in_doubt,
            seconds(settle_seconds),
            json.dumps(draft) if draft is not None else None,
        )
        return attempts

    async def finish(
        self,
        lane: Lane,
        seq: int,
        *,
        keep: bool,
        outcome: str,
        started: dt.datetime,
        note: str = "",
        state: int = DONE,
        issue: tuple[str, str, str] | None = None,
        comment_id: str | None = None,
        remote_state: int | None = None,
        remote_version: dt.datetime | None = None,
    ) -> bool | None:
        """A delivery is done; ``note`` is kept with the attempt. True: more waits and the lane is still ours; None: the lane was lost, the result is
        stale.
        """
        remote = issue or (None, None, None)
        left = await self.database.fetchval(
            SQL["finish_delivery"],
            lane.id,
            lane.lease_id,
            seq,
            keep,
            state,
            outcome,
            comment_id,
            *remote,
            started,
            self.holder,
            remote_state,
            remote_version,
            note or None,
        )
        return None if left is None else left == LEASED

    async def retry(
        self,
        lane: Lane,
        seq: int,
        *,
        delay_seconds: float,
        counts: bool,
        in_doubt: bool,
        looks: int,
        settle_seconds: float,
        outcome: str,
        error: str,
        status: int | None,
        started: dt.datetime,
    ) -> bool:
        """Try a delivery again later; False if the lane was lost."""
        row = await self.database.fetchval(
            SQL["retry_delivery"],
            lane.id,
            lane.lease_id,
            seq,
            seconds(delay_seconds),
            counts,
            in_doubt,
            looks,
            seconds(settle_seconds),
            outcome,
            error,
            started,
            self.holder,
            status,
        )
        return row is not None

    async def clear_doubt(self, lane: Lane, seq: int) -> bool:
        """Every look found nothing: the delivery may be sent again; False if the lane was lost."""
        return await self.database.fetchval(SQL["clear_doubt"], lane.id, lane.lease_id, seq) is not None

    async def give_up(
        self,
        lane: Lane,
        seq: int,
        *,
        park: bool,
        in_doubt: bool,
        why: str,
        error: str,
        status: int | None,
        started: dt.datetime,
    ) -> bool:
        """A delivery is dead; its lane goes on or is parked. A doubt about it outlives it, for when it is replayed.
        False if the lane was lost.
        """
        row = await self.database.fetchval(
            SQL["give_up"],
            lane.id,
            lane.lease_id,
            seq,
            park,
            why,
            error,
            started,
            self.holder,
            status,
            in_doubt,
        )
        return row is not None

    async def park(self, lane: Lane, why: str, *, orphaned: bool = False) -> None:
        """The lane waits for a person."""
        if (
            await self.database.fetchval(SQL["park_lane"], lane.id, lane.lease_id, why) is not None
            and orphaned
        ):
            await self.database.execute(SQL["orphan_link"], lane.id)

    async def sightings(self, destination_id: int, marker: uuid.UUID) -> list[tuple[str, str, str]]:
        """Issues that were seen with a marker, first one first."""
        rows = await self.database.fetch(SQL["sightings_of"], destination_id, marker)
        return [(row["remote_id"], row["remote_key"], row["url"]) for row in rows]


async def sight(
    database: Database, destination_id: int, marker: uuid.UUID, issue: tuple[str, str, str], seen_by: str
) -> None:
    """Write down that an issue (id, key, address) carries a marker."""
    await database.execute(SQL["write_sighting"], destination_id, marker, *issue, seen_by)


async def replay(database: Database, lane_id: int, seq: int, *, not_there: bool = False) -> bool:
    """Let a dead delivery, or the head of a parked lane, run again; False if it is neither. ``not_there``: what is in
    doubt did not happen.
    """
    if await database.fetchval(SQL["replay_parked"], lane_id, seq, not_there) is not None:
        return True
    return await database.fetchval(SQL["replay_skipped"], lane_id, seq, not_there) is not None


async def deliveries(
    database: Database,
    *,
    state: int | None = None,
    destination: str | None = None,
    ticket_id: uuid.UUID | None = None,
    parked: bool = False,
    limit: int = 100,
) -> Sequence[Row]:
    """Deliveries for people, newest first."""
    return await database.fetch(SQL["deliveries"], state, destination, ticket_id, limit, parked)


async def undelivered(database: Database) -> Row:
    """How much waits: pending, in doubt, dead, and the age of the oldest in seconds."""
    row = await database.fetchrow(SQL["undelivered"])
    assert row is not None
    return row


async def attempts_of(database: Database, ticket_id: uuid.UUID) -> Sequence[Row]:
    """Every attempt for a ticket, in order of time."""
    return await database.fetch(SQL["attempts_of_ticket"], ticket_id)
