"""Run many simulated worlds: nothing is lost, duplicated, out of order or stuck in any of them.

``make simulate SEEDS=10000`` runs more; ``SEEDS=1 FIRST=seed`` repeats the world of a seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman import logs
from simulation.loop import REPLICA, Loop, NothingLeft
from simulation.run import run_seeds, run_world
from simulation.schedule import Off, Plan

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
TESTS = Path(__file__).parents[1]

BITE = {
    "find": Plan(off=Off(find=True)),
    "intent": Plan(off=Off(intent=True)),
    "settle": Plan(off=Off(settle=True), tracker_trouble=0.9, kills=0, pauses=0, comments=6),
    "fence": Plan(
        off=Off(fence=True),
        tracker_trouble=0.7,
        kills=0,
        pauses=16,
        restarts=0,
        outages=0,
        comments=6,
        trouble_seconds=150.0,
    ),
}


def test_nothing_is_lost_doubled_out_of_order_or_stuck_in_any_world():
    """Kills, pauses of up to 2.5 leases, restarts, a database and a tracker that fail in every way at any step."""
    results = []
    for result in run_seeds(0, SEEDS):
        results.append(result)
        # worlds in which everything is stuck run long: a few are enough
        if sum(not result.good for result in results) == 5:
            break
    happened = sum((result.happened for result in results), start=results[0].happened.copy())
    print(
        f"{SEEDS} seeds, {sum(r.effects for r in results)} effects, {sum(r.virtual_seconds for r in results) / 3600:.1f} h"
    )
    print(dict(happened))
    bad = [
        f"{result}; repeat: make simulate SEEDS=1 FIRST={result.seed}"
        for result in results
        if not result.good
    ]
    assert not bad, "\n".join(bad)
    assert (
        min(
            happened[fault]
            for fault in ("kill", "pause", "restart", "database error", "late", "request lost")
        )
        > 0
    )
    assert sum(r.accepted for r in results) == SEEDS * 24


@pytest.mark.parametrize("off", BITE)
def test_a_world_without_a_safeguard_is_noticed(off: str):
    results = list(run_seeds(0, 30, BITE[off]))
    wrong = sum(result.duplicates + result.lost for result in results)
    print(f"without {off}: {wrong} lost or duplicated in {sum(r.effects for r in results)}")
    assert wrong > 0


def test_the_same_seed_is_the_same_life_to_the_byte():
    """In this process, and in one with other hash seeds."""
    logs.configure("json", level="critical")
    first, second, other = run_world(7), run_world(7), run_world(8)
    assert first.trace and first.trace == second.trace
    assert first.trace != other.trace
    completed = subprocess.run(
        [sys.executable, "-m", "simulation.run", "1", "7"],
        cwd=TESTS,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.splitlines()[:-1] == first.trace


# -- the loop --------------------------------------------------------------------------------------------------------


def _loop(seed: int = 1) -> Loop:
    return Loop(random.Random(seed))


def _order(seed: int) -> list[int]:
    loop, seen = _loop(seed), []

    async def append(n: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(n)

    async def append_all() -> None:
        await asyncio.gather(*(append(n) for n in range(5)))

    loop.run_until_complete(append_all())
    loop.close()
    return seen


def test_what_is_ready_runs_in_an_order_of_the_seed():
    assert _order(1) == _order(1)
    assert len({tuple(_order(seed)) for seed in range(10)}) > 5


def test_the_clock_jumps_to_what_comes_next():
    loop = _loop()

    async def sleep() -> float:
        await asyncio.sleep(3600.0)
        async with asyncio.timeout(10.0):
            await asyncio.sleep(1.0)
        return loop.time()

    assert loop.run_until_complete(sleep()) == 3601.0
    loop.close()


def test_a_world_in_which_nothing_will_happen_ends():
    loop = _loop()
    waiting = loop.create_future()
    with pytest.raises(NothingLeft):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.close()


def test_a_replica_that_stands_still_does_nothing_until_it_goes_on():
    loop, seen = _loop(), []

    async def tick(name: str) -> None:
        REPLICA.set(name)
        for _ in range(4):
            await asyncio.sleep(1.0)
            seen.append((name, loop.time()))

    async def scenario() -> None:
        tasks = [loop.create_task(tick(name)) for name in "ab"]
        await asyncio.sleep(1.5)
        loop.pause("a")
        await asyncio.sleep(10.0)
        loop.resume("a")
        await asyncio.gather(*tasks)

    loop.run_until_complete(scenario())
    loop.close()
    assert [at for name, at in seen if name == "b"] == [1.0, 2.0, 3.0, 4.0]
    assert [at for name, at in seen if name == "a"] == [1.0, 11.5, 12.5, 13.5]
