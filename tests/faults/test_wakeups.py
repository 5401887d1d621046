"""Without polling, a lost wake-up leaves work undone, and an idle lane with work stays idle."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from harness import LONG, Cluster
from processes import TrackerProcess
from server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SECONDS = 3600 if LONG else 12
TICKETS, COMMENTERS = 4, 12
IDLE_WITH_WORK = "select count(*) from lane where state = 0 and head_seq < next_seq"


async def test_no_wake_up_is_lost(new_cluster, server: Server, tracker: TrackerProcess, note):
    """Add comments to few tickets while earlier ones are delivered, so that the end of a lane's work races with new work."""
    log = server.log.stat().st_size
    cluster: Cluster = await new_cluster(count=2, QUICK_WITHOUT_POLLING="1")
    idle, samples = 0, 0
    async with cluster.running():
        destinations = [*cluster.destinations][:TICKETS]
        tickets = await asyncio.gather(*(cluster.load.ticket(destination) for destination in destinations))
        ends = time.monotonic() + SECONDS
        numbers = dict.fromkeys(destinations, 0)

        async def comment(number: int) -> None:
            destination = destinations[number % TICKETS]
            order, ticket = tickets[number % TICKETS]
            while time.monotonic() < ends:
                numbers[destination] += 1
                # several senders comment at once, so the order is not defined
                await cluster.load.update(destination, order, ticket, f"note {numbers[destination]}")

        async def sample() -> None:
            nonlocal idle, samples
            con = await asyncpg.connect(cluster.direct)
            try:
                while time.monotonic() < ends:
                    idle += await con.fetchval(IDLE_WITH_WORK)
                    samples += 1
                    await asyncio.sleep(0.002)
            finally:
                await con.close()

        await asyncio.gather(sample(), *map(comment, range(COMMENTERS)))
        verdict = await cluster.settled(60)
    verdict.misordered.clear()
    with server.log.open("rb") as file:
        file.seek(log)
        caught = file.read().count(b"lane_no_lost_wake_up")
    note(verdict, samples=samples, idle_with_work=idle, caught_by_the_check=caught)
    assert verdict.ok, verdict
    assert (idle, caught) == (0, 0)
    assert samples > 100
