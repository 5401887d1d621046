"""Prove that the harness detects faults: without a part of the protocol it must find duplicates or losses."""

from __future__ import annotations

import asyncio
import signal

import pytest
from harness import Cluster, Replica
from oracle import Verdict
from processes import TrackerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]


async def _without_verification(cluster: Cluster) -> None:
    """Lose responses: requests that took effect are sent again."""
    await cluster.configure_trackers(mix={"applied, dropped": 0.3})
    await cluster.load.run(40, at_once=12)


async def _without_settling(cluster: Cluster) -> None:
    """Delay effects: the sender verifies too early, finds nothing, and sends again."""
    await cluster.configure_trackers(mix={"late": 0.3}, late_seconds=3.0)
    await cluster.load.run(60, at_once=30)


async def _without_an_intent(cluster: Cluster) -> None:
    """Kill replicas during their requests: the next replica does not know of these."""
    await cluster.configure_trackers(work_seconds=0.5)
    [destination] = cluster.destinations

    async def sending_replica() -> Replica | None:
        writing = (await cluster.tracker.state())[destination]["writing"] >= 3
        return await cluster.replica_with_lanes() if writing else None

    for _ in range(3):
        victim = await cluster.find_during_alerts(sending_replica)
        await victim.kill()
        await victim.start()


async def _without_a_fence(cluster: Cluster) -> None:
    """Pause replicas past their leases: they continue with lanes of other replicas, which duplicates or loses deliveries."""
    for _ in range(3):
        # few at a time, so that no other delivery comes before those that are taken over
        victim = await cluster.find_during_alerts(cluster.about_to_send)
        victim.in_service = False
        victim.send(signal.SIGSTOP)
        await asyncio.sleep(cluster.dice.uniform(3.0, 3.5))
        victim.send(signal.SIGCONT)
        victim.in_service = True


PARTS = {
    "find": (_without_verification, {}),
    "settle": (_without_settling, {}),
    "intent": (_without_an_intent, {}),
    "fence": (
        _without_a_fence,
        {
            "QUICK_LEASE_SECONDS": "1.5",
            "QUICK_TIMEOUT_SECONDS": "1",
            "QUICK_SETTLE_SECONDS": "0.3",
            "QUICK_WRITE_DELAY_SECONDS": "0.6",
        },
    ),
}


async def test_the_harness_bites(new_cluster, tracker: TrackerProcess, note):
    """Run four clusters, each without another part; each verdict must contain duplicates or losses."""

    async def bite(part: str, destination: str) -> Verdict:
        inject, options = PARTS[part]
        cluster: Cluster = await new_cluster(
            part=part,
            count=2,
            destinations={destination: tracker.destinations[destination]},
            QUICK_WITHOUT=part,
            **options,
        )
        async with cluster.running():
            await inject(cluster)
            verdict = await cluster.settled(40)
            note(verdict, without=part)
            return verdict

    verdicts = await asyncio.gather(*map(bite, PARTS, tracker.destinations))
    harmless = [
        part
        for part, verdict in zip(PARTS, verdicts, strict=True)
        if not (verdict.duplicates or verdict.lost)
    ]
    assert not harmless, f"nothing was detected without: {harmless}"
