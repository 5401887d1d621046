"""The bus: wake, claim lanes, hand them over, keep their leases. It knows nothing of what it carries.

Polling is the truth; a notification only makes it quicker. A lane in our hands is renewed until its carrier is done;
if the lease is lost all the same, its work is cancelled, and the fence in every statement keeps a late result out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from pointsman.logs import logger
from pointsman.storage.db import LOST
from pointsman.storage.queue import Lane, Lanes

log = logger("bus")

IDLE_SECONDS = 1.0
BUSY_SECONDS = 0.25

Carry = Callable[[Lane], Awaitable[None]]


class Bus:
    """Claims lanes and lets ``carry`` work on them, up to ``width`` at once."""

    def __init__(
        self, lanes: Lanes, carry: Carry, *, width: int = 128, keep_every_seconds: float = 15.0
    ) -> None:
        self._lanes = lanes
        self._carry = carry
        self._width = width
        self._keep_every = keep_every_seconds
        self._wake = asyncio.Event()
        self._held: dict[int, tuple[Lane, asyncio.Task[None]]] = {}
        self._stopping = False
        self.stalled: str = ""
        """Why nothing is claimed right now, for the readiness page."""

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    @property
    def held(self) -> int:
        """How many lanes are being worked on."""
        return len(self._held)

    @contextlib.asynccontextmanager
    async def running(self, *, drain_seconds: float = 25.0) -> AsyncIterator[None]:
        """Work until the end; then claim no more, and give those at work time to finish."""
        loop = asyncio.create_task(self._work(), name="bus")
        keeper = asyncio.create_task(self._keep(), name="bus-keeper")
        try:
            yield
        finally:
            self._stopping = True
            self.wake()
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
            await self._drain(drain_seconds)
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    @property
    def stopping(self) -> bool:
        """Whether lanes should be given back at the next good moment."""
        return self._stopping

    async def _drain(self, drain_seconds: float) -> None:
        tasks = [task for _, task in self._held.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            claimed = 0
            room = self._width - len(self._held)
            if room > 0:
                try:
                    lanes = await self._lanes.claim(room)
                    self.stalled = ""
                except LOST as error:
                    lanes = []
                    if not self.stalled:
                        log.warning("the database is away, nothing is claimed", error=type(error).__name__)
                    self.stalled = f"the database is away: {type(error).__name__}"
                except Exception:
                    lanes = []
                    self.stalled = "claiming failed; see the log"
                    log.exception("claiming failed")
                claimed = len(lanes)
                for lane in lanes:
                    if (before := self._held.get(lane.id)) is not None:
                        # its lease ran out while nobody could renew it, and it came back to us
                        log.warning("lease lost, work cancelled", lane=lane.id)
                        before[1].cancel()
                    task = asyncio.create_task(self._one(lane), name=f"lane-{lane.id}")
                    self._held[lane.id] = (lane, task)
            if claimed and claimed == room:
                continue
            pause = BUSY_SECONDS if claimed or self._held else IDLE_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.7, 1.3)):  # noqa: S311
                    await self._wake.wait()

    async def _one(self, lane: Lane) -> None:
        try:
            await self._carry(lane)
        except asyncio.CancelledError:
            raise
        except LOST as error:
            # the lease runs out by itself, and whoever comes next looks before it repeats
            log.warning(
                "lane left where it was, the database is away", lane=lane.id, error=type(error).__name__
            )
        except Exception:
            log.exception("carrier failed", lane=lane.id)
            with contextlib.suppress(*LOST):
                await self._lanes.release(lane, delay_seconds=5.0)
        finally:
            if self._held.get(lane.id, (None, None))[0] is lane:
                del self._held[lane.id]
            self._wake.set()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._keep_every)
            held = list(self._held.values())
            if not held:
                continue
            try:
                kept = await self._lanes.renew([lane for lane, _ in held])
            except LOST:
                continue
            except Exception:
                log.exception("renewing leases failed")
                continue
            for lane, task in held:
                if lane.id not in kept and self._held.get(lane.id, (None, None))[1] is task:
                    log.warning("lease lost, work cancelled", lane=lane.id)
                    task.cancel()
