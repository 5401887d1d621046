"""Concurrency limits, rate limits and the circuit breaker, with many claimers at once."""

from __future__ import annotations

import asyncio
import itertools
import uuid

import asyncpg
import pytest
from harness import DRAIN_SECONDS, LONG, Cluster, configuration, eventually
from processes import TrackerProcess
from server import Server

from pointsman.storage.db import Database
from pointsman.storage.queue import Lanes

pytestmark = [pytest.mark.faults, pytest.mark.slow]

CLAIMERS = 8
SAMPLES = 100_000 if LONG else 5000
TRIES = 1000 if LONG else 150


async def _create_destination(con: asyncpg.Connection, lanes: int, at_once: int) -> int:
    """Create a destination with due lanes and return its id."""
    name = uuid.uuid4().hex
    destination = await con.fetchval(
        "insert into destination (slug, tracker) values ($1, 'folder') returning id", name
    )
    await con.execute(
        "insert into destination_state (destination_id, max_inflight) values ($1, $2)", destination, at_once
    )
    source = await con.fetchval("insert into source (slug, kind) values ($1, 'tickets') returning id", name)
    await con.execute(
        "with new_ticket as (insert into ticket (id, source_id, kind, fingerprint, title)"
        "              select gen_random_uuid(), $1, 2, n::text, 'a title' from generate_series(1, $3) n returning id),"
        " new_event as (insert into event (ticket_id, n, kind) select id, 1, 'opened' from new_ticket),"
        " new_lane as (insert into lane (ticket_id, destination_id, state, next_seq)"
        "          select id, $2, 1, 2 from new_ticket returning id)"
        " insert into delivery (lane_id, seq, event_n, kind, marker) select id, 1, 1, 1, gen_random_uuid() from new_lane",
        source,
        destination,
        lanes,
    )
    return destination


async def test_never_more_at_once_than_allowed(server: Server, note):
    """Let eight claimers claim lanes of two destinations as fast as possible."""
    dsn = server.dsn(await server.database())
    con = await asyncpg.connect(dsn)
    caps = {await _create_destination(con, 300, 5): 5, await _create_destination(con, 300, 1): 1}
    samples, over, most = 0, 0, 0
    async with Database.open(dsn, size=CLAIMERS) as database:

        async def claims() -> None:
            lanes = Lanes(database, uuid.uuid4())
            while samples < SAMPLES:
                for lane in await lanes.claim(4):
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
    """The open time of the breaker is over: exactly one of eight claimers gets exactly one lane."""
    dsn = server.dsn(await server.database())
    con = await asyncpg.connect(dsn)
    destination = await _create_destination(con, 50, 8)
    probes: list[int] = []
    async with Database.open(dsn, size=CLAIMERS) as database:
        claimers = [Lanes(database, uuid.uuid4()) for _ in range(CLAIMERS)]
        for _ in range(TRIES):
            await con.execute(
                "update destination_state set breaker = 2, open_until = now() - interval '1 ms', probe_until = null"
                " where destination_id = $1",
                destination,
            )
            claimed = await asyncio.gather(*(claimer.claim(8) for claimer in claimers))
            probes.append(sum(map(len, claimed)))
            for claimer, lanes in zip(claimers, claimed, strict=True):
                for lane in lanes:
                    await claimer.release(lane)
    await con.close()
    note(tries=TRIES, probes=sum(probes))
    assert probes == [1] * TRIES


async def test_a_tracker_that_is_away_is_probed_and_no_more(new_cluster, tracker: TrackerProcess, note):
    """A tracker drops every connection: with an open breaker one probe is sent at a time, at growing intervals."""
    destination = "destination-0"
    destinations = {destination: tracker.destinations[destination]}
    cluster: Cluster = await new_cluster(
        destinations=destinations, config=configuration(destinations, at_once=4), QUICK_POLL_SECONDS="3600"
    )
    async with cluster.running():
        await cluster.configure_trackers(mix={"dropped": 8.0})
        await cluster.load.run(60)
        con = await asyncpg.connect(cluster.direct)

        async def opened() -> int:
            sql = (
                "select breaker_opened from destination_state s join destination d on d.id = s.destination_id"
                " where slug = $1"
            )
            return await con.fetchval(sql, destination)

        async def probed() -> bool:
            return await opened() >= before + 2

        await eventually(opened)
        await cluster.configure_trackers(forget=True)
        before = await opened()
        await eventually(probed)
        await con.close()
        probed_at = [arrival[0] for arrival in (await tracker.state())[destination]["arrivals"]]
        gaps = [later - sooner for sooner, later in itertools.pairwise(probed_at)]
        await cluster.configure_trackers(mix={})
        verdict = await cluster.settled()
        note(verdict, probes=len(probed_at), intervals="/".join(f"{gap:.1f} s" for gap in gaps))
        assert verdict.ok, await cluster.explain(verdict)
        # requests in flight when the breaker opened arrive first; then an interval is a second or more
        intervals = list(itertools.dropwhile(lambda gap: gap < 0.9, gaps))
        assert intervals
        assert min(intervals) > 0.9


@pytest.mark.parametrize("writes_per_minute", [0, 6000])
async def test_all_replicas_wait_when_one_is_told_to(
    writes_per_minute: int, new_cluster, tracker: TrackerProcess, note
):
    """One replica gets 429 with Retry-After: no replica sends before that time, with or without a rate limit."""
    destination, wait = "destination-1", 3
    destinations = {destination: tracker.destinations[destination]}
    config = configuration(destinations, at_once=2).replace(
        "writes_per_minute = 0", f"writes_per_minute = {writes_per_minute}"
    )
    cluster: Cluster = await new_cluster(destinations=destinations, config=config, QUICK_POLL_SECONDS="3600")
    async with cluster.running():
        early: list[float] = []
        responses_429 = 0
        for _ in range(20 if LONG else 2):
            # some deliveries wait at that time, others come later; with a rate limit they wait for tokens
            before = cluster.load.accepted_count
            sending = cluster.send_load(before + 120, at_once=2 if writes_per_minute else 6, notes=8)
            await cluster.load.until_accepted(before + 30)
            await cluster.configure_trackers(forget=True)
            await cluster.configure_trackers(
                faults=[{"match": "POST", "status": 429, "headers": {"Retry-After": str(wait)}}]
            )

            async def resumed() -> bool:
                arrivals = (await tracker.state())[destination]["arrivals"]
                limited = [arrival[0] for arrival in arrivals if arrival[3]]
                return bool(limited) and arrivals[-1][0] > limited[0] + wait

            await eventually(resumed, 90)
            arrivals = [
                arrival for arrival in (await tracker.state())[destination]["arrivals"] if arrival[1] != "GET"
            ]
            first = next(arrival[0] for arrival in arrivals if arrival[3])
            responses_429 += 1
            # requests that left before the response was read do not count
            early += [
                arrival[0] - first for arrival in arrivals if first + 1.0 < arrival[0] < first + wait - 0.05
            ]
            await sending
        # a rate that was halved several times recovers slowly
        verdict = await cluster.settled(DRAIN_SECONDS)
        note(verdict, responses_429=responses_429, early=len(early))
        assert verdict.ok, await cluster.explain(verdict)
        assert not early
