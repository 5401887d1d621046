"""Request handlers of the console's pages."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from aiohttp import web

from pointsman.console import pages
from pointsman.domain.states import DestinationKind, TicketKind, TicketStatus
from pointsman.domain.ticket_throttle import SUMMARY_FINGERPRINT_PREFIX
from pointsman.errors import DatabaseError, Overloaded
from pointsman.logs import logger
from pointsman.operations import lookup
from pointsman.operations.destinations import DestinationStatus, list_destinations
from pointsman.operations.history.timeline import timeline
from pointsman.operations.tickets import list_tickets
from pointsman.storage.ticket_throttle import throttled_tickets
from pointsman.web.auth import basic_password, is_operator_token
from pointsman.web.middleware import add_log_fields
from pointsman.web.services import Services, services_of

log = logger("console")

PAGE_ROWS = 50
ENTRIES_SHOWN = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page(msgspec.Struct, frozen=True):
    """A template with its values."""

    template: str
    values: dict[str, Any]
    status: int = 200


def routes() -> list[web.AbstractRouteDef]:
    """Return the console's routes."""
    return [
        web.get("/", home),
        web.get("/console", home),
        web.get("/console/", tickets),
        web.get("/console/tickets/{ticket}", ticket),
        web.get("/console/destinations", destinations),
        web.get("/console/static/{file}", static),
        web.get("/console/{rest:.*}", missing),
    ]


def _message(
    request: web.Request, status: int, title: str, *sentences: str, nav: bool = False
) -> web.Response:
    return pages.html(
        "message.html",
        {"title": title, "sentences": sentences, "nav": nav, "here": ""},
        path=request.rel_url.raw_path,
        status=status,
    )


def _not_found(title: str, sentence: str) -> Page:
    return Page("message.html", {"title": title, "sentences": [sentence], "nav": True, "here": ""}, 404)


def operators_only(make: Callable[[web.Request], Awaitable[Page]]) -> Handler:
    """Return a handler that shows the page to operators only, and shows errors as pages too."""

    @functools.wraps(make)
    async def handler(request: web.Request) -> web.StreamResponse:
        denial = _denial(request)
        if denial is not None:
            return denial
        try:
            page = await make(request)
            return pages.html(page.template, page.values, path=request.rel_url.raw_path, status=page.status)
        except (DatabaseError, Overloaded, OSError, TimeoutError) as error:
            add_log_fields(request, problem="unavailable", reason=f"{type(error).__name__}: {error}")
            response = _message(
                request,
                503,
                "The database can't be reached",
                "Nothing that was accepted is lost. Load this page again in a moment.",
            )
            response.headers["Retry-After"] = "5"
            return response
        except Exception:
            log.exception("page failed", page=make.__name__)
            return _message(request, 500, "This page failed", "The log contains the error.", nav=True)

    return handler


def _denial(request: web.Request) -> web.Response | None:
    """Return the page for a caller who is not an operator, None for an operator."""
    services = services_of(request)
    if services.settings.admin_token_sha256 is None:
        add_log_fields(request, problem="forbidden", reason="no operators' token is set")
        return _message(
            request,
            403,
            "The console is switched off",
            "Set POINTSMAN_ADMIN_TOKEN to a long random value and restart Pointsman to switch it on.",
            "The browser then asks for a user name and a password. Enter any name, and the token as the password.",
        )
    password = basic_password(request)
    if is_operator_token(services, password):
        return None
    add_log_fields(request, problem="unauthorized", reason="wrong password" if password else "no password")
    response = _message(
        request,
        401,
        "Operators only",
        "Enter any user name, and the operators' token (POINTSMAN_ADMIN_TOKEN) as the password.",
    )
    response.headers["WWW-Authenticate"] = 'Basic realm="Pointsman", charset="UTF-8"'
    return response


async def home(request: web.Request) -> web.StreamResponse:
    """Redirect to the console."""
    prefix = urlsplit(services_of(request).base_url).path.rstrip("/")
    return web.Response(status=302, headers={**pages.HEADERS, "Location": f"{prefix}/console/"})


async def static(request: web.Request) -> web.StreamResponse:
    """Return a style sheet or the icon. They contain no data, so they need no password."""
    name = request.match_info["file"]
    if name not in pages.STATIC:
        return _message(request, 404, "There is no such page", "The address may be mistyped.")
    return web.Response(
        body=pages.static(name),
        content_type=pages.STATIC[name],
        charset="utf-8",
        headers={**pages.HEADERS, "Cache-Control": "public, max-age=86400"},
    )


@operators_only
async def missing(_: web.Request) -> Page:
    """Return the page for an unknown address of the console."""
    return _not_found("There is no such page", "The address may be mistyped.")


@operators_only
async def tickets(request: web.Request) -> Page:
    """Return the list of tickets, newest first."""
    services, query = services_of(request), request.query
    chosen = {name: query[name] for name, values in _FILTERS.items() if query.get(name) in values}
    before = _uuid(query.get("cursor", ""))
    rows = await list_tickets(
        services.read_pool,
        before=before,
        status=_FILTERS["status"].get(chosen.get("status", "")),
        kind=_FILTERS["kind"].get(chosen.get("kind", "")),
        limit=PAGE_ROWS + 1,
    )
    more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    return Page(
        "tickets.html",
        {
            "title": "Tickets",
            "nav": True,
            "here": "tickets",
            "tickets": rows,
            "filters": _filters(chosen),
            "filtered": bool(chosen),
            "newest": _query(chosen) if before is not None else None,
            "older": _query({**chosen, "cursor": str(rows[-1].id)}) if more else None,
            "attention": [
                destination.name
                for destination in await _destinations(services)
                if destination.needs_attention
            ],
            "base_url": services.base_url,
            "sources": sorted(services.config.current.sources),
        },
    )


_FILTERS = {
    "status": {status.name.lower(): int(status) for status in TicketStatus},
    "kind": {kind.name.lower(): int(kind) for kind in TicketKind},
}


def _filters(chosen: dict[str, str]) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Return each filter with its choices: label, query string, and whether it is selected."""
    filters = []
    for name, values in _FILTERS.items():
        rest = {key: value for key, value in chosen.items() if key != name}
        choices = [("all", _query(rest), name not in chosen)]
        choices += [(value, _query({**rest, name: value}), chosen.get(name) == value) for value in values]
        filters.append((name, choices))
    return filters


def _query(chosen: dict[str, str]) -> str:
    return f"?{urlencode(chosen)}" if chosen else "./"


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _event_number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


@operators_only
async def ticket(request: web.Request) -> Page:
    """Return the page of one ticket with its issues and its history."""
    services = services_of(request)
    ticket_id = _uuid(request.match_info["ticket"])
    events_before = _event_number(request.query.get("events_before", ""))
    history = None
    if ticket_id is not None:
        history = await lookup.ticket_history(services.read_pool, ticket_id, events_before=events_before)
    if history is None or history.ticket is None or ticket_id is None:
        return _not_found("There is no such ticket", "It was removed, or the address is mistyped.")
    add_log_fields(request, ticket=str(ticket_id), source=history.ticket.source)
    entries = timeline(history, events_before=events_before)
    return Page(
        "ticket.html",
        {
            "title": "Ticket",
            "nav": True,
            "here": "ticket",
            "ticket": history.ticket,
            "history": history,
            "issues": [entry for entry in history.destinations if entry.kind == "tracker"],
            "listed": await throttled_tickets(services.read_pool, ticket_id)
            if history.ticket.fingerprint.startswith(SUMMARY_FINGERPRINT_PREFIX)
            else [],
            "entries": entries[-ENTRIES_SHOWN:],
            "left_out": len(entries) > ENTRIES_SHOWN or (history.truncated and history.older_events is None),
            "older": _query({"events_before": str(history.older_events)}) if history.older_events else None,
            "is_older": events_before is not None,
        },
    )


@operators_only
async def destinations(request: web.Request) -> Page:
    """Return the status of all destinations."""
    services = services_of(request)
    statuses = await _destinations(services)
    return Page(
        "destinations.html",
        {
            "title": "Destinations",
            "nav": True,
            "here": "destinations",
            "destinations": statuses,
            "any_tracker": any(destination.kind == DestinationKind.TRACKER for destination in statuses),
        },
    )


async def _destinations(services: Services) -> list[DestinationStatus]:
    """Return all destinations with what the current configuration says about them."""
    problems = {
        destination.slug: destination.problem for destination in services.config.current.destinations.values()
    }
    return await list_destinations(
        services.read_pool, problems=problems, mail_enabled=services.settings.smtp is not None
    )
