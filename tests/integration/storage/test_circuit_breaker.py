"""The circuit breaker of a destination: when it opens, and how one lane probes for all replicas."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from pointsman import plugin_api as api
from pointsman.domain import circuit_breaker
from pointsman.domain.circuit_breaker import FAILURES_IN_A_ROW, MIN_CALLS, WINDOW_SECONDS, RecentCalls
from pointsman.storage import destinations
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.queue import Lanes
from pointsman.storage.queue_values import Lane

FAILURE = Failure(error_type="Unavailable", message="no answer")


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (api.Unavailable("x"), True),
        (api.UnknownOutcome("x"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (api.RateLimited("x"), False),
        (api.Refused("x"), False),
        (api.AuthFailed("x"), False),
        (KeyError("x"), False),
    ],
)
def test_only_silence_counts(error, away):
    assert circuit_breaker.is_unreachable(error) is away


def test_half_of_enough_calls_within_a_minute():
    now = 0.0
    recent = RecentCalls(lambda: now)
    for n in range(MIN_CALLS - 1):
        recent.record(unreachable=n % 2 == 0)
        assert not recent.mostly_unreachable()
    recent.record(unreachable=True)
    assert recent.mostly_unreachable()
    recent.record(unreachable=False)
    recent.record(unreachable=False)
    recent.record(unreachable=False)
    assert not recent.mostly_unreachable()
    now = WINDOW_SECONDS + 1
    assert not recent.mostly_unreachable(), "a minute later nothing is known"


def test_the_window_forgets_what_it_counted():
    recent = RecentCalls(lambda: 0.0)
    for _ in range(600):
        recent.record(unreachable=True)
    for _ in range(300):
        recent.record(unreachable=False)
    assert not recent.mostly_unreachable(), "300 of the last 500 were answered"
    recent.clear()
    assert not recent.mostly_unreachable()


async def _place(database: Database, lanes: int) -> int:
    source = await database.fetchval("insert into source (slug, kind) values ('s', 'tickets') returning id")
    place = await database.fetchval(
        "insert into destination (slug, tracker) values ('d', 'folder') returning id"
    )
    await database.execute("insert into destination_state (destination_id) values ($1)", place)
    for _ in range(lanes):
        ticket = uuid.uuid4()
        await database.execute(
            "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 2, $3, 't')",
            ticket,
            source,
            str(ticket),
        )
        await database.execute("insert into event (ticket_id, n, kind) values ($1, 1, 'commented')", ticket)
        lane = await database.fetchval(
            "insert into lane (ticket_id, destination_id, state, next_seq) values ($1, $2, 1, 2) returning id",
            ticket,
            place,
        )
        await database.execute(
            "insert into delivery (lane_id, seq, event_n, kind, marker) values ($1, 1, 1, 2, gen_random_uuid())",
            lane,
        )
    return place


async def _fail(database: Database, place: int, *, away: bool = True, mostly: bool = False) -> bool:
    result = await destinations.record_failure(
        database, place, FAILURE, no_answer=away, mostly_no_answer=mostly
    )
    return result.opened


async def _breaker(database: Database) -> tuple[int, float | None]:
    row = await database.fetchrow(
        "select breaker, extract(epoch from open_until - now())::float8 as left from destination_state s"
        " join destination d on d.id = s.destination_id where d.slug = 'd'"
    )
    return row["breaker"], row["left"]


async def _time_is_over(database: Database) -> None:
    await database.execute("update destination_state set open_until = now() where breaker = 2")


def _claimer(database: Database) -> Lanes:
    return Lanes(database, uuid.uuid4())


async def test_it_opens_after_some_in_a_row_and_nothing_is_claimed(database: Database):
    place = await _place(database, 3)
    opened = [await _fail(database, place) for _ in range(FAILURES_IN_A_ROW)]
    assert opened == [False] * (FAILURES_IN_A_ROW - 1) + [True]
    assert (await _breaker(database))[0] == 2
    assert await _claimer(database).claim(10) == []


async def test_an_answer_of_any_kind_begins_the_count_anew(database: Database):
    place = await _place(database, 1)
    for _ in range(3):
        for _ in range(FAILURES_IN_A_ROW - 1):
            assert not await _fail(database, place)
        assert not await _fail(database, place, away=False)


async def test_it_opens_at_once_where_most_calls_fail(database: Database):
    place = await _place(database, 1)
    assert await _fail(database, place, mostly=True)


async def test_one_probe_in_the_whole_cluster(database: Database):
    """Eight replicas claim repeatedly: a single lane is let through until its result is stored."""
    place = await _place(database, 40)
    await _fail(database, place, mostly=True)
    for attempt in range(10):
        await _time_is_over(database)
        claims = await asyncio.gather(*(_claimer(database).claim(8) for _ in range(8)))
        probes = [lane for claim in claims for lane in claim]
        assert len(probes) == 1, f"turn {attempt}"
        assert (await _breaker(database))[0] == 1
        assert await _claimer(database).claim(8) == [], "not while the probe is out"
        lanes = _claimer(database)
        await lanes.release(probes[0])
        assert await _fail(database, place), "a probe that fails opens it again"


async def test_each_time_it_is_open_for_twice_as_long(database: Database):
    place = await _place(database, 1)
    open_for = []
    for _ in range(8):
        assert await _fail(database, place, mostly=True)
        open_for.append(round((await _breaker(database))[1]))
        await database.execute("update destination_state set breaker = 1")
    assert open_for == [30, 60, 120, 240, 480, 900, 900, 900]


async def test_a_probe_that_succeeds_closes_it(database: Database):
    place = await _place(database, 3)
    await _fail(database, place, mostly=True)
    await _time_is_over(database)
    lanes = _claimer(database)
    [probe] = await lanes.claim(8)
    await _done(lanes, probe)
    assert await _breaker(database) == (0, None)
    assert len(await lanes.claim(8)) == 2


async def test_a_probe_that_vanishes_is_followed_by_another(database: Database):
    place = await _place(database, 2)
    await _fail(database, place, mostly=True)
    await _time_is_over(database)
    assert len(await _claimer(database).claim(8)) == 1
    await database.execute("update destination_state set probe_until = now() where breaker = 1")
    assert len(await _claimer(database).claim(8)) == 1


async def test_a_late_failure_of_before_does_not_prolong_it(database: Database):
    place = await _place(database, 1)
    await _fail(database, place, mostly=True)
    until = (await _breaker(database))[1]
    assert not await _fail(database, place)
    assert (await _breaker(database))[1] <= until


async def _done(lanes: Lanes, lane: Lane) -> None:
    assert lane.first_delivery is not None
    await lanes.record_intent(lane, 1, outcome_unknown=True, verify_after_seconds=1, draft={})
    await lanes.finish(lane, 1, keep_lease=False, outcome="done", started_at=lane.first_delivery.event_at)
