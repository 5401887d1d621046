"""Find a ticket by any reference that an operator may have, and read its history."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pointsman.domain.routing import Route
from pointsman.domain.states import TicketStatus
from pointsman.errors import PointsmanError
from pointsman.operations.history.build import build_history, build_report_history
from pointsman.operations.history.model import TicketHistory
from pointsman.storage import config
from pointsman.storage import explain as store
from pointsman.storage.db import Database
from pointsman.storage.explain import StoredReportRow, TicketSummaryRow

_DELIVERY = re.compile(r"([0-9]{1,18})/[0-9]{1,18}")


async def explain(database: Database, reference: str) -> TicketHistory:
    """Return the history behind a ticket's id, a report's id, a delivery, an issue's key or URL, or a fingerprint.

    Raises PointsmanError if the reference is unknown or names more than one ticket.
    """
    reference = reference.strip()
    report, ticket_ids = await _find(database, reference)
    if report is not None and report.ticket_id is None:
        return build_report_history(report)
    if not ticket_ids:
        raise PointsmanError(
            f"{reference!r} is no ticket, report, delivery, issue or fingerprint that is known. Reports are kept for 14"
            " days; one that was refused (4xx, 5xx) is not kept: see the log"
        )
    if len(ticket_ids) > 1:
        names = [_summary(row) for row in await store.ticket_summaries(database, ticket_ids)]
        raise PointsmanError(f"{reference!r} names several tickets, give the id of one: {'; '.join(names)}")
    history = await ticket_history(database, ticket_ids[0], report)
    if history is None:
        raise PointsmanError(f"the ticket of {reference!r} was removed")
    return history


async def ticket_history(
    database: Database,
    ticket_id: uuid.UUID,
    report: StoredReportRow | None = None,
    *,
    events_before: int | None = None,
) -> TicketHistory | None:
    """Return a ticket's history with its newest events, or None if there is no such ticket.

    ``report`` is the report it is requested by; ``events_before`` selects older events.
    """
    rows = await store.read_history(database, ticket_id, events_before=events_before)
    if rows is None:
        return None
    routes, slugs = await _routes(database)
    return build_history(rows, routes, slugs, report)


async def _find(database: Database, reference: str) -> tuple[StoredReportRow | None, Sequence[uuid.UUID]]:
    """Return the report if the reference is its id, and the ids of the tickets that the reference names."""
    if delivery := _DELIVERY.fullmatch(reference):
        ticket_id = await store.ticket_of_lane(database, int(delivery[1]))
        return None, [ticket_id] if ticket_id is not None else []
    if (known_id := _uuid(reference)) is not None:
        if await store.ticket_exists(database, known_id):
            return None, [known_id]
        if (report := await store.report(database, known_id)) is not None:
            return report, [report.ticket_id] if report.ticket_id is not None else []
    keys, url = _issue_keys(reference)
    ticket_ids = await store.tickets_of_issue(database, keys, url)
    for fingerprint in [] if ticket_ids else _fingerprints(reference):
        ticket_ids += await store.tickets_of_fingerprint(database, fingerprint)
    return None, ticket_ids


def _issue_keys(reference: str) -> tuple[list[str], str | None]:
    """Return the issue keys that a reference may mean, and the reference itself if it is a URL."""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return [reference], None
    if not parts.scheme or not (parts.netloc or parts.scheme == "file"):
        return [reference, reference.removeprefix("#"), f"#{reference}"], None
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return [last, f"#{last}"], reference


def _fingerprints(reference: str) -> list[str]:
    """Return the fingerprints that a reference may mean: itself, or the origin and id in an error tracker's URL."""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return [reference]
    ids = [segment for segment in parts.path.split("/") if len(segment) == 36 and _uuid(segment) is not None]
    return [
        reference,
        *(f"{parts.scheme}://{parts.netloc} {problem_id}".lower() for problem_id in ids if parts.netloc),
    ]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


async def _routes(database: Database) -> tuple[list[Route], dict[int, str]]:
    """Return the current routes and the slugs of destinations by id."""
    rows = await config.load(database)
    ids = {destination.slug: destination.id for destination in rows.destinations}
    routes = [row.to_route(ids) for row in rows.routes]
    return routes, {number: slug for slug, number in ids.items()}


def _summary(row: TicketSummaryRow) -> str:
    status = TicketStatus(row.status).name.lower()
    return f"{row.id} ({row.source}, generation {row.generation}, {status}: {row.title[:60]})"
