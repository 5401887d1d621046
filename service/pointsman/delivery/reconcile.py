"""Pulling: what no webhook told is found by asking each tracker what changed since the last time."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable

import msgspec

from pointsman.catalog import CatalogKeeper, LiveDestination
from pointsman.delivery.checked import checked
from pointsman.delivery.inbound import Inbound
from pointsman.logs import logger
from pointsman.plugin_api import Actor, IssueGone, IssueSeen, PluginError
from pointsman.storage import destinations as standing
from pointsman.storage.db import LOST, Database

log = logger("reconcile")

OVERLAP = dt.timedelta(minutes=10)
LOOK_SECONDS = 1.0


class Reconcile:
    """Asks each destination in its turn; one replica at a time wins each turn."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogKeeper,
        inbound: Inbound,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_drift: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._inbound = inbound
        self._on_change = on_change
        self._on_drift = on_drift

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask until the end."""
        task = asyncio.create_task(self._forever(), name="reconcile")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        due: dict[int, float] = {}
        clock = asyncio.get_running_loop().time
        running: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for one in list(self._catalog.current.destinations.values()):
                    if one.tracker is None or not one.capabilities.list_changes or one.id in running:
                        continue
                    if due.get(one.id, 0.0) > clock():
                        continue
                    due[one.id] = clock() + one.capabilities.poll_seconds
                    task = asyncio.create_task(self._turn(one), name=f"reconcile-{one.slug}")
                    running[one.id] = task
                    task.add_done_callback(lambda _, key=one.id: running.pop(key, None))  # type: ignore[misc]
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in list(running.values()):
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _turn(self, destination: LiveDestination) -> None:
        """One destination; its faults are its own."""
        try:
            await self._who(destination)
            every = destination.capabilities.poll_seconds
            won = await standing.take_poll(self._database, destination.id, every * 0.9)
            if won is not None:
                await self.pull(destination, *won)
        except LOST:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code
            failure = standing.Failure.of(error)
            failure = msgspec.structs.replace(failure, message=f"asking for changes: {failure.message}")
            log.warning("poll failed", destination=destination.slug, error=str(failure))
            with contextlib.suppress(*LOST):
                await standing.note_failure(self._database, destination.id, failure)

    async def _who(self, destination: LiveDestination) -> None:
        """Learn once who we are there: only an issue of our own may vouch for a marker."""
        if destination.account is None and destination.capabilities.webhooks:
            with contextlib.suppress(NotImplementedError, PluginError, TimeoutError):
                async with asyncio.timeout(destination.capabilities.request_timeout_seconds):
                    destination.account = checked(await destination.need().who_am_i(), Actor)

    async def pull(
        self, destination: LiveDestination, asked_at: dt.datetime, polled_to: dt.datetime | None
    ) -> int:
        """Ask for changes and apply them; how many tickets changed by it."""
        tracker = destination.need()
        since = (polled_to or asked_at - dt.timedelta(hours=1)) - OVERLAP
        async with asyncio.timeout(max(120.0, tracker.capabilities.request_timeout_seconds * 8)):
            news = await tracker.list_changes(since)
        changed = 0
        for one in [checked(each, IssueSeen, IssueGone) for each in news]:
            heard = await self._inbound.seen(destination, one)
            if heard.changed:
                changed += 1
                self._on_drift(destination.slug)
                log.info(
                    "found by asking",
                    destination=destination.slug,
                    ticket=str(heard.ticket_id),
                    note=heard.note,
                )
        await standing.polled(self._database, destination.id, asked_at)
        await standing.note_poll_success(self._database, destination.id)
        if changed:
            self._on_change()
        return changed
