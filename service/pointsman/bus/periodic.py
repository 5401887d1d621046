"""Background services that run at an interval, and earlier when they are woken."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine, Hashable
from typing import Any, ClassVar, Protocol

from pointsman.logs import logger
from pointsman.storage.errors import DatabaseUnavailable

log = logger("periodic")


class BackgroundService(Protocol):
    """A part of the application that runs until the end of its context."""

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Run in the background until the end of the context."""
        ...


class PeriodicService(abc.ABC):
    """Base class of background loops: wait, ``run_once``, wait.

    ``jitter`` varies each wait by this fraction, so that replicas spread out. ``gather_seconds`` is waited after a
    wake-up, so that several wake-ups cause one run. An unavailable database is not logged: the next run tries again.
    """

    name: ClassVar[str]
    """Name of the task, and of the service in log lines."""
    jitter: ClassVar[float] = 0.0
    gather_seconds: ClassVar[float] = 0.0

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._wake_event = asyncio.Event()

    @abc.abstractmethod
    async def run_once(self) -> None:
        """Do the work that is due now."""

    async def started(self) -> None:  # noqa: B027 - an optional hook
        """Prepare, before the loop begins. Errors of the database are ignored."""

    async def stopped(self) -> None:  # noqa: B027 - an optional hook
        """Clean up, after the loop ended. Errors of the database are ignored."""

    def wake(self) -> None:
        """Run soon instead of at the end of the interval."""
        self._wake_event.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run in the background until the end of the context."""
        with contextlib.suppress(DatabaseUnavailable):
            await self.started()
        task = asyncio.create_task(self._run(), name=self.name)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(DatabaseUnavailable):
                await self.stopped()

    async def _run(self) -> None:
        while True:
            await self._wait()
            try:
                await self.run_once()
            except DatabaseUnavailable:
                continue
            except Exception:
                log.exception("background service failed", service=self.name)

    async def _wait(self) -> None:
        interval = self.interval_seconds * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._wake_event.wait()
        if self.gather_seconds:
            await asyncio.sleep(self.gather_seconds)
        self._wake_event.clear()


class KeyedTasks:
    """Tasks of which at most one runs for each key, such as one poll for each destination."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    def start(self, key: Hashable, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Start a task. The caller has made sure that none runs for the key."""
        task = asyncio.create_task(work, name=name)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def cancel(self) -> None:
        """Cancel all tasks and wait until they ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
