"""The pages' handlers: who may look, what is asked of storage, which page shows it."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from aiohttp import web

from pointsman.console import pages
from pointsman.console import status as standing
from pointsman.console.timeline import timeline
from pointsman.domain.routing import Facts
from pointsman.domain.ticket import Status, TicketKind
from pointsman.domain.ticket_throttle import FINGERPRINT
from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake import throttle
from pointsman.logs import logger
from pointsman.operations import lookup
from pointsman.storage import destinations as places
from pointsman.storage import queue
from pointsman.storage import tickets as store
from pointsman.storage.db import LOST, Row
from pointsman.web.auth import basic_password, is_admin
from pointsman.web.middleware import say
from pointsman.web.services import Context, context

log = logger("console")

PAGE_ROWS = 50
DELIVERIES_SHOWN = 500
ENTRIES_SHOWN = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page(msgspec.Struct, frozen=True):
    """A template with its values."""

    template: str
    values: dict[str, Any]
    status: int = 200


def routes() -> list[web.AbstractRouteDef]:
    """The console's routes."""
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


def guarded(make: Callable[[web.Request], Awaitable[Page]]) -> Handler:
    """Only operators see the page; whatever happens, the answer is a page with the console's headers."""

    @functools.wraps(make)
    async def handler(request: web.Request) -> web.StreamResponse:
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        try:
            page = await make(request)
            return pages.html(page.template, page.values, path=request.rel_url.raw_path, status=page.status)
        except (DatabaseError, Overloaded, *LOST) as error:
            say(request, problem="unavailable", why=f"{type(error).__name__}: {error}")
            response = _message(
                request,
                503,
                "The database can't be reached",
                "Nothing that was accepted is lost. Load this page again in a moment.",
            )
            response.headers["Retry-After"] = "5"
            return response
        except Exception:
            log.exception("a page failed", page=make.__name__)
            return _message(request, 500, "This page failed", "What went wrong stands in the log.", nav=True)

    return handler


def _refusal(request: web.Request) -> web.Response | None:
    ctx = context(request)
    if ctx.settings.admin_token_sha256 is None:
        say(request, problem="forbidden", why="no operators' token is set")
        return _message(
            request,
            403,
            "The console is switched off",
            "Set POINTSMAN_ADMIN_TOKEN to a long random value and start Pointsman again: that switches it on.",
            "The browser then asks for a name and a password. Any name will do; the token is the password.",
        )
    password = basic_password(request)
    if is_admin(ctx, password):
        return None
    say(request, problem="unauthorized", why="wrong password" if password else "no password")
    response = _message(
        request,
        401,
        "Operators only",
        "Give any user name, and the operators' token (POINTSMAN_ADMIN_TOKEN) as the password.",
    )
    response.headers["WWW-Authenticate"] = 'Basic realm="Pointsman", charset="UTF-8"'
    return response


async def home(request: web.Request) -> web.StreamResponse:
    """The way to the console."""
    prefix = urlsplit(context(request).base_url).path.rstrip("/")
    return web.Response(status=302, headers={**pages.HEADERS, "Location": f"{prefix}/console/"})


async def static(request: web.Request) -> web.StreamResponse:
    """The style sheet and the icon. They say nothing about anybody, so nobody is asked who they are."""
    name = request.match_info["file"]
    if name not in pages.STATIC:
        return _message(request, 404, "There is no such page", "The address may be mistyped.")
    return web.Response(
        body=pages.static(name),
        content_type=pages.STATIC[name],
        charset="utf-8",
        headers={**pages.HEADERS, "Cache-Control": "public, max-age=86400"},
    )


@guarded
async def missing(_: web.Request) -> Page:
    """Any other address of the console."""
    return _not_found("There is no such page", "The address may be mistyped.")


@guarded
async def tickets(request: web.Request) -> Page:
    """Tickets, newest first."""
    ctx, query = context(request), request.query
    chosen = {name: query[name] for name, known in _FILTERS.items() if query.get(name) in known}
    before = _uuid(query.get("cursor", ""))
    rows = await store.page(
        ctx.reads,
        before=before,
        status=_FILTERS["status"].get(chosen.get("status", "")),
        kind=_FILTERS["kind"].get(chosen.get("kind", "")),
        limit=PAGE_ROWS + 1,
    )
    more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    standings = await places.standing(ctx.reads)
    links = await store.links(ctx.reads, [row["id"] for row in rows]) if rows else []
    now, by_slug = dt.datetime.now(dt.UTC), {row["slug"]: row for row in standings}
    issues: dict[uuid.UUID, list[standing.Issue]] = {}
    for link in links:
        one = standing.issue(link, by_slug.get(link["destination"]), now)
        issues.setdefault(link["ticket_id"], []).append(one)
    return Page(
        "tickets.html",
        {
            "title": "Tickets",
            "nav": True,
            "here": "tickets",
            "tickets": [(row, issues.get(row["id"], [])) for row in rows],
            "filters": _filters(chosen),
            "filtered": bool(chosen),
            "newest": _query(chosen) if before is not None else None,
            "older": _query({**chosen, "cursor": str(rows[-1]["id"])}) if more else None,
            "attention": [one.name for one in _places(ctx, standings, now) if one.needs_attention],
            "base_url": ctx.base_url,
            "sources": sorted(ctx.catalog.current.sources),
        },
    )


_FILTERS = {
    "status": {one.name.lower(): int(one) for one in Status},
    "kind": {one.name.lower(): int(one) for one in TicketKind},
}


def _filters(chosen: dict[str, str]) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Each filter with its choices: the label, the query to go there, and whether it is the current one."""
    shown = []
    for name, known in _FILTERS.items():
        others = {key: value for key, value in chosen.items() if key != name}
        choices = [("all", _query(others), name not in chosen)]
        choices += [(value, _query({**others, name: value}), chosen.get(name) == value) for value in known]
        shown.append((name, choices))
    return shown


def _query(chosen: dict[str, str]) -> str:
    return f"?{urlencode(chosen)}" if chosen else "./"


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


@guarded
async def ticket(request: web.Request) -> Page:
    """One ticket: what is known, where its issues are, and all that happened."""
    ctx = context(request)
    ticket_id = _uuid(request.match_info["ticket"])
    row = await store.ticket(ctx.reads, ticket_id) if ticket_id is not None else None
    if row is None or ticket_id is None:
        return _not_found("There is no such ticket", "It may have been removed, or the address is mistyped.")
    say(request, ticket=str(ticket_id), source=row["source"])
    links = await store.links(ctx.reads, [ticket_id])
    events = await store.events(ctx.reads, [ticket_id])
    deliveries = await queue.deliveries(ctx.reads, ticket_id=ticket_id, limit=DELIVERIES_SHOWN)
    attempts = await queue.attempts_of(ctx.reads, ticket_id)
    why = await lookup.of_ticket(ctx.reads, row)
    standings = await places.standing(ctx.reads)
    now, by_slug = dt.datetime.now(dt.UTC), {one["slug"]: one for one in standings}
    issues = [
        standing.issue(
            link,
            by_slug.get(link["destination"]),
            now,
            [one for one in deliveries if one["destination"] == link["destination"]],
        )
        for link in links
    ]
    facts = Facts(
        row["source"],
        TicketKind(row["kind"]).name.lower(),
        row["environment"],
        row["level"],
        row["release"],
        row["title"],
        tags=None,
    )
    entries = timeline(events, deliveries, attempts)
    return Page(
        "ticket.html",
        {
            "title": "Ticket",
            "nav": True,
            "here": "ticket",
            "ticket": row,
            "issues": issues,
            "why": why,
            "listed": await throttle.held(ctx.reads, ticket_id)
            if row["fingerprint"].startswith(FINGERPRINT)
            else [],
            "no_issue": [] if issues else standing.no_issue(ctx.catalog.current.routes, facts),
            "entries": entries[-ENTRIES_SHOWN:],
            "left_out": len(entries) > ENTRIES_SHOWN or len(deliveries) >= DELIVERIES_SHOWN,
        },
    )


@guarded
async def destinations(request: web.Request) -> Page:
    """How each destination stands."""
    ctx = context(request)
    rows = await places.standing(ctx.reads)
    found = _places(ctx, rows, dt.datetime.now(dt.UTC))
    return Page(
        "destinations.html",
        {
            "title": "Destinations",
            "nav": True,
            "here": "destinations",
            "places": found,
            "any_tracker": any(row["kind"] not in (standing.MAIL, standing.SOURCE) for row in rows),
        },
    )


def _places(ctx: Context, rows: Sequence[Row], now: dt.datetime) -> list[standing.Place]:
    """The destinations, with what the configuration in use says of them."""
    problems = {one.slug: one.problem for one in ctx.catalog.current.destinations.values()}
    return [
        standing.destination(
            row, now, problem=problems.get(row["slug"], ""), mail_off=ctx.settings.smtp is None
        )
        for row in rows
    ]
