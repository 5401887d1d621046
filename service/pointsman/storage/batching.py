"""Coalescing of calls: calls made at the same time share one statement.

A call never waits for others: a single call runs alone and at once, and the calls that arrive while a statement runs
share the next one. Batches grow with the load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pointsman.storage.db import retry_conflicts
from pointsman.storage.errors import DatabaseUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH = 128


class CallCoalescer(Generic[Item, Result]):
    """Makes a function of many items callable with one: ``await coalescer(item)`` returns the item's own result.

    ``run`` returns as many results as it gets items. Conflicts with other transactions are retried. After any other
    error each item is run by itself, so that an item that can't be processed fails alone.
    """

    def __init__(self, run: Callable[[list[Item]], Awaitable[list[Result]]]) -> None:
        self._run = run
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Process one item, in one batch with all others that wait."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run_batches())
        return await future

    async def _run_batches(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                await self._run_batch(batch)
        finally:
            self._task = None
            # futures that are still pending: this task was cancelled
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        items = [item for item, _ in batch]
        try:
            results = await retry_conflicts(lambda: self._run(items))
        except DatabaseUnavailable as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - raised to the caller
            if len(batch) == 1:
                _fail(batch, error)
                return
            for call in batch:
                await self._run_batch([call])
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Transpose rows into the arrays that a set-based statement takes."""
    return [list(column) for column in zip(*rows, strict=True)]
