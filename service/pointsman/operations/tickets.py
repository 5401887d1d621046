"""List tickets with the state of their issues."""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec

from pointsman.content.sanitize import one_line
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.operations.history.lane_status import backs_off_until, issue_status
from pointsman.operations.outcomes import StatusMessage
from pointsman.storage import destinations
from pointsman.storage import tickets as store
from pointsman.storage.db import Database


class IssueSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's issue at one destination. ``key`` is empty if there is no issue yet."""

    destination: str
    tracker: str
    key: str
    url: str
    closed: bool
    status: StatusMessage


class TicketSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket in a list."""

    id: uuid.UUID
    kind: str
    status: str
    source: str
    title: str
    occurrences: int
    opened_at: dt.datetime
    last_seen_at: dt.datetime
    issues: tuple[IssueSummary, ...]


async def list_tickets(
    database: Database,
    *,
    before: uuid.UUID | None = None,
    status: int | None = None,
    kind: int | None = None,
    limit: int = 50,
    now: dt.datetime | None = None,
) -> list[TicketSummary]:
    """Return tickets, newest first, older than the cursor ``before``."""
    now = now or dt.datetime.now(dt.UTC)
    rows = await store.read_summaries(database, before=before, status=status, kind=kind, limit=limit)
    links = await store.read_links(database, [row.id for row in rows]) if rows else []
    states = {row.slug: row for row in await destinations.list_status(database)} if links else {}
    issues: dict[uuid.UUID, list[IssueSummary]] = {}
    for link in links:
        state = states.get(link.destination)
        summary = IssueSummary(
            destination=link.destination,
            tracker=link.tracker,
            key=one_line(link.issue_key or "", 120),
            url=link.issue_url or "",
            closed=link.issue_state == TicketStatus.CLOSED,
            status=issue_status(
                link_state=link.link_state,
                issue=link.issue_key or "",
                lane_state=link.lane_state,
                park_reason=link.park_reason,
                last_outcome=link.last_outcome,
                retired=state is not None and state.retired,
                pause_reason=state.pause_reason if state is not None else None,
                backing_off=state is not None
                and backs_off_until(state.breaker, state.open_until, state.blocked_until, now) is not None,
            ),
        )
        issues.setdefault(link.ticket_id, []).append(summary)
    return [
        TicketSummary(
            id=row.id,
            kind=TicketKind(row.kind).name.lower(),
            status=TicketStatus(row.status).name.lower(),
            source=row.source,
            title=row.title,
            occurrences=row.occurrences,
            opened_at=row.opened_at,
            last_seen_at=row.last_seen_at,
            issues=tuple(issues.get(row.id, ())),
        )
        for row in rows
    ]
