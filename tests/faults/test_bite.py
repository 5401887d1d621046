"""The harness bites: with a part of the protocol switched off the judge must find doubles or losses."""

from __future__ import annotations

import asyncio
import signal

import pytest
from harness import Cluster, Replica, TrackerProcess
from oracle import Verdict

pytestmark = [pytest.mark.faults, pytest.mark.slow]


async def _without_looking_first(one: Cluster) -> None:
    """Answers are lost: what took effect is done again."""
    await one.trouble(mix={"applied, dropped": 0.3})
    await one.load.run(40, at_once=12)


async def _without_settling(one: Cluster) -> None:
    """The tracker is still at it when the caller gives up and looks: it finds nothing, and asks again."""
    await one.trouble(mix={"late": 0.3}, late_seconds=3.0)
    await one.load.run(60, at_once=30)


async def _without_an_intent(one: Cluster) -> None:
    """Replicas die with requests on their way: whoever comes next knows nothing of them."""
    await one.trouble(work_seconds=0.5)
    [place] = one.places

    async def on_their_way() -> Replica | None:
        writing = (await one.tracker.state())[place]["writing"] >= 3
        return await one.holding() if writing else None

    for _ in range(3):
        victim = await one.amid_alerts(on_their_way)
        await victim.kill()
        await victim.start()


async def _without_a_fence(one: Cluster) -> None:
    """Replicas that were held up go on with what is somebody else's by now: what that one did is done twice, what it did
    not do yet is lost.
    """
    for _ in range(3):
        # few at a time, so that nothing stands before those that are taken over
        victim = await one.amid_alerts(one.about_to_send)
        victim.in_service = False
        victim.send(signal.SIGSTOP)
        await asyncio.sleep(one.dice.uniform(3.0, 3.5))
        victim.send(signal.SIGCONT)
        victim.in_service = True


PARTS = {
    "find": (_without_looking_first, {}),
    "settle": (_without_settling, {}),
    "intent": (_without_an_intent, {}),
    "fence": (
        _without_a_fence,
        {
            "QUICK_LEASE_SECONDS": "1.5",
            "QUICK_TIMEOUT_SECONDS": "1",
            "QUICK_SETTLE_SECONDS": "0.3",
            "QUICK_DAWDLE_SECONDS": "0.6",
        },
    ),
}


async def test_the_harness_bites(cluster, tracker: TrackerProcess, note):
    """Four clusters beside each other, each without one part: the judge must see that of each."""

    async def bite(part: str, place: str) -> Verdict:
        happens, more = PARTS[part]
        one: Cluster = await cluster(
            part=part, count=2, places={place: tracker.places[place]}, QUICK_WITHOUT=part, **more
        )
        async with one.running():
            await happens(one)
            verdict = await one.settled(40)
            note(verdict, without=part)
            return verdict

    verdicts = await asyncio.gather(*map(bite, PARTS, tracker.places))
    harmless = [
        part for part, said in zip(PARTS, verdicts, strict=True) if not (said.duplicates or said.lost)
    ]
    assert not harmless, f"the judge saw nothing without: {harmless}"
