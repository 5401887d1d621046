"""Render a ticket's history as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.content.sanitize import one_line
from pointsman.domain.retry_policy import Outcome
from pointsman.operations.history.model import Delivery, DestinationHistory, Event, TicketHistory
from pointsman.operations.history.timeline import Entry, timeline
from pointsman.operations.outcomes import format_time

ATTEMPTS_SHOWN = 10


def explanation_lines(history: TicketHistory) -> Iterator[str]:
    """Yield the reasons, the next step, and what happened at each destination."""
    yield from _head(history)
    yield from history.reasons
    if history.next_step:
        yield f"  next: {history.next_step}"
    yield "Reports and events (repeats that were only counted have no event)"
    if history.report is not None:
        report = history.report
        yield f"  {format_time(report.received_at)}  report {report.id} accepted; {report.message}"
    yield from _older(history)
    yield from map(_event, history.events)
    if history.ticket is not None:
        yield "Current routes (a ticket keeps the destinations it got when it was opened)"
        yield from (f"  route {route.position} {route.message}" for route in history.routes)
        if not history.routes:
            yield "  there are none"
    for destination in history.destinations:
        yield from _destination(destination)


def timeline_lines(history: TicketHistory) -> Iterator[str]:
    """Yield the issues, the reasons, and everything that happened in order of time."""
    yield from _head(history)
    yield from (f"  {_issue(entry)}" for entry in history.destinations if entry.kind == "tracker")
    yield from (f"  {reason}" for reason in history.reasons)
    yield from (
        f"  next at {entry.destination}: {entry.next_step}"
        for entry in history.destinations
        if entry.next_step
    )
    yield from _older(history)
    yield from map(_entry, timeline(history))


def _older(history: TicketHistory) -> Iterator[str]:
    if history.older_events is not None:
        yield f"  events before number {history.older_events} are not shown here; the console pages them"


def _head(history: TicketHistory) -> Iterator[str]:
    ticket = history.ticket
    if ticket is None:
        return
    yield f"{ticket.id}  {ticket.kind}  {ticket.status}  {one_line(ticket.title, 200)}"
    generation = f", generation {ticket.generation}" if ticket.generation > 1 else ""
    fingerprint = one_line(ticket.fingerprint, 300)
    yield f"  source {ticket.source}, occurrences: {ticket.occurrences}{generation}, fingerprint {fingerprint}"


def _event(event: Event) -> str:
    actor = f" by {event.actor}" if event.actor else ""
    report = f", report {event.report}" if event.report else ""
    return f"  {format_time(event.at)}  event {event.number}: {event.kind}{actor}{report}"


def _issue(destination: DestinationHistory) -> str:
    name = f"{destination.destination} ({destination.tracker})"
    if destination.kind != "tracker":
        return name
    issue = f"{destination.issue} {one_line(destination.url, 2000)}".strip() or "no issue yet"
    return f"{name}: {issue}"


def _destination(destination: DestinationHistory) -> Iterator[str]:
    yield _issue(destination)
    for delivery in destination.deliveries:
        yield f"  {delivery.id} {delivery.kind or 'delivery'}: {'; '.join(_delivery(delivery))}"
        omitted = len(delivery.attempts) - ATTEMPTS_SHOWN
        if omitted > 0:
            yield f"    {omitted} earlier attempts are not shown"
        for attempt in delivery.attempts[-ATTEMPTS_SHOWN:]:
            status = f" [{attempt.http_status}]" if attempt.http_status is not None else ""
            count = (
                f" ({attempt.count} times, the last at {format_time(attempt.last_started_at)})"
                if attempt.count > 1
                else ""
            )
            error = f"  {attempt.error}" if attempt.error else ""
            yield f"    {format_time(attempt.started_at)}  {one_line(attempt.outcome, 80)}{status}{count}{error}"
    yield from (f"  waits: {reason}" for reason in destination.waits_for)
    if destination.next_step:
        yield f"  next: {destination.next_step}"


def _delivery(delivery: Delivery) -> Iterator[str]:
    """Yield the facts about a delivery."""
    yield delivery.state
    if delivery.event_number is not None:
        yield f"of event {delivery.event_number}, created at {format_time(delivery.created_at)}"
    yield from delivery.notes
    if delivery.state == "done":
        by_marker = ", found by its marker" if delivery.outcome == Outcome.VERIFIED else ""
        yield f"done at {format_time(delivery.done_at)}{by_marker}"
        return
    if delivery.counted_attempts:
        yield f"counted attempts: {delivery.counted_attempts}"
    if delivery.resent_at is not None:
        yield f"sent again at {format_time(delivery.resent_at)}, after no search found the marker"
    if delivery.state == "dead":
        unknown = ", outcome unknown" if delivery.outcome_unknown else ""
        yield f"given up at {format_time(delivery.done_at)} as {delivery.outcome}{unknown}"
        if delivery.passed:
            yield f"its lane continued without it: `{delivery.command}` sends it last"
    elif delivery.blocked:
        yield "waits for the delivery before it"
    elif delivery.counted_attempts:
        yield f"given up at {format_time(delivery.expires_at)} at the earliest"


def _entry(entry: Entry) -> str:
    label = f" ({entry.status.label})" if entry.status.label else ""
    count = f", {entry.count} times until {format_time(entry.last_at)}" if entry.count > 1 else ""
    error = f": {entry.error}" if entry.error else ""
    return f"  {format_time(entry.at)}  {entry.title}{label}{count}{error}"
