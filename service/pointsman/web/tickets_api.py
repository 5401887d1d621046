"""The tickets API, for applications with support tickets and for operators."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman.bus.signals import WorkAvailable
from pointsman.domain.states import LaneState, LinkState, TicketKind, TicketStatus
from pointsman.intake.batch import ReportResult
from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import kept_headers
from pointsman.plugin_api import CloseReason, Person, Report
from pointsman.plugin_host.instances import LiveSource
from pointsman.sources.tickets import CommentBody, TicketBody
from pointsman.storage import tickets as stored
from pointsman.storage.tickets import EventRow, LinkRow, TicketRow
from pointsman.web import body
from pointsman.web.auth import Principal, authenticate
from pointsman.web.json_requests import convert_body, read_json
from pointsman.web.middleware import add_log_fields
from pointsman.web.problems import Problem
from pointsman.web.request_headers import idempotency_key
from pointsman.web.responses import json_response
from pointsman.web.services import Services, services_of

PAGE_LIMIT = 200
_LIMIT = re.compile(r"[0-9]{1,3}")
_EVENT_NUMBER = re.compile(r"[0-9]{1,9}")

_LINK_STATES = {LinkState.ACTIVE: "active", LinkState.ORPHANED: "orphaned"}
_STATES = {TicketStatus.OPEN: "open", TicketStatus.CLOSED: "closed"}
_STATUS_NUMBERS = {name: int(status) for status, name in _STATES.items()}


class LinkBody(msgspec.Struct, omit_defaults=True):
    """A ticket's issue at one destination, or why it does not exist yet."""

    destination: str
    tracker: str
    state: str
    key: str | None
    url: str | None
    issue_state: str | None = None
    problem: str | None = None


class EventBody(msgspec.Struct):
    """An event of a ticket; `n` numbers them from 1."""

    n: int
    kind: str
    at: dt.datetime
    data: dict[str, Any]


class RequesterView(msgspec.Struct, frozen=True):
    """The person who asked."""

    email: str = ""
    name: str = ""


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
    events_next: int | None = None
    description: str = ""
    url: str = ""
    level: str = ""
    environment: str = ""
    release: str = ""
    reporter: RequesterView = RequesterView()


class TicketPage(msgspec.Struct):
    """Tickets, newest first; ``next`` is the cursor of the next page."""

    tickets: list[TicketView]
    next: str | None


class CreatedBody(msgspec.Struct):
    """The ticket was created. ``ticket`` is the same id, under the name that the intake uses."""

    id: str
    ticket: str
    report: str
    status: str = "open"


class CommentedBody(msgspec.Struct):
    """The comment was accepted."""

    ticket: str
    report: str


class CloseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reason for closing a ticket."""

    reason: CloseReason = "completed"


async def create(request: web.Request) -> web.Response:
    """Create a support ticket."""
    services, principal = services_of(request), authenticate(request)
    source = _requested_source(services, principal, request)
    raw, decoded = await read_json(request)
    ticket = convert_body(decoded, TicketBody)
    report = Report(
        action="opened",
        fingerprint="",
        title=ticket.title,
        text=ticket.description,
        person=Person(email=ticket.reporter.email, name=ticket.reporter.name),
    )
    result = await _submit(request, source, report, raw, "ticket", TicketKind.SUPPORT)
    ticket_id = str(result.ticket_id)
    return json_response(
        201,
        CreatedBody(ticket_id, ticket_id, str(result.report_id)),
        {"Location": f"/api/v1/tickets/{ticket_id}"},
    )


async def comment(request: web.Request) -> web.Response:
    """Add a comment to a ticket."""
    services, principal = services_of(request), authenticate(request)
    ticket = await _requested_ticket(request, services, principal)
    raw, decoded = await read_json(request)
    comment_body = convert_body(decoded, CommentBody)
    source = services.config.current.sources.get(ticket.source)
    if source is None:
        raise Problem("conflict", f"the ticket's source {ticket.source} is no longer configured")
    report = Report(
        action="commented",
        fingerprint=ticket.fingerprint,
        text=comment_body.body,
        person=Person(email=comment_body.author.email, name=comment_body.author.name),
    )
    result = await _submit(request, source, report, raw, f"comment {ticket.id}", TicketKind(ticket.kind))
    return json_response(201, CommentedBody(str(result.ticket_id), str(result.report_id)))


async def get(request: web.Request) -> web.Response:
    """Return a ticket with its links and a page of its events, oldest first."""
    services, principal = services_of(request), authenticate(request)
    after = request.query.get("events_after", "0")
    if not _EVENT_NUMBER.fullmatch(after):
        raise Problem("invalid-fields", errors={"events_after": "must be `events_next` of another page"})
    ticket = await _requested_ticket(request, services, principal)
    events = await stored.read_events(services.read_pool, ticket.id, after=int(after))
    links = await stored.read_links(services.read_pool, [ticket.id])
    return json_response(200, _ticket_view(ticket, links, events))


async def page(request: web.Request) -> web.Response:
    """List tickets, newest first."""
    services, principal = services_of(request), authenticate(request)
    query = request.query
    errors = {name: "is not a parameter of this address" for name in query if name not in _PARAMETERS}
    limit = query.get("limit", "50")
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= PAGE_LIMIT:
        errors["limit"] = f"must be a number from 1 to {PAGE_LIMIT}"
    status = query.get("status", "")
    if status and status not in _STATUS_NUMBERS:
        errors["status"] = "must be open or closed"
    before = _cursor(query.get("cursor", ""), errors)
    source_id = principal.source.id if principal.source is not None else None
    if slug := query.get("source"):
        source = services.config.current.sources.get(slug)
        if source is None or (source_id is not None and source.id != source_id):
            errors["source"] = "is not one of your sources"
        else:
            source_id = source.id
    if errors:
        raise Problem("invalid-fields", errors=errors)
    tickets, has_more = await stored.read_page(
        services.read_pool,
        before=before,
        source_id=source_id,
        status=_STATUS_NUMBERS[status] if status else None,
        limit=int(limit),
    )
    links: dict[uuid.UUID, list[LinkRow]] = {}
    for link in await stored.read_links(services.read_pool, [ticket.id for ticket in tickets]):
        links.setdefault(link.ticket_id, []).append(link)
    views = [_ticket_view(ticket, links.get(ticket.id, []), None) for ticket in tickets]
    return json_response(200, TicketPage(views, str(tickets[-1].id) if has_more else None))


_PARAMETERS = frozenset({"limit", "status", "cursor", "source"})


async def close(request: web.Request) -> web.Response:
    """Close a ticket and its issues, and notify its reporter."""
    services, principal = services_of(request), authenticate(request)
    ticket = await _requested_ticket(request, services, principal)
    raw = await body.read(request, body.API_LIMIT, services.admission.report_memory, services.timeouts)
    close_body = convert_body(decode(raw), CloseBody) if raw.strip() else CloseBody()
    async with services.admission.queries.slot():
        await services.tracker_updates.set_ticket_state(
            ticket.id, "closed", close_body.reason, principal.name
        )
    services.signals.emit(WorkAvailable())
    return await get(request)


async def reopen(request: web.Request) -> web.Response:
    """Reopen a ticket and its issues, and notify its reporter."""
    services, principal = services_of(request), authenticate(request)
    ticket = await _requested_ticket(request, services, principal)
    async with services.admission.queries.slot():
        await services.tracker_updates.set_ticket_state(ticket.id, "open", None, principal.name)
    services.signals.emit(WorkAvailable())
    return await get(request)


def _ticket_view(
    ticket: TicketRow, links: Sequence[LinkRow], events: Sequence[EventRow] | None
) -> TicketView:
    return TicketView(
        id=str(ticket.id),
        kind=TicketKind(ticket.kind).name.lower(),
        source=ticket.source,
        title=ticket.title,
        status=_STATES[TicketStatus(ticket.status)],
        close_reason=ticket.close_reason,
        opened_at=ticket.opened_at,
        last_seen_at=ticket.last_seen_at,
        closed_at=ticket.closed_at,
        occurrences=ticket.occurrences,
        links=[_link_view(link) for link in links],
        events=None
        if events is None
        else [EventBody(event.number, event.kind, event.at, json.loads(event.data)) for event in events],
        events_next=events[-1].number if events and events[-1].number < events[-1].last else None,
        description=ticket.description,
        url=ticket.url,
        level=ticket.level,
        environment=ticket.environment,
        release=ticket.release,
        reporter=RequesterView(ticket.reporter_email, ticket.reporter_name),
    )


def _link_view(link: LinkRow) -> LinkBody:
    has_problem = link.lane_state == LaneState.PARKED or link.last_error is not None
    return LinkBody(
        destination=link.destination,
        tracker=link.tracker,
        state=_LINK_STATES[LinkState(link.link_state)] if link.link_state is not None else "pending",
        key=link.issue_key,
        url=link.issue_url or None,
        issue_state=_STATES[TicketStatus(link.issue_state)] if link.issue_state is not None else None,
        problem=(link.last_error or link.park_reason) if has_problem else None,
    )


async def _requested_ticket(request: web.Request, services: Services, principal: Principal) -> TicketRow:
    """Return the ticket in the address. Raises 404 if the caller may not see it."""
    try:
        ticket_id = uuid.UUID(request.match_info["ticket"])
    except ValueError:
        raise Problem("not-found", "there is no such ticket") from None
    ticket = await stored.read_ticket(services.read_pool, ticket_id)
    if ticket is None or (principal.source is not None and ticket.source_id != principal.source.id):
        raise Problem("not-found", "there is no such ticket")
    add_log_fields(request, ticket=str(ticket_id), source=ticket.source)
    return ticket


async def _submit(
    request: web.Request, source: LiveSource, report: Report, raw: bytes, operation: str, kind: TicketKind
) -> ReportResult:
    """Submit a report to the intake and return its result once it is committed."""
    services = services_of(request)
    key = idempotency_key(request, operation)
    headers = kept_headers(source, request.headers)
    incoming = services.preparer.prepare(
        source, report, raw, headers, key=key or f"unique\n{uuid.uuid4()}", kind=kind
    )
    result = await services.intake.submit(incoming)
    if result.repeated and not result.same_body:
        raise Problem("key-reused", "send the same body again, or another key")
    if result.parked:
        raise Problem("internal", f"the request is stored as report {result.report_id} for the operators")
    services.metrics.reports.labels(source.slug, "repeated" if result.repeated else "accepted").inc()
    add_log_fields(request, report=str(result.report_id), ticket=str(result.ticket_id), source=source.slug)
    return result


def _requested_source(services: Services, principal: Principal, request: web.Request) -> LiveSource:
    """Return the caller's source; for operators, the one they select or the only one that has tickets."""
    if principal.source is not None:
        return principal.source
    owners = [source for source in services.config.current.sources.values() if source.owns_tickets]
    slug = request.query.get("source")
    if slug is not None:
        owners = [source for source in owners if source.slug == slug]
    if len(owners) != 1:
        raise Problem("invalid-fields", errors={"source": "add ?source=SLUG of a source of kind tickets"})
    return owners[0]


def _cursor(text: str, errors: dict[str, str]) -> uuid.UUID | None:
    if not text:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        errors["cursor"] = "must be `next` of another page"
        return None
