"""The web application: which address leads to which handler."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from pointsman.web import health, intake_api, openapi, previews_api, tickets_api, webhooks_api
from pointsman.web.middleware import around
from pointsman.web.services import CONTEXT, Context


def routes() -> list[web.RouteDef]:
    """Every route but the console's."""
    return [
        web.post("/intake/{source}/{token}", intake_api.post),
        web.post("/intake/{source}", intake_api.post),
        web.post("/api/v1/tickets", tickets_api.create),
        web.get("/api/v1/tickets", tickets_api.page),
        web.get("/api/v1/tickets/{ticket}", tickets_api.get),
        web.post("/api/v1/tickets/{ticket}/comments", tickets_api.comment),
        web.post("/api/v1/tickets/{ticket}/close", tickets_api.close),
        web.post("/api/v1/tickets/{ticket}/reopen", tickets_api.reopen),
        web.post("/api/v1/previews", previews_api.create),
        web.post("/webhooks/{tracker}/{slug}", webhooks_api.post),
        web.get("/api/v1/openapi.json", openapi.get),
        web.get("/health/live", health.live),
        web.get("/health/ready", health.ready),
        web.get("/metrics", health.metrics),
    ]


def slashed() -> list[web.RouteDef]:
    """The intake once more with a slash at the end, as people paste it."""
    return [web.post(f"{one.path}/", intake_api.post) for one in routes() if one.path.startswith("/intake/")]


def application(ctx: Context, more: Sequence[web.AbstractRouteDef] = ()) -> web.Application:
    """The application over the running parts; ``more`` are the console's routes."""
    app = web.Application(middlewares=[around], client_max_size=ctx.settings.webhook_max_bytes)
    app[CONTEXT] = ctx
    app.add_routes([*routes(), *slashed(), *more])
    return app
