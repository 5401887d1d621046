"""An event loop with virtual time: when nothing is ready the clock jumps, and ready callbacks run in a seeded order.

It relies on private names of asyncio (``_ready``, ``_scheduled``, ``Handle._run``); ``test_simulation.py`` fails on a
version of Python that lacks them.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

REPLICA: ContextVar[str] = ContextVar("replica", default="")
"""Name of the replica whose code runs; empty for code of the world."""


class NothingLeft(RuntimeError):
    """Nothing is ready and nothing is scheduled: the simulation would never end."""


class Loop(asyncio.BaseEventLoop):
    """Event loop without sockets and threads; the callbacks of a paused replica wait until it is resumed."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._clock_resolution = 1e-9
        self.dice = dice
        self.now = 0.0
        self.paused: dict[str, list[asyncio.Handle]] = {}
        self.references: list[Any] = []
        """Objects that must not be garbage-collected during the run, since the moment of that is not deterministic."""
        self.on_error: Callable[[dict[str, Any]], None] = lambda _: None
        self.set_exception_handler(lambda _, context: self.on_error(context))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def pause(self, replica: str) -> None:
        """Delay the callbacks of a replica from now on."""
        self.paused[replica] = []

    def resume(self, replica: str) -> None:
        """Make the delayed callbacks of a replica ready."""
        self._ready.extend(self.paused.pop(replica))

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._ready:
            if not self._scheduled:
                raise NothingLeft
            self.now = max(self.now, self._scheduled[0]._when)
        while self._scheduled and self._scheduled[0]._when <= self.now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        batch = list(self._ready)
        self._ready.clear()
        self.dice.shuffle(batch)
        for handle in batch:
            if handle._cancelled:
                continue
            delayed = self.paused.get(handle._context.get(REPLICA, ""))
            if delayed is not None:
                delayed.append(handle)
            else:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave cancelled timers in the heap until their time comes."""

    def _write_to_self(self) -> None:
        """Do nothing: there is only one thread."""
