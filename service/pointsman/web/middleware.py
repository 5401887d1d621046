"""Middleware around every request: request id, admission, log line, metrics, and errors as problem+json."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from aiohttp import web

from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake.errors import InvalidRequest
from pointsman.logs import logger
from pointsman.web import client_address, refusals
from pointsman.web.admission import RESERVATION, MemoryReservation
from pointsman.web.endpoint import request_class_of
from pointsman.web.problems import Problem, as_problem, unavailable
from pointsman.web.services import Services, services_of

log = logger("web")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NOT_LOGGED = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes whose successful requests are not logged."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class LogFields:
    """Fields that handlers add to their request's log line."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}


LOG_FIELDS: web.RequestKey[LogFields] = web.RequestKey("log_fields", LogFields)


def add_log_fields(request: web.Request, **fields: object) -> None:
    """Add fields to the log line of a request."""
    request[LOG_FIELDS].fields.update(fields)


@web.middleware
async def request_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Admit, answer, count and log one request."""
    started = time.monotonic()
    sent_id = request.headers.get("X-Request-ID", "")
    # an id of ours need not be hard to guess
    request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else f"{random.getrandbits(128):032x}"
    request[LOG_FIELDS] = log_fields = LogFields()
    services = services_of(request)
    # the route's pattern, never the path itself, which may contain a token
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "(none)"
    guard = services.connections.guard_of(request)
    peer = guard.address if guard is not None else None
    client, remote = peer, guard.display_address if guard is not None else ""
    if services.settings.trusted_proxies:
        forwarded = request.headers.getall("X-Forwarded-For", ())
        client = client_address.client(peer, forwarded, services.settings.trusted_proxies)
        remote = remote if client is peer else str(client)
    owner = None
    if client is not None and services.connections.limited(client):
        owner = client_address.limit_key(client)
    request[RESERVATION] = reservation = MemoryReservation(owner)
    if guard is not None:
        guard.request_started(request.content)
    try:
        admission = services.admission.admit(request_class_of(request), None if client is peer else client)
        response, error = await _respond(request, handler, admission)
        seconds = time.monotonic() - started
        if response.status == 401:
            reservation.release()
            await _count_refusal(services, route, log_fields, client)
        if services.draining or services.connections.draining:
            # the client's next request goes to another replica
            response.force_close()
    finally:
        if guard is not None:
            guard.request_finished()
        reservation.release()
    response.headers["X-Request-ID"] = request_id
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    services.metrics.count_request(route, response.status, seconds)
    if route not in _NOT_LOGGED or response.status >= 400:
        fields: dict[str, object] = {
            "request_id": request_id,
            "method": request.method,
            "route": route,
            "status": response.status,
            "ms": round(seconds * 1000, 1),
            "remote": remote or request.remote,
            **log_fields.fields,
        }
        if error is not None:
            fields["exc_info"] = error
        _log_request(response.status, fields)
    return response


def _log_request(status: int, fields: dict[str, object]) -> None:
    if status >= 500 and status != 503:
        log.error("request", **fields)
    elif status == 401 and refusals.slug_of(fields):
        # the sender of a source or tracker that exists: its reports and webhooks are lost
        log.warning("request", **fields)
    else:
        log.info("request", **fields)


async def _count_refusal(
    services: Services, route: str, log_fields: LogFields, client: client_address.Address | None
) -> None:
    """Count a request with a wrong credential, and delay its answer if its client had many."""
    fields = log_fields.fields
    if refusals.has_credential(fields):
        services.metrics.refused_credentials.labels(
            refusals.endpoint_of(route), refusals.slug_of(fields)
        ).inc()
        await services.refusals.delay(client)


async def _respond(
    request: web.Request, handler: Handler, admission: AbstractContextManager[None]
) -> tuple[web.StreamResponse, BaseException | None]:
    """Return the response, and the exception for the log if it is a defect of ours."""
    try:
        with admission:
            return await handler(request), None
    except (Problem, InvalidRequest) as refusal:
        problem = as_problem(refusal)
        if problem.log_reason or problem.detail:
            add_log_fields(request, problem=problem.name, reason=problem.log_reason or problem.detail)
        return problem.response(), None
    except web.HTTPException as error:
        if error.status < 400:
            return error, None
        return _http_problem(error).response(), None
    except Overloaded as error:
        add_log_fields(request, problem="unavailable", reason=str(error))
        return unavailable("too much waits already").response(), None
    except (DatabaseError, OSError, TimeoutError) as error:
        add_log_fields(request, problem="unavailable", reason=f"{type(error).__name__}: {error}")
        return unavailable("the database can't be reached; nothing was stored").response(), None
    except Exception as error:  # noqa: BLE001 - every defect becomes a response and a log line
        return Problem("internal", "the error was logged; nothing was stored").response(), error


def _http_problem(error: web.HTTPException) -> Problem:
    """Return the problem for an error response of aiohttp."""
    names = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "unsupported-type"}
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return Problem(names.get(error.status, "bad-request"), headers=allow)
