"""What request handlers work with, stored in the application under one typed key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from pointsman.bus.signals import Signals
from pointsman.bus.worker import Worker
from pointsman.config.settings import Settings
from pointsman.intake.batcher import IntakeBatcher
from pointsman.intake.preparation import ReportPreparer
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage.db import Database
from pointsman.sync.tracker_updates import TrackerUpdates
from pointsman.sync.webhook_receiver import WebhookReceiver
from pointsman.web.admission import AdmissionControl, ReadOnlyPool
from pointsman.web.connection_manager import ConnectionManager
from pointsman.web.metrics import Metrics
from pointsman.web.refusals import Refusals
from pointsman.web.timeouts import HttpTimeouts


@dataclass(slots=True, kw_only=True)
class Services:
    """The running parts that request handlers use; built by the composition root."""

    settings: Settings
    base_url: str
    database: Database
    read_pool: ReadOnlyPool
    """The database, for queries of the API and the console."""
    config: ConfigReloader
    registry: Registry
    preparer: ReportPreparer
    intake: IntakeBatcher
    tracker_updates: TrackerUpdates
    webhook_receiver: WebhookReceiver
    admission: AdmissionControl
    connections: ConnectionManager
    timeouts: HttpTimeouts
    metrics: Metrics
    signals: Signals
    worker: Worker
    refusals: Refusals
    draining: bool = False
    """Whether this replica is shutting down."""
    readiness_check: asyncio.Task[str] | None = None
    """The running readiness check, which concurrent probes share."""

    @classmethod
    def create(
        cls,
        settings: Settings,
        database: Database,
        registry: Registry,
        config: ConfigReloader,
        intake: IntakeBatcher,
        tracker_updates: TrackerUpdates,
        webhook_receiver: WebhookReceiver,
        metrics: Metrics,
        *,
        signals: Signals,
        worker: Worker,
        timeouts: HttpTimeouts,
    ) -> Services:
        """Create the services with their admission control and connection manager."""
        admission = AdmissionControl(
            settings.max_connections,
            pool_size=database.pool.get_max_size(),
            webhook_max_bytes=settings.webhook_max_bytes,
            intake_max_bytes=settings.intake_max_bytes,
            max_per_address=settings.max_connections_per_address,
        )
        connections = ConnectionManager(
            max_connections=settings.max_connections,
            max_per_address=settings.max_connections_per_address,
            trusted=settings.trusted_proxies,
            timeouts=timeouts,
            overloaded=lambda: admission.reports.full or intake.full,
            on_rejected=lambda reason: metrics.rejected_connections.labels(reason).inc(),
        )
        metrics.connections.set_function(lambda: len(connections))
        return cls(
            settings=settings,
            base_url=settings.base_url,
            database=database,
            read_pool=ReadOnlyPool(database, admission.queries),
            config=config,
            registry=registry,
            preparer=ReportPreparer(config),
            intake=intake,
            tracker_updates=tracker_updates,
            webhook_receiver=webhook_receiver,
            admission=admission,
            connections=connections,
            timeouts=timeouts,
            metrics=metrics,
            signals=signals,
            worker=worker,
            refusals=Refusals(),
        )


SERVICES = web.AppKey("services", Services)


def services_of(request: web.Request) -> Services:
    """Return the services of the application that handles a request."""
    return request.app[SERVICES]
