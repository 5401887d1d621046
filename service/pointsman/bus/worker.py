"""Claim lanes, call the handler of their destination's kind, and renew their leases.

Polling finds all work; a wake-up only finds it sooner. A claimed lane is renewed until its handler returns. If its lease is
lost all the same, the handler is cancelled, and the lease id in every statement keeps a late result out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from pointsman.logs import logger
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.queue import Lanes
from pointsman.storage.queue_values import Lane

log = logger("worker")

IDLE_SECONDS = 1.0
BUSY_SECONDS = 0.25
FAILED_HANDLER_DELAY_SECONDS = 5.0
NO_HANDLER_DELAY_SECONDS = 10.0

Handler = Callable[[Lane], Awaitable[None]]
"""Work on a claimed lane until it is empty, must wait, or had its share of time; then release it."""


class Handlers:
    """Handlers of lanes by the kind of their destination.

    ``kind_of`` returns the kind of a destination id, None while this replica's configuration does not have it.
    """

    def __init__(self, kind_of: Callable[[int], int | None]) -> None:
        self._kind_of = kind_of
        self._handlers: dict[int, Handler] = {}

    def register(self, kind: int, handler: Handler) -> None:
        """Let a handler work on the lanes of all destinations of a kind."""
        self._handlers[kind] = handler

    def handler_of(self, destination_id: int) -> Handler | None:
        """Return the handler of a destination, None if it has none yet."""
        kind = self._kind_of(destination_id)
        return self._handlers.get(kind) if kind is not None else None


class _ClaimedLane(NamedTuple):
    lane: Lane
    task: asyncio.Task[None]


class Worker:
    """Pool of handler tasks, one for each claimed lane, at most ``width`` at once.

    Leases are renewed four times in their lifetime. ``stopping`` is set when no more lanes are claimed and handlers should
    release theirs; ``drain_seconds`` later those that still run are cancelled.
    """

    def __init__(
        self,
        lanes: Lanes,
        handlers: Handlers,
        *,
        width: int = 128,
        renew_every_seconds: float = 15.0,
        drain_seconds: float = 25.0,
    ) -> None:
        self._lanes = lanes
        self._handlers = handlers
        self._width = width
        self._renew_every_seconds = renew_every_seconds
        self._drain_seconds = drain_seconds
        self._wake_event = asyncio.Event()
        self._claimed: dict[int, _ClaimedLane] = {}
        self.stopping = asyncio.Event()
        self.stalled: str = ""
        """Why nothing is claimed right now, for the readiness page."""

    def wake(self) -> None:
        """Look for work now."""
        self._wake_event.set()

    @property
    def claimed_lanes(self) -> int:
        """Number of lanes that are being worked on."""
        return len(self._claimed)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until the end of the context; then claim no more, and give running handlers time to finish."""
        claiming = asyncio.create_task(self._claim_forever(), name="worker")
        renewing = asyncio.create_task(self._renew_forever(), name="worker: leases")
        try:
            yield
        finally:
            self.stopping.set()
            await _cancel(claiming)
            await self._drain()
            await _cancel(renewing)

    async def _drain(self) -> None:
        tasks = [claimed.task for claimed in self._claimed.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _claim_forever(self) -> None:
        while True:
            self._wake_event.clear()
            free = self._width - len(self._claimed)
            lanes = await self._claim(free) if free > 0 else []
            for lane in lanes:
                self._start(lane)
            if lanes and len(lanes) == free:
                continue
            pause = BUSY_SECONDS if lanes or self._claimed else IDLE_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.7, 1.3)):  # noqa: S311
                    await self._wake_event.wait()

    async def _claim(self, limit: int) -> list[Lane]:
        try:
            lanes = await self._lanes.claim(limit)
        except DatabaseUnavailable as error:
            if not self.stalled:
                log.warning("database unavailable: nothing is claimed", error=error.reason)
            self.stalled = f"database unavailable: {error.reason}"
            return []
        except Exception:
            self.stalled = "claiming failed; see the log"
            log.exception("claiming failed")
            return []
        self.stalled = ""
        return lanes

    def _start(self, lane: Lane) -> None:
        if (earlier := self._claimed.get(lane.id)) is not None:
            # its lease ran out before it was renewed, and this replica claimed the lane again
            log.warning("lease lost, work cancelled", lane=lane.id)
            earlier.task.cancel()
        task = asyncio.create_task(self._handle(lane), name=f"lane-{lane.id}")
        self._claimed[lane.id] = _ClaimedLane(lane, task)

    async def _handle(self, lane: Lane) -> None:
        try:
            handler = self._handlers.handler_of(lane.destination_id)
            if handler is None:
                await self._lanes.release(lane, delay_seconds=NO_HANDLER_DELAY_SECONDS)
            else:
                await handler(lane)
        except asyncio.CancelledError:
            raise
        except DatabaseUnavailable as error:
            # the lease runs out by itself, and an unknown outcome is verified before anything is sent again
            log.warning(
                "database unavailable: lane left until its lease ends", lane=lane.id, error=error.reason
            )
        except Exception:
            log.exception("handler failed", lane=lane.id)
            with contextlib.suppress(DatabaseUnavailable):
                await self._lanes.release(lane, delay_seconds=FAILED_HANDLER_DELAY_SECONDS)
        finally:
            if (claimed := self._claimed.get(lane.id)) is not None and claimed.lane is lane:
                del self._claimed[lane.id]
            self._wake_event.set()

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every_seconds)
            claimed_lanes = list(self._claimed.values())
            if claimed_lanes:
                await self._renew_leases(claimed_lanes)

    async def _renew_leases(self, claimed_lanes: list[_ClaimedLane]) -> None:
        try:
            renewed = await self._lanes.renew([claimed.lane for claimed in claimed_lanes])
        except DatabaseUnavailable:
            return
        except Exception:
            log.exception("renewing leases failed")
            return
        for claimed in claimed_lanes:
            if claimed.lane.id not in renewed and self._claimed.get(claimed.lane.id) is claimed:
                log.warning("lease lost, work cancelled", lane=claimed.lane.id)
                claimed.task.cancel()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
