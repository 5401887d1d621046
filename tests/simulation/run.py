"""Lives of worlds: everything in one comes from its seed. ``python -m simulation.run SEEDS [FIRST]`` lives many."""

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
from pointsman.storage import ticket_throttle
from pointsman.plugin_api import Quota
from simulation.model import World
from simulation.schedule import Off, Plan, Result


@contextlib.contextmanager
def _on_the_clock_of(world: World) -> Iterator[None]:
    """Time, dice and new ids are the world's."""
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
    """Take safeguards away from the store, as broken statements would."""
    memory, off = world.store.memory, world.plan.off
    if off.find:
        memory.sightings_of = lambda *_: []  # type: ignore[method-assign]
    if off.fence:
        memory._mine = lambda lane_id, _: memory.lanes.get(lane_id)  # type: ignore[method-assign]
    if off.intent:
        written = memory.write_intents

        def forget(*columns: Any) -> Any:
            return written(*columns[:3], [False] * len(columns[0]), *columns[4:])

        memory.write_intents = forget  # type: ignore[method-assign]


def live(seed: int, plan: Plan | None = None) -> Result:
    """One life of a world."""
    world = World(seed, _varied(seed, plan or Plan()))
    _switch_off(world)
    loop = world.loop
    with _on_the_clock_of(world):
        try:
            loop.run_until_complete(world._story())
        finally:
            _clean_up(world)
    return world.result


def _varied(seed: int, plan: Plan) -> Plan:
    """No two worlds alike: how much of each kind of trouble comes from the seed too."""
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
    """Everything that still runs is cancelled, the dead included, and nothing of it is heard any more."""
    loop = world.loop
    loop.on_error = lambda _: None
    for held in loop.held.values():
        loop._ready.extend(held)
    loop.held.clear()
    world.store.down_until = float("inf")
    for _ in range(20):
        tasks = [one for one in asyncio.all_tasks(loop) if not one.done() and not one.cancelling()]
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(30.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    loop.kept.clear()


def live_quietly(seed: int, plan: Plan | None = None) -> Result:
    """As ``live``, in a process of its own: no log, and no trace to send back."""
    logs.configure("json", level="critical")
    result = live(seed, plan)
    result.trace.clear()
    return result


def live_many(
    first: int, count: int, plan: Plan | None = None, workers: int | None = None
) -> Iterator[Result]:
    """Many lives, on all processors, in the order of their seeds."""
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as pool:
        yield from pool.map(partial(live_quietly, plan=plan), range(first, first + count), chunksize=5)


def main() -> None:
    """Live many, and print a line for each that went wrong."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if count == 1:
        logs.configure("json", level="critical")
        result = live(first)
        print("\n".join(result.trace))
        print(result)
        sys.exit(not result.good)
    began, bad, effects, virtual = time.monotonic(), 0, 0, 0.0
    for result in live_many(first, count):
        effects += result.effects
        virtual += result.virtual_seconds
        if not result.good:
            bad += 1
            print(f"{result}; again: make simulate SEEDS=1 FIRST={result.seed}", flush=True)
    taken = time.monotonic() - began
    print(f"{count} seeds, {bad} bad, {effects} effects, {virtual / 3600:.1f} hours lived in {taken:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
