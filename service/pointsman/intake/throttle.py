"""Throttle the new tickets of sources: what exceeds a rate window is listed in a summary ticket."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.domain import ticket_throttle
from pointsman.domain.ticket import Changes, DeliveryTargets, Ticket
from pointsman.domain.ticket_throttle import RateWindow
from pointsman.storage import ticket_throttle as store
from pointsman.storage.db import Connection
from pointsman.storage.delivery_writer import TicketState, lock_tracker_destinations, state_of


class IssueRequest(msgspec.Struct, frozen=True):
    """A ticket that needs an issue. ``rate_limit``: most tickets of its source in a minute; 0: no limit."""

    ticket: Ticket
    source_slug: str
    rate_limit: int
    destination_ids: tuple[int, ...]


class ThrottleResult(msgspec.Struct):
    """The tickets that are throttled, those released from a throttle or threshold, and the changed summary tickets."""

    throttled: set[uuid.UUID] = set()
    released: set[uuid.UUID] = set()
    summaries: list[Ticket] = []
    stored_states: dict[uuid.UUID, TicketState] = {}
    window_ends: dict[uuid.UUID, dt.datetime] = {}
    """When the rate window of each summary ticket ends."""
    started: list[str] = []
    """Slugs of the sources whose throttle starts."""


async def admit(
    con: Connection,
    new: Sequence[IssueRequest],
    recurring: Sequence[IssueRequest],
    changes: Changes,
    mail_id: int | None,
) -> ThrottleResult:
    """Admit tickets as far as the rate windows of their sources allow, and list the rest in summary tickets.

    ``new`` tickets come first; ``recurring`` are tickets without an issue that were reported again. A window is locked
    only if it may change.
    """
    result = ThrottleResult()
    not_throttled = await _sources_not_throttled(con, recurring)
    result.released.update(request.ticket.id for request in recurring if not request.rate_limit)
    by_source: dict[int, tuple[list[IssueRequest], list[IssueRequest]]] = {}
    for request in new:
        by_source.setdefault(request.ticket.source_id, ([], []))[0].append(request)
    for request in recurring:
        if request.ticket.source_id in not_throttled:
            by_source.setdefault(request.ticket.source_id, ([], []))[1].append(request)
    if not by_source:
        return result
    locked = await store.lock_rate_windows(con, sorted(by_source))
    changed: dict[int, RateWindow] = {}
    for source_id, (new_of_source, recurring_of_source) in sorted(by_source.items()):
        window, now = locked[source_id]
        limit = (new_of_source or recurring_of_source)[0].rate_limit
        window = ticket_throttle.window_at(window, now, limit)
        window, admission = ticket_throttle.admit_tickets(
            window, limit, new=len(new_of_source), recurring=len(recurring_of_source)
        )
        result.released.update(request.ticket.id for request in recurring_of_source[: admission.released])
        if admission.throttled:
            surplus = new_of_source[admission.admitted :]
            window = await _add_to_summary(con, source_id, window, surplus, result, changes, mail_id)
        changed[source_id] = window
    await store.write_rate_windows(con, changed)
    return result


async def _sources_not_throttled(con: Connection, recurring: Sequence[IssueRequest]) -> set[int]:
    """Return the sources with a rate limit that are not throttled now."""
    limits = {request.ticket.source_id: request.rate_limit for request in recurring if request.rate_limit}
    if not limits:
        return set()
    windows = await store.rate_windows(con, list(limits))
    return {
        source_id
        for source_id, limit in limits.items()
        if source_id not in windows
        or ticket_throttle.window_at(*windows[source_id], limit).summary_ticket_id is None
    }


async def _add_to_summary(
    con: Connection,
    source_id: int,
    window: RateWindow,
    surplus: Sequence[IssueRequest],
    result: ThrottleResult,
    changes: Changes,
    mail_id: int | None,
) -> RateWindow:
    """List tickets in the summary ticket of their source. Return the window with the id of the summary ticket."""
    first = surplus[0]
    if window.summary_ticket_id is None:
        summary_id = await store.open_summary_ticket(
            con,
            source_id,
            ticket_throttle.fingerprint(window),
            ticket_throttle.title(first.source_slug, first.rate_limit),
        )
        window = msgspec.structs.replace(window, summary_ticket_id=summary_id)
        result.started.append(first.source_slug)
    assert window.summary_ticket_id is not None
    summary = await store.add_throttled(con, window.summary_ticket_id, len(surplus))
    result.summaries.append(summary)
    result.stored_states[summary.id] = state_of(summary)
    trackers: tuple[int, ...] = ()
    unsent: set[int] = set()
    if summary.next_event > 1:
        trackers = (await lock_tracker_destinations(con, [summary.id]))[summary.id]
        unsent = await store.destinations_with_unsent(con, summary.id)
        result.window_ends[summary.id] = window.ends_at
    wanted = list(
        dict.fromkeys(destination_id for request in surplus for destination_id in request.destination_ids)
    )
    ticket_throttle.apply_throttle(
        summary, wanted, DeliveryTargets(trackers, mail_id), unsent, changes, limit=first.rate_limit
    )
    for request in surplus:
        request.ticket.summary_ticket_id = summary.id
        result.throttled.add(request.ticket.id)
    return window
