"""A replica is paused for longer than its leases and then continues."""

from __future__ import annotations

import asyncio
import random
import signal
import time

import pytest
from harness import BAD_DAY, LONG, Cluster, time_limit
from processes import TrackerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

PAUSES, ACCEPTED = (1000, 100_000) if LONG else (21, 2000)
LEASE_SECONDS = 2.4


async def test_paused_past_its_lease(new_cluster, tracker: TrackerProcess, dice: random.Random, note):
    """SIGSTOP for 1.1 to 2 leases, then SIGCONT, with a tracker that drops responses and applies requests late.

    A pause between the last check of the clock and the socket cannot be detected; such a duplicate is rare and is repaired
    later. The short form allows one; no loss and no wrong order is allowed.
    """
    cluster: Cluster = await new_cluster(QUICK_LEASE_SECONDS=str(LEASE_SECONDS), QUICK_TIMEOUT_SECONDS="1.2")
    await tracker.configure(mix={**BAD_DAY, "late": 0.03}, late_seconds=1.7)
    ends = time.monotonic() + time_limit(0.25)
    pauses = 0

    async def pause_now_and_then(number: int) -> None:
        nonlocal pauses
        victim = cluster.replicas[number]
        for _ in range(PAUSES // 3):
            if time.monotonic() > ends:
                return
            await asyncio.sleep(dice.random())
            victim.in_service = False
            victim.send(signal.SIGSTOP)
            await asyncio.sleep(LEASE_SECONDS * dice.uniform(1.1, 2.0))
            victim.send(signal.SIGCONT)
            victim.in_service = True
            pauses += 1

    async with cluster.running():
        sending = cluster.send_load(ACCEPTED, at_once=12)
        await asyncio.gather(*map(pause_now_and_then, range(3)))
        cluster.load.stopped = time.monotonic() > ends
        await sending
        verdict = await cluster.settled()
        note(verdict, pauses=pauses, lease=f"{LEASE_SECONDS:g} s", refused=cluster.load.refused)
        allowed = max(1, len(cluster.effects()) // 10_000)
        assert len(verdict.duplicates) <= allowed, await cluster.explain(verdict)
        verdict.duplicates.clear()
        assert verdict.ok, await cluster.explain(verdict)


async def test_held_up_right_before_it_sends(new_cluster, tracker: TrackerProcess, note):
    """Pause after the intent is recorded and the clock is checked, right before the request leaves.

    When the process continues, another replica has done its work; the request must not leave.
    """
    cluster: Cluster = await new_cluster(
        count=2,
        destinations={"destination-0": tracker.destinations["destination-0"]},
        QUICK_LEASE_SECONDS="2",
        QUICK_TIMEOUT_SECONDS="0.7",
        QUICK_SETTLE_SECONDS="0.3",
        QUICK_WRITE_DELAY_SECONDS="0.4",
    )
    pauses = 0
    async with cluster.running():
        for _ in range(100 if LONG else 4):
            # few at a time, so that no other delivery comes before those that are taken over
            victim = await cluster.find_during_alerts(cluster.about_to_send)
            victim.in_service = False
            victim.send(signal.SIGSTOP)
            await asyncio.sleep(cluster.dice.uniform(3.0, 3.5))
            victim.send(signal.SIGCONT)
            victim.in_service = True
            pauses += 1
        verdict = await cluster.settled()
        note(verdict, pauses=pauses)
        assert verdict.ok, await cluster.explain(verdict)
