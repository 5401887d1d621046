"""Health for probes, metrics for Prometheus."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pointsman.storage import metrics as stored
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.web.intake_api import answer
from pointsman.web.services import Context, context


async def live(_: web.Request) -> web.Response:
    """The process answers. Nothing else is asked: a database that is away is no reason to restart us."""
    return answer(200, {"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """Whether requests should come here: the database answers and we are not on our way out."""
    ctx = context(request)
    why = "shutting down" if ctx.draining else ""
    if not why:
        # those who ask at the same time share one question
        asked = ctx.asked
        if asked is None or asked.done():
            asked = ctx.asked = asyncio.create_task(_database_answers(ctx), name="readiness")
        why = await asyncio.shield(asked)
    if why:
        return answer(503, {"status": "not ready", "why": why}, {"Retry-After": "5"})
    return answer(200, {"status": "ready", "bus": ctx.stalled() or "working"})


async def _database_answers(ctx: Context) -> str:
    """Empty, or why it does not."""
    try:
        async with asyncio.timeout(2):
            await ctx.database.fetchval("select 1")
    except DatabaseUnavailable as error:
        return f"the database does not answer: {error.reason}"
    except TimeoutError:
        return "the database does not answer: TimeoutError"
    return ""


async def metrics(request: web.Request) -> web.Response:
    """The metrics page."""
    ctx = context(request)
    page = await ctx.metrics.render(stored.pool_usage(ctx.database), lambda: stored.read(ctx.database))
    return web.Response(body=page, headers={"Content-Type": ctx.metrics.content_type})
