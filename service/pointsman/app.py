"""The composition root: settings in, a running application out. The only file that knows all rooms."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from pointsman import console
from pointsman.bus.worker import Bus
from pointsman.config import diff
from pointsman.config import file as config_file
from pointsman.config.settings import Settings
from pointsman.delivery.draft import Drafts
from pointsman.delivery.email_sender import Notification
from pointsman.delivery.enrichment import Enrich
from pointsman.delivery.rate_limiter import Budgets
from pointsman.delivery.tracker_sender import Outbound
from pointsman.errors import ConfigError, DatabaseError
from pointsman.intake.batcher import Acceptance
from pointsman.logs import logger
from pointsman.operations.housekeeping import House
from pointsman.plugin_host import snapshot as catalogs
from pointsman.plugin_host.bootstrap import make_vault, open_catalog, process_defaults
from pointsman.plugin_host.loop_watchdog import Watchdog
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import MAIL, TRACKER, CatalogKeeper
from pointsman.storage import config as config_rows
from pointsman.storage import destinations, migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor
from pointsman.storage.notifications import Listener
from pointsman.storage.queue import Lane, Lanes
from pointsman.sync.duplicate_repair import Sweep
from pointsman.sync.source_backfill import Pull
from pointsman.sync.source_feedback import Links
from pointsman.sync.tracker_poller import Reconcile
from pointsman.sync.tracker_updates import Inbound
from pointsman.web.metrics import Metrics
from pointsman.web.routes import application
from pointsman.web.server import files_for, listening
from pointsman.web.services import Context
from pointsman.web.timeouts import Patience

log = logger("app")

ENDPOINT_PROPAGATION_SECONDS = 5.0
GARBAGE_OBJECTS = 20_000
"""So many new objects are made before garbage is looked for."""


class Running(msgspec.Struct):
    """A running replica."""

    context: Context
    url: str
    bus: Bus


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database of the settings, or the embedded one."""
    if settings.database_url:
        async with _pool(settings) as database:
            yield database
        return
    async with supervisor.serve(settings.data_dir) as server, Database.open(server.dsn) as database:
        if not server.owned:
            log.info("joined a running embedded Postgres", holder=server.holder)
        yield database


def _pool(settings: Settings, *, size: int = 10) -> contextlib.AbstractAsyncContextManager[Database]:
    """Connections to the database of the settings, through a pooler or not."""
    return Database.open(
        settings.database_url.reveal(),
        size=size,
        pooled=settings.pooler == "transaction",
        listen_dsn=settings.listen_dsn.reveal(),
    )


async def plan_file(database: Database, settings: Settings, registry: Registry, file: Path) -> diff.Plan:
    """What applying a file would change. Raises ConfigError."""
    desired = _read_file(settings, registry, file)
    async with database.transaction() as con:
        rows = await config_rows.load(con)
    return diff.plan(desired, rows.sources, rows.destinations, rows.routes)


async def apply_file(database: Database, settings: Settings, registry: Registry, file: Path) -> diff.Plan:
    """Make the configuration equal to a file, in one transaction. Raises ConfigError, and then nothing changed."""
    desired = _read_file(settings, registry, file)
    async with database.transaction() as con:
        await config_rows.lock(con)
        rows = await config_rows.load(con)
        plan = diff.plan(desired, rows.sources, rows.destinations, rows.routes)
        if plan.changes:
            await config_rows.write(
                con,
                sources=plan.sources,
                destinations=plan.destinations,
                routes=plan.routes,
                retired_sources=plan.retired_sources,
                retired_destinations=plan.retired_destinations,
                audit={"file": str(file), "changes": [str(change) for change in plan.changes]},
            )
    return plan


def _read_file(settings: Settings, registry: Registry, file: Path) -> config_file.Desired:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from None
    kinds = catalogs.kinds(registry, process_defaults(settings))
    return config_file.read(text, file.name, kinds, make_vault(settings))


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    database: Database,
    registry: Registry,
    *,
    sock: socket.socket | None = None,
    lease_seconds: float = 60.0,
    drain_seconds: float = 25.0,
    patience: Patience | None = None,
) -> AsyncIterator[Running]:
    """One replica, from its configuration to its open port; at the end everything is closed in reverse."""
    await migrate.require(database)
    if settings.config is not None:
        await _apply_at_start(settings, database, registry, settings.config)
    if sock is None and settings.port == 0:
        # links in issues name the port, so it must be known before anything is sent
        sock = socket.create_server((settings.host, 0))
        settings = msgspec.structs.replace(settings, port=sock.getsockname()[1])
    async with contextlib.AsyncExitStack() as stack:
        holder = uuid.uuid4()
        keeper = await _keeper(settings, database, registry)
        stack.push_async_callback(keeper.close)
        metrics = Metrics()
        inbound = Inbound(database, keeper)
        lanes = Lanes(database, holder, lease_seconds=lease_seconds)
        listener = Listener(database)

        def work_is_there() -> None:
            bus.wake()
            listener.tell()

        enrich = Enrich(database, keeper, on_promise=work_is_there)
        links = Links(database, lambda: keeper.current, on_promise=work_is_there)
        bus = _bus(settings, database, keeper, lanes, inbound, metrics, enrich, links)
        listener.on_wake = bus.wake
        acceptance = Acceptance(database, keeper, on_commit=work_is_there)
        acceptance.observe = metrics.batch.observe
        acceptance.on_storm = lambda source: metrics.storms.labels(source).inc()
        metrics.waiting.set_function(lambda: len(acceptance._waiting))  # noqa: SLF001 - a number for operators
        reconcile = Reconcile(
            database,
            keeper,
            inbound,
            on_change=work_is_there,
            on_drift=lambda slug: metrics.drift.labels(slug).inc(),
        )
        house = House(
            database,
            keeper,
            holder,
            on_alarm=lambda what, value: metrics.house_alarms.labels(what).set(value),
        )
        sweep = Sweep(database, keeper, holder, on_double=metrics.double)
        pull = Pull(
            database, keeper, acceptance, on_found=lambda slug: metrics.reports.labels(slug, "found").inc()
        )
        ctx = Context(
            settings=msgspec.structs.replace(settings, max_connections=files_for(settings.max_connections)),
            base_url=settings.base_url,
            database=database,
            catalog=keeper,
            registry=registry,
            acceptance=acceptance,
            inbound=inbound,
            metrics=metrics,
            wake=work_is_there,
            stalled=lambda: bus.stalled,
            patience=patience or Patience(),
        )
        await stack.enter_async_context(_watchdog(database, registry, keeper, metrics).running())
        await stack.enter_async_context(listener.running())
        await stack.enter_async_context(house.running())
        await stack.enter_async_context(bus.running(drain_seconds=drain_seconds))
        await stack.enter_async_context(reconcile.running())
        await stack.enter_async_context(sweep.running())
        await stack.enter_async_context(acceptance.running())
        await stack.enter_async_context(enrich.running())
        await stack.enter_async_context(links.running())
        await stack.enter_async_context(pull.running())
        url = await stack.enter_async_context(
            listening(
                application(ctx, console.routes()), ctx.connections, settings.host, settings.port, sock=sock
            )
        )
        ctx.base_url = settings.public_url or url
        log.info("ready", url=url, version=keeper.current.version)
        yield Running(ctx, url, bus)
        ctx.draining = True


async def _apply_at_start(settings: Settings, database: Database, registry: Registry, file: Path) -> None:
    applied = await apply_file(database, settings, registry, file)
    for warning in applied.warnings:
        log.warning("configuration", warning=warning)
    for change in applied.changes:
        log.info("configuration changed", change=str(change))


async def _keeper(settings: Settings, database: Database, registry: Registry) -> CatalogKeeper:
    """The configuration, loaded."""
    if settings.smtp is None:
        log.warning("no mail server is set, so owners of tickets are not told: POINTSMAN_SMTP_URL")
    keeper = open_catalog(settings, database, registry)
    await keeper.refresh()
    return keeper


def _bus(
    settings: Settings,
    database: Database,
    keeper: CatalogKeeper,
    lanes: Lanes,
    inbound: Inbound,
    metrics: Metrics,
    enrich: Enrich,
    links: Links,
) -> Bus:
    """The bus with its two carriers: to trackers, and to people."""
    drafts = Drafts(database, keeper, settings.base_url, enrich, on_masked=metrics.mask)
    outbound = Outbound(
        database,
        lanes,
        keeper,
        drafts,
        stopping=lambda: bus.stopping,
        budgets=Budgets(database),
        on_linked=inbound.linked,
        on_made=links.poke,
        on_attempt=metrics.attempt,
    )
    notification = Notification(
        database,
        lanes,
        settings.smtp,
        settings.mail_from,
        drafts,
        on_attempt=metrics.attempt,
    )

    async def carry(lane: Lane) -> None:
        destination = keeper.current.destinations.get(lane.destination_id)
        if destination is not None and destination.kind == MAIL:
            await notification.carry(lane)
        else:
            await outbound.carry(lane)

    bus = Bus(lanes, carry, keep_every_seconds=lanes.lease_seconds / 4)
    metrics.lanes.set_function(lambda: bus.held)
    return bus


def _watchdog(database: Database, registry: Registry, keeper: CatalogKeeper, metrics: Metrics) -> Watchdog:
    """Names the plugin that blocks everybody, and in the end pauses its destinations."""

    async def too_many(kind: str) -> None:
        for one in keeper.current.destinations.values():
            if one.tracker_kind == kind and one.kind == TRACKER:
                log.error(
                    "destination paused: its plugin blocks everybody", destination=one.slug, tracker=kind
                )
                await destinations.set_pause(database, one.slug, "its plugin blocks the event loop")

    return Watchdog(
        registry.modules(),
        on_stall=lambda kind: metrics.stalls.labels(kind or "core").inc(),
        on_too_many=too_many,
        on_lag=metrics.loop_lag.observe,
    )


async def wait_for_database(settings: Settings, *, patience_seconds: float = 60.0) -> None:
    """Wait until the configured Postgres answers; pods often start before it does."""
    if not settings.database_url:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + patience_seconds
    while True:
        try:
            async with _pool(settings, size=1):
                return
        except DatabaseError as error:
            if loop.time() > end:
                raise
            log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(1.0)


def _seldom_collect() -> None:
    """Look for garbage less often. Nearly nothing of ours lies in cycles, so nearly every look is in vain, and Python's
    700 objects are made by a handful of reports: a fifth of all time went into it. What was loaded stays for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until told to stop. On an embedded Postgres the schema is kept up to date by itself."""
    await wait_for_database(settings)
    registry = Registry.load(allow=settings.plugins)
    for plugin in registry.standing:
        if plugin.refused:
            log.error("plugin refused", plugin=plugin.name, origin=plugin.origin, why=plugin.refused)
    async with contextlib.AsyncExitStack() as stack:
        server: supervisor.EmbeddedServer | None = None
        if not settings.database_url:
            server = await stack.enter_async_context(supervisor.serve(settings.data_dir))
            who = "embedded Postgres runs" if server.owned else "joined a running embedded Postgres"
            log.info(who, version=server.version, data=str(settings.data_dir), holder=server.holder)
        database = await stack.enter_async_context(
            Database.open(server.dsn) if server is not None else _pool(settings)
        )
        if server is not None:
            await migrate.migrate(database)
        replica = await stack.enter_async_context(running(settings, database, registry))
        _seldom_collect()
        await _until_stopped(stop, server)
        log.info("stopping")
        replica.context.draining = True
        if settings.database_url:
            # let load balancers notice before the port closes
            await asyncio.sleep(ENDPOINT_PROPAGATION_SECONDS)
    log.info("stopped")


async def _until_stopped(stop: asyncio.Event, server: supervisor.EmbeddedServer | None) -> None:
    """Wait for the word to stop, or for an embedded server that can't be kept running."""
    waits = [asyncio.create_task(stop.wait())]
    if server is not None:
        waits.append(asyncio.create_task(server.failed.wait()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    if server is not None and server.failure is not None:
        raise server.failure
