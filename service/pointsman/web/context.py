"""What handlers work with, under one typed key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from pointsman.acceptance import Acceptance
from pointsman.catalog import CatalogKeeper
from pointsman.delivery.inbound import Inbound
from pointsman.plugins import Registry
from pointsman.settings import Settings
from pointsman.storage.db import Database
from pointsman.web.metrics import Metrics


@dataclass(slots=True)
class Context:
    """The running parts, as the web sees them."""

    settings: Settings
    base_url: str
    database: Database
    catalog: CatalogKeeper
    registry: Registry
    acceptance: Acceptance
    inbound: Inbound
    metrics: Metrics
    wake: Callable[[], None]
    stalled: Callable[[], str]
    draining: bool = False


CONTEXT = web.AppKey("context", Context)


def context(request: web.Request) -> Context:
    """The parts behind a request."""
    return request.app[CONTEXT]
