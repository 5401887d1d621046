"""The queue: claim lanes under fenced leases, and store each step of an attempt."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from pointsman.domain.states import LaneState
from pointsman.storage.batching import CallCoalescer, columns
from pointsman.storage.db import Database, Row, seconds
from pointsman.storage.queries import queries
from pointsman.storage.queue_values import Finish, Intent, Lane, NextDelivery
from pointsman.storage.rows import rows_of

SQL = queries("queue")

LEASE_SECONDS = 60.0
TRUST_MARGIN_SECONDS = 5.0
CHECK_SECONDS = 1.0
MAX_DESTINATIONS_PER_CLAIM = 64


class Lanes:
    """Statements on lanes and deliveries. Each one on behalf of a claimed lane names its lease.

    The three that every delivery needs (load, intent, finish) are coalesced over the lanes that need them at the same time.
    """

    def __init__(
        self,
        database: Database,
        holder: uuid.UUID,
        *,
        lease_seconds: float = LEASE_SECONDS,
        claimable: Callable[[], Sequence[int] | None] = lambda: None,
    ) -> None:
        """Create the statements of one holder. ``claimable``: ids of the destinations to claim, None for all."""
        self.database = database
        self._claimable = claimable
        self.holder = holder
        self.lease_seconds = lease_seconds
        self._last_claim_was_successful = False
        self._checked_at = -CHECK_SECONDS
        self._load_delivery = CallCoalescer(self._load_deliveries)
        self._write_intent = CallCoalescer(self._write_intents)
        self._finish_delivery = CallCoalescer(self._finish_deliveries)

    def _trusted_until(self, before: float) -> float:
        return before + self.lease_seconds - min(TRUST_MARGIN_SECONDS, self.lease_seconds / 4)

    async def claim(self, limit: int) -> list[Lane]:
        """Release expired leases, then claim up to ``limit`` due lanes."""
        before = time.monotonic()
        # where the last claim found work the next one mostly does too; only expired leases must be looked for
        if not self._last_claim_was_successful or before - self._checked_at > CHECK_SECONDS:
            work = await self.database.fetchrow(SQL["has_due_work"])
            assert work is not None
            self._checked_at = before
            if work["lapsed"]:
                await self.database.fetch(SQL["release_expired_leases"])
            elif not work["due"]:
                return []
        before = time.monotonic()
        lanes = await self._claim(limit, before)
        self._last_claim_was_successful = bool(lanes)
        return lanes

    async def _claim(self, limit: int, before: float) -> list[Lane]:
        async with self.database.transaction() as con:
            destinations = await con.fetch(
                SQL["lock_claimable_destinations"], MAX_DESTINATIONS_PER_CLAIM, self._claimable()
            )
            if not destinations:
                return []
            claimed = await con.fetch(
                SQL["claim_lanes"],
                self.holder,
                limit,
                seconds(self.lease_seconds),
                [row["destination_id"] for row in destinations],
            )
            deliveries: dict[int, NextDelivery] = {}
            if claimed:
                records = await con.fetch(
                    SQL["load_next_deliveries"],
                    [row["id"] for row in claimed],
                    [row["lease_id"] for row in claimed],
                )
                deliveries = {delivery.lane_id: delivery for delivery in rows_of(NextDelivery, records)}
        return [
            Lane(
                row["id"],
                row["epoch"],
                row["lease_id"],
                row["ticket_id"],
                row["destination_id"],
                self._trusted_until(before),
                deliveries.get(row["id"]),
            )
            for row in claimed
        ]

    async def renew(self, lanes: Sequence[Lane]) -> set[int]:
        """Renew leases. Return the ids of the lanes whose lease was not lost."""
        before = time.monotonic()
        rows = await self.database.fetch(
            SQL["renew_leases"],
            [lane.id for lane in lanes],
            [lane.lease_id for lane in lanes],
            seconds(self.lease_seconds),
        )
        renewed = {row["id"] for row in rows}
        for lane in lanes:
            if lane.id in renewed:
                lane.trust_until = self._trusted_until(before)
        return renewed

    async def release(self, lane: Lane, delay_seconds: float = 0.0) -> None:
        """Release a lane unchanged; it is due after the delay."""
        await self.database.execute(SQL["release_lane"], lane.id, lane.lease_id, seconds(delay_seconds))

    async def next_delivery(self, lane: Lane) -> NextDelivery | None:
        """Return the first unfinished delivery of a lane. None if there is none or the lease was lost."""
        return await self._load_delivery((lane.id, lane.lease_id))

    async def _load_deliveries(self, leases: list[tuple[int, uuid.UUID]]) -> list[NextDelivery | None]:
        rows = await self.database.fetch(SQL["load_next_deliveries"], *columns(leases))
        deliveries = {
            (delivery.lane_id, delivery.lease_id): delivery for delivery in rows_of(NextDelivery, rows)
        }
        return [deliveries.get(lease) for lease in leases]

    async def record_intent(
        self, lane: Lane, seq: int, *, outcome_unknown: bool, verify_after_seconds: float, draft: Any
    ) -> int | None:
        """Store that a request is about to leave. Return the attempts so far, None if the lease was lost."""
        text = json.dumps(draft) if draft is not None else None
        return await self._write_intent(
            Intent(lane.id, lane.lease_id, seq, outcome_unknown, seconds(verify_after_seconds), text)
        )

    async def _write_intents(self, intents: list[Intent]) -> list[int | None]:
        return await self._fenced("record_intents", intents, "attempts")

    async def _fenced(
        self, statement: str, items: Sequence[Intent | Finish], column: str, *arguments: Any
    ) -> list[int | None]:
        """Run a statement for many lanes. Return a column for each lane, None where its lease was lost."""
        rows = await self.database.fetch(SQL[statement], *columns(items), *arguments)
        # by lease: a lane that was lost and claimed again can be asked for by its old and its new holder at once
        values: dict[tuple[int, uuid.UUID], int] = {
            (row["lane_id"], row["lease_id"]): row[column] for row in rows
        }
        for item in items:
            if (item.lane_id, item.lease_id) not in values:
                row = await self._run_alone(item, statement, columns([item]), *arguments)
                if row is not None:
                    values[item.lane_id, item.lease_id] = row[column]
        return [values.get((item.lane_id, item.lease_id)) for item in items]

    async def _run_alone(
        self, item: Intent | Finish, statement: str, item_columns: list[list[Any]], *arguments: Any
    ) -> Row | None:
        """Wait for the lock of a lane that a shared statement skipped, and run it alone. None if the lease was lost."""
        async with self.database.transaction() as con:
            if await con.fetchval(SQL["lock_lane"], item.lane_id, item.lease_id) is None:
                return None
            row: Row | None = await con.fetchrow(SQL[statement], *item_columns, *arguments)
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
        """Finish a delivery; ``note`` is stored with the attempt.

        Return whether the lease is kept and the lane has more deliveries; None if the lease was lost and nothing changed.
        """
        remote_id, remote_key, url = issue or (None, None, None)
        state = await self._finish_delivery(
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

    async def _finish_deliveries(self, finishes: list[Finish]) -> list[int | None]:
        return await self._fenced("finish_deliveries", finishes, "state", self.holder)

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
        """Schedule the retry of a delivery and release its lane. Return False if the lease was lost."""
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
        """Store that an unknown outcome had no effect: the delivery may be sent. Return False if the lease was lost."""
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
        """Give a delivery up; its lane goes on, or is parked. Return False if the lease was lost.

        An unknown outcome stays with the dead letter, so that a replay verifies it.
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
        """Park a lane until an operator acts; ``orphaned``: its issue is gone. Return False if the lease was lost.

        ``outcome`` and what follows belong to the attempt that led to it, if there was one.
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


async def missing_comments(database: Database, lane_id: int, seq: int) -> tuple[int, dt.datetime | None]:
    """Return how many comments before a delivery were given up since the last delivered one, and since when."""
    row = await database.fetchrow(SQL["missing_comments"], lane_id, seq)
    return (row["count"], row["since"]) if row is not None else (0, None)
