"""Periodic services run at their interval and when they are woken, and survive their own errors."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from pointsman.bus.periodic import KeyedTasks, PeriodicService


class Counting(PeriodicService):
    """Counts its runs."""

    name: ClassVar[str] = "counting"

    def __init__(self, interval_seconds: float, *, failing: bool = False) -> None:
        super().__init__(interval_seconds)
        self.failing = failing
        self.runs = 0
        self.ran = asyncio.Event()
        self.is_started = self.is_stopped = False

    async def started(self) -> None:
        self.is_started = True

    async def stopped(self) -> None:
        self.is_stopped = True

    async def run_once(self) -> None:
        self.runs += 1
        self.ran.set()
        if self.failing:
            raise RuntimeError("broken")


async def test_a_service_runs_at_its_interval_and_cleans_up_at_the_end() -> None:
    service = Counting(0.01)

    async with service.running():
        assert service.is_started
        await asyncio.wait_for(service.ran.wait(), 5)
        assert not service.is_stopped

    assert service.is_stopped


async def test_a_service_that_is_woken_does_not_wait_for_its_interval() -> None:
    service = Counting(3600)

    async with service.running():
        await asyncio.sleep(0.01)
        assert service.runs == 0
        service.wake()
        await asyncio.wait_for(service.ran.wait(), 5)

    assert service.runs == 1


async def test_a_run_that_fails_does_not_end_the_service() -> None:
    service = Counting(0.001, failing=True)

    async with service.running():
        async with asyncio.timeout(5):
            while service.runs < 3:
                await asyncio.sleep(0.001)


async def test_a_key_has_one_task_until_it_ends() -> None:
    tasks = KeyedTasks()
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()

    tasks.start("a", work(), name="a")
    assert "a" in tasks
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "a" not in tasks


async def test_cancelling_ends_the_tasks_of_all_keys() -> None:
    tasks = KeyedTasks()
    tasks.start("a", asyncio.sleep(3600), name="a")
    tasks.start("b", asyncio.sleep(3600), name="b")

    await tasks.cancel()

    assert "a" not in tasks
    assert "b" not in tasks
