"""Composition root: settings in, a running application out. The only module that knows all packages."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from pointsman import console
from pointsman.bus.periodic import BackgroundService
from pointsman.bus.signals import (
    EventLoopLagMeasured,
    EventLoopStalled,
    IssueLinked,
    Signals,
    WorkAvailable,
)
from pointsman.bus.worker import Handlers, Worker
from pointsman.config.settings import Settings
from pointsman.delivery.draft import DraftRenderer
from pointsman.delivery.email_sender import EmailSender
from pointsman.delivery.enrichment import Enricher
from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.delivery.tracker_sender import TrackerSender
from pointsman.domain.states import DestinationKind
from pointsman.intake.batcher import IntakeBatcher
from pointsman.logs import logger
from pointsman.operations.apply import apply_at_start
from pointsman.operations.blocking_plugins import pause_destinations
from pointsman.operations.housekeeping import Housekeeper
from pointsman.plugin_host.bootstrap import build_reloader
from pointsman.plugin_host.loop_watchdog import LoopWatchdog
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import destinations, migrate
from pointsman.storage.connect import serve_database, wait_for_database
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor
from pointsman.storage.notifications import Listener
from pointsman.storage.queue import Lanes
from pointsman.sync.duplicate_repair import DuplicateRepair
from pointsman.sync.early_webhooks import EarlyWebhooks
from pointsman.sync.source_backfill import SourceBackfill
from pointsman.sync.source_feedback import SourceFeedback
from pointsman.sync.tracker_poller import TrackerPoller
from pointsman.sync.tracker_updates import TrackerUpdates
from pointsman.sync.webhook_receiver import WebhookReceiver
from pointsman.web.metrics import Metrics
from pointsman.web.routes import application
from pointsman.web.server import connection_limit, listening
from pointsman.web.services import Services
from pointsman.web.timeouts import HttpTimeouts

log = logger("app")

ENDPOINT_PROPAGATION_SECONDS = 5.0
GARBAGE_THRESHOLD = 20_000
"""Number of new objects after which Python looks for cycles."""


class Running(msgspec.Struct):
    """A running replica."""

    services: Services
    url: str
    worker: Worker


@dataclass(slots=True)
class Parts:
    """The parts of one replica, wired and not started."""

    services: Services
    worker: Worker
    background: Sequence[BackgroundService]
    """In the order in which they start; they stop in the reverse order."""


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    database: Database,
    registry: Registry,
    *,
    sock: socket.socket | None = None,
    lease_seconds: float = 60.0,
    drain_seconds: float = 25.0,
    timeouts: HttpTimeouts | None = None,
) -> AsyncIterator[Running]:
    """Run one replica, from its configuration to its open port. At the end everything is closed in reverse."""
    await migrate.require(database)
    if settings.config is not None:
        await apply_at_start(settings, database, registry, settings.config)
    if sock is None and settings.port == 0:
        # links in issues name the port, so it must be known before anything is sent
        sock = socket.create_server((settings.host, 0))
        settings = msgspec.structs.replace(settings, port=sock.getsockname()[1])
    async with contextlib.AsyncExitStack() as stack:
        reloader = await _load_configuration(settings, database, registry)
        stack.push_async_callback(reloader.close)
        lanes = Lanes(
            database,
            uuid.uuid4(),
            lease_seconds=lease_seconds,
            claimable=lambda: reloader.current.claimable_destinations(),  # noqa: PLW0108 - the snapshot changes
        )
        parts = compose(
            settings, database, registry, reloader, lanes, drain_seconds=drain_seconds, timeouts=timeouts
        )
        for service in parts.background:
            await stack.enter_async_context(service.running())
        services = parts.services
        url = await stack.enter_async_context(
            listening(
                application(services, console.routes()),
                services.connections,
                settings.host,
                settings.port,
                sock=sock,
            )
        )
        services.base_url = settings.public_url or url
        log.info("ready", url=url, version=reloader.current.version)
        yield Running(services, url, parts.worker)
        services.draining = True


def compose(
    settings: Settings,
    database: Database,
    registry: Registry,
    reloader: ConfigReloader,
    lanes: Lanes,
    *,
    drain_seconds: float,
    timeouts: HttpTimeouts | None = None,
) -> Parts:
    """Create the parts of a replica and connect them."""
    signals = Signals()
    metrics = Metrics()
    updates = TrackerUpdates(database, reloader)
    receiver = WebhookReceiver(database, reloader, updates)
    batcher = IntakeBatcher(database, reloader, signals=signals)
    enrichment = Enricher(database, reloader, signals=signals)
    feedback = SourceFeedback(database, lambda: reloader.current, signals=signals)
    early_webhooks = EarlyWebhooks(database, receiver, signals=signals)
    worker = _worker(settings, database, reloader, lanes, signals, enrichment, drain_seconds=drain_seconds)
    listener = Listener(database)
    listener.on_wake = worker.wake

    signals.subscribe(WorkAvailable, lambda _: worker.wake())
    signals.subscribe(WorkAvailable, lambda _: listener.notify())
    signals.subscribe(IssueLinked, lambda _: feedback.wake())
    signals.subscribe(IssueLinked, early_webhooks.issue_linked)
    metrics.subscribe(signals)
    metrics.intake_queue_length.set_function(lambda: batcher.queue_length)
    metrics.lanes_claimed.set_function(lambda: worker.claimed_lanes)

    settings = msgspec.structs.replace(settings, max_connections=connection_limit(settings.max_connections))
    services = Services.create(
        settings,
        database,
        registry,
        reloader,
        batcher,
        updates,
        receiver,
        metrics,
        signals=signals,
        worker=worker,
        timeouts=timeouts or HttpTimeouts(),
    )
    return Parts(
        services,
        worker,
        [
            _watchdog(database, registry, reloader, signals),
            listener,
            Housekeeper(database, reloader, lanes.holder, signals=signals),
            worker,
            early_webhooks,
            TrackerPoller(database, reloader, updates, signals=signals),
            DuplicateRepair(database, reloader, lanes.holder, signals=signals),
            batcher,
            enrichment,
            feedback,
            SourceBackfill(database, reloader, services.preparer, batcher, signals=signals),
        ],
    )


def _worker(
    settings: Settings,
    database: Database,
    reloader: ConfigReloader,
    lanes: Lanes,
    signals: Signals,
    enrichment: Enricher,
    *,
    drain_seconds: float,
) -> Worker:
    """Create the worker and register the handlers of each kind of destination."""

    def kind_of(destination_id: int) -> int | None:
        destination = reloader.current.destinations.get(destination_id)
        return destination.kind if destination is not None else None

    handlers = Handlers(kind_of)
    worker = Worker(lanes, handlers, renew_every_seconds=lanes.lease_seconds / 4, drain_seconds=drain_seconds)
    drafts = DraftRenderer(database, reloader, settings.base_url, enrichment, signals=signals)
    tracker_sender = TrackerSender(
        database,
        lanes,
        reloader,
        drafts,
        rate_limiter=RateLimiter(database),
        signals=signals,
        stopping=worker.stopping,
    )
    email_sender = EmailSender(database, lanes, settings.smtp, settings.mail_from, drafts, signals=signals)
    handlers.register(DestinationKind.TRACKER, tracker_sender.handle)
    handlers.register(DestinationKind.SOURCE, tracker_sender.handle)
    handlers.register(DestinationKind.MAIL, email_sender.handle)
    return worker


def _watchdog(
    database: Database, registry: Registry, reloader: ConfigReloader, signals: Signals
) -> LoopWatchdog:
    return LoopWatchdog(
        registry.modules(),
        on_stall=lambda plugin: signals.emit(EventLoopStalled(plugin or "core")),
        on_repeated_stalls=partial(pause_destinations, database, reloader),
        on_lag=lambda seconds: signals.emit(EventLoopLagMeasured(seconds)),
    )


async def _load_configuration(settings: Settings, database: Database, registry: Registry) -> ConfigReloader:
    if settings.smtp is None:
        log.warning("no mail server is set: reporters are not notified; set POINTSMAN_SMTP_URL")
    reloader = build_reloader(settings, database, registry)
    await reloader.refresh()
    # a secret that the configuration refers to may be another one than before the start
    await destinations.retry_after_restart(database)
    return reloader


def _tune_garbage_collection() -> None:
    """Look for garbage less often, and never among what was loaded at start.

    Nearly nothing of ours lies in cycles, and a handful of reports creates the 700 objects of Python's default: a fifth
    of all time went into looking.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until ``stop`` is set. The schema of an embedded Postgres is migrated at start."""
    await wait_for_database(settings)
    registry = Registry.load(allow=settings.plugins)
    for plugin in registry.statuses:
        if plugin.refused:
            log.error("plugin refused", plugin=plugin.name, origin=plugin.origin, reason=plugin.refused)
    async with (
        serve_database(settings) as (database, server),
        running(settings, database, registry) as replica,
    ):
        _tune_garbage_collection()
        await _until_stopped(stop, server)
        log.info("stopping")
        replica.services.draining = True
        if settings.database_url:
            # let load balancers notice before the port closes
            await asyncio.sleep(ENDPOINT_PROPAGATION_SECONDS)
    log.info("stopped")


async def _until_stopped(stop: asyncio.Event, server: supervisor.EmbeddedServer | None) -> None:
    """Wait for ``stop``, or for an embedded server that can't be kept running; raises what made it fail."""
    waits = [asyncio.create_task(stop.wait())]
    if server is not None:
        waits.append(asyncio.create_task(server.failed.wait()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if server is not None and server.failure is not None:
        raise server.failure
