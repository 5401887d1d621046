"""A ticket, and what a report or a tracker's news makes of it."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.plugin_api import CloseReason, Report, State


class TicketKind(enum.IntEnum):
    """What a ticket is about; the numbers stand in the database."""

    ALERT = 1
    SUPPORT = 2


class Status(enum.IntEnum):
    """Whether a ticket is open; the numbers stand in the database."""

    OPEN = 1
    CLOSED = 2


class Kind(enum.IntEnum):
    """What a delivery does; the numbers stand in the database."""

    CREATE = 1
    COMMENT = 2
    CLOSE = 3
    REOPEN = 4
    UPDATE = 5
    MAIL = 6


@dataclass(slots=True)
class Ticket:
    """A ticket as it stands while it is locked."""

    id: uuid.UUID
    source_id: int
    kind: TicketKind
    fingerprint: str
    generation: int
    status: Status
    close_reason: str | None
    next_event: int
    reporter_email: str = ""


@dataclass(slots=True, frozen=True)
class Event:
    """A fact about a ticket, numbered within it."""

    ticket_id: uuid.UUID
    n: int
    kind: str
    data: dict[str, Any]
    report_id: uuid.UUID | None = None


@dataclass(slots=True, frozen=True)
class Promise:
    """A delivery to be: which event goes where, as what."""

    ticket_id: uuid.UUID
    destination_id: int
    event_n: int
    kind: Kind


@dataclass(slots=True)
class Decided:
    """Events and promises, in order, gathered over one transaction."""

    events: list[Event] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Places:
    """Where a ticket's deliveries go: the destinations it has or is routed to, and the one for mail."""

    trackers: Sequence[int]
    mail: int | None


def _say(
    ticket: Ticket, decided: Decided, kind: str, data: dict[str, Any], report_id: uuid.UUID | None = None
) -> int:
    """Add an event; its number."""
    n = ticket.next_event
    ticket.next_event += 1
    decided.events.append(Event(ticket.id, n, kind, data, report_id))
    return n


def _to_trackers(
    ticket: Ticket, decided: Decided, n: int, kind: Kind, places: Places, *, but: int | None = None
) -> None:
    decided.promises.extend(
        Promise(ticket.id, destination, n, kind) for destination in places.trackers if destination != but
    )


def _to_owner(ticket: Ticket, decided: Decided, n: int, places: Places) -> None:
    if ticket.reporter_email and places.mail is not None:
        decided.promises.append(Promise(ticket.id, places.mail, n, Kind.MAIL))


def opening_data(report: Report) -> dict[str, Any]:
    """What the issue is made from later, kept with the event that opened the ticket."""
    data: dict[str, Any] = {"action": report.action}
    for name in ("text", "code", "url", "level", "environment", "release"):
        if value := getattr(report, name):
            data[name] = value
    if report.facts:
        data["facts"] = [list(fact) for fact in report.facts]
    return data


def on_report(ticket: Ticket, report: Report, report_id: uuid.UUID, places: Places, decided: Decided) -> None:
    """What a report makes of its ticket. A ticket without events yet is new: any report opens it.

    A repeat of an open problem is counted and makes no noise. A problem that comes back after it was closed reopens
    its ticket.
    """
    if ticket.next_event == 1:
        n = _say(ticket, decided, "opened", opening_data(report), report_id)
        _to_trackers(ticket, decided, n, Kind.CREATE, places)
        return
    data = opening_data(report)
    match report.action:
        case "commented":
            author = {"name": report.person.name, "email": report.person.email} if report.person else {}
            n = _say(ticket, decided, "commented", {"body": report.text, "author": author}, report_id)
            _to_trackers(ticket, decided, n, Kind.COMMENT, places)
        case "unmuted" | "regressed":
            # loud again: a ticket that was closed meanwhile is open again
            n = _say(ticket, decided, report.action, data, report_id)
            if ticket.status is Status.CLOSED:
                _reopen(ticket, decided, n, places)
            _to_trackers(ticket, decided, n, Kind.COMMENT, places)
        case _:
            if ticket.status is Status.CLOSED:
                n = _say(ticket, decided, "recurred", data, report_id)
                _reopen(ticket, decided, n, places)
                _to_trackers(ticket, decided, n, Kind.COMMENT, places)


def _reopen(ticket: Ticket, decided: Decided, n: int, places: Places) -> None:
    ticket.status, ticket.close_reason = Status.OPEN, None
    _to_trackers(ticket, decided, n, Kind.REOPEN, places)
    _to_owner(ticket, decided, n, places)


def on_state(
    ticket: Ticket,
    state: State,
    reason: CloseReason | None,
    places: Places,
    decided: Decided,
    *,
    seen_at: int | None,
    by: dict[str, Any],
) -> bool:
    """What the news that its issue (at destination ``seen_at``), or a person, closed or reopened a ticket makes of it.

    The other issues of the ticket follow, and its owner is told. Whether anything changed.
    """
    if state == "closed" and ticket.status is Status.OPEN:
        ticket.status, ticket.close_reason = Status.CLOSED, reason or "completed"
        n = _say(ticket, decided, "closed", {"reason": ticket.close_reason, **by})
        _to_trackers(ticket, decided, n, Kind.CLOSE, places, but=seen_at)
    elif state == "open" and ticket.status is Status.CLOSED:
        ticket.status, ticket.close_reason = Status.OPEN, None
        n = _say(ticket, decided, "reopened", by)
        _to_trackers(ticket, decided, n, Kind.REOPEN, places, but=seen_at)
    else:
        return False
    _to_owner(ticket, decided, n, places)
    return True
