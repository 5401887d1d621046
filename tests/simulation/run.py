"""Run simulated worlds, each determined by its seed: ``python -m simulation.run SEEDS [FIRST]``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest import mock

from pointsman import logs
from pointsman.domain import circuit_breaker
from pointsman.intake import preparation
from pointsman.plugin_api import Quota
from pointsman.storage import ticket_throttle
from simulation.model import World
from simulation.schedule import Off, Plan, Result


@contextlib.contextmanager
def _clock_of(world: World) -> Iterator[None]:
    """Replace time, random numbers and new ids by those of the world."""
    clock = lambda: world.loop.now  # noqa: E731
    with (
        mock.patch.object(time, "monotonic", clock),
        mock.patch.object(circuit_breaker.RecentCalls.__init__, "__defaults__", (clock,)),
        mock.patch.object(random, "random", world.dice.random),
        mock.patch.object(random, "uniform", world.dice.uniform),
        mock.patch.object(preparation, "uuid7", world.uuid),
        mock.patch.object(ticket_throttle, "uuid7", world.uuid),
    ):
        yield


def _switch_off(world: World) -> None:
    """Remove safeguards from the store, as broken statements would."""
    memory, off = world.store.memory, world.plan.off
    if off.find:
        memory.issues_with_marker = lambda *_: []  # type: ignore[method-assign]
    if off.fence:
        memory._leased_by = lambda lane_id, _: memory.lanes.get(lane_id)  # type: ignore[method-assign]
    if off.intent:
        record_intents = memory.record_intents

        def forget(*columns: Any) -> Any:
            return record_intents(*columns[:3], [False] * len(columns[0]), *columns[4:])

        memory.record_intents = forget  # type: ignore[method-assign]


def run_world(seed: int, plan: Plan | None = None) -> Result:
    """Run the world of a seed to its end and return the result."""
    world = World(seed, _varied(seed, plan or Plan()))
    _switch_off(world)
    loop = world.loop
    with _clock_of(world):
        try:
            loop.run_until_complete(world.run_schedule())
        finally:
            _clean_up(world)
    return world.result


def _varied(seed: int, plan: Plan) -> Plan:
    """Draw from the seed how many faults of each kind the world has."""
    dice = random.Random(seed ^ 0x5EED)
    if plan.off != Off():
        return plan
    return replace(
        plan,
        replicas=dice.randint(1, plan.replicas),
        kills=dice.randint(0, plan.kills),
        pauses=dice.randint(0, plan.pauses),
        restarts=dice.randint(0, plan.restarts),
        outages=dice.randint(0, plan.outages),
        tracker_trouble=dice.choice((0.0, plan.tracker_trouble / 3, plan.tracker_trouble)),
        database_trouble=dice.choice((0.0, plan.database_trouble)),
        limit=plan.limit or dice.choice((None, None, Quota("all", 30, 60.0))),
        width=dice.choice((2, plan.width)),
    )


def _clean_up(world: World) -> None:
    """Cancel all tasks, those of killed replicas too, and ignore their errors."""
    loop = world.loop
    loop.on_error = lambda _: None
    for delayed in loop.paused.values():
        loop._ready.extend(delayed)
    loop.paused.clear()
    world.store.down_until = float("inf")
    for _ in range(20):
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done() and not task.cancelling()]
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(30.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    loop.references.clear()


def _run_without_logs(seed: int, plan: Plan | None = None) -> Result:
    """Run a world in a worker process, without logs and without sending the trace back."""
    logs.configure("json", level="critical")
    result = run_world(seed, plan)
    result.trace.clear()
    return result


def run_seeds(
    first: int, count: int, plan: Plan | None = None, workers: int | None = None
) -> Iterator[Result]:
    """Run many worlds on all processors and yield the results in the order of their seeds."""
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as pool:
        yield from pool.map(partial(_run_without_logs, plan=plan), range(first, first + count), chunksize=5)


def main() -> None:
    """Run many worlds and print a line for each violation; with one seed, print its trace."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if count == 1:
        logs.configure("json", level="critical")
        result = run_world(first)
        print("\n".join(result.trace))
        print(result)
        sys.exit(not result.good)
    started_at, bad, effects, virtual = time.monotonic(), 0, 0, 0.0
    for result in run_seeds(first, count):
        effects += result.effects
        virtual += result.virtual_seconds
        if not result.good:
            bad += 1
            print(f"{result}; repeat: make simulate SEEDS=1 FIRST={result.seed}", flush=True)
    taken = time.monotonic() - started_at
    print(f"{count} seeds, {bad} bad, {effects} effects, {virtual / 3600:.1f} virtual hours in {taken:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
