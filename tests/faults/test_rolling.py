"""Replicas are restarted one after the other while requests come in."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp
import asyncpg
import pytest
from harness import LONG, Cluster, Replica
from processes import TrackerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROUNDS, PER_SECOND = (33, 300) if LONG else (1, 300)
PROPAGATION_SECONDS = 5.0


async def test_a_rolling_restart_is_not_noticed(new_cluster, tracker: TrackerProcess, note):
    """SIGTERM ends readiness first, so that the balancer sends nothing more; open requests are answered; no lease is left."""
    cluster: Cluster = await new_cluster(
        QUICK_PROPAGATION_SECONDS=str(PROPAGATION_SECONDS), QUICK_LEASE_SECONDS="30"
    )
    await tracker.configure(work_seconds=0.02)
    left_behind: list[int] = []
    restarts = 0
    async with cluster.running():
        for replica in cluster.replicas:
            replica.in_service = True
        balancing = asyncio.create_task(_balance(cluster.replicas))
        sending = asyncio.create_task(cluster.load.steadily(PER_SECOND, fresh=0.1))
        started_at = time.monotonic()
        con = await asyncpg.connect(cluster.direct)
        for _ in range(ROUNDS):
            for replica in cluster.replicas:
                await cluster.load.until_accepted(cluster.load.accepted_count + PER_SECOND)
                holder = replica.holders[-1]
                replica.send(signal.SIGTERM)
                assert await _exit_code(replica) == 0
                left_behind.append(
                    await con.fetchval(
                        "select count(*) from lane where state = 2 and holder = $1::uuid", holder
                    )
                )
                await replica.fork()
                restarts += 1
        await con.close()
        cluster.load.stopped = True
        rate = cluster.load.accepted_count / (time.monotonic() - started_at)
        await sending
        balancing.cancel()
        await asyncio.gather(balancing, return_exceptions=True)
        for replica in cluster.replicas:
            replica.in_service = True
        verdict = await cluster.settled()
        note(
            verdict,
            restarts=restarts,
            at=f"{rate:.0f}/s",
            refused=cluster.load.refused,
            leases_left=sum(left_behind),
            **cluster.load.reasons,
        )
        assert verdict.ok, await cluster.explain(verdict)
        assert (cluster.load.refused, sum(left_behind)) == (0, 0), (cluster.load.reasons, left_behind)


async def _exit_code(replica: Replica) -> int:
    while replica.code is None:
        await asyncio.sleep(0.01)
    return replica.code


async def _balance(replicas: list[Replica]) -> None:
    """Probe the readiness of each replica ten times a second, as a load balancer does."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while True:
            for replica in replicas:
                try:
                    async with session.get(f"{replica.url}/health/ready") as response:
                        replica.in_service = response.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    replica.in_service = False
            await asyncio.sleep(0.1)
