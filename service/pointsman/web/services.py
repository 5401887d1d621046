"""What handlers work with, under one typed key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from pointsman.config.settings import Settings
from pointsman.intake.batcher import IntakeBatcher
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage.db import Database
from pointsman.sync.tracker_updates import TrackerUpdates
from pointsman.web.admission import Doors, Reads
from pointsman.web.connection_manager import Connections
from pointsman.web.metrics import Metrics
from pointsman.web.timeouts import Patience


@dataclass(slots=True)
class Context:
    """The running parts, as the web sees them."""

    settings: Settings
    base_url: str
    database: Database
    catalog: ConfigReloader
    registry: Registry
    acceptance: IntakeBatcher
    inbound: TrackerUpdates
    metrics: Metrics
    wake: Callable[[], None]
    stalled: Callable[[], str]
    patience: Patience = field(default_factory=Patience)
    draining: bool = False
    asked: asyncio.Task[str] | None = None
    """The question to the database that a readiness probe waits for."""
    doors: Doors = field(init=False)
    reads: Reads = field(init=False)
    """The database, for questions of the API and the console."""
    connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.doors = doors = Doors(
            settings.max_connections,
            pool=self.database.pool.get_max_size(),
            webhook_bytes=settings.webhook_max_bytes,
            per_address=settings.max_connections_per_address,
        )
        self.reads = Reads(self.database, doors.reads)
        self.connections = Connections(
            most=settings.max_connections,
            most_per_address=settings.max_connections_per_address,
            trusted=settings.trusted_proxies,
            patience=self.patience,
            overloaded=lambda: doors.reports.full or self.acceptance.full,
            turned_away=lambda why: self.metrics.rejected_connections.labels(why).inc(),
        )
        self.metrics.connections.set_function(lambda: len(self.connections))


CONTEXT = web.AppKey("context", Context)


def context(request: web.Request) -> Context:
    """The parts behind a request."""
    return request.app[CONTEXT]
