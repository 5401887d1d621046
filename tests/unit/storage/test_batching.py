"""Calls made at the same time share one run; each gets its own result, and fails alone."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pointsman.storage.batching import MOST, TRIES, Together


class Runs:
    """Notes what was run together; numbers in ``bad`` fail their run."""

    def __init__(self, bad: set[int] = frozenset(), error: type[Exception] = ValueError, times: int = 10**9):
        self.bad, self.error, self.times = bad, error, times
        self.batches: list[list[int]] = []

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        await asyncio.sleep(0)
        if self.bad & set(items) and self.times > 0:
            self.times -= 1
            raise self.error("no")
        return [item * 10 for item in items]


async def test_one_that_comes_alone_runs_at_once_and_the_rest_go_together():
    runs = Runs()
    together = Together(runs)
    assert await together(1) == 10
    answers = await asyncio.gather(*(together(n) for n in range(2, 2 + MOST + 3)))
    assert answers == [n * 10 for n in range(2, 2 + MOST + 3)]
    assert runs.batches[0] == [1]
    assert max(len(batch) for batch in runs.batches) == MOST
    assert len(runs.batches) <= 4


async def test_an_item_that_can_not_be_done_fails_alone():
    runs = Runs(bad={3})
    together = Together(runs)
    answers = await asyncio.gather(*(together(n) for n in range(6)), return_exceptions=True)
    assert [isinstance(answer, ValueError) for answer in answers] == [n == 3 for n in range(6)]
    assert answers[5] == 50


async def test_a_conflict_is_tried_again_and_a_lost_connection_is_not():
    conflict = Runs(bad={1}, error=asyncpg.DeadlockDetectedError, times=TRIES - 1)
    assert await Together(conflict)(1) == 10
    assert len(conflict.batches) == TRIES
    lost = Runs(bad={1}, error=asyncpg.ConnectionDoesNotExistError)
    answers = await asyncio.gather(*(Together(lost)(n) for n in (1,)), return_exceptions=True)
    assert isinstance(answers[0], asyncpg.ConnectionDoesNotExistError)
    assert len(lost.batches) == 1


async def test_who_is_cancelled_takes_nobody_along():
    gate = asyncio.Event()

    async def slow(items: list[int]) -> list[int]:
        await gate.wait()
        return items

    together: Together[int, int] = Together(slow)
    first, second = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == 2
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await together(3) == 3
