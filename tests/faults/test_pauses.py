"""A replica that stands still for longer than its leases last, and then goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import random
import signal
import time

import pytest
from harness import BAD_DAY, LONG, Cluster, TrackerProcess, budget

pytestmark = [pytest.mark.faults, pytest.mark.slow]

PAUSES, ACCEPTED = (1000, 100_000) if LONG else (21, 2000)
LEASE_SECONDS = 2.4


async def test_paused_past_its_lease(cluster, tracker: TrackerProcess, dice: random.Random, note):
    """SIGSTOP for 1.1 to 2 leases, then SIGCONT, with a tracker that drops answers and applies late.

    What a process held back between its last look at the clock and its socket can't be caught by anybody; such a double
    is rare, and the sweep finds it. One is let pass in the short form; none may be lost or out of order.
    """
    three: Cluster = await cluster(QUICK_LEASE_SECONDS=str(LEASE_SECONDS), QUICK_TIMEOUT_SECONDS="1.2")
    await tracker.order(mix={**BAD_DAY, "late": 0.03}, late_seconds=1.7)
    ends = time.monotonic() + budget(0.25)
    pauses = 0

    async def pause_now_and_then(number: int) -> None:
        nonlocal pauses
        victim = three.replicas[number]
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

    async with three.running():
        sending = three.sends(ACCEPTED, at_once=12)
        await asyncio.gather(*map(pause_now_and_then, range(3)))
        three.load.stopped = time.monotonic() > ends
        await sending
        verdict = await three.settled()
        note(verdict, pauses=pauses, lease=f"{LEASE_SECONDS:g} s", refused=three.load.refused)
        allowed = max(1, len(three.happened()) // 10_000)
        assert len(verdict.duplicates) <= allowed, await three.why(verdict)
        verdict.duplicates.clear()
        assert verdict.ok, await three.why(verdict)


async def test_held_up_right_before_it_sends(cluster, tracker: TrackerProcess, note):
    """The worst moment: the intent is written, the clock was looked at, and the process stands still before the request
    leaves. By the time it goes on somebody else has done its work; what it held must not leave any more.
    """
    two: Cluster = await cluster(
        count=2,
        places={"place-0": tracker.places["place-0"]},
        QUICK_LEASE_SECONDS="2",
        QUICK_TIMEOUT_SECONDS="0.7",
        QUICK_SETTLE_SECONDS="0.3",
        QUICK_DAWDLE_SECONDS="0.4",
    )
    pauses = 0
    async with two.running():
        for _ in range(100 if LONG else 4):
            # few at a time, so that nothing stands before those that are taken over
            victim = await two.amid_alerts(two.about_to_send)
            victim.in_service = False
            victim.send(signal.SIGSTOP)
            await asyncio.sleep(two.dice.uniform(3.0, 3.5))
            victim.send(signal.SIGCONT)
            victim.in_service = True
            pauses += 1
        verdict = await two.settled()
        note(verdict, pauses=pauses)
        assert verdict.ok, await two.why(verdict)
