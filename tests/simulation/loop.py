"""An event loop on a clock of its own: when nothing is ready the clock jumps, and what is ready runs in a seeded order.

It stands on private names of asyncio (``_ready``, ``_scheduled``, ``Handle._run``); ``test_simulation.py`` notices where a
version of Python does without them.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

REPLICA: ContextVar[str] = ContextVar("replica", default="")
"""To which replica the code that runs belongs; empty for the world around them."""


class NothingLeft(RuntimeError):
    """Nothing is ready and nothing is planned: the simulation would stand still for ever."""


class Loop(asyncio.BaseEventLoop):
    """No sockets, no threads. The callbacks of a paused replica are held until it goes on."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._clock_resolution = 1e-9
        self.dice = dice
        self.now = 0.0
        self.held: dict[str, list[asyncio.Handle]] = {}
        self.kept: list[Any] = []
        """What must not be collected as garbage while the simulation runs: that would depend on the weather."""
        self.on_error: Callable[[dict[str, Any]], None] = lambda _: None
        self.set_exception_handler(lambda _, said: self.on_error(said))

    def time(self) -> float:
        """Seconds since the beginning of the world."""
        return self.now

    def pause(self, replica: str) -> None:
        """Its callbacks are held from now on."""
        self.held[replica] = []

    def go_on(self, replica: str) -> None:
        """What was held is ready."""
        self._ready.extend(self.held.pop(replica))

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
            held = self.held.get(handle._context.get(REPLICA, ""))
            if held is not None:
                held.append(handle)
            else:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers go when their time comes."""

    def _write_to_self(self) -> None:
        """There is only one thread."""
