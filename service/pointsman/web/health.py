"""Health checks for probes, and the metrics page for Prometheus."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from pointsman.storage import metrics as stored
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.web.responses import json_response
from pointsman.web.services import Services, services_of

READINESS_TIMEOUT_SECONDS = 2.0


class LiveBody(msgspec.Struct):
    """The process answers."""

    status: str


class ReadyBody(msgspec.Struct, omit_defaults=True):
    """Whether this replica takes requests; ``reason`` says why not."""

    status: str
    worker: str = ""
    """`working`, or why no deliveries are claimed."""
    reason: str = ""


async def live(_: web.Request) -> web.Response:
    """Report that the process answers. The database is not asked: a restart would not bring it back."""
    return json_response(200, LiveBody("live"))


async def ready(request: web.Request) -> web.Response:
    """Report whether the database answers and no shutdown has begun."""
    services = services_of(request)
    reason = "shutting down" if services.draining else ""
    if not reason:
        check = services.readiness_check
        if check is None or check.done():
            check = asyncio.create_task(_check_database(services), name="readiness")
            services.readiness_check = check
        reason = await asyncio.shield(check)
    if reason:
        return json_response(503, ReadyBody("not ready", reason=reason), {"Retry-After": "5"})
    return json_response(200, ReadyBody("ready", worker=services.worker.stalled or "working"))


async def _check_database(services: Services) -> str:
    """Return why the database can't be used, empty if it can."""
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_SECONDS):
            await services.database.fetchval("select 1")
    except DatabaseUnavailable as error:
        return f"the database does not answer: {error.reason}"
    except TimeoutError:
        return "the database does not answer: TimeoutError"
    return ""


async def metrics(request: web.Request) -> web.Response:
    """Return the metrics page."""
    services = services_of(request)
    page = await services.metrics.render(
        stored.pool_usage(services.database), lambda: stored.read(services.database)
    )
    return web.Response(body=page, headers={"Content-Type": services.metrics.content_type})
