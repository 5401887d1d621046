"""Pulling: what no webhook told is found by asking each tracker what changed since the last time."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator

import msgspec

from pointsman.bus.signals import DriftDetected, Signals, WorkAvailable
from pointsman.logs import logger, scrub
from pointsman.plugin_api import IssueRemoved, IssueState, PluginError, Tracker
from pointsman.plugin_host.account import learn_account
from pointsman.plugin_host.snapshot import ConfigReloader, LiveDestination
from pointsman.plugin_host.validate import checked
from pointsman.storage import destinations as standing
from pointsman.storage import reconcile as store
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.sync.tracker_updates import TrackerUpdates

log = logger("reconcile")

OVERLAP = dt.timedelta(minutes=10)
LOOK_SECONDS = 1.0
TURN_SECONDS = 30.0
"""A turn lasts so long at least: a destination that is asked every two seconds does not win each time anew."""
KEPT_SECONDS = 60.0
"""How far we got is written down this often while nothing changes."""
AGAIN_SECONDS = 600.0
PULL_SECONDS = 600.0
"""A list of changes may take so long. One that is cut short would be longer the next time."""


class _Turn(msgspec.Struct):
    """What this replica knows about asking one destination; times are on the event loop's clock."""

    due: float = 0.0
    ours_until: float = 0.0
    won_at: float = 0.0
    won: dt.datetime | None = None
    """The same moment by the database's clock."""
    written: float = float("-inf")
    asked_again: float = float("-inf")
    polled_to: dt.datetime | None = None


class TrackerPoller:
    """Asks each destination in its turn; one replica at a time has the turn, and the others know until when."""

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        inbound: TrackerUpdates,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._reloader = reloader
        self._inbound = inbound
        self._signals = signals or Signals()
        self._turns: dict[int, _Turn] = {}

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
            now = asyncio.get_running_loop().time()
            ours = [number for number, turn in self._turns.items() if turn.ours_until > now]
            with contextlib.suppress(DatabaseUnavailable):
                await store.give_back(self._database, ours)

    async def _forever(self) -> None:
        clock = asyncio.get_running_loop().time
        running: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for one in list(self._reloader.current.destinations.values()):
                    if one.tracker is None or not one.capabilities.list_changes or one.id in running:
                        continue
                    turn = self._turns.setdefault(one.id, _Turn())
                    if turn.due > clock():
                        continue
                    turn.due = clock() + one.capabilities.poll_seconds
                    task = asyncio.create_task(self._ask(one, turn), name=f"reconcile-{one.slug}")
                    running[one.id] = task
                    task.add_done_callback(lambda _, key=one.id: running.pop(key, None))  # type: ignore[misc]
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in list(running.values()):
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _ask(self, destination: LiveDestination, turn: _Turn) -> None:
        """One destination; its faults are its own."""
        try:
            await learn_account(destination)
            asked_at = await self._won(destination, turn)
            if asked_at is None:
                return
            since = (turn.polled_to or asked_at - dt.timedelta(hours=1)) - OVERLAP
            changed = await self.pull(destination, since, asked_at)
            turn.polled_to = asked_at
            await self._write(destination, turn, asked_at, changed=changed)
            await self._ask_again(destination, turn, min(since, asked_at - 2 * OVERLAP))
        except DatabaseUnavailable:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code
            turn.written = float("-inf")  # the next success clears the failure
            failure = standing.Failure.of(error)
            failure = msgspec.structs.replace(failure, message=f"asking for changes: {failure.message}")
            log.warning("poll failed", destination=destination.slug, error=str(failure))
            with contextlib.suppress(DatabaseUnavailable):
                await standing.note_failure(self._database, destination.id, failure, origin="poll")

    async def _won(self, destination: LiveDestination, turn: _Turn) -> dt.datetime | None:
        """When we ask, by the database's clock; None while another replica has the turn."""
        clock = asyncio.get_running_loop().time
        before = clock()
        if turn.ours_until > before and turn.won is not None:
            return turn.won + dt.timedelta(seconds=before - turn.won_at)
        lasts = max(destination.capabilities.poll_seconds * 0.9, TURN_SECONDS)
        poll = await store.take_poll(self._database, destination.id, lasts)
        if poll.asked_at is None:
            # who has it goes on having it, unless it died: no use in asking before that could show
            turn.due = clock() + poll.wait_seconds + TURN_SECONDS
            return None
        turn.ours_until, turn.won_at, turn.won = before + lasts, clock(), poll.asked_at
        turn.polled_to = poll.polled_to
        return poll.asked_at

    async def _write(
        self, destination: LiveDestination, turn: _Turn, asked_at: dt.datetime, *, changed: int
    ) -> None:
        clock = asyncio.get_running_loop().time
        if changed or clock() - turn.written >= KEPT_SECONDS:
            await store.polled(self._database, destination.id, asked_at)
            turn.written = clock()

    async def _ask_again(self, destination: LiveDestination, turn: _Turn, since: dt.datetime) -> None:
        """Have the tracker repeat webhook calls that failed, where it does not by itself and lets us ask. A deletion, say,
        is told by a webhook alone.
        """
        tracker = destination.require_tracker()
        clock = asyncio.get_running_loop().time
        can = type(tracker).redeliver_webhooks is not Tracker.redeliver_webhooks and destination.capabilities.webhooks
        if not (can and tracker.webhook_url and destination.webhook_secrets):
            return
        if clock() - turn.asked_again < AGAIN_SECONDS * 0.9:
            return
        turn.asked_again = clock()
        try:
            async with asyncio.timeout(max(60.0, tracker.capabilities.request_timeout_seconds * 4)):
                count = await tracker.redeliver_webhooks(tracker.webhook_url, since)
        except (PluginError, TimeoutError) as error:
            log.warning(
                "asking for failed webhooks failed",
                destination=destination.slug,
                error=f"{type(error).__name__}: {scrub(str(error))}",
            )
            return
        if count:
            log.info("failed webhooks are sent again", destination=destination.slug, count=count)

    async def pull(self, destination: LiveDestination, since: dt.datetime, asked_at: dt.datetime) -> int:
        """Ask for changes and apply them; how many tickets changed by it. ``asked_at`` is now by the database's clock."""
        tracker = destination.require_tracker()
        async with asyncio.timeout(PULL_SECONDS):
            news = await tracker.list_changes(since)
        changed = 0
        for heard in await self._inbound.seen_all(
            destination, [checked(each, IssueState, IssueRemoved) for each in news], asked_at=asked_at
        ):
            if heard.changed:
                changed += 1
                self._signals.emit(DriftDetected(destination.slug))
                log.info(
                    "found by asking",
                    destination=destination.slug,
                    ticket=str(heard.ticket_id),
                    note=heard.note,
                )
        if changed:
            self._signals.emit(WorkAvailable())
        return changed
