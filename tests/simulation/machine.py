"""State machine for hypothesis: every operation of the queue runs on PostgreSQL and on the model, then both are compared."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pointsman.domain.states import DeliveryState
from pointsman.storage import destinations
from pointsman.storage.destinations import Failure
from pointsman.storage.marker_observations import MarkerObservation, issues_with_marker, record_markers
from pointsman.storage.queue import Lanes, missing_comments
from pointsman.storage.replay import replay_delivery
from simulation.environment import (
    DESTINATIONS,
    SELECT_ALL,
    SHIFT_TIMES,
    Environment,
    compare,
)
from simulation.machine_state import HOLDERS, MachineState, index
from simulation.memory import HEAD_ONLY

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
FAILURE = Failure(error_type="T", message="m")
spans = st.sampled_from([0.0, 100.0, 300.0])


class QueueMachine(MachineState):
    """Operations of ``Lanes`` as rules; results and tables of PostgreSQL and the model must agree.

    No precondition depends on a choice of PostgreSQL, such as which lanes were claimed: the drawn examples must not depend
    on it.
    """

    # -- rules -------------------------------------------------------------------------------------------------------

    @rule(ticket=index, destination=index, more=st.integers(1, 3))
    def new_deliveries(self, ticket: int, destination: int, more: int) -> None:
        self.more_deliveries(ticket, destination, more)

    @rule(holder=st.integers(0, HOLDERS - 1), limit=st.integers(1, 5), lease=st.sampled_from([100.0, 1000.0]))
    def claim(self, holder: int, limit: int, lease: float) -> None:
        self.claim_by(holder, limit, lease)

    @precondition(lambda self: self.leases)
    @rule(n=index)
    def head(self, n: int) -> None:
        holder, lane = self.pick(n)
        self.clock += 0.001
        real, model = self.holders[holder]
        self._same_head(
            self.environment.run(real.next_delivery(lane)), self.environment.run(model.next_delivery(lane))
        )

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=4), lease=st.sampled_from([100.0, 1000.0]))
    def renew(self, ns: list[int], lease: float) -> None:
        holder, _ = self.pick(ns[0])
        for lanes_ in self.holders[holder]:
            lanes_.lease_seconds = lease
        lanes = list({id(lane): lane for n in ns for _, lane in [self.pick(n)]}.values())
        self.both(holder, lambda lanes_: lanes_.renew(lanes))

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=3), outcome_unknown=st.booleans(), settle=spans, far=index)
    def intents(self, ns: list[int], outcome_unknown: bool, settle: float, far: int) -> None:
        """Record several intents in one statement, of stale and of current leases."""
        holder, _ = self.pick(ns[0])
        asked = {lane.lease_id: (lane, self.seq(lane, far)) for n in ns for _, lane in [self.pick(n)]}

        async def operation(lanes: Lanes) -> list[int | None]:
            return await asyncio.gather(
                *(
                    lanes.record_intent(
                        lane,
                        seq,
                        outcome_unknown=outcome_unknown,
                        verify_after_seconds=settle,
                        draft={"n": far},
                    )
                    for lane, seq in asked.values()
                )
            )

        self.both(holder, operation)

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=3), keep=st.booleans(), issue=index, state=st.sampled_from([None, 1, 2]),
          far=index)  # fmt: skip
    def finish(self, ns: list[int], keep: bool, issue: int, state: int | None, far: int) -> None:
        holder, _ = self.pick(ns[0])
        asked = {lane.lease_id: (lane, self.seq(lane, far)) for n in ns for _, lane in [self.pick(n)]}
        self.attempts += sum(
            self.holds(lane) and seq == self.memory.lanes[lane.id].head_seq for lane, seq in asked.values()
        )

        async def operation(lanes: Lanes) -> list[bool | None]:
            return await asyncio.gather(
                *(
                    lanes.finish(
                        lane,
                        seq,
                        keep_lease=keep,
                        outcome="done",
                        started_at=NOW,
                        # in some cases one issue for two lanes
                        issue=None
                        if issue % 3 == 0
                        else (f"i{issue % 7}" if issue % 3 == 1 else f"l{lane.id}", "k", "u"),
                        comment_id="c" if issue % 2 else None,
                        remote_state=state,
                        remote_version=NOW if state else None,
                    )
                    for lane, seq in asked.values()
                )
            )

        self.both(holder, operation)

    @precondition(lambda self: self.leases)
    @rule(
        n=index,
        delay=spans,
        counts=st.booleans(),
        outcome_unknown=st.booleans(),
        verify_attempts=st.integers(0, 2),
        settle=spans,
        far=index,
    )
    def retry(
        self,
        n: int,
        delay: float,
        counts: bool,
        outcome_unknown: bool,
        verify_attempts: int,
        settle: float,
        far: int,
    ) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        head = not HEAD_ONLY["schedule_retry"] or seq == self.memory.lanes[lane.id].head_seq
        self.attempts += self.holds(lane) and head
        self.both(
            holder,
            lambda lanes: lanes.retry(
                lane, seq, delay_seconds=delay, counts_attempt=counts, outcome_unknown=outcome_unknown, verify_attempts=verify_attempts,
                verify_after_seconds=settle, outcome="unknown", error="e", status=None, started_at=NOW,
            ),
        )  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule(n=index, far=index)
    def confirm_not_applied(self, n: int, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.both(holder, lambda lanes: lanes.confirm_not_applied(lane, seq))

    @precondition(lambda self: self.leases)
    @rule(n=index, park=st.booleans(), outcome_unknown=st.booleans(), far=index)
    def dead_letter_delivery(self, n: int, park: bool, outcome_unknown: bool, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.attempts += self.holds(lane) and seq == self.memory.lanes[lane.id].head_seq
        self.both(
            holder,
            lambda lanes: lanes.dead_letter(
                lane,
                seq,
                park=park,
                outcome_unknown=outcome_unknown,
                outcome="refused",
                error="e",
                status=None,
                started_at=NOW,
            ),
        )

    @precondition(lambda self: self.leases)
    @rule(n=index, orphaned=st.booleans(), outcome=st.sampled_from([None, "orphan"]))
    def park(self, n: int, orphaned: bool, outcome: str | None) -> None:
        holder, lane = self.pick(n)
        self.attempts += self.holds(lane) and outcome is not None
        self.both(
            holder,
            lambda lanes: lanes.park(
                lane, "orphan", orphaned=orphaned, outcome=outcome, error=outcome, started_at=NOW
            ),
        )

    @precondition(lambda self: self.leases)
    @rule(n=index, delay=spans)
    def release(self, n: int, delay: float) -> None:
        holder, lane = self.pick(n)
        self.both(holder, lambda lanes: lanes.release(lane, delay))

    @precondition(lambda self: self.memory.deliveries)
    @rule(n=index, assume_not_applied=st.booleans())
    def replay_delivery(self, n: int, assume_not_applied: bool) -> None:
        keys = sorted(self.memory.deliveries)
        dead = [key for key in keys if self.memory.deliveries[key].state == DeliveryState.DEAD]
        parked = [(lane.id, lane.head_seq) for lane in self.memory.lanes.values() if lane.state == 3]
        keys = (dead or keys, parked or keys, keys)[n % 3]
        lane_id, seq = keys[n // 3 % len(keys)]
        self.both(
            0,
            lambda lanes: replay_delivery(
                lanes.database, lane_id, seq, assume_not_applied=assume_not_applied
            ),
        )

    @precondition(lambda self: self.memory.deliveries)
    @rule(n=index, after=st.integers(0, 3))
    def missing(self, n: int, after: int) -> None:
        keys = sorted(self.memory.deliveries)
        dead = [key for key in keys if self.memory.deliveries[key].state == DeliveryState.DEAD] or keys
        lane_id, seq = dead[n % len(dead)]

        async def operation(lanes: Lanes) -> tuple[int, bool]:
            count, since = await missing_comments(lanes.database, lane_id, seq + after)
            return count, since is not None

        self.both(0, operation)

    @precondition(lambda self: self.memory.deliveries)
    @rule(ns=st.lists(index, min_size=1, max_size=3))
    def observe_markers(self, ns: list[int]) -> None:
        rows = list(self.memory.deliveries.values())
        seen = []
        for n in ns:
            d = rows[n % len(rows)]
            destination = self.memory.lanes[d.lane_id].destination_id
            seen.append(MarkerObservation(destination, d.marker, f"i{n % 3}", "k", "u", "answer"))
        self.both(0, lambda lanes: record_markers(lanes.database, seen))
        first = seen[0]
        self.both(0, lambda lanes: self._observed(lanes, first))

    @staticmethod
    async def _observed(lanes: Lanes, observation: MarkerObservation) -> list[Any]:
        return sorted(
            await issues_with_marker(lanes.database, observation.destination_id, observation.marker)
        )

    @rule(
        destination=index,
        action=st.integers(0, 5),
        hold=st.sampled_from([100.0, 300.0]),
        mostly=st.booleans(),
    )
    def change_destination(self, destination: int, action: int, hold: float, mostly: bool) -> None:
        n = destination % DESTINATIONS
        destination_id = self.environment.destinations[n]
        match action:
            case 0 | 1:
                self._fail(
                    destination_id, away=True, mostly=mostly, times=1 if mostly else 1 + destination % 5
                )
            case 2:
                self._fail(destination_id, away=False, mostly=mostly, times=1)
            case 3 | 4:
                self.both(0, lambda lanes: destinations.block(lanes.database, destination_id, hold))
            case _:
                self._pause(n, "a person" if mostly and not destination % 3 else None)

    def _fail(self, destination_id: int, *, away: bool, mostly: bool, times: int) -> None:
        for _ in range(times):
            self.both(
                0,
                lambda lanes: destinations.record_failure(
                    lanes.database,
                    destination_id,
                    FAILURE,
                    no_answer=away,
                    mostly_no_answer=mostly,
                    open_seconds=100.0,
                    max_open_seconds=300.0,
                ),
            )

    def _pause(self, n: int, why: str | None) -> None:
        self.environment.run(destinations.set_pause(self.environment.database, f"d{n}", why))
        row = self.memory.destinations[self.environment.destinations[n]]
        row.close()
        row.pause_reason, row.blocked_until = why, None

    @precondition(lambda self: self.leases)
    @rule(n=index, reclaim=st.booleans())
    def expire_lease(self, n: int, reclaim: bool) -> None:
        """Let a lease expire; with ``reclaim`` another holder claims the lane."""
        current = [lease for lease in self.leases if self.holds(lease[1])]
        if not current:
            return
        holder, lane = current[-1 - n % 2 :][0]
        self.clock += 0.001
        sql = "update lane set lease_until = now() - interval '50 s' where id = $1"
        self.environment.run(self.environment.database.execute(sql, lane.id))
        self.memory.lanes[lane.id].lease_until = self.clock - 50.0
        if reclaim:
            self.claim_by((holder + 1) % HOLDERS, 5, 1000.0)

    @rule(by=st.sampled_from([50.0, 150.0, 350.0, 1050.0]))
    def time_passes(self, by: float) -> None:
        self.environment.run(self.environment.pool.execute(SHIFT_TIMES.format(by=f"interval '{by} s'")))
        self.clock += by

    # -- invariants -------------------------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        row = self.environment.run(
            self.environment.database.fetchrow(SELECT_ALL, self.environment.destinations)
        )
        compare(row, self.memory, self.attempts)


def play(
    environment: Environment, *, examples: int, fixed: bool, phases: Iterable[Phase] = tuple(Phase)
) -> None:
    """Run examples of 50 steps; with ``fixed`` the same ones each time. Raises AssertionError for a difference."""
    run_state_machine_as_test(
        type("Machine", (QueueMachine,), {"environment": environment}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=fixed,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )
