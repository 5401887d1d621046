"""Description of one HTTP endpoint: address, handler, admission limit and documentation.

Routes, admission control and the OpenAPI document all come from the table of these in ``pointsman.web.routes``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec
from aiohttp import web

from pointsman.web.admission import RequestClass

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address. ``operation_id`` and the fields after it are what the OpenAPI document shows."""

    method: str
    path: str
    handler: Handler
    request_class: RequestClass
    operation_id: str
    summary: str
    security: tuple[str, ...] = ()
    """Security schemes, one of which is required; none: no credential, or one in the address."""
    query: tuple[str, ...] = ()
    idempotency_key: bool = False
    """Whether the header Idempotency-Key is honoured."""
    body_type: type | None = None
    body_description: str = ""
    body_required: bool = True
    response_type: type | None = None
    response_media_type: str = "application/json"
    status: int = 200
    problems: tuple[str, ...] = ()
    """Names of the problems that can be returned."""


REQUEST_CLASSES: web.AppKey[dict[tuple[str, str], RequestClass]] = web.AppKey("request_classes")


def add_routes(app: web.Application, routes: Iterable[tuple[web.AbstractRouteDef, RequestClass]]) -> None:
    """Add routes to an application, each with the class of its requests."""
    request_classes = app.setdefault(REQUEST_CLASSES, {})
    for definition, request_class in routes:
        for route in app.router.add_routes([definition]):
            assert route.resource is not None
            request_classes[route.method, route.resource.canonical] = request_class


def request_class_of(request: web.Request) -> RequestClass:
    """Return the class of a request; requests without a route are not limited."""
    resource = request.match_info.route.resource
    if resource is None:
        return RequestClass.UNLIMITED
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[REQUEST_CLASSES].get((method, resource.canonical), RequestClass.UNLIMITED)
