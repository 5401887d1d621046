"""Around every request: an id, one rich log line, metrics, and errors as problem+json."""

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
from pointsman.storage.db import LOST
from pointsman.web import client_address
from pointsman.web.admission import LOAN, Loan
from pointsman.web.problems import Problem, as_problem, unavailable
from pointsman.web.services import context

log = logger("web")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_QUIET = frozenset({"/health/live", "/health/ready", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Said:
    """What a handler adds to its request's log line."""

    __slots__ = ("words",)

    def __init__(self) -> None:
        self.words: dict[str, object] = {}


SAID: web.RequestKey[Said] = web.RequestKey("said", Said)


def say(request: web.Request, **words: object) -> None:
    """Add to the request's log line."""
    request[SAID].words.update(words)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer, count and log one request."""
    began = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    # ours need not be hard to guess
    request_id = given if given and _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    request[SAID], request[LOAN] = said, loan = Said(), Loan()
    ctx = context(request)
    # the route's pattern, never the path itself: a token may stand in it
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "(none)"
    visitor = ctx.connections.of(request)
    peer = visitor.address if visitor is not None else None
    client, remote = peer, visitor.shown if visitor is not None else ""
    if ctx.settings.trusted_proxies:
        forwarded = request.headers.getall("X-Forwarded-For", ())
        client = client_address.client(peer, forwarded, ctx.settings.trusted_proxies)
        remote = remote if client is peer else str(client)
    if visitor is not None:
        visitor.began(request.content)
    try:
        door = ctx.doors.through(request.method, route, None if client is peer else client)
        response, error = await _answer(request, handler, door)
        if ctx.draining or ctx.connections.draining:
            # the next request of this client goes to another replica
            response.force_close()
    finally:
        if visitor is not None:
            visitor.ended()
        loan.give_back()
    taken = time.monotonic() - began
    response.headers["X-Request-ID"] = request_id
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    ctx.metrics.request(route, response.status, taken)
    if route not in _QUIET or response.status >= 400:
        words: dict[str, object] = {
            "request_id": request_id,
            "method": request.method,
            "route": route,
            "status": response.status,
            "ms": round(taken * 1000, 1),
            "remote": remote or request.remote,
            **said.words,
        }
        if error is not None:
            words["exc_info"] = error
        if response.status >= 500 and response.status != 503:
            log.error("request", **words)
        else:
            log.each("request", words)
    return response


async def _answer(
    request: web.Request, handler: Handler, door: AbstractContextManager[None]
) -> tuple[web.StreamResponse, BaseException | None]:
    try:
        with door:
            return await handler(request), None
    except (Problem, InvalidRequest) as refused:
        problem = as_problem(refused)
        if problem.note or problem.detail:
            say(request, problem=problem.name, why=problem.note or problem.detail)
        return problem.response(), None
    except web.HTTPException as error:
        if error.status < 400:
            return error, None
        return _plain(error), None
    except Overloaded as error:
        say(request, problem="unavailable", why=str(error))
        return unavailable("too much waits already").response(), None
    except (DatabaseError, *LOST) as error:
        say(request, problem="unavailable", why=f"{type(error).__name__}: {error}")
        return unavailable("the database can't be reached; nothing was kept").response(), None
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return Problem("internal", "it is written down; nothing was kept").response(), error


def _plain(error: web.HTTPException) -> web.Response:
    names = {
        404: "not-found",
        405: "method-not-allowed",
        413: "too-large",
        415: "unsupported-type",
    }
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return Problem(names.get(error.status, "bad-request"), headers=allow).response()
