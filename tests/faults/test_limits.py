"""Limits and the breaker, with many who claim at once."""

from __future__ import annotations

import asyncio
import itertools
import uuid

import asyncpg
import pytest
from harness import DRAIN_SECONDS, LONG, Cluster, TrackerProcess, configuration, eventually
from server import Server

from pointsman.storage.db import Database
from pointsman.storage.queue import Lanes

pytestmark = [pytest.mark.faults, pytest.mark.slow]

CLAIMERS = 8
SAMPLES = 100_000 if LONG else 5000
TRIES = 1000 if LONG else 150


async def _place(con: asyncpg.Connection, lanes: int, at_once: int) -> int:
    """A destination with so many due lanes; its id."""
    name = uuid.uuid4().hex
    place = await con.fetchval(
        "insert into destination (slug, tracker) values ($1, 'folder') returning id", name
    )
    await con.execute(
        "insert into destination_state (destination_id, max_inflight) values ($1, $2)", place, at_once
    )
    source = await con.fetchval("insert into source (slug, kind) values ($1, 'tickets') returning id", name)
    await con.execute(
        "with made as (insert into ticket (id, source_id, kind, fingerprint, title)"
        "              select gen_random_uuid(), $1, 2, n::text, 'a title' from generate_series(1, $3) n returning id),"
        " told as (insert into event (ticket_id, n, kind) select id, 1, 'opened' from made),"
        " line as (insert into lane (ticket_id, destination_id, state, next_seq)"
        "          select id, $2, 1, 2 from made returning id)"
        " insert into delivery (lane_id, seq, event_n, kind, marker) select id, 1, 1, 1, gen_random_uuid() from line",
        source,
        place,
        lanes,
    )
    return place


async def test_never_more_at_once_than_allowed(server: Server, note):
    """Eight claimers on two destinations, as fast as they can."""
    dsn = server.dsn(await server.database())
    con = await asyncpg.connect(dsn)
    caps = {await _place(con, 300, 5): 5, await _place(con, 300, 1): 1}
    samples, over, most = 0, 0, 0
    async with Database.open(dsn, size=CLAIMERS) as database:

        async def claims() -> None:
            lanes = Lanes(database, uuid.uuid4())
            while samples < SAMPLES:
                held = await lanes.claim(4)
                for lane in held:
                    await lanes.release(lane)

        async def counts() -> None:
            nonlocal samples, over, most
            sql = "select destination_id, count(*) as n from lane where state = 2 group by 1"
            while samples < SAMPLES:
                for row in await con.fetch(sql):
                    most = max(most, row["n"])
                    over += row["n"] > caps[row["destination_id"]]
                samples += 1

        async with asyncio.timeout(300):
            await asyncio.gather(counts(), *(claims() for _ in range(CLAIMERS)))
    await con.close()
    note(samples=samples, over=over, most_at_once=most)
    assert (over, most) == (0, 5)


async def test_one_probe_in_the_whole_cluster(server: Server, note):
    """The breaker's time is over: of eight claimers exactly one gets exactly one lane."""
    dsn = server.dsn(await server.database())
    con = await asyncpg.connect(dsn)
    place = await _place(con, 50, 8)
    probes: list[int] = []
    async with Database.open(dsn, size=CLAIMERS) as database:
        claimers = [Lanes(database, uuid.uuid4()) for _ in range(CLAIMERS)]
        for _ in range(TRIES):
            await con.execute(
                "update destination_state set breaker = 2, open_until = now() - interval '1 ms', probe_until = null"
                " where destination_id = $1",
                place,
            )
            claimed = await asyncio.gather(*(one.claim(8) for one in claimers))
            probes.append(sum(map(len, claimed)))
            for one, lanes in zip(claimers, claimed, strict=True):
                for lane in lanes:
                    await one.release(lane)
    await con.close()
    note(tries=TRIES, probes=sum(probes))
    assert probes == [1] * TRIES


async def test_a_tracker_that_is_away_is_probed_and_no_more(cluster, tracker: TrackerProcess, note):
    """Three replicas with much to do, and a tracker that drops every connection: once the breaker is open there is one
    question a turn, and each turn is longer than the one before.
    """
    place = "place-0"
    places = {place: tracker.places[place]}
    three: Cluster = await cluster(
        places=places, config=configuration(places, at_once=4), QUICK_POLL_SECONDS="3600"
    )
    async with three.running():
        await three.trouble(mix={"dropped": 8.0})
        await three.load.run(60)
        con = await asyncpg.connect(three.direct)

        async def opened(times: int) -> bool:
            sql = (
                "select breaker_opened from destination_state s join destination d on d.id = s.destination_id"
                " where slug = $1"
            )
            return await con.fetchval(sql, place) >= times

        await eventually(lambda: opened(1))
        await three.trouble(forget=True)
        await eventually(lambda: opened(3))
        await con.close()
        asked = [one[0] for one in (await tracker.state())[place]["arrivals"]]
        gaps = [later - sooner for sooner, later in itertools.pairwise(asked)]
        await three.trouble(mix={})
        verdict = await three.settled()
        note(verdict, questions=len(asked), turns="/".join(f"{gap:.1f} s" for gap in gaps))
        assert verdict.ok, await three.why(verdict)
        # what was on its way when it opened comes within the first moment; then a turn is a second, and more
        turns = list(itertools.dropwhile(lambda gap: gap < 0.9, gaps))
        assert turns
        assert min(turns) > 0.9


@pytest.mark.parametrize("writes_per_minute", [0, 6000])
async def test_all_replicas_wait_when_one_is_told_to(
    writes_per_minute: int, cluster, tracker: TrackerProcess, note
):
    """429 with Retry-After, told to one replica: none of the three asks again before that, not even along a lane that it
    holds, with a budget or without.
    """
    place, wait = "place-1", 3
    places = {place: tracker.places[place]}
    config = configuration(places, at_once=2).replace(
        "writes_per_minute = 0", f"writes_per_minute = {writes_per_minute}"
    )
    three: Cluster = await cluster(places=places, config=config, QUICK_POLL_SECONDS="3600")
    async with three.running():
        early: list[float] = []
        told = 0
        for _ in range(20 if LONG else 2):
            # some that wait when it is told, some that come after; with a budget they wait in line
            before = three.load.taken_count
            sending = three.sends(before + 120, at_once=2 if writes_per_minute else 6, notes=8)
            await three.load.until_accepted(before + 30)
            await three.trouble(forget=True)
            await three.trouble(
                faults=[{"match": "POST", "status": 429, "headers": {"Retry-After": str(wait)}}]
            )

            async def again() -> bool:
                arrivals = (await tracker.state())[place]["arrivals"]
                limited = [one[0] for one in arrivals if one[3]]
                return bool(limited) and arrivals[-1][0] > limited[0] + wait

            await eventually(again, 90)
            arrivals = [one for one in (await tracker.state())[place]["arrivals"] if one[1] != "GET"]
            first = next(one[0] for one in arrivals if one[3])
            told += 1
            # what had left before the answer was read is nobody's fault
            early += [one[0] - first for one in arrivals if first + 1.0 < one[0] < first + wait - 0.05]
            await sending
        # a budget that was halved so often grows back slowly
        verdict = await three.settled(DRAIN_SECONDS)
        note(verdict, told=told, early=len(early))
        assert verdict.ok, await three.why(verdict)
        assert not early
