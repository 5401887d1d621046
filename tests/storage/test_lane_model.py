"""The statements of the queue against a model of them in plain Python, step by step, in any order.

``make test`` plays a fixed selection; HYPOTHESIS_PROFILE=long plays 2,500 random examples of 50 steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from pointsman.storage import destinations
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.lanes import Lane, Lanes, Sighting, replay, write_sightings
from pointsman.storage.queries import queries
from simulation.memory import HEAD_ONLY, LEASED, Memory, Place, Ticket, check

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
SLACK_SECONDS = 40.0
"""How far apart the clocks may be: every span given below is a multiple of 100 s, and time passes by 50 s at least."""
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = int(os.environ.get("LANE_MODEL_EXAMPLES", "2500" if LONG else "60"))
FAILURE = Failure(error_type="T", message="m")

TICKETS, PLACES, HOLDERS = 3, 2, 3

#: Everything that is compared, with times as seconds from now.
LOOK = """
select (select coalesce(json_agg(l), '[]') from (
          select id, destination_id, state, extract(epoch from due_at - now()) as due, lease_id,
                 extract(epoch from lease_until - now()) as lease, holder, epoch, head_seq, next_seq, parked_why
          from lane order by id) l) as lanes,
       (select coalesce(json_agg(d), '[]') from (
          select lane_id, seq, event_n, kind, marker, state, attempts, in_doubt, looks, draft::text, last_class, last_error,
                 remote_id, extract(epoch from doubt_until - now()) as doubt, extract(epoch from expires_at - now()) as expires,
                 extract(epoch from first_sent_at - now()) as sent, extract(epoch from resent_at - now()) as resent,
                 extract(epoch from done_at - now()) as done
          from delivery order by lane_id, seq) d) as deliveries,
       (select coalesce(json_agg(s), '[]') from (
          select destination_id, breaker, failures, breaker_failures, breaker_opened, paused_why, probe_holder,
                 extract(epoch from open_until - now()) as open, extract(epoch from probe_until - now()) as probe,
                 extract(epoch from blocked_until - now()) as blocked, extract(epoch from failed_at - now()) as failed
          from destination_state where destination_id = any ($1) order by destination_id) s) as places,
       (select coalesce(json_agg(k), '[]') from (
          select lane_id, remote_id, remote_key, url, state, remote_state from link order by lane_id) k) as links,
       (select coalesce(json_agg(s), '[]') from (
          select destination_id, marker, remote_id, twin from sighting order by destination_id, marker, remote_id) s)
          as sightings,
       (select count(*) from attempt) as attempts
"""

PASS = """
update lane set due_at = due_at - {by}, lease_until = lease_until - {by};
update delivery set doubt_until = doubt_until - {by}, expires_at = expires_at - {by}, first_sent_at = first_sent_at - {by},
                    resent_at = resent_at - {by}, done_at = done_at - {by};
update destination_state set open_until = open_until - {by}, probe_until = probe_until - {by},
                             blocked_until = blocked_until - {by}, failed_at = failed_at - {by};
update sighting set at = at - {by}
"""

CLEAR = """
delete from attempt; delete from sighting; delete from link; delete from delivery; delete from event; delete from lane;
update destination_state set breaker = 0, failures = 0, failed_at = null, breaker_failures = 0, breaker_opened = 0,
  open_until = null, probe_holder = null, probe_until = null, blocked_until = null, paused_why = null, max_inflight = 2
"""


class OnMemory:
    """A Database whose statements are the model's."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        return self.memory.run(sql, args)

    async def fetchrow(self, sql: str, *args: Any) -> dict[str, Any] | None:
        return next(iter(self.memory.run(sql, args)), None)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = await self.fetchrow(sql, *args)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any) -> None:
        self.memory.run(sql, args)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[OnMemory]:
        yield self


class Ground:
    """One loop, one database, for all examples."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = self.run(self._pool(dsn))
        self.database = Database(self.pool, dsn)
        self.places: list[int] = []
        self.tickets: list[uuid.UUID] = []
        self.run(self._furnish())

    def run(self, what: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(what)

    @staticmethod
    async def _pool(dsn: str) -> Any:
        quick = {"synchronous_commit": "off"}
        return await asyncpg.create_pool(dsn, min_size=1, max_size=2, server_settings=quick)

    async def _furnish(self) -> None:
        source = await self.database.fetchval(
            "insert into source (slug, kind) values ('s', 'tickets') returning id"
        )
        for n in range(PLACES):
            place = await self.database.fetchval(
                "insert into destination (slug, tracker) values ($1, 'folder') returning id", f"d{n}"
            )
            await self.database.execute(
                "insert into destination_state (destination_id) values ($1)", place
            )
            self.places.append(place)
        for n in range(TICKETS):
            self.tickets.append(uuid.UUID(int=n + 1))
            await self.database.execute(
                "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 2, $3, 't')",
                self.tickets[-1],
                source,
                str(n),
            )

    def close(self) -> None:
        self.run(self.pool.close())
        self.loop.close()


index = st.integers(0, 1000)
spans = st.sampled_from([0.0, 100.0, 300.0])


class QueueMachine(RuleBasedStateMachine):
    """Whatever is done through ``Lanes`` on Postgres is done on the model; answers and tables must agree."""

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
        self.holders = [
            (Lanes(self.ground.database, one), Lanes(self.model, one)) for one in ids
        ]
        self.leases: list[tuple[int, Lane]] = []
        self.attempts = 0
        self.ground.run(self.ground.pool.execute(CLEAR))

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
        """A holder and a lane that it was given once; the latest ones more often than not."""
        return self.leases[-1 - n % min(len(self.leases), 3 if n % 3 else len(self.leases))]

    def seq(self, lane: Lane, n: int) -> int:
        """The head, and now and then another number."""
        row = self.memory.lanes[lane.id]
        return row.head_seq if n % 8 else max(1, row.head_seq + n % 3 - 1)

    def holds(self, lane: Lane) -> bool:
        row = self.memory.lanes[lane.id]
        return row.state == LEASED and row.lease_id == lane.lease_id

    # -- rules -------------------------------------------------------------------------------------------------------

    @rule(ticket=index, place=index, more=st.integers(1, 3))
    def new_deliveries(self, ticket: int, place: int, more: int) -> None:
        ticket_id = self.ground.tickets[ticket % TICKETS]
        place_id = self.ground.places[place % PLACES]
        first, self.events = self.events + 1, self.events + more
        numbers = range(first, first + more)
        lane = self.memory.lanes.values()
        begun = any((one.ticket_id, one.destination_id) == (ticket_id, place_id) for one in lane)
        columns = [
            *[[]] * 9,
            [ticket_id] * more, list(numbers), ["commented"] * more, ["{}"] * more, [None] * more,
            [ticket_id], [place_id], [more],
            [ticket_id] * more, [place_id] * more, [more - i for i in range(more)], list(numbers),
            [2 if begun or i else 1 for i in range(more)], [uuid.uuid4() for _ in numbers], [None] * more, [0] * more,
        ]  # fmt: skip
        sql = queries("promises")["write"]
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
            assert set(real.keys()) == set(model), "the model's head has other columns"
            for name in ("seq", "event_n", "kind", "marker", "attempts", "in_doubt", "looks", "expired", "remote_id",
                         "remote_key", "link_url", "link_state", "careful", "event_kind"):  # fmt: skip
                assert real[name] == model[name], name
            assert abs(real["doubt_seconds"] - model["doubt_seconds"]) < SLACK_SECONDS
            assert (real["draft"] is None) == (model["draft"] is None)

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
    @rule(ns=st.lists(index, min_size=1, max_size=3), in_doubt=st.booleans(), settle=spans, far=index)
    def intents(self, ns: list[int], in_doubt: bool, settle: float, far: int) -> None:
        """Several at once share a statement, those of stale holders with those of new ones."""
        holder, _ = self.pick(ns[0])
        asked = {lane.lease_id: (lane, self.seq(lane, far)) for n in ns for _, lane in [self.pick(n)]}

        async def do(lanes: Lanes) -> list[int | None]:
            return await asyncio.gather(
                *(
                    lanes.intent(lane, seq, in_doubt=in_doubt, settle_seconds=settle, draft={"n": far})
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
                        issue=None if issue % 3 == 0 else (f"i{issue % 7}" if issue % 3 == 1 else f"l{lane.id}", "k", "u"),
                        comment_id="c" if issue % 2 else None,
                        remote_state=state,
                        remote_version=NOW if state else None,
                    )
                    for lane, seq in asked.values()
                )
            )

        self.both(holder, do)

    @precondition(lambda self: self.leases)
    @rule(n=index, delay=spans, counts=st.booleans(), in_doubt=st.booleans(), looks=st.integers(0, 2), settle=spans, far=index)
    def retry(self, n: int, delay: float, counts: bool, in_doubt: bool, looks: int, settle: float, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        head = not HEAD_ONLY["retry_delivery"] or seq == self.memory.lanes[lane.id].head_seq
        self.attempts += self.holds(lane) and head
        self.both(
            holder,
            lambda lanes: lanes.retry(
                lane, seq, delay_seconds=delay, counts=counts, in_doubt=in_doubt, looks=looks,
                settle_seconds=settle, outcome="unknown", error="e", status=None, started=NOW,
            ),
        )  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule(n=index, far=index)
    def clear_doubt(self, n: int, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.both(holder, lambda lanes: lanes.clear_doubt(lane, seq))

    @precondition(lambda self: self.leases)
    @rule(n=index, park=st.booleans(), in_doubt=st.booleans(), far=index)
    def give_up(self, n: int, park: bool, in_doubt: bool, far: int) -> None:
        holder, lane = self.pick(n)
        seq = self.seq(lane, far)
        self.attempts += self.holds(lane) and seq == self.memory.lanes[lane.id].head_seq
        self.both(
            holder,
            lambda lanes: lanes.give_up(
                lane, seq, park=park, in_doubt=in_doubt, why="refused", error="e", status=None, started=NOW
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
        dead = [key for key in keys if self.memory.deliveries[key].state == 2]
        parked = [(one.id, one.head_seq) for one in self.memory.lanes.values() if one.state == 3]
        keys = (dead or keys, parked or keys, keys)[n % 3]
        lane_id, seq = keys[n % len(keys)]
        self.both(0, lambda lanes: replay(lanes.database, lane_id, seq, not_there=not_there))

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

    @rule(place=index, away=st.booleans(), mostly=st.booleans(), times=st.integers(1, 5))
    def note_failure(self, place: int, away: bool, mostly: bool, times: int) -> None:
        place_id = self.ground.places[place % PLACES]
        for _ in range(times):
            self.both(
                0,
                lambda lanes: destinations.note_failure(
                    lanes.database, place_id, FAILURE, away=away, mostly_away=mostly and times == 1,
                    open_seconds=100.0, open_seconds_at_most=300.0,
                ),
            )  # fmt: skip

    @rule(place=index)
    def note_success(self, place: int) -> None:
        place_id = self.ground.places[place % PLACES]
        self.both(0, lambda lanes: destinations.note_success(lanes.database, place_id))

    @rule(place=index, hold=st.sampled_from([100.0, 300.0]))
    def hold_back(self, place: int, hold: float) -> None:
        place_id = self.ground.places[place % PLACES]
        self.both(0, lambda lanes: destinations.hold_back(lanes.database, place_id, hold))

    @rule(place=index, why=st.sampled_from([None, None, "a person"]))
    def pause(self, place: int, why: str | None) -> None:
        n = place % PLACES
        self.ground.run(destinations.set_pause(self.ground.database, f"d{n}", why))
        row = self.memory.places[self.ground.places[n]]
        row.close()
        row.paused_why, row.blocked_until = why, None

    @rule(by=st.sampled_from([50.0, 150.0, 350.0, 1050.0]))
    def time_passes(self, by: float) -> None:
        self.ground.run(self.ground.pool.execute(PASS.format(by=f"interval '{by} s'")))
        self.clock += by

    # -- what must hold after each step ------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        found = self.ground.run(self.ground.database.fetchrow(LOOK, self.ground.places))
        real = {name: _decoded(text) for name, text in found.items() if name != "attempts"}
        check(
            ((o["id"], o["state"], o["head_seq"], o["next_seq"], o["lease_id"] is not None) for o in real["lanes"]),
            ((o["lane_id"], o["seq"], o["state"]) for o in real["deliveries"]),
        )
        model = self._told()
        for name, rows in model.items():
            assert len(real[name]) == len(rows), f"{name}: {real[name]} and {rows}"
            for mine, models in zip(real[name], rows, strict=True):
                _same(name, mine, models)
        assert found["attempts"] == self.attempts

    def _told(self) -> dict[str, list[dict[str, Any]]]:
        """The model's tables as LOOK shows Postgres'."""
        m = self.memory

        def left(moment: float | None) -> float | None:
            return None if moment is None else moment - self.clock

        return {
            "lanes": [
                {"id": o.id, "destination_id": o.destination_id, "state": o.state, "due": left(o.due_at),
                 "lease_id": o.lease_id, "lease": left(o.lease_until), "holder": o.holder, "epoch": o.epoch,
                 "head_seq": o.head_seq, "next_seq": o.next_seq, "parked_why": o.parked_why}
                for o in sorted(m.lanes.values(), key=lambda o: o.id)
            ],
            "deliveries": [
                {"lane_id": o.lane_id, "seq": o.seq, "event_n": o.event_n, "kind": o.kind, "marker": o.marker,
                 "state": o.state, "attempts": o.attempts, "in_doubt": o.in_doubt, "looks": o.looks, "draft": o.draft,
                 "last_class": o.last_class, "last_error": o.last_error, "remote_id": o.remote_id,
                 "doubt": left(o.doubt_until), "expires": left(o.expires_at), "sent": left(o.first_sent_at),
                 "resent": left(o.resent_at), "done": left(o.done_at)}
                for _, o in sorted(m.deliveries.items())
            ],
            "places": [
                {"destination_id": o.destination_id, "breaker": o.breaker, "failures": o.failures,
                 "breaker_failures": o.breaker_failures, "breaker_opened": o.breaker_opened, "paused_why": o.paused_why,
                 "probe_holder": o.probe_holder, "open": left(o.open_until), "probe": left(o.probe_until),
                 "blocked": left(o.blocked_until), "failed": left(o.failed_at)}
                for _, o in sorted(m.places.items())
            ],
            "links": [
                {"lane_id": o.lane_id, "remote_id": o.remote_id, "remote_key": o.remote_key, "url": o.url,
                 "state": o.state, "remote_state": o.remote_state}
                for _, o in sorted(m.links.items())
            ],
            "sightings": sorted(
                ({"destination_id": place, "marker": marker, "remote_id": o.remote_id, "twin": o.twin}
                 for (place, marker), seen in m.sightings.items() for o in seen),
                key=lambda o: (o["destination_id"], o["marker"], o["remote_id"]),
            ),
        }  # fmt: skip


def _decoded(text: str) -> list[dict[str, Any]]:
    import json

    return json.loads(text)


def _same(table: str, real: dict[str, Any], model: dict[str, Any]) -> None:
    for name, value in model.items():
        found = real[name]
        if isinstance(value, uuid.UUID):
            value = str(value)
        if isinstance(value, float) and found is not None:
            assert abs(found - value) < SLACK_SECONDS, f"{table}.{name}: {found} s, the model says {value} s"
        else:
            assert found == value, f"{table}.{name}: {found!r}, the model says {value!r}\n{real}\n{model}"


@pytest.fixture
def ground(server_dsn: str, template: str) -> Iterator[Ground]:
    name = f"model_{uuid.uuid4().hex[:12]}"

    async def on_server(sql: str) -> None:
        con = await asyncpg.connect(server_dsn)
        await con.execute(sql)
        await con.close()

    asyncio.run(on_server(f"create database {name} template {template}"))
    head, _, query = server_dsn.partition("?")
    made = Ground(f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}")
    yield made
    made.close()
    asyncio.run(on_server(f"drop database {name} with (force)"))


def test_the_queue_and_its_model_agree_whatever_is_done(ground: Ground):
    machine = type("Machine", (QueueMachine,), {"ground": ground})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            derandomize=not LONG,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
