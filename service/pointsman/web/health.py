"""Health for probes, metrics for Prometheus."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pointsman.storage import lanes
from pointsman.storage.db import LOST
from pointsman.web.context import context
from pointsman.web.intake import answer


async def live(_: web.Request) -> web.Response:
    """The process answers. Nothing else is asked: a database that is away is no reason to restart us."""
    return answer(200, {"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """Whether requests should come here: the database answers and we are not on our way out."""
    ctx = context(request)
    why = "shutting down" if ctx.draining else ""
    if not why:
        try:
            async with asyncio.timeout(2):
                await ctx.database.fetchval("select 1")
        except (TimeoutError, *LOST) as error:
            why = f"the database does not answer: {type(error).__name__}"
    if why:
        return answer(503, {"status": "not ready", "why": why}, {"Retry-After": "5"})
    return answer(200, {"status": "ready", "bus": ctx.stalled() or "working"})


async def metrics(request: web.Request) -> web.Response:
    """The metrics page."""
    ctx = context(request)
    page = await ctx.metrics.page(lambda: lanes.undelivered(ctx.database))
    return web.Response(body=page, headers={"Content-Type": ctx.metrics.content_type})
