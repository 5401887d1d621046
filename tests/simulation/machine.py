"""Whatever may be done to the queue, as rules for hypothesis: done on Postgres and on the model, and compared after each."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pointsman.domain.states import DeliveryState, LaneState
from pointsman.storage import destinations
from pointsman.storage.destinations import Failure
from pointsman.storage.marker_observations import Sighting, write_sightings
from pointsman.storage.queries import queries
from pointsman.storage.queue import Lane, Lanes, missing_comments, replay
from simulation.environment import (
    CLEAR,
    LOOK,
    PASS,
    PLACES,
    SLACK_SECONDS,
    TICKETS,
    Ground,
    OnMemory,
    compare,
)
from simulation.memory import HEAD_ONLY, Memory
from simulation.rows import Place, Ticket

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
FAILURE = Failure(error_type="T", message="m")
HOLDERS = 3

index = st.integers(0, 1000)
spans = st.sampled_from([0.0, 100.0, 300.0])


class QueueMachine(RuleBasedStateMachine):
    """Whatever is done through ``Lanes`` on Postgres is done on the model; answers and tables must agree.

    No precondition asks for what Postgres decided, such as which lanes were claimed: what is drawn must not depend on it.
    """

    ground: Ground

    @initialize()
    def clear(self) -> None:
        self.clock = 0.0
        self.events = 0
        self.memory = Memory(lambda: self.clock)
        self.model: Any = OnMemory(self.memory)
        self.memory.places = {one: Place(one, max_inflight=2) for one in self.ground.places}
        self.memory.tickets = {
            one: Ticket(one, 1, 2, str(n), "t") for n, one in enumerate(self.ground.tickets)
        }
        ids = [uuid.UUID(int=100 + n) for n in range(HOLDERS)]
        self.holders = [(Lanes(self.ground.database, one), Lanes(self.model, one)) for one in ids]
        self.leases: list[tuple[int, Lane]] = []
        self.attempts = 0
        self.ground.run(self.ground.pool.execute(CLEAR))
        for n in range(4):
            self.more_deliveries(n, n, 1 + n % 3)
        self.claim_by(0, 2, 1000.0)
        self.claim_by(1, 1, 100.0)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def both(self, holder: int, do: Callable[[Lanes], Awaitable[Any]]) -> Any:
        """Do it in both worlds; the answer, which must be the same."""
        self.clock += 0.001
        real, model = self.holders[holder]

        async def run() -> tuple[Any, Any]:
            return await do(real), await do(model)

        mine, models = self.ground.run(run())
        assert mine == models, f"Postgres says {mine!r}, the model {models!r}"
        return mine

    def pick(self, n: int) -> tuple[int, Lane]:
        """A holder and a lane that it was given once: it still has it, or somebody else has it by now, or nobody."""
        held = [one for one in self.leases if self.holds(one[1])]
        late = [
            one for one in self.leases if one not in held and self.memory.lanes[one[1].id].state == LaneState.LEASED
        ]
        among = (held or self.leases, held or self.leases, late or self.leases, self.leases)[n % 4]
        return among[n // 4 % len(among)]

    def seq(self, lane: Lane, n: int) -> int:
        """The head, and now and then another number."""
        row = self.memory.lanes[lane.id]
        return row.head_seq if n % 4 else max(1, row.head_seq + n // 4 % 3 - 1)

    def holds(self, lane: Lane) -> bool:
        row = self.memory.lanes[lane.id]
        return row.state == LaneState.LEASED and row.lease_id == lane.lease_id

    # -- rules -------------------------------------------------------------------------------------------------------

    @rule(ticket=index, place=index, more=st.integers(1, 3))
    def new_deliveries(self, ticket: int, place: int, more: int) -> None:
        self.more_deliveries(ticket, place, more)

    def more_deliveries(self, ticket: int, place: int, more: int) -> None:
        ticket_id = self.ground.tickets[ticket % TICKETS]
        place_id = self.ground.places[place % PLACES]
        first, self.events = self.events + 1, self.events + more
        numbers = range(first, first + more)
        lane = self.memory.lanes.values()
        begun = any((one.ticket_id, one.destination_id) == (ticket_id, place_id) for one in lane)
        columns = [
            *[[]] * 9,
            [ticket_id] * more, list(numbers), ["commented"] * more, ["{}"] * more, [None] * more,
            [ticket_id], [place_id], [more], [None],
            [ticket_id] * more, [place_id] * more, [more - i for i in range(more)], list(numbers),
            [2 if begun or i else 1 for i in range(more)], [uuid.uuid4() for _ in numbers], [None] * more, [0] * more,
        ]  # fmt: skip
        sql = queries("deliveries")["insert_changes"]
        self.clock += 0.001
        self.ground.run(self.ground.database.execute(sql, *columns))
        lane_id = self.ground.run(
            self.ground.database.fetchval(
                "select id from lane where ticket_id = $1 and destination_id = $2", ticket_id, place_id
            )
        )
        self.memory.lane_ids[ticket_id, place_id] = lane_id
        self.memory.run(sql, columns)

    @rule(holder=st.integers(0, HOLDERS - 1), room=st.integers(1, 5), lease=st.sampled_from([100.0, 1000.0]))
    def claim(self, holder: int, room: int, lease: float) -> None:
        self.claim_by(holder, room, lease)

    def claim_by(self, holder: int, room: int, lease: float) -> None:
        self.clock += 0.001
        real, model = self.holders[holder]
        real.lease_seconds = model.lease_seconds = lease
        probing = {one: place.breaker for one, place in self.memory.places.items()}
        claimed = self.ground.run(real.claim(room))
        self.memory.claimed = [(lane.id, lane.lease_id) for lane in claimed]
        again = self.ground.run(model.claim(room))
        self.memory.claimed = None
        assert len(claimed) == len(again) <= room
        heads = {lane.id: lane.first for lane in again}
        for lane in claimed:
            self.leases.append((holder, lane))
            self._same_head(lane.first, heads[lane.id])
        for one, place in self.memory.places.items():
            mine = sum(lane.destination_id == one for lane in claimed)
            assert not mine or self.memory.leased(one) <= place.max_inflight or probing[one], "over the cap"
            assert mine <= 1 or not probing[one], "more than one probe"

    @staticmethod
    def _same_head(real: Any, model: Any) -> None:
        assert (real is None) == (model is None)
        if real is not None:
            for name in ("seq", "event_n", "kind", "marker", "attempts", "outcome_unknown", "verify_attempts", "expired", "remote_id",
                         "remote_key", "issue_url", "link_state", "verify_writes", "event_kind"):  # fmt: skip
                assert getattr(real, name) == getattr(model, name), name
            assert abs(real.verify_after_seconds - model.verify_after_seconds) < SLACK_SECONDS
            assert (real.draft is None) == (model.draft is None)

    @precondition(lambda self: self.leases)
    @rule(n=index)
    def head(self, n: int) -> None:
        holder, lane = self.pick(n)
        self.clock += 0.001
        real, model = self.holders[holder]
        self._same_head(self.ground.run(real.head(lane)), self.ground.run(model.head(lane)))

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=4), lease=st.sampled_from([100.0, 1000.0]))
    def renew(self, ns: list[int], lease: float) -> None:
        holder, _ = self.pick(ns[0])
        for one in self.holders[holder]:
            one.lease_seconds = lease
        lanes = list({id(lane): lane for n in ns for _, lane in [self.pick(n)]}.values())
        self.both(holder, lambda lanes_: lanes_.renew(lanes))

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=3), outcome_unknown=st.booleans(), settle=spans, far=index)
    def intents(self, ns: list[int], outcome_unknown: bool, settle: float, far: int) -> None:
        """Several at once share a statement, those of stale holders with those of new ones."""
        holder, _ = self.pick(ns[0])
        asked = {lane.lease_id: (lane, self.seq(lane, far)) for n in ns for _, lane in [self.pick(n)]}

        async def do(lanes: Lanes) -> list[int | None]:
            return await asyncio.gather(
                *(
                    lanes.intent(lane, seq, outcome_unknown=outcome_unknown, settle_seconds=settle, draft={"n": far})
                    for lane, seq in asked.values()
                )
            )

        self.both(holder, do)

    @precondition(lambda self: self.leases)
    @rule(ns=st.lists(index, min_size=1, max_size=3), keep=st.booleans(), issue=index, state=st.sampled_from([None, 1, 2]),
          far=index)  # fmt: skip
    def finish(self, ns: list[int], keep: bool, issue: int, state: int | None, far: int) -> None:
        holder, _ = self.pick(ns[0])
        asked = {lane.lease_id: (lane, self.seq(lane, far)) for n in ns for _, lane in [self.pick(n)]}
        self.attempts += sum(
            self.holds(lane) and seq == self.memory.lanes[lane.id].head_seq for lane, seq in asked.values()
        )

        async def do(lanes: Lanes) -> list[bool | None]:
            return await asyncio.gather(
                *(
                    lanes.finish(
                        lane,
                        seq,
                        keep=keep,
                        outcome="done",
                        started=NOW,
                        # now and then one issue for two lanes
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

        self.both(holder, do)

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
        self, n: int, delay: float, counts: bool, outcome_unknown: bool, verify_attempts: int, settle: float, far: int
    ) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        head = not HEAD_ONLY["schedule_retry"] or seq == self.memory.lanes[lane.id].head_seq
        self.attempts += self.holds(lane) and head
        self.both(
            holder,
            lambda lanes: lanes.retry(
                lane, seq, delay_seconds=delay, counts=counts, outcome_unknown=outcome_unknown, verify_attempts=verify_attempts,
                settle_seconds=settle, outcome="unknown", error="e", status=None, started=NOW,
            ),
        )  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule(n=index, far=index)
    def confirm_not_applied(self, n: int, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.both(holder, lambda lanes: lanes.clear_doubt(lane, seq))

    @precondition(lambda self: self.leases)
    @rule(n=index, park=st.booleans(), outcome_unknown=st.booleans(), far=index)
    def dead_letter_delivery(self, n: int, park: bool, outcome_unknown: bool, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.attempts += self.holds(lane) and seq == self.memory.lanes[lane.id].head_seq
        self.both(
            holder,
            lambda lanes: lanes.give_up(
                lane, seq, park=park, outcome_unknown=outcome_unknown, why="refused", error="e", status=None, started=NOW
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
                lane, "orphan", orphaned=orphaned, outcome=outcome, error=outcome, started=NOW
            ),
        )

    @precondition(lambda self: self.leases)
    @rule(n=index, delay=spans)
    def release(self, n: int, delay: float) -> None:
        holder, lane = self.pick(n)
        self.both(holder, lambda lanes: lanes.release(lane, delay))

    @precondition(lambda self: self.memory.deliveries)
    @rule(n=index, not_there=st.booleans())
    def replay(self, n: int, not_there: bool) -> None:
        keys = sorted(self.memory.deliveries)
        dead = [key for key in keys if self.memory.deliveries[key].state == DeliveryState.DEAD]
        parked = [(one.id, one.head_seq) for one in self.memory.lanes.values() if one.state == 3]
        keys = (dead or keys, parked or keys, keys)[n % 3]
        lane_id, seq = keys[n // 3 % len(keys)]
        self.both(0, lambda lanes: replay(lanes.database, lane_id, seq, not_there=not_there))

    @precondition(lambda self: self.memory.deliveries)
    @rule(n=index, after=st.integers(0, 3))
    def missing(self, n: int, after: int) -> None:
        keys = sorted(self.memory.deliveries)
        dead = [key for key in keys if self.memory.deliveries[key].state == DeliveryState.DEAD] or keys
        lane_id, seq = dead[n % len(dead)]

        async def do(lanes: Lanes) -> tuple[int, bool]:
            count, since = await missing_comments(lanes.database, lane_id, seq + after)
            return count, since is not None

        self.both(0, do)

    @precondition(lambda self: self.memory.deliveries)
    @rule(ns=st.lists(index, min_size=1, max_size=3))
    def sight(self, ns: list[int]) -> None:
        rows = list(self.memory.deliveries.values())
        seen = []
        for n in ns:
            d = rows[n % len(rows)]
            place = self.memory.lanes[d.lane_id].destination_id
            seen.append(Sighting(place, d.marker, f"i{n % 3}", "k", "u", "answer"))
        self.both(0, lambda lanes: write_sightings(lanes.database, seen))
        one = seen[0]
        self.both(0, lambda lanes: self._sighted(lanes, one))

    @staticmethod
    async def _sighted(lanes: Lanes, one: Sighting) -> list[Any]:
        return sorted(await lanes.sightings(one.destination_id, one.marker))

    @rule(place=index, what=st.integers(0, 5), hold=st.sampled_from([100.0, 300.0]), mostly=st.booleans())
    def of_a_destination(self, place: int, what: int, hold: float, mostly: bool) -> None:
        n = place % PLACES
        place_id = self.ground.places[n]
        match what:
            case 0 | 1:
                self._fail(place_id, away=True, mostly=mostly, times=1 if mostly else 1 + place % 5)
            case 2:
                self._fail(place_id, away=False, mostly=mostly, times=1)
            case 3 | 4:
                self.both(0, lambda lanes: destinations.hold_back(lanes.database, place_id, hold))
            case _:
                self._pause(n, "a person" if mostly and not place % 3 else None)

    def _fail(self, place_id: int, *, away: bool, mostly: bool, times: int) -> None:
        for _ in range(times):
            self.both(
                0,
                lambda lanes: destinations.note_failure(
                    lanes.database,
                    place_id,
                    FAILURE,
                    away=away,
                    mostly_away=mostly,
                    open_seconds=100.0,
                    open_seconds_at_most=300.0,
                ),
            )

    def _pause(self, n: int, why: str | None) -> None:
        self.ground.run(destinations.set_pause(self.ground.database, f"d{n}", why))
        row = self.memory.places[self.ground.places[n]]
        row.close()
        row.pause_reason, row.blocked_until = why, None

    @precondition(lambda self: self.leases)
    @rule(n=index, again=st.booleans())
    def a_lease_runs_out(self, n: int, again: bool) -> None:
        """And somebody else takes the lane over, or nobody yet."""
        held = [one for one in self.leases if self.holds(one[1])]
        if not held:
            return
        holder, lane = held[-1 - n % 2 :][0]
        self.clock += 0.001
        sql = "update lane set lease_until = now() - interval '50 s' where id = $1"
        self.ground.run(self.ground.database.execute(sql, lane.id))
        self.memory.lanes[lane.id].lease_until = self.clock - 50.0
        if again:
            self.claim_by((holder + 1) % HOLDERS, 5, 1000.0)

    @rule(by=st.sampled_from([50.0, 150.0, 350.0, 1050.0]))
    def time_passes(self, by: float) -> None:
        self.ground.run(self.ground.pool.execute(PASS.format(by=f"interval '{by} s'")))
        self.clock += by

    # -- what must hold after each step ------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        found = self.ground.run(self.ground.database.fetchrow(LOOK, self.ground.places))
        compare(found, self.memory, self.attempts)


def play(ground: Ground, *, examples: int, fixed: bool, phases: Iterable[Phase] = tuple(Phase)) -> None:
    """Play examples of 50 steps; raises what they find. ``fixed``: the same ones each time."""
    run_state_machine_as_test(
        type("Machine", (QueueMachine,), {"ground": ground}),
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
