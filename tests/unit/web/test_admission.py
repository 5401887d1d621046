"""Test the limits of admission control."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from pointsman.errors import Overloaded
from pointsman.web.admission import AdmissionLimit, ConcurrencyLimit, MemoryBudget


def test_an_admission_limit_admits_so_many_and_forgets_finished_requests():
    limit = AdmissionLimit("reports", 2)
    with limit:
        with contextlib.suppress(ZeroDivisionError), limit:
            assert limit.full
            with pytest.raises(Overloaded), limit:
                raise AssertionError("inside")
            raise ZeroDivisionError
        assert not limit.full
    assert limit.active == 0


def test_a_memory_budget_is_never_exceeded():
    budget = MemoryBudget("reports", 10)
    budget.reserve(10)
    with pytest.raises(Overloaded):
        budget.reserve(1)
    assert budget.used == 10


async def test_a_concurrency_limit_has_slots_and_a_short_queue():
    limit = ConcurrencyLimit("questions", 1, 1, wait_seconds=0.05)
    async with limit.slot():
        waiting = asyncio.create_task(limit.slot().__aenter__())
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Overloaded, match="already"):
            await limit.slot().__aenter__()
        with pytest.raises(Overloaded, match=r"0\.05 s"):
            await waiting
        assert time.monotonic() - began < 2.0
    assert limit.waiting == 0
    async with limit.slot():
        pass
