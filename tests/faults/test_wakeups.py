"""Nobody polls: work that is not told of is not done, and a lane that looks idle while it has work stays so."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from harness import LONG, Cluster, TrackerProcess
from server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SECONDS = 3600 if LONG else 12
TICKETS, TALKERS = 4, 12
IDLE_WITH_WORK = "select count(*) from lane where state = 0 and head_seq < next_seq"


async def test_no_wake_up_is_lost(cluster, server: Server, tracker: TrackerProcess, note):
    """Comments come in on few tickets while those before them are delivered: each end of a lane's work races with a new
    beginning. Both replicas take them, and either may work.
    """
    log = server.log.stat().st_size
    two: Cluster = await cluster(count=2, QUICK_WITHOUT_POLLING="1")
    idle, samples = 0, 0
    async with two.running():
        places = [*two.places][:TICKETS]
        tickets = await asyncio.gather(*(two.load.ticket(place) for place in places))
        ends = time.monotonic() + SECONDS
        numbers = dict.fromkeys(places, 0)

        async def talk(turn: int) -> None:
            place = places[turn % TICKETS]
            order, ticket = tickets[turn % TICKETS]
            while time.monotonic() < ends:
                numbers[place] += 1
                # several talk at once, so their order is nobody's promise
                await two.load.on(place, order, ticket, f"note {numbers[place]}")

        async def sample() -> None:
            nonlocal idle, samples
            con = await asyncpg.connect(two.direct)
            try:
                while time.monotonic() < ends:
                    idle += await con.fetchval(IDLE_WITH_WORK)
                    samples += 1
                    await asyncio.sleep(0.002)
            finally:
                await con.close()

        await asyncio.gather(sample(), *map(talk, range(TALKERS)))
        verdict = await two.settled(60)
    verdict.misordered.clear()
    with server.log.open("rb") as file:
        file.seek(log)
        caught = file.read().count(b"lane_no_lost_wake_up")
    note(verdict, samples=samples, idle_with_work=idle, caught_by_the_check=caught)
    assert verdict.ok, verdict
    assert (idle, caught) == (0, 0)
    assert samples > 100
