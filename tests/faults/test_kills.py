"""kill -9 of the service in the midst of load: nothing lost, nothing twice, nothing out of order, nothing left over."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
from harness import BAD_DAY, DRAIN_SECONDS, LONG, Cluster, TrackerProcess, budget
from kill_points import STEPS

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLS, ACCEPTED = (1000, 1_000_000) if LONG else (60, 5000)
#: How many senders, and which share of what they send is of known problems.
SENDERS, KNOWN = (48, 0.95) if LONG else (16, 0.2)
BETWEEN_KILLS_SECONDS = 2.0 if LONG else 0.4


async def test_killed_at_random_and_at_every_step(
    cluster, tracker: TrackerProcess, dice: random.Random, note
):
    """Three replicas, six trackers that have a bad day. Two replicas are killed at moments that nobody chose, the third
    kills itself at every step of the way from a request to the tracker and back.
    """
    three: Cluster = await cluster()
    await tracker.order(mix=BAD_DAY)
    ends = time.monotonic() + budget(0.5)
    kills: Counter[str] = Counter()

    async def at_random() -> None:
        while (kills["random"] < KILLS or (LONG and not sending.done())) and time.monotonic() < ends:
            victim = dice.choice(three.replicas[:2])
            await asyncio.sleep(dice.random() * BETWEEN_KILLS_SECONDS)
            await victim.kill()
            await victim.start()
            kills["random"] += 1

    async def at_steps() -> None:
        points = [*STEPS] * (10 if LONG else 1)
        dice.shuffle(points)
        for point in points:
            if time.monotonic() > ends:
                break
            await dies_at(three, dice, point)
            kills[point] += 1
        await three.replicas[2].start()

    async with three.running():
        began = time.monotonic()
        sending = three.sends(ACCEPTED, at_once=SENDERS, known=KNOWN)
        await asyncio.gather(at_random(), at_steps())
        killed = time.monotonic() - began
        if LONG:
            await asyncio.wait([sending], timeout=ends - time.monotonic() if ends < float("inf") else None)
            three.load.stopped = True
        await sending
        sent = time.monotonic() - began
        verdict = await three.settled(DRAIN_SECONDS)
        note(
            verdict,
            kills=sum(kills.values()),
            steps=len(kills) - 1,
            killing=f"{killed:.0f} s",
            sending=f"{sent:.0f} s",
            refused=three.load.refused,
        )
        assert verdict.ok, await three.why(verdict)
        assert LONG or kills.keys() >= set(STEPS)


async def dies_at(three: Cluster, dice: random.Random, point: str) -> None:
    """The third replica lives until it kills itself at a step, while there is something to do."""
    victim = three.replicas[2]
    if victim.code is None:
        await victim.kill()
    enough = asyncio.Event()
    extra = asyncio.create_task(_something_to_do(three, enough))
    await victim.fork(QUICK_DIE_AT=f"{point}:{dice.randint(1, 4)}")
    victim.in_service = True
    code = await victim.ended(120)
    assert code == -9, f"{point}: {code}: {victim.log.read_text()[-2000:]}"
    enough.set()
    # what was begun is sent to its end: whoever was promised something knows it
    await extra


async def _something_to_do(three: Cluster, enough: asyncio.Event) -> None:
    """Every step is taken sooner or later, as long as something comes in."""
    while not enough.is_set():
        await three.load.story(2, states=True)
