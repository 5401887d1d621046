"""Calls made at the same time share one statement.

Nothing lingers: a call that comes alone runs alone and at once; what comes while a statement runs goes with the next
one. Under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pointsman.storage.db import AGAIN, LOST

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 128
TRIES = 4


class Together(Generic[Item, Result]):
    """``await together(item)`` gives the item's own result of ``run``, which is called with many items at once.

    ``run`` gives as many results as it got items. An item that it can't do fails alone: after an error each item is
    run by itself. Conflicts with other transactions are tried again.
    """

    def __init__(self, run: Callable[[list[Item]], Awaitable[list[Result]]]) -> None:
        self._run = run
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Do one item, together with whatever else waits."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                await self._do(batch)
        finally:
            self._task = None
            # only a cancelled worker leaves anybody behind
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._again([item for item, _ in batch])
        except LOST as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:
                await self._do([one])
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _again(self, items: list[Item]) -> list[Result]:
        """Run, and again after a conflict with another transaction."""
        for _ in range(TRIES - 1):
            try:
                return await self._run(items)
            except AGAIN:
                continue
        return await self._run(items)


def _fail(batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as the arrays that a set-based statement takes."""
    return [list(column) for column in zip(*rows, strict=True)]
