"""The tickets API, for applications whose customers have tickets, and for operators."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman.domain.ticket import Status, TicketKind
from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import KEPT_HEADERS
from pointsman.plugin_api import CloseReason, Person, Report, Unreadable
from pointsman.plugin_host.snapshot import LiveSource
from pointsman.sources.tickets import CommentBody, PersonBody, TicketBody, convert
from pointsman.storage import tickets as store
from pointsman.storage.db import Row
from pointsman.web import body
from pointsman.web.auth import Principal, principal
from pointsman.web.intake_api import answer, idempotency_key
from pointsman.web.middleware import say
from pointsman.web.problems import Problem, unavailable
from pointsman.web.services import Context, context

PAGE_LIMIT = 200

_LINK_STATES = {None: "pending", 1: "active", 2: "orphaned"}
_STATES = {Status.OPEN: "open", Status.CLOSED: "closed"}


class LinkBody(msgspec.Struct, omit_defaults=True):
    """Where a ticket's issue is, or why there is none yet."""

    destination: str
    tracker: str
    state: str
    key: str | None
    url: str | None
    issue_state: str | None = None
    problem: str | None = None


class EventBody(msgspec.Struct):
    """Something that happened to a ticket."""

    n: int
    kind: str
    at: dt.datetime
    data: dict[str, Any]


class TicketView(msgspec.Struct, omit_defaults=True):
    """A ticket."""

    id: str
    kind: str
    source: str
    title: str
    status: str
    close_reason: str | None
    opened_at: dt.datetime
    last_seen_at: dt.datetime
    closed_at: dt.datetime | None
    occurrences: int
    links: list[LinkBody]
    events: list[EventBody] | None = None
    description: str = ""
    url: str = ""
    level: str = ""
    environment: str = ""
    release: str = ""
    reporter: PersonBody = PersonBody()


class TicketPage(msgspec.Struct):
    """Tickets, newest first; ``next`` is the cursor for the ones after."""

    tickets: list[TicketView]
    next: str | None


class CreatedBody(msgspec.Struct):
    """A ticket was made. ``ticket`` is the same id, as the intake names it."""

    id: str
    ticket: str
    report: str
    status: str = "open"


class CommentedBody(msgspec.Struct):
    """A comment was taken."""

    ticket: str
    report: str


class CloseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a ticket is closed."""

    reason: CloseReason = "completed"


async def create(request: web.Request) -> web.Response:
    """Take a support request."""
    ctx, who = context(request), principal(request)
    source = _source_of(ctx, who, request)
    raw, decoded = await _body(request)
    ticket: TicketBody = _convert(decoded, TicketBody)
    report = Report(
        action="opened",
        fingerprint="",
        title=ticket.title,
        text=ticket.description,
        person=Person(email=ticket.reporter.email, name=ticket.reporter.name),
    )
    accepted = await _submit(request, source, report, raw, "ticket", TicketKind.SUPPORT)
    ticket_id = str(accepted.ticket_id)
    return answer(
        201,
        CreatedBody(ticket_id, ticket_id, str(accepted.report_id)),
        {"Location": f"/api/v1/tickets/{ticket_id}"},
    )


async def comment(request: web.Request) -> web.Response:
    """Take a comment on a ticket."""
    ctx, who = context(request), principal(request)
    row = await _ticket(request, ctx, who)
    raw, decoded = await _body(request)
    said: CommentBody = _convert(decoded, CommentBody)
    source = ctx.catalog.current.sources.get(row["source"])
    if source is None:
        raise Problem("conflict", f"the ticket's source {row['source']} is no longer configured")
    report = Report(
        action="commented",
        fingerprint=row["fingerprint"],
        text=said.body,
        person=Person(email=said.author.email, name=said.author.name),
    )
    accepted = await _submit(request, source, report, raw, f"comment {row['id']}", TicketKind(row["kind"]))
    return answer(201, CommentedBody(str(accepted.ticket_id), str(accepted.report_id)))


async def get(request: web.Request) -> web.Response:
    """One ticket with its links and events."""
    ctx, who = context(request), principal(request)
    row = await _ticket(request, ctx, who)
    events = await store.events(ctx.reads, [row["id"]])
    links = await store.links(ctx.reads, [row["id"]])
    return answer(200, view(row, links, events))


async def page(request: web.Request) -> web.Response:
    """Tickets, newest first."""
    ctx, who = context(request), principal(request)
    query = request.query
    unknown = {name: "is no parameter here" for name in query if name not in _PARAMETERS}
    limit = query.get("limit", "50")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= PAGE_LIMIT:
        unknown["limit"] = f"is a number from 1 to {PAGE_LIMIT}"
    status = {"": None, "open": 1, "closed": 2}.get(query.get("status", ""), 0)
    if status == 0:
        unknown["status"] = "is open or closed"
    before = _cursor(query.get("cursor", ""), unknown)
    source_id = who.source.id if who.source is not None else None
    if slug := query.get("source"):
        source = ctx.catalog.current.sources.get(slug)
        if source is None or (source_id is not None and source.id != source_id):
            unknown["source"] = "is no source of yours"
        else:
            source_id = source.id
    if unknown:
        raise Problem("invalid-fields", errors=unknown)
    rows = await store.page(
        ctx.reads, before=before, source_id=source_id, status=status, limit=int(limit) + 1
    )
    more = len(rows) > int(limit)
    rows = rows[: int(limit)]
    links = await store.links(ctx.reads, [row["id"] for row in rows])
    by_ticket: dict[uuid.UUID, list[Row]] = {}
    for link in links:
        by_ticket.setdefault(link["ticket_id"], []).append(link)
    tickets = [view(row, by_ticket.get(row["id"], []), None) for row in rows]
    return answer(200, TicketPage(tickets, str(rows[-1]["id"]) if more else None))


_PARAMETERS = frozenset({"limit", "status", "cursor", "source"})


async def close(request: web.Request) -> web.Response:
    """Close a ticket; its issues follow, its owner is told."""
    ctx, who = context(request), principal(request)
    row = await _ticket(request, ctx, who)
    raw = await body.read(request, body.INTAKE_LIMIT, ctx.doors.report_room, ctx.patience)
    asked: CloseBody = _convert(decode(raw), CloseBody) if raw.strip() else CloseBody()
    async with ctx.doors.reads.through():
        await ctx.inbound.by_person(row["id"], "closed", asked.reason, _who(who))
    ctx.wake()
    return await get(request)


async def reopen(request: web.Request) -> web.Response:
    """Reopen a ticket; its issues follow, its owner is told."""
    ctx, who = context(request), principal(request)
    row = await _ticket(request, ctx, who)
    async with ctx.doors.reads.through():
        await ctx.inbound.by_person(row["id"], "open", None, _who(who))
    ctx.wake()
    return await get(request)


def view(row: Row, links: Sequence[Row], events: Sequence[Row] | None) -> TicketView:
    """A ticket as callers see it."""
    return TicketView(
        id=str(row["id"]),
        kind=TicketKind(row["kind"]).name.lower(),
        source=row["source"],
        title=row["title"],
        status=_STATES[Status(row["status"])],
        close_reason=row["close_reason"],
        opened_at=row["opened_at"],
        last_seen_at=row["last_seen_at"],
        closed_at=row["closed_at"],
        occurrences=row["occurrences"],
        links=[_link(link) for link in links],
        events=None
        if events is None
        else [EventBody(one["n"], one["kind"], one["at"], json.loads(one["data"])) for one in events],
        description=row["description"],
        url=row["url"],
        level=row["level"],
        environment=row["environment"],
        release=row["release"],
        reporter=PersonBody(row["reporter_email"], row["reporter_name"]),
    )


def _link(row: Row) -> LinkBody:
    waits = row["lane_state"] == 3 or row["last_error"] is not None
    return LinkBody(
        destination=row["destination"],
        tracker=row["tracker"],
        state=_LINK_STATES[row["state"]],
        key=row["remote_key"],
        url=row["url"] or None,
        issue_state=_STATES[Status(row["remote_state"])] if row["remote_state"] is not None else None,
        problem=(row["last_error"] or row["parked_why"]) if waits else None,
    )


async def _ticket(request: web.Request, ctx: Context, who: Principal) -> Row:
    """The ticket in the address, if it is there for this principal."""
    try:
        ticket_id = uuid.UUID(request.match_info["ticket"])
    except ValueError:
        raise Problem("not-found", "there is no such ticket") from None
    row = await store.ticket(ctx.reads, ticket_id)
    if row is None or (who.source is not None and row["source_id"] != who.source.id):
        raise Problem("not-found", "there is no such ticket")
    say(request, ticket=str(ticket_id), source=row["source"])
    return row


async def _body(request: web.Request) -> tuple[bytes, Any]:
    ctx = context(request)
    if ctx.acceptance.full:
        raise unavailable("too much waits already")
    body.need_json(request)
    raw = await body.read(request, body.INTAKE_LIMIT, ctx.doors.report_room, ctx.patience)
    return raw, decode(raw)


def _convert(decoded: Any, kind: type[Any]) -> Any:
    try:
        return convert(decoded, kind)
    except Unreadable as error:
        field = {error.field: str(error)} if error.field else None
        raise Problem("invalid-fields", "" if field else str(error), errors=field) from None


async def _submit(
    request: web.Request, source: LiveSource, report: Report, raw: bytes, operation: str, kind: TicketKind
) -> Any:
    ctx = context(request)
    key = idempotency_key(request, operation)
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    incoming = ctx.acceptance.incoming(
        source, report, raw, headers, key=key or f"unique\n{uuid.uuid4()}", kind=kind
    )
    accepted = await ctx.acceptance.submit(incoming)
    if accepted.repeated and not accepted.same_body:
        raise Problem("key-reused", "send the same body again, or another key")
    if accepted.parked:
        raise Problem("internal", f"it is kept as report {accepted.report_id}, and the operators are told")
    ctx.metrics.reports.labels(source.slug, "repeated" if accepted.repeated else "accepted").inc()
    say(request, report=str(accepted.report_id), ticket=str(accepted.ticket_id), source=source.slug)
    return accepted


def _source_of(ctx: Context, who: Principal, request: web.Request) -> LiveSource:
    if who.source is not None:
        return who.source
    owners = [one for one in ctx.catalog.current.sources.values() if one.owns_tickets]
    wanted = request.query.get("source")
    if wanted is not None:
        owners = [one for one in owners if one.slug == wanted]
    if len(owners) != 1:
        raise Problem("invalid-fields", errors={"source": "say ?source=SLUG, of a source of kind tickets"})
    return owners[0]


def _cursor(text: str, errors: dict[str, str]) -> uuid.UUID | None:
    if not text:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        errors["cursor"] = "is not one that we gave"
        return None


def _who(who: Principal) -> str:
    return who.source.slug if who.source is not None else "operator"
