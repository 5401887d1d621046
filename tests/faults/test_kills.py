"""SIGKILL of replicas under load: nothing lost, duplicated, out of order or left over."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
from harness import BAD_DAY, DRAIN_SECONDS, LONG, Cluster, time_limit
from kill_points import STEPS
from processes import TrackerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLS, ACCEPTED = (1000, 1_000_000) if LONG else (60, 5000)
#: Number of senders, and the share of reports of known problems.
SENDERS, KNOWN = (48, 0.95) if LONG else (16, 0.2)
BETWEEN_KILLS_SECONDS = 2.0 if LONG else 0.4


async def test_killed_at_random_and_at_every_step(
    new_cluster, tracker: TrackerProcess, dice: random.Random, note
):
    """Kill two of three replicas at random moments; the third kills itself at every step from intake to the tracker.

    All six trackers are unreliable.
    """
    cluster: Cluster = await new_cluster()
    await tracker.configure(mix=BAD_DAY)
    ends = time.monotonic() + time_limit(0.5)
    kills: Counter[str] = Counter()

    async def at_random() -> None:
        while (kills["random"] < KILLS or (LONG and not sending.done())) and time.monotonic() < ends:
            victim = dice.choice(cluster.replicas[:2])
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
            await kill_at(cluster, dice, point)
            kills[point] += 1
        await cluster.replicas[2].start()

    async with cluster.running():
        started_at = time.monotonic()
        sending = cluster.send_load(ACCEPTED, at_once=SENDERS, known=KNOWN)
        await asyncio.gather(at_random(), at_steps())
        killed = time.monotonic() - started_at
        if LONG:
            await asyncio.wait([sending], timeout=ends - time.monotonic() if ends < float("inf") else None)
            cluster.load.stopped = True
        await sending
        sent = time.monotonic() - started_at
        verdict = await cluster.settled(DRAIN_SECONDS)
        note(
            verdict,
            kills=sum(kills.values()),
            steps=len(kills) - 1,
            killing=f"{killed:.0f} s",
            sending=f"{sent:.0f} s",
            refused=cluster.load.refused,
        )
        assert verdict.ok, await cluster.explain(verdict)
        assert LONG or kills.keys() >= set(STEPS)


async def kill_at(cluster: Cluster, dice: random.Random, point: str) -> None:
    """Run the third replica until it kills itself at a step, while stories are sent."""
    victim = cluster.replicas[2]
    if victim.code is None:
        await victim.kill()
    stop = asyncio.Event()
    stories = asyncio.create_task(_send_stories(cluster, stop))
    await victim.fork(QUICK_DIE_AT=f"{point}:{dice.randint(1, 4)}")
    victim.in_service = True
    code = await victim.ended(120)
    assert code == -9, f"{point}: {code}: {victim.log.read_text()[-2000:]}"
    stop.set()
    # the story is sent to its end, so that all accepted requests are recorded
    await stories


async def _send_stories(cluster: Cluster, stop: asyncio.Event) -> None:
    """Send stories until every step was reached."""
    while not stop.is_set():
        await cluster.load.story(2, states=True)
