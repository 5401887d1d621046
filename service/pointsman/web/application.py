"""The web application: which address leads to which handler."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from pointsman.web import health, intake, openapi, previews, tickets, webhooks
from pointsman.web.context import CONTEXT, Context
from pointsman.web.middleware import around


def routes() -> list[web.RouteDef]:
    """Every route but the console's."""
    return [
        web.post("/intake/{source}/{token}", intake.post),
        web.post("/intake/{source}", intake.post),
        web.post("/api/v1/tickets", tickets.create),
        web.get("/api/v1/tickets", tickets.page),
        web.get("/api/v1/tickets/{ticket}", tickets.get),
        web.post("/api/v1/tickets/{ticket}/comments", tickets.comment),
        web.post("/api/v1/tickets/{ticket}/close", tickets.close),
        web.post("/api/v1/tickets/{ticket}/reopen", tickets.reopen),
        web.post("/api/v1/previews", previews.create),
        web.post("/webhooks/{tracker}/{slug}", webhooks.post),
        web.get("/api/v1/openapi.json", openapi.get),
        web.get("/health/live", health.live),
        web.get("/health/ready", health.ready),
        web.get("/metrics", health.metrics),
    ]


def slashed() -> list[web.RouteDef]:
    """The intake once more with a slash at the end, as people paste it."""
    return [web.post(f"{one.path}/", intake.post) for one in routes() if one.path.startswith("/intake/")]


def application(ctx: Context, more: Sequence[web.AbstractRouteDef] = ()) -> web.Application:
    """The application over the running parts; ``more`` are the console's routes."""
    app = web.Application(middlewares=[around], client_max_size=ctx.settings.webhook_max_bytes)
    app[CONTEXT] = ctx
    app.add_routes([*routes(), *slashed(), *more])
    return app
