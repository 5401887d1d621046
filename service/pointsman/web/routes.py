"""The table of all HTTP endpoints, and the web application built from it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec
from aiohttp import web

from pointsman.sources.tickets import CommentBody, TicketBody
from pointsman.web import health, intake_api, openapi, previews_api, tickets_api, webhooks_api
from pointsman.web.admission import RequestClass
from pointsman.web.endpoint import Endpoint, add_routes
from pointsman.web.middleware import request_middleware
from pointsman.web.services import SERVICES, Services

_SERVER_PROBLEMS = ("internal", "unavailable")
_BODY_PROBLEMS = ("bad-request", "timeout", "too-large", "unsupported-type")
_WRITE_PROBLEMS = (*_BODY_PROBLEMS, "invalid-json", "invalid-fields", "key-reused", *_SERVER_PROBLEMS)

_INTAKE = Endpoint(
    method="POST",
    path="/intake/{source}",
    handler=intake_api.post,
    request_class=RequestClass.REPORTS,
    operation_id="acceptReport",
    summary="Accept a report. The response is sent after the report is committed.",
    security=("bearer", "basic"),
    idempotency_key=True,
    body_description="JSON in the form of the source's kind: an alert of Bugsink's kind `custom` for kind `bugsink`, a TicketBody for"
    " kind `tickets`, or the form of another kind. It can contain up to 1,000 reports: all are accepted, or none.",
    response_type=intake_api.AcceptedBody,
    status=202,
    problems=("unauthorized", *_WRITE_PROBLEMS),
)

ENDPOINTS: tuple[Endpoint, ...] = (
    _INTAKE,
    msgspec.structs.replace(
        _INTAKE,
        path="/intake/{source}/{token}",
        operation_id="acceptReportWithTokenInPath",
        summary="Accept a report from a sender that can't set a header: the source's token is part of the address.",
        security=(),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/tickets",
        handler=tickets_api.create,
        request_class=RequestClass.REPORTS,
        operation_id="createTicket",
        summary="Create a support ticket. With the operators' token, `source` selects the source if there are several.",
        security=("bearer",),
        query=("source",),
        idempotency_key=True,
        body_type=TicketBody,
        response_type=tickets_api.CreatedBody,
        status=201,
        problems=("unauthorized", "forbidden", *_WRITE_PROBLEMS),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/tickets",
        handler=tickets_api.page,
        request_class=RequestClass.OTHER,
        operation_id="listTickets",
        summary="List tickets, newest first: those of the token's source, or all for the operators' token. A page with long texts"
        " has fewer tickets than `limit`.",
        security=("bearer",),
        query=("limit", "status", "cursor", "source"),
        response_type=tickets_api.TicketPage,
        problems=("unauthorized", "forbidden", "invalid-fields", *_SERVER_PROBLEMS),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/tickets/{ticket}",
        handler=tickets_api.get,
        request_class=RequestClass.OTHER,
        operation_id="getTicket",
        summary="Return a ticket with its links and a page of its events, oldest first.",
        security=("bearer",),
        query=("events_after",),
        response_type=tickets_api.TicketView,
        problems=("unauthorized", "forbidden", "not-found", "invalid-fields", *_SERVER_PROBLEMS),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/tickets/{ticket}/comments",
        handler=tickets_api.comment,
        request_class=RequestClass.REPORTS,
        operation_id="commentTicket",
        summary="Add a comment to a ticket. Comments reach the issue in the order in which they were accepted.",
        security=("bearer",),
        idempotency_key=True,
        body_type=CommentBody,
        response_type=tickets_api.CommentedBody,
        status=201,
        problems=("unauthorized", "forbidden", "not-found", "conflict", *_WRITE_PROBLEMS),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/tickets/{ticket}/close",
        handler=tickets_api.close,
        request_class=RequestClass.OTHER,
        operation_id="closeTicket",
        summary="Close a ticket and its issues, and notify its reporter. A closed ticket stays unchanged.",
        security=("bearer",),
        body_type=tickets_api.CloseBody,
        body_required=False,
        response_type=tickets_api.TicketView,
        problems=(
            *("unauthorized", "forbidden", "not-found", "invalid-json", "invalid-fields"),
            *_BODY_PROBLEMS,
            *_SERVER_PROBLEMS,
        ),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/tickets/{ticket}/reopen",
        handler=tickets_api.reopen,
        request_class=RequestClass.OTHER,
        operation_id="reopenTicket",
        summary="Reopen a ticket and its issues, and notify its reporter. An open ticket stays unchanged.",
        security=("bearer",),
        response_type=tickets_api.TicketView,
        problems=("unauthorized", "forbidden", "not-found", *_SERVER_PROBLEMS),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/previews",
        handler=previews_api.create,
        request_class=RequestClass.OTHER,
        operation_id="previewReport",
        summary="Preview what a request to a source would send, with the templates in use and the number of redactions. Nothing is"
        " stored or sent. Requires the operators' token.",
        security=("bearer",),
        body_type=previews_api.PreviewBody,
        response_type=previews_api.PreviewsView,
        problems=(
            *("unauthorized", "forbidden", "invalid-json", "invalid-fields"),
            *_BODY_PROBLEMS,
            *_SERVER_PROBLEMS,
        ),
    ),
    Endpoint(
        method="POST",
        path="/webhooks/{tracker}/{slug}",
        handler=webhooks_api.post,
        request_class=RequestClass.WEBHOOKS,
        operation_id="acceptWebhook",
        summary="Accept a webhook of a tracker, signed in the tracker's own way with one of the destination's webhook secrets."
        " The response is 200 whether or not the webhook concerns a ticket.",
        body_description="The bytes as the tracker sends them.",
        response_type=webhooks_api.WebhookBody,
        problems=("unauthorized", *_BODY_PROBLEMS, *_SERVER_PROBLEMS),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/openapi.json",
        handler=openapi.get,
        request_class=RequestClass.OTHER,
        operation_id="getOpenApi",
        summary="Return this document.",
        problems=("internal",),
    ),
    Endpoint(
        method="GET",
        path="/health/live",
        handler=health.live,
        request_class=RequestClass.UNLIMITED,
        operation_id="getLiveness",
        summary="Report that the process answers.",
        response_type=health.LiveBody,
    ),
    Endpoint(
        method="GET",
        path="/health/ready",
        handler=health.ready,
        request_class=RequestClass.UNLIMITED,
        operation_id="getReadiness",
        summary="Report whether this replica takes requests. 503 with the reason while the database is unavailable or during shutdown.",
        response_type=health.ReadyBody,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=health.metrics,
        request_class=RequestClass.UNLIMITED,
        operation_id="getMetrics",
        summary="Return metrics in the text format of Prometheus.",
        response_media_type="text/plain",
    ),
)


def application(services: Services, console_routes: Sequence[web.AbstractRouteDef] = ()) -> web.Application:
    """Build the web application over the running services."""
    app = web.Application(
        middlewares=[request_middleware], client_max_size=services.settings.webhook_max_bytes
    )
    app[SERVICES] = services
    app[openapi.DOCUMENT] = openapi.encode(openapi.document(ENDPOINTS))
    add_routes(
        app,
        [(web.route(each.method, each.path, each.handler), each.request_class) for each in ENDPOINTS],
    )
    intake_paths = [each.path for each in ENDPOINTS if each.handler is intake_api.post]
    add_routes(
        app,
        [(web.route("OPTIONS", path, intake_api.handshake), RequestClass.REPORTS) for path in intake_paths],
    )
    # people paste intake addresses with a slash at the end
    add_routes(
        app,
        [
            (web.route(each.method, f"{each.path}/", each.handler), each.request_class)
            for each in ENDPOINTS
            if each.handler is intake_api.post
        ],
    )
    add_routes(app, [(route, RequestClass.OTHER) for route in console_routes])
    return app


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi.encode(openapi.document(ENDPOINTS)))
