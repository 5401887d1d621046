"""The queue: lanes claimed whole under a fenced lease, and the steps of an attempt."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pointsman.domain.states import LaneState
from pointsman.storage.batching import CallCoalescer, columns
from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries
from pointsman.storage.rows import rows_of

SQL = queries("queue")

LEASE_SECONDS = 60.0
TRUST_MARGIN_SECONDS = 5.0
LOOK_SECONDS = 1.0


def seconds(value: float) -> dt.timedelta:
    """An interval for Postgres."""
    return dt.timedelta(seconds=value)


class NextDelivery(NamedTuple):
    """The first unfinished delivery of a claimed lane, with everything that sending it needs."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    event_n: int
    kind: int
    marker: uuid.UUID
    attempts: int
    outcome_unknown: bool
    verify_attempts: int
    draft: str | None
    first_sent_at: dt.datetime | None
    coalesced_count: int
    created_at: dt.datetime
    verify_after_seconds: float
    expired: bool
    verify_writes: bool
    ticket_id: uuid.UUID
    ticket_kind: int
    title: str
    description: str
    ticket_url: str
    level: str
    environment: str
    release: str
    reporter_email: str
    reporter_name: str
    close_reason: str | None
    occurrences: int
    source: str
    event_kind: str
    event_data: str
    event_at: dt.datetime
    remote_id: str | None
    remote_key: str | None
    issue_url: str | None
    link_state: int | None


@dataclass(slots=True)
class Lane:
    """A lane in our hands. ``trust_until`` is on the monotonic clock, counted from before the claim was sent.

    ``first`` is its head as it stood when the lane was claimed: what comes of it is fenced like all else.
    """

    id: int
    epoch: int
    lease_id: uuid.UUID
    ticket_id: uuid.UUID
    destination_id: int
    trust_until: float
    first_delivery: NextDelivery | None = None


class Intent(NamedTuple):
    """A request that is about to leave."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    outcome_unknown: bool
    verify_after: dt.timedelta
    draft: str | None


class Finish(NamedTuple):
    """A delivery that is done."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    keep_lease: bool
    outcome: str
    comment_id: str | None
    remote_id: str | None
    remote_key: str | None
    url: str | None
    started_at: dt.datetime
    remote_state: int | None
    remote_version: dt.datetime | None
    note: str | None


class Lanes:
    """Statements on lanes and deliveries; each one that a holder issues names its lease.

    The three that every delivery needs (its head, its intent, its end) are shared by lanes that need them at the same
    time.
    """

    def __init__(
        self, database: Database, holder: uuid.UUID, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.database = database
        self.holder = holder
        self.lease_seconds = lease_seconds
        self._found_work = False
        self._looked_at = -LOOK_SECONDS
        self._heads = CallCoalescer(self._read_heads)
        self._intents = CallCoalescer(self._write_intents)
        self._finishes = CallCoalescer(self._finish_deliveries)

    def _trust(self, before: float) -> float:
        return before + self.lease_seconds - min(TRUST_MARGIN_SECONDS, self.lease_seconds / 4)

    async def claim(self, limit: int) -> list[Lane]:
        """Reap what others let go, then claim up to ``room`` due lanes."""
        before = time.monotonic()
        # where the last claim found work the next one mostly does too: no need to ask first, save for lapsed leases
        if not self._found_work or before - self._looked_at > LOOK_SECONDS:
            look = await self.database.fetchrow(SQL["has_due_work"])
            assert look is not None
            self._looked_at = before
            if look["lapsed"]:
                await self.database.fetch(SQL["release_expired_leases"])
            elif not look["due"]:
                return []
        before = time.monotonic()
        lanes = await self._claim(limit, before)
        self._found_work = bool(lanes)
        return lanes

    async def _claim(self, room: int, before: float) -> list[Lane]:
        async with self.database.transaction() as con:
            turn = await con.fetch(SQL["lock_claimable_destinations"], 64)
            if not turn:
                return []
            rows = await con.fetch(
                SQL["claim_lanes"],
                self.holder,
                room,
                seconds(self.lease_seconds),
                [row["destination_id"] for row in turn],
            )
            heads = {}
            if rows:
                found = await con.fetch(
                    SQL["load_next_deliveries"],
                    [row["id"] for row in rows],
                    [row["lease_id"] for row in rows],
                )
                heads = {delivery.lane_id: delivery for delivery in rows_of(NextDelivery, found)}
        return [
            Lane(
                row["id"],
                row["epoch"],
                row["lease_id"],
                row["ticket_id"],
                row["destination_id"],
                self._trust(before),
                heads.get(row["id"]),
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

    async def next_delivery(self, lane: Lane) -> NextDelivery | None:
        """The first unfinished delivery with all that sending it needs; None if the lane is not ours any more."""
        return await self._heads((lane.id, lane.lease_id))

    async def _read_heads(self, asked: list[tuple[int, uuid.UUID]]) -> list[NextDelivery | None]:
        rows = await self.database.fetch(SQL["load_next_deliveries"], *columns(asked))
        heads = {(delivery.lane_id, delivery.lease_id): delivery for delivery in rows_of(NextDelivery, rows)}
        return [heads.get(one) for one in asked]

    async def record_intent(
        self, lane: Lane, seq: int, *, outcome_unknown: bool, verify_after_seconds: float, draft: Any
    ) -> int | None:
        """Write down that a request is about to leave; the attempts so far, None if the lease is lost."""
        text = json.dumps(draft) if draft is not None else None
        return await self._intents(
            Intent(lane.id, lane.lease_id, seq, outcome_unknown, seconds(verify_after_seconds), text)
        )

    async def _write_intents(self, asked: list[Intent]) -> list[int | None]:
        return await self._fenced("record_intents", asked, "attempts")

    async def _fenced(
        self, statement: str, asked: Sequence[Intent | Finish], told: str, *more: Any
    ) -> list[int | None]:
        """Do for many lanes what a statement does; what it told of each, None where the lease is lost."""
        rows = await self.database.fetch(SQL[statement], *columns(asked), *more)
        # by lease: a lane that was lost and came back may be asked for by its old holder and its new one at once
        done: dict[tuple[int, uuid.UUID], int] = {
            (row["lane_id"], row["lease_id"]): row[told] for row in rows
        }
        for one in asked:
            if (one.lane_id, one.lease_id) not in done:
                late = await self._alone(one, statement, columns([one]), *more)
                if late is not None:
                    done[one.lane_id, one.lease_id] = late[told]
        return [done.get((one.lane_id, one.lease_id)) for one in asked]

    async def _alone(
        self, one: Intent | Finish, statement: str, arguments: list[list[Any]], *more: Any
    ) -> Row | None:
        """Do for one lane, waiting for its lock, what a shared statement passed by; None if the lease is lost."""
        async with self.database.transaction() as con:
            if await con.fetchval(SQL["lock_lane"], one.lane_id, one.lease_id) is None:
                return None
            row: Row | None = await con.fetchrow(SQL[statement], *arguments, *more)
            return row

    async def finish(
        self,
        lane: Lane,
        seq: int,
        *,
        keep_lease: bool,
        outcome: str,
        started_at: dt.datetime,
        note: str = "",
        issue: tuple[str, str, str] | None = None,
        comment_id: str | None = None,
        remote_state: int | None = None,
        remote_version: dt.datetime | None = None,
    ) -> bool | None:
        """A delivery is done; ``note`` is kept with the attempt. True: more waits and the lane is still ours; None: the
        lane was lost, the result is stale.
        """
        remote_id, remote_key, url = issue or (None, None, None)
        state = await self._finishes(
            Finish(
                lane.id,
                lane.lease_id,
                seq,
                keep_lease,
                outcome,
                comment_id,
                remote_id,
                remote_key,
                url,
                started_at,
                remote_state,
                remote_version,
                note or None,
            )
        )
        return None if state is None else state == LaneState.LEASED

    async def _finish_deliveries(self, asked: list[Finish]) -> list[int | None]:
        return await self._fenced("finish_deliveries", asked, "state", self.holder)

    async def retry(
        self,
        lane: Lane,
        seq: int,
        *,
        delay_seconds: float,
        counts_attempt: bool,
        outcome_unknown: bool,
        verify_attempts: int,
        verify_after_seconds: float,
        outcome: str,
        error: str,
        status: int | None,
        started_at: dt.datetime,
    ) -> bool:
        """Try a delivery again later; False if the lane was lost."""
        row = await self.database.fetchval(
            SQL["schedule_retry"],
            lane.id,
            lane.lease_id,
            seq,
            seconds(delay_seconds),
            counts_attempt,
            outcome_unknown,
            verify_attempts,
            seconds(verify_after_seconds),
            outcome,
            error,
            started_at,
            self.holder,
            status,
        )
        return row is not None

    async def confirm_not_applied(self, lane: Lane, seq: int) -> bool:
        """Every look found nothing: the delivery may be sent again; False if the lane was lost."""
        return (
            await self.database.fetchval(SQL["confirm_not_applied"], lane.id, lane.lease_id, seq) is not None
        )

    async def dead_letter(
        self,
        lane: Lane,
        seq: int,
        *,
        park: bool,
        outcome_unknown: bool,
        outcome: str,
        error: str,
        status: int | None,
        started_at: dt.datetime,
    ) -> bool:
        """A delivery is dead; its lane goes on or is parked. A doubt about it outlives it, for when it is replayed.
        False if the lane was lost.
        """
        row = await self.database.fetchval(
            SQL["dead_letter_delivery"],
            lane.id,
            lane.lease_id,
            seq,
            park,
            outcome,
            error,
            started_at,
            self.holder,
            status,
            outcome_unknown,
        )
        return row is not None

    async def park(
        self,
        lane: Lane,
        reason: str,
        *,
        orphaned: bool = False,
        outcome: str | None = None,
        error: str | None = None,
        status: int | None = None,
        started_at: dt.datetime | None = None,
    ) -> bool:
        """The lane waits for a person; ``outcome`` and what follows tell of the attempt that led there. ``orphaned``: its
        issue is gone. False if the lane was lost.
        """
        row = await self.database.fetchval(
            SQL["park_lane"],
            lane.id,
            lane.lease_id,
            reason,
            orphaned,
            outcome,
            error,
            status,
            started_at,
            self.holder,
        )
        return row is not None

    async def issues_with_marker(self, destination_id: int, marker: uuid.UUID) -> list[tuple[str, str, str]]:
        """Issues that were seen with a marker, first one first."""
        rows = await self.database.fetch(
            queries("marker_observations")["issues_with_marker"], destination_id, marker
        )
        return [(row["remote_id"], row["remote_key"], row["url"]) for row in rows]


async def replay(database: Database, lane_id: int, seq: int, *, assume_not_applied: bool = False) -> bool:
    """Let a dead delivery, or the head of a parked lane, run again; False if it is neither. ``not_there``: what is in
    doubt did not happen.
    """
    if await database.fetchval(SQL["replay_parked"], lane_id, seq, assume_not_applied) is not None:
        return True
    return await database.fetchval(SQL["replay_passed"], lane_id, seq, assume_not_applied) is not None


async def missing_comments(database: Database, lane_id: int, seq: int) -> tuple[int, dt.datetime | None]:
    """How many comments before this delivery were given up, since the last one that got there, and since when."""
    row = await database.fetchrow(SQL["missing_comments"], lane_id, seq)
    return (row["count"], row["since"]) if row is not None else (0, None)
