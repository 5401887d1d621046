"""A ticket, and what a report or a tracker's news makes of it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pointsman.domain.states import DeliveryKind, TicketKind, TicketStatus
from pointsman.plugin_api import CloseReason, Report, State


class Ticket(msgspec.Struct):
    """A ticket as it stands while it is locked."""

    id: uuid.UUID
    source_id: int
    kind: TicketKind
    fingerprint: str
    generation: int
    status: TicketStatus
    close_reason: str | None
    next_event: int
    reporter_email: str = ""
    summary_ticket_id: uuid.UUID | None = None
    """The ticket of the storm that it is listed in; it has no issue of its own then."""
    below_threshold: bool = False
    """It is counted and goes nowhere, as long as it is below the threshold of every route that would take it."""
    recurrence_announced: bool = False
    """It came back since it was closed and stays closed: that was said once, and is only counted from then on."""
    release: str = ""
    """The release that was reported last while it was open; empty if it is not known."""
    closed_seconds: float = 0.0
    """How long it has been closed, if it is."""
    predecessor: dict[str, Any] | None = None
    """The ticket that this one follows, and where its issues are, until this one is opened."""


class Event(msgspec.Struct, frozen=True):
    """A fact about a ticket, numbered within it."""

    ticket_id: uuid.UUID
    n: int
    kind: str
    data: dict[str, Any]
    report_id: uuid.UUID | None = None


class PlannedDelivery(msgspec.Struct, frozen=True):
    """A delivery to be: which event goes where, as what."""

    ticket_id: uuid.UUID
    destination_id: int
    event_n: int
    kind: DeliveryKind
    coalesce_key: str | None = None
    """It may take the place of an older one with the same key, the last of its lane, that was never sent."""
    coalesced_count: int = 0
    """Earlier events that it stands for too."""
    due_at: dt.datetime | None = None
    """It waits until then, unless its lane is at work anyway."""


class Changes(msgspec.Struct):
    """Events and promises, in order, gathered over one transaction."""

    events: list[Event] = []
    deliveries: list[PlannedDelivery] = []


class DeliveryTargets(msgspec.Struct, frozen=True):
    """Where a ticket's deliveries go: the destinations it has or is routed to, and the one for mail."""

    trackers: Sequence[int]
    mail: int | None
    throttled_destinations: Sequence[int] = ()
    """Where a ticket that is held back in a storm would have gone."""
    below_threshold: bool = False
    """A new ticket is below its threshold: it is counted and goes nowhere yet."""
    occurrences: int = 0
    """How often a ticket that was held was reported when it reached its threshold."""


NON_OCCURRENCES = ("commented", "resolved")
"""Actions that are no occurrence of the problem."""

REPEATS = ("opened", "recurred")
"""Actions that say no more than that it happened."""

RESOLVED = "resolved"
"""The collapse key of the news that a problem is over."""

RECURRENCE_KEY = "again"
"""The collapse key of our own news that a problem is back: a tracker that was away for days gets one comment."""


def coalesce(promises: Sequence[PlannedDelivery]) -> list[PlannedDelivery]:
    """The promises of one lane, those in a row with the same collapse key as one, the last. A key stays with the last
    that has it.
    """
    folded: list[PlannedDelivery] = []
    last: dict[str, int] = {}
    for promise in promises:
        one, key = promise, promise.coalesce_key
        if key is not None:
            if folded and folded[-1].coalesce_key == key:
                one = msgspec.structs.replace(one, coalesced_count=folded.pop().coalesced_count + 1 + one.coalesced_count)
            elif key in last:
                folded[last[key]] = msgspec.structs.replace(folded[last[key]], coalesce_key=None)
            last[key] = len(folded)
        folded.append(one)
    return folded


def _say(
    ticket: Ticket, decided: Changes, kind: str, data: dict[str, Any], report_id: uuid.UUID | None = None
) -> int:
    """Add an event; its number."""
    n = ticket.next_event
    ticket.next_event += 1
    decided.events.append(Event(ticket.id, n, kind, data, report_id))
    return n


def _to_trackers(
    ticket: Ticket,
    decided: Changes,
    n: int,
    kind: DeliveryKind,
    places: DeliveryTargets,
    *,
    but: int | None = None,
    key: str | None = None,
) -> None:
    for destination in places.trackers:
        if destination != but:
            decided.deliveries.append(PlannedDelivery(ticket.id, destination, n, kind, key))


def _say_again(ticket: Ticket, decided: Changes, n: int, places: DeliveryTargets) -> None:
    """Tell the trackers that a problem is back. What is said of a person's request is never left out."""
    key = RECURRENCE_KEY if ticket.kind is TicketKind.ALERT else None
    _to_trackers(ticket, decided, n, DeliveryKind.COMMENT, places, key=key)


def _to_owner(ticket: Ticket, decided: Changes, n: int, places: DeliveryTargets) -> None:
    if ticket.reporter_email and places.mail is not None:
        decided.deliveries.append(PlannedDelivery(ticket.id, places.mail, n, DeliveryKind.MAIL))


def opening_data(report: Report) -> dict[str, Any]:
    """What the issue is made from later, kept with the event that opened the ticket."""
    data: dict[str, Any] = {"action": report.action}
    for name in ("text", "code", "url", "level", "environment", "release", "problem_id", "event_id"):
        if value := getattr(report, name):
            data[name] = value
    if report.seen_at is not None:
        data["seen_at"] = report.seen_at.isoformat()
    if report.facts:
        data["facts"] = [list(fact) for fact in report.facts]
    return data


def apply_report(
    ticket: Ticket,
    report: Report,
    report_id: uuid.UUID,
    places: DeliveryTargets,
    decided: Changes,
    then: Literal["reopen", "new", "comment", "ignore"] = "reopen",
) -> None:
    """What a report makes of its ticket. A ticket without events yet is new: any report opens it.

    A repeat of an open problem is counted and makes no noise. ``then`` says what is done with one that comes back after
    it was closed; a ``new`` ticket was made before. A ticket that is listed in a storm, or held below a threshold, has no
    places, until it may have an issue of its own.
    """
    if ticket.next_event == 1:
        _begin(ticket, report, report_id, places, decided)
        return
    if report.action not in NON_OCCURRENCES:
        if ticket.status is TicketStatus.CLOSED and then in ("comment", "ignore"):
            _stay_closed(ticket, report, report_id, places, decided, says=then == "comment")
            return
        if (ticket.summary_ticket_id is not None or ticket.below_threshold) and places.trackers:
            _single_out(ticket, report, report_id, places, decided)
            return
    if report.action in REPEATS and ticket.status is TicketStatus.OPEN:
        return
    data = opening_data(report)
    match report.action:
        case "commented":
            author = {"name": report.person.name, "email": report.person.email} if report.person else {}
            n = _say(ticket, decided, "commented", {"body": report.text, "author": author}, report_id)
            _to_trackers(ticket, decided, n, DeliveryKind.COMMENT, places)
        case "resolved":
            _resolve(ticket, report, data, report_id, places, decided)
        case "unmuted" | "regressed":
            # loud again: a ticket that was closed meanwhile is open again
            n = _say(ticket, decided, report.action, data, report_id)
            if ticket.status is TicketStatus.CLOSED:
                _reopen(ticket, decided, n, places)
            _say_again(ticket, decided, n, places)
        case _:
            n = _say(ticket, decided, "recurred", data, report_id)
            _reopen(ticket, decided, n, places)
            _say_again(ticket, decided, n, places)


def _begin(ticket: Ticket, report: Report, report_id: uuid.UUID, places: DeliveryTargets, decided: Changes) -> None:
    data = opening_data(report)
    if ticket.summary_ticket_id is not None:
        data["throttle"] = str(ticket.summary_ticket_id)
        data["routed"] = list(places.throttled_destinations)
    if places.below_threshold:
        data["below_threshold"] = ticket.below_threshold = True
    if ticket.predecessor is not None:
        data["earlier"] = ticket.predecessor
    n = _say(ticket, decided, "opened", data, report_id)
    _to_trackers(ticket, decided, n, DeliveryKind.CREATE, places)


def may_plan_deliveries(ticket: Ticket, report: Report) -> bool:
    """Whether a report on a ticket that has events can lead to deliveries; if not, nobody need ask where to."""
    if report.action == "resolved":
        return ticket.status is TicketStatus.OPEN
    return report.action not in REPEATS or ticket.status is TicketStatus.CLOSED


def _single_out(
    ticket: Ticket, report: Report, report_id: uuid.UUID, places: DeliveryTargets, decided: Changes
) -> None:
    """A problem of a storm that is over was reported again, or one reached its threshold, and gets its own issue."""
    data = opening_data(report)
    if ticket.summary_ticket_id is not None:
        data["throttle"] = str(ticket.summary_ticket_id)
        n = _say(ticket, decided, "singled_out", data, report_id)
    else:
        data["times"] = places.occurrences
        n = _say(ticket, decided, "posted", data, report_id)
    ticket.summary_ticket_id, ticket.below_threshold = None, False
    _to_trackers(ticket, decided, n, DeliveryKind.CREATE, places)
    if ticket.status is TicketStatus.CLOSED:
        _open(ticket)
        _to_owner(ticket, decided, n, places)


def _stay_closed(
    ticket: Ticket, report: Report, report_id: uuid.UUID, places: DeliveryTargets, decided: Changes, *, says: bool
) -> None:
    """A problem came back whose ticket stays closed. That is said once, so that a loud one fills neither the tracker nor
    our tables; news of its own kind (it regressed, it was unmuted) is said each time where anything is.
    """
    repeat = report.action in REPEATS or not says
    if ticket.recurrence_announced and repeat:
        return
    ticket.recurrence_announced = True
    if not says:
        data = {"action": report.action, "reason": ticket.close_reason}
        if report.seen_at is not None:
            data["seen_at"] = report.seen_at.isoformat()
        _say(ticket, decided, "ignored", data, report_id)
        return
    kind = "recurred" if repeat else report.action
    n = _say(ticket, decided, kind, {**opening_data(report), "stays": ticket.close_reason}, report_id)
    _say_again(ticket, decided, n, places)


def _resolve(
    ticket: Ticket,
    report: Report,
    data: dict[str, Any],
    report_id: uuid.UUID,
    places: DeliveryTargets,
    decided: Changes,
) -> None:
    """The source says that the problem is over. Of a closed ticket that is no news; an open one is closed only where the
    report says so.
    """
    if ticket.status is TicketStatus.CLOSED:
        return
    n = _say(ticket, decided, "resolved", data, report_id)
    _to_trackers(ticket, decided, n, DeliveryKind.COMMENT, places, key=RESOLVED)
    if report.close_reason is not None:
        apply_state(ticket, "closed", report.close_reason, places, decided, seen_at=None, by={"by": "source"})


def _open(ticket: Ticket) -> None:
    ticket.status, ticket.close_reason, ticket.recurrence_announced = TicketStatus.OPEN, None, False


def _reopen(ticket: Ticket, decided: Changes, n: int, places: DeliveryTargets) -> None:
    _open(ticket)
    _to_trackers(ticket, decided, n, DeliveryKind.REOPEN, places)
    _to_owner(ticket, decided, n, places)


def apply_state(
    ticket: Ticket,
    state: State,
    reason: CloseReason | None,
    places: DeliveryTargets,
    decided: Changes,
    *,
    seen_at: int | None,
    by: dict[str, Any],
) -> bool:
    """What the news that its issue (at destination ``seen_at``), or a person, closed or reopened a ticket makes of it.

    The other issues of the ticket follow, and its owner is told. Whether anything changed.
    """
    if state == "closed" and ticket.status is TicketStatus.OPEN:
        ticket.status, ticket.close_reason = TicketStatus.CLOSED, reason or "completed"
        ticket.closed_seconds = 0.0
        n = _say(ticket, decided, "closed", {"reason": ticket.close_reason, **by})
        _to_trackers(ticket, decided, n, DeliveryKind.CLOSE, places, but=seen_at)
    elif state == "open" and ticket.status is TicketStatus.CLOSED:
        _open(ticket)
        n = _say(ticket, decided, "reopened", by)
        _to_trackers(ticket, decided, n, DeliveryKind.REOPEN, places, but=seen_at)
    else:
        return False
    _to_owner(ticket, decided, n, places)
    return True
