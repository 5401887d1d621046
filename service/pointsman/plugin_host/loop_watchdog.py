"""Detect a blocked event loop from a thread and name the plugin whose code blocks it.

Plugins run in our process; a plugin that blocks the loop (a ``time.sleep``, a long computation) stops all work. It cannot
be interrupted, but it is named, and after repeated stalls its destinations are paused. A pause of the whole process is
not attributed to a plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import FrameType

from pointsman.logs import logger

log = logger("watchdog")

BEAT_SECONDS = 0.25
STALL_SECONDS = 1.0
STALLS_ALLOWED = 3


class LoopWatchdog:
    """Watchdog of one event loop.

    ``modules`` maps a plugin's top-level module to its kind of tracker or source. The callbacks run in the loop's thread:
    ``on_stall`` gets the plugin's kind ("" if none is to blame), ``on_repeated_stalls`` likewise after
    ``STALLS_ALLOWED`` stalls, ``on_lag`` gets at every beat by how many seconds the loop was late.
    """

    def __init__(
        self,
        modules: Mapping[str, str],
        *,
        on_stall: Callable[[str], None] = lambda _: None,
        on_repeated_stalls: Callable[[str], Awaitable[None]] | None = None,
        on_lag: Callable[[float], None] = lambda _: None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._modules = modules
        self._on_stall = on_stall
        self._on_repeated_stalls = on_repeated_stalls
        self._on_lag = on_lag
        self._stall_seconds = stall_seconds
        self._beat_at = time.monotonic()
        self._stop = threading.Event()
        self.stalls: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the running loop until the context ends."""
        loop = asyncio.get_running_loop()
        self._beat_at = time.monotonic()
        thread = threading.Thread(
            target=self._watch, args=(loop, threading.get_ident()), name="watchdog", daemon=True
        )
        beating = asyncio.create_task(self._beat(), name="watchdog")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
            await asyncio.to_thread(thread.join, 2.0)

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            self._on_lag(max(0.0, time.monotonic() - self._beat_at - BEAT_SECONDS))

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        reported_beat, paused_seconds, paused_beat = 0.0, 0.0, 0.0
        previous, previous_cpu = time.monotonic(), time.process_time()
        while not self._stop.wait(BEAT_SECONDS):
            beat_at, now, cpu = self._beat_at, time.monotonic(), time.process_time()
            # If this thread woke up late and the process used no processor time, the whole process was paused (stopped,
            # suspended, starved). That time is not attributed to a plugin.
            late = max(0.0, (now - previous - BEAT_SECONDS) - (cpu - previous_cpu))
            paused_seconds = min((paused_seconds if paused_beat == beat_at else 0.0) + late, now - beat_at)
            paused_beat, previous, previous_cpu = beat_at, now, cpu
            if (
                now - beat_at - paused_seconds < self._stall_seconds + BEAT_SECONDS
                or reported_beat == beat_at
            ):
                continue
            reported_beat = beat_at
            frame = sys._current_frames().get(ident)  # noqa: SLF001 - there is no public function
            plugin, where = self._find_plugin_frame(frame)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._report_stall, plugin, where, beat_at)

    def _find_plugin_frame(self, frame: FrameType | None) -> tuple[str, str]:
        """Return the plugin's kind ("" if none) and the place of the innermost frame of a plugin, else of any code."""
        where = ""
        while frame is not None:
            module = frame.f_globals.get("__name__", "?")
            location = f"{module}.{frame.f_code.co_name}, line {frame.f_lineno}"
            where = where or location
            kind = self._modules.get(str(module).partition(".")[0])
            if kind is not None:
                return kind, location
            frame = frame.f_back
        return "", where

    def _report_stall(self, plugin: str, where: str, beat_at: float) -> None:
        self.stalls[plugin] += 1
        self._on_stall(plugin)
        log.error(
            "event loop blocked",
            plugin=plugin or None,
            where=where,
            seconds=round(time.monotonic() - beat_at, 1),
        )
        if plugin and self.stalls[plugin] == STALLS_ALLOWED and self._on_repeated_stalls is not None:
            self._pausing = asyncio.ensure_future(self._on_repeated_stalls(plugin))
