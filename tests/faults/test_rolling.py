"""One replica after the other is told to go, and comes back, while requests come in."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp
import asyncpg
import pytest
from harness import LONG, Cluster, Replica, TrackerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROUNDS, PER_SECOND = (33, 300) if LONG else (1, 300)
PROPAGATION_SECONDS = 5.0


async def test_a_rolling_restart_is_not_noticed(cluster, tracker: TrackerProcess, note):
    """SIGTERM: readiness goes first, so that the balancer sends nothing more; what is under way is answered; no lane waits
    for its lease.
    """
    three: Cluster = await cluster(
        QUICK_PROPAGATION_SECONDS=str(PROPAGATION_SECONDS), QUICK_LEASE_SECONDS="30"
    )
    await tracker.order(work_seconds=0.02)
    left_behind: list[int] = []
    restarts = 0
    async with three.running():
        for one in three.replicas:
            one.in_service = True
        balancing = asyncio.create_task(_balance(three.replicas))
        sending = asyncio.create_task(three.load.steadily(PER_SECOND, fresh=0.1))
        began = time.monotonic()
        con = await asyncpg.connect(three.direct)
        for _ in range(ROUNDS):
            for one in three.replicas:
                await three.load.until_accepted(three.load.taken_count + PER_SECOND)
                holder = one.holders[-1]
                one.send(signal.SIGTERM)
                assert await _gone(one) == 0
                left_behind.append(
                    await con.fetchval(
                        "select count(*) from lane where state = 2 and holder = $1::uuid", holder
                    )
                )
                await one.fork()
                restarts += 1
        await con.close()
        three.load.stopped = True
        rate = three.load.taken_count / (time.monotonic() - began)
        await sending
        balancing.cancel()
        await asyncio.gather(balancing, return_exceptions=True)
        for one in three.replicas:
            one.in_service = True
        verdict = await three.settled()
        note(
            verdict,
            restarts=restarts,
            at=f"{rate:.0f}/s",
            refused=three.load.refused,
            leases_left=sum(left_behind),
            **three.load.reasons,
        )
        assert verdict.ok, await three.why(verdict)
        assert (three.load.refused, sum(left_behind)) == (0, 0), (three.load.reasons, left_behind)


async def _gone(one: Replica) -> int:
    while one.code is None:
        await asyncio.sleep(0.01)
    return one.code


async def _balance(replicas: list[Replica]) -> None:
    """What a load balancer does: ask each replica ten times a second whether it is ready."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while True:
            for one in replicas:
                try:
                    async with session.get(f"{one.url}/health/ready") as answer:
                        one.in_service = answer.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    one.in_service = False
            await asyncio.sleep(0.1)
