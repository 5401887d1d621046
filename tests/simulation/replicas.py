"""A replica of the service in the simulated world: what ``app.py`` builds, as far as it is simulated."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.bus.worker import Handlers, Worker
from pointsman.delivery.draft import DraftRenderer
from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.delivery.tracker_sender import TrackerSender
from pointsman.domain.states import TicketKind
from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake.batcher import IntakeBatcher
from pointsman.intake.preparation import ReportPreparer
from pointsman.plugin_api import Report
from pointsman.storage.queue import Lanes
from simulation.loop import REPLICA
from simulation.schedule import LEASE_SECONDS
from simulation.store import Connection

if TYPE_CHECKING:
    from simulation.model import World


class Replica:
    """One process of the service, with its own worker, sender and intake."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        database: Any = Connection(world, name)
        self.holder = world.uuid()
        self.lanes = Lanes(database, self.holder, lease_seconds=LEASE_SECONDS)
        reloader: Any = world
        signals = Signals()
        handlers = Handlers(lambda _: 1)
        self.worker = Worker(
            self.lanes,
            handlers,
            width=world.plan.width,
            renew_every_seconds=LEASE_SECONDS / 4,
            drain_seconds=5.0,
        )
        signals.subscribe(WorkAvailable, lambda _: self.worker.wake())
        self.tracker_sender = TrackerSender(
            database,
            self.lanes,
            reloader,
            DraftRenderer(database, reloader),
            rate_limiter=RateLimiter(database),
            signals=signals,
            stopping=self.worker.stopping,
        )
        handlers.register(1, self.tracker_sender.handle)
        self.preparer = ReportPreparer(reloader)
        self.batcher = IntakeBatcher(database, reloader, signals=signals)
        self.stop = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(REPLICA.set, name)
        self.task = world.loop.create_task(self._main(), context=self.context)

    @property
    def awake(self) -> bool:
        """Whether the replica is neither killed nor paused."""
        return self.alive and self.name not in self.world.loop.paused

    async def _main(self) -> None:
        async with self.worker.running(), self.batcher.running():
            await self.stop.wait()

    def kill(self) -> None:
        """Stop all code of the replica for good and reset its connections, as ``kill -9`` does."""
        self.alive = False
        if self.name not in self.world.loop.paused:
            self.world.loop.pause(self.name)
        for session in self.world.sessions:
            if session.replica == self.name:
                self.world.store.end(session, commit=False)

    async def report(self, ticket: int, n: int) -> None:
        """Submit a support ticket (``n`` = 0) or its n-th comment, and return when it is accepted."""
        done = self.world.loop.create_future()

        async def submit() -> None:
            try:
                incoming = self.preparer.prepare(
                    self.world.source,
                    Report(
                        action="commented" if n else "opened",
                        fingerprint=f"t{ticket}",
                        title="x",
                        text=str(n),
                    ),
                    b"x",
                    {},
                    key=f"{ticket}/{n}",
                    kind=TicketKind.SUPPORT,
                )
                await self.batcher.submit(incoming)
            except (DatabaseError, Overloaded) as error:
                self.world.loop.call_soon(_fail, done, error, context=contextvars.Context())
            else:
                self.world.loop.call_soon(_fulfil, done, context=contextvars.Context())

        self.world.loop.references.append(self.world.loop.create_task(submit(), context=self.context))
        async with asyncio.timeout(8.0):
            await done


def _fulfil(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
