"""Poll trackers for changed issues: missed webhooks are found this way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from typing import ClassVar

import msgspec

from pointsman.bus.periodic import KeyedTasks, PeriodicService
from pointsman.bus.signals import DriftDetected, Signals, WorkAvailable
from pointsman.logs import logger, scrub
from pointsman.plugin_api import IssueRemoved, IssueState, PluginError
from pointsman.plugin_host.account import fetch_account
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import validated
from pointsman.storage import destinations
from pointsman.storage import reconcile as store
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.sync.tracker_updates import TrackerUpdates

log = logger("poller")

OVERLAP = dt.timedelta(minutes=10)
"""Changes are asked for from this long before the last poll on."""
INTERVAL_SECONDS = 1.0
MIN_LEASE_SECONDS = 30.0
"""A destination that is polled every two seconds does not compete for the lease each time."""
RECORD_SECONDS = 60.0
"""While nothing changes the position is recorded this often."""
REDELIVERY_SECONDS = 600.0
LIST_TIMEOUT_SECONDS = 600.0
"""Timeout of a list of changes; after one that is cut off the next would be even longer."""


class PollState(msgspec.Struct):
    """What this replica knows about polling one destination. Times are seconds of the event loop's clock."""

    due: float = 0.0
    lease_until: float = 0.0
    acquired_at: float = 0.0
    acquired: dt.datetime | None = None
    """``acquired_at`` by the database's clock."""
    recorded_at: float = float("-inf")
    redelivered_at: float = float("-inf")
    polled_to: dt.datetime | None = None


class TrackerPoller(PeriodicService):
    """Polls each destination when it is due. One replica has the lease of a destination; the others wait for its end."""

    name: ClassVar[str] = "tracker-poller"

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        updates: TrackerUpdates,
        *,
        signals: Signals | None = None,
    ) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._database = database
        self._reloader = reloader
        self._updates = updates
        self._signals = signals or Signals()
        self._states: dict[int, PollState] = {}
        self._polls = KeyedTasks()

    async def started(self) -> None:
        """Start the first polls at once."""
        await self.run_once()

    async def run_once(self) -> None:
        """Start the polls that are due; at most one runs for each destination."""
        now = asyncio.get_running_loop().time()
        for destination in list(self._reloader.current.destinations.values()):
            if (
                destination.tracker is None
                or not destination.capabilities.list_changes
                or destination.id in self._polls
            ):
                continue
            state = self.state_of(destination)
            if state.due > now:
                continue
            state.due = now + destination.capabilities.poll_seconds
            self._polls.start(destination.id, self.poll(destination, state), name=f"poll {destination.slug}")

    async def stopped(self) -> None:
        """Cancel the running polls and release the leases."""
        await self._polls.cancel()
        now = asyncio.get_running_loop().time()
        leased = [destination_id for destination_id, state in self._states.items() if state.lease_until > now]
        await store.release_polls(self._database, leased)

    def state_of(self, destination: LiveDestination) -> PollState:
        """Return the state of polling a destination."""
        return self._states.setdefault(destination.id, PollState())

    async def poll(self, destination: LiveDestination, state: PollState) -> None:
        """Poll one destination if this replica has or gets the lease. Failures are recorded, not raised."""
        try:
            await fetch_account(destination)
            asked_at = await self._acquire(destination, state)
            if asked_at is None:
                return
            since = (state.polled_to or asked_at - dt.timedelta(hours=1)) - OVERLAP
            changed = await self.apply_changes(destination, since, asked_at)
            state.polled_to = asked_at
            await self._record(destination, state, asked_at, changed=changed)
            await self._redeliver_webhooks(destination, state, min(since, asked_at - 2 * OVERLAP))
        except DatabaseUnavailable:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code
            state.recorded_at = float("-inf")  # the next success is recorded, which clears the failure
            failure = destinations.Failure.from_error(error)
            failure = msgspec.structs.replace(failure, message=f"asking for changes: {failure.message}")
            log.warning("poll failed", destination=destination.slug, error=str(failure))
            with contextlib.suppress(DatabaseUnavailable):
                await destinations.record_failure(self._database, destination.id, failure, origin="poll")

    async def _acquire(self, destination: LiveDestination, state: PollState) -> dt.datetime | None:
        """Return the database's time if this replica has or gets the lease, None while another replica has it."""
        clock = asyncio.get_running_loop().time
        before = clock()
        if state.lease_until > before and state.acquired is not None:
            return state.acquired + dt.timedelta(seconds=before - state.acquired_at)
        lease_seconds = max(destination.capabilities.poll_seconds * 0.9, MIN_LEASE_SECONDS)
        poll = await store.acquire_poll(self._database, destination.id, lease_seconds)
        if poll.asked_at is None:
            # its holder renews it unless it died; asking before that can show is of no use
            state.due = clock() + poll.wait_seconds + MIN_LEASE_SECONDS
            return None
        state.lease_until, state.acquired_at, state.acquired = before + lease_seconds, clock(), poll.asked_at
        state.polled_to = poll.polled_to
        return poll.asked_at

    async def _record(
        self, destination: LiveDestination, state: PollState, asked_at: dt.datetime, *, changed: int
    ) -> None:
        clock = asyncio.get_running_loop().time
        if changed or clock() - state.recorded_at >= RECORD_SECONDS:
            await store.record_poll(self._database, destination.id, asked_at)
            state.recorded_at = clock()

    async def _redeliver_webhooks(
        self, destination: LiveDestination, state: PollState, since: dt.datetime
    ) -> None:
        """Let the tracker send failed webhooks again, where it does not by itself: polls do not show deletions."""
        tracker = destination.require_tracker()
        clock = asyncio.get_running_loop().time
        is_capable = tracker.capabilities.redeliver_webhooks and tracker.capabilities.webhooks
        if not (is_capable and destination.webhook_url and destination.webhook_secrets):
            return
        if clock() - state.redelivered_at < REDELIVERY_SECONDS * 0.9:
            return
        state.redelivered_at = clock()
        try:
            async with asyncio.timeout(max(60.0, tracker.capabilities.request_timeout_seconds * 4)):
                count = await tracker.redeliver_webhooks(destination.webhook_url, since)
        except (PluginError, TimeoutError) as error:
            log.warning(
                "redelivery of failed webhooks failed",
                destination=destination.slug,
                error=f"{type(error).__name__}: {scrub(str(error))}",
            )
            return
        if count:
            log.info("failed webhooks are sent again", destination=destination.slug, count=count)

    async def apply_changes(
        self, destination: LiveDestination, since: dt.datetime, asked_at: dt.datetime
    ) -> int:
        """List the changes since a time and apply them. Return how many tickets changed.

        ``asked_at`` is the current time by the database's clock.
        """
        tracker = destination.require_tracker()
        async with asyncio.timeout(LIST_TIMEOUT_SECONDS):
            listed = await tracker.list_changes(since)
        events = [validated(event, IssueState, IssueRemoved) for event in listed]
        changed = 0
        for result in await self._updates.apply_all(destination, events, asked_at=asked_at):
            if result.changed:
                changed += 1
                self._signals.emit(DriftDetected(destination.slug))
                log.info(
                    "found by polling",
                    destination=destination.slug,
                    ticket=str(result.ticket_id),
                    note=result.note,
                )
        if changed:
            self._signals.emit(WorkAvailable())
        return changed
