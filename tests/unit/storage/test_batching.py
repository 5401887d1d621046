"""Calls made at the same time share one run; each gets its own result, and fails alone."""

from __future__ import annotations

import asyncio

import pytest

from pointsman.storage.batching import MAX_BATCH, CallCoalescer
from pointsman.storage.db import CONFLICT_TRIES
from pointsman.storage.errors import DatabaseUnavailable, TransactionConflict


class Runs:
    """Notes what was run coalescer; numbers in ``bad`` fail their run."""

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


async def test_one_that_comes_alone_runs_at_once_and_the_rest_go_coalescer():
    runs = Runs()
    coalescer = CallCoalescer(runs)
    assert await coalescer(1) == 10
    answers = await asyncio.gather(*(coalescer(n) for n in range(2, 2 + MAX_BATCH + 3)))
    assert answers == [n * 10 for n in range(2, 2 + MAX_BATCH + 3)]
    assert runs.batches[0] == [1]
    assert max(len(batch) for batch in runs.batches) == MAX_BATCH
    assert len(runs.batches) <= 4


async def test_an_item_that_can_not_be_done_fails_alone():
    runs = Runs(bad={3})
    coalescer = CallCoalescer(runs)
    answers = await asyncio.gather(*(coalescer(n) for n in range(6)), return_exceptions=True)
    assert [isinstance(answer, ValueError) for answer in answers] == [n == 3 for n in range(6)]
    assert answers[5] == 50


async def test_a_conflict_is_tried_again_and_a_lost_connection_is_not():
    conflict = Runs(bad={1}, error=TransactionConflict, times=CONFLICT_TRIES - 1)
    assert await CallCoalescer(conflict)(1) == 10
    assert len(conflict.batches) == CONFLICT_TRIES
    lost = Runs(bad={1}, error=DatabaseUnavailable)
    answers = await asyncio.gather(*(CallCoalescer(lost)(n) for n in (1,)), return_exceptions=True)
    assert isinstance(answers[0], DatabaseUnavailable)
    assert len(lost.batches) == 1


async def test_a_cancelled_call_cancels_no_other_call():
    released = asyncio.Event()

    async def slow(items: list[int]) -> list[int]:
        await released.wait()
        return items

    coalescer: CallCoalescer[int, int] = CallCoalescer(slow)
    first, second = asyncio.create_task(coalescer(1)), asyncio.create_task(coalescer(2))
    await asyncio.sleep(0)
    first.cancel()
    released.set()
    assert await second == 2
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await coalescer(3) == 3
