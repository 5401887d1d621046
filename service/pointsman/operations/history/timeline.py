"""List everything that happened to a ticket in order of time: events, deliveries and attempts. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

from pointsman.operations.history.model import (
    Attempt,
    Delivery,
    DestinationHistory,
    Event,
    TicketHistory,
)
from pointsman.operations.outcomes import StatusMessage, destination_label

_RANK = {"event": 0, "delivery": 1, "attempt": 2}
NO_STATUS = StatusMessage("", "calm")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the timeline. ``event`` is set for events alone, whose texts are untrusted."""

    at: dt.datetime
    kind: Literal["event", "delivery", "attempt"]
    title: str
    status: StatusMessage = NO_STATUS
    message: str = ""
    error: str = ""
    command: str = ""
    event: Event | None = None
    seconds: float | None = None
    """How long an attempt took."""
    due_at: dt.datetime | None = None
    done_at: dt.datetime | None = None
    count: int = 1
    last_at: dt.datetime | None = None
    """When the last of several consecutive attempts started."""


def timeline(history: TicketHistory, *, events_before: int | None = None) -> list[Entry]:
    """Return the entries, oldest first. At the same time, an event precedes its deliveries and their attempts.

    If the history has a part of the events, only their deliveries are entries; ``events_before`` is the number after it.
    """
    entries = [_event(event) for event in history.events]
    for destination in history.destinations:
        for delivery in destination.deliveries:
            if not _is_in_part(delivery, history.older_events or 0, events_before):
                continue
            if delivery.created_at is not None:
                entries.append(_delivery(destination, delivery, delivery.created_at))
            entries += [_attempt(destination, delivery, attempt) for attempt in delivery.attempts]
    entries.sort(key=lambda entry: (entry.at, _RANK[entry.kind]))
    return entries


def _is_in_part(delivery: Delivery, first_event: int, events_before: int | None) -> bool:
    number = delivery.event_number
    if number is None:
        return events_before is None
    return number >= first_event and (events_before is None or number < events_before)


def _event(event: Event) -> Entry:
    return Entry(at=event.at, kind="event", title=event.title, message=event.message, event=event)


def _delivery(destination: DestinationHistory, delivery: Delivery, at: dt.datetime) -> Entry:
    notes = (f"{note[:1].upper()}{note[1:]}." for note in delivery.notes)
    return Entry(
        at=at,
        kind="delivery",
        title=f"Delivery to {destination_label(destination.destination)}: {delivery.action}",
        status=delivery.status,
        message=" ".join(filter(None, (delivery.status.message, *notes))),
        command=delivery.command,
        due_at=delivery.due_at,
        done_at=delivery.done_at if delivery.state == "done" else None,
    )


def _attempt(destination: DestinationHistory, delivery: Delivery, attempt: Attempt) -> Entry:
    error = attempt.error
    if attempt.http_status is not None and str(attempt.http_status) not in error:
        error = f"{error} (status {attempt.http_status})".strip()
    seconds = max(0.0, (attempt.ended_at - attempt.started_at).total_seconds())
    return Entry(
        at=attempt.started_at,
        kind="attempt",
        title=f"Attempt at {destination_label(destination.destination)}: {delivery.action}",
        status=attempt.status,
        message=attempt.status.message,
        error=error,
        seconds=seconds if attempt.count == 1 else None,
        count=attempt.count,
        last_at=attempt.last_started_at,
    )
