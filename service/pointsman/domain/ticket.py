"""Tickets, and the events and deliveries that a report or a changed issue leads to."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pointsman.domain.states import DeliveryKind, TicketKind, TicketStatus
from pointsman.plugin_api import CloseReason, Report, State


class Ticket(msgspec.Struct):
    """A ticket while it is locked."""

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
    """The summary ticket that lists it while it is throttled; then it has no issue of its own."""
    below_threshold: bool = False
    """It is below the threshold of every route that would match: it is counted and has no issue."""
    unrouted: bool = False
    """No route took it yet: it has no issue, and later reports ask the routes again."""
    recurrence_announced: bool = False
    """It recurred since it was closed and stays closed: that was announced once, and is only counted from then on."""
    reported_resolved: bool = False
    """The source's last word is that the problem is over."""
    release: str = ""
    """The release that was reported last while it was open; empty if unknown."""
    closed_seconds: float = 0.0
    """Seconds since it was closed, if it is closed."""
    predecessor: dict[str, Any] | None = None
    """Id and issues of the ticket of the previous generation, until this ticket is opened."""


class Event(msgspec.Struct, frozen=True):
    """A fact about a ticket, numbered within it."""

    ticket_id: uuid.UUID
    n: int
    kind: str
    data: dict[str, Any]
    report_id: uuid.UUID | None = None


class PlannedDelivery(msgspec.Struct, frozen=True):
    """A delivery to be appended to a lane: which operation is performed for which event at which destination."""

    ticket_id: uuid.UUID
    destination_id: int
    event_n: int
    kind: DeliveryKind
    coalesce_key: str | None = None
    """It may replace the last delivery of its lane, if that has the same key and was never sent."""
    coalesced_count: int = 0
    """Number of earlier events that it replaces."""
    due_at: dt.datetime | None = None
    """Earliest time, unless its lane has work before."""


class Changes(msgspec.Struct):
    """The events and deliveries of one transaction, in order."""

    events: list[Event] = []
    deliveries: list[PlannedDelivery] = []


class DeliveryTargets(msgspec.Struct, frozen=True):
    """Where the deliveries of a ticket go: the trackers it has or is routed to, and the destination of e-mails."""

    trackers: Sequence[int]
    mail: int | None
    throttled_destinations: Sequence[int] = ()
    """Where a throttled ticket would have gone."""
    below_threshold: bool = False
    """A new ticket is below its threshold: it is counted and has no issue yet."""
    occurrences: int = 0
    """How often a ticket was reported when it reached its threshold."""


NON_OCCURRENCES = ("commented", "resolved")
"""Actions of reports that are no occurrence of the problem."""

REPEAT_ACTIONS = ("opened", "recurred")
"""Actions of reports that contain no news if the problem is open."""

RESOLVED_ACTION = "resolved"
"""The action, and the coalesce key of the comments about it."""

TRANSITION_KEY = "transition"
"""Coalesce key of e-mails: of those that wait, the newest one is sent."""
RECURRENCE_KEY = "recurrence"
"""Coalesce key of comments about recurrences: a tracker that was unreachable for days gets one comment."""


def coalesce(deliveries: Sequence[PlannedDelivery]) -> list[PlannedDelivery]:
    """Return the deliveries of one lane with each run of the same coalesce key replaced by the last of the run.

    A key stays with the last delivery that has it.
    """
    result: list[PlannedDelivery] = []
    last_index: dict[str, int] = {}
    for planned in deliveries:
        delivery, key = planned, planned.coalesce_key
        if key is not None:
            if result and result[-1].coalesce_key == key:
                count = result.pop().coalesced_count + 1 + delivery.coalesced_count
                delivery = msgspec.structs.replace(delivery, coalesced_count=count)
            elif key in last_index:
                index = last_index[key]
                result[index] = msgspec.structs.replace(result[index], coalesce_key=None)
            last_index[key] = len(result)
        result.append(delivery)
    return result


def opening_data(report: Report) -> dict[str, Any]:
    """Return the data of an event that opens or reopens a ticket; issues and comments are rendered from it later."""
    data: dict[str, Any] = {"action": report.action}
    for name in ("text", "code", "url", "level", "environment", "release", "problem_id", "event_id"):
        if value := getattr(report, name):
            data[name] = value
    if report.seen_at is not None:
        data["seen_at"] = report.seen_at.isoformat()
    if report.facts:
        data["facts"] = [list(fact) for fact in report.facts]
    return data


def may_plan_deliveries(ticket: Ticket, report: Report) -> bool:
    """Return whether a report on a ticket that has events can lead to deliveries."""
    if report.action == RESOLVED_ACTION:
        return ticket.status is TicketStatus.OPEN
    return (
        report.action not in REPEAT_ACTIONS
        or ticket.status is TicketStatus.CLOSED
        or ticket.reported_resolved
    )


def apply_report(
    ticket: Ticket,
    report: Report,
    report_id: uuid.UUID,
    targets: DeliveryTargets,
    changes: Changes,
    recurrence_action: Literal["reopen", "new", "comment", "ignore"] = "reopen",
) -> None:
    """Add the events and deliveries of a report. Any report opens a ticket that has no events yet.

    A repeated report of an open problem adds nothing, unless its source had said that it was over. ``recurrence_action`` applies if the problem recurs after the ticket
    was closed; for ``new`` the ticket of the next generation is passed. A ticket that is throttled or below a threshold has
    no targets until it may get an issue.
    """
    if ticket.next_event == 1:
        _open_new(ticket, report, report_id, targets, changes)
        return
    is_occurrence = report.action not in NON_OCCURRENCES
    is_closed = ticket.status is TicketStatus.CLOSED
    is_back = is_occurrence and ticket.reported_resolved
    if is_occurrence or report.action == RESOLVED_ACTION:
        ticket.reported_resolved = not is_occurrence
    if is_occurrence and is_closed and recurrence_action == "comment":
        _announce_recurrence(ticket, report, report_id, targets, changes)
    elif is_occurrence and is_closed and recurrence_action == "ignore":
        _ignore_recurrence(ticket, report, report_id, changes)
    elif is_occurrence and is_without_issue(ticket) and targets.trackers:
        _release(ticket, report, report_id, targets, changes)
    elif report.action not in REPEAT_ACTIONS or is_closed or is_back:
        _apply_action(ticket, report, report_id, targets, changes)


def apply_state(
    ticket: Ticket,
    state: State,
    reason: CloseReason | None,
    targets: DeliveryTargets,
    changes: Changes,
    *,
    except_destination: int | None,
    actor: dict[str, Any],
) -> bool:
    """Close or reopen a ticket, as an issue or a person was. Return whether its status changed.

    The other issues follow, all but that at ``except_destination``; the reporter gets an e-mail. ``actor`` is added to the
    event's data.
    """
    if state == "closed" and ticket.status is TicketStatus.OPEN:
        ticket.status, ticket.close_reason = TicketStatus.CLOSED, reason or "completed"
        ticket.closed_seconds = 0.0
        number = _add_event(ticket, changes, "closed", {"reason": ticket.close_reason, **actor})
        kind = DeliveryKind.CLOSE
    elif state == "open" and ticket.status is TicketStatus.CLOSED:
        _set_open(ticket)
        number = _add_event(ticket, changes, "reopened", actor)
        kind = DeliveryKind.REOPEN
    else:
        return False
    _deliver(ticket, changes, number, kind, targets, except_destination=except_destination)
    _mail_reporter(ticket, changes, number, targets)
    return True


def _open_new(
    ticket: Ticket, report: Report, report_id: uuid.UUID, targets: DeliveryTargets, changes: Changes
) -> None:
    data = opening_data(report)
    if ticket.summary_ticket_id is not None:
        data["throttle"] = str(ticket.summary_ticket_id)
        data["routed"] = list(targets.throttled_destinations)
    if targets.below_threshold:
        data["below_threshold"] = ticket.below_threshold = True
    ticket.unrouted = not (targets.trackers or is_without_issue(ticket))
    if ticket.predecessor is not None:
        data["earlier"] = ticket.predecessor
    number = _add_event(ticket, changes, "opened", data, report_id)
    _deliver(ticket, changes, number, DeliveryKind.CREATE, targets)


def _announce_recurrence(
    ticket: Ticket, report: Report, report_id: uuid.UUID, targets: DeliveryTargets, changes: Changes
) -> None:
    """Comment on a recurrence of a ticket that stays closed.

    Repeated reports are announced once, so that a frequent one fills neither the tracker nor our tables; a regression or an
    unmuting is announced each time.
    """
    is_repeat = report.action in REPEAT_ACTIONS
    if ticket.recurrence_announced and is_repeat:
        return
    ticket.recurrence_announced = True
    kind = "recurred" if is_repeat else report.action
    data = {**opening_data(report), "stays": ticket.close_reason}
    number = _add_event(ticket, changes, kind, data, report_id)
    _comment_on_recurrence(ticket, changes, number, targets)


def _ignore_recurrence(ticket: Ticket, report: Report, report_id: uuid.UUID, changes: Changes) -> None:
    """Record the first recurrence of a ticket that stays closed, without a delivery."""
    if ticket.recurrence_announced:
        return
    ticket.recurrence_announced = True
    data = {"action": report.action, "reason": ticket.close_reason}
    if report.seen_at is not None:
        data["seen_at"] = report.seen_at.isoformat()
    _add_event(ticket, changes, "ignored", data, report_id)


def is_without_issue(ticket: Ticket) -> bool:
    """Return whether a ticket never had an issue: it is throttled, below a threshold, or no route took it."""
    return ticket.summary_ticket_id is not None or ticket.below_threshold or ticket.unrouted


def route_ticket(ticket: Ticket, data: dict[str, Any], targets: DeliveryTargets, changes: Changes) -> None:
    """Create the issues of an open ticket that no route took before. ``data`` is that of an event that opens a ticket."""
    ticket.unrouted = False
    number = _add_event(ticket, changes, "routed", data)
    _deliver(ticket, changes, number, DeliveryKind.CREATE, targets)


def _release(
    ticket: Ticket, report: Report, report_id: uuid.UUID, targets: DeliveryTargets, changes: Changes
) -> None:
    """Create the issues of a ticket that was throttled, below its threshold, or without a route."""
    data = opening_data(report)
    if ticket.summary_ticket_id is not None:
        data["throttle"] = str(ticket.summary_ticket_id)
        number = _add_event(ticket, changes, "released", data, report_id)
    elif ticket.below_threshold:
        data["times"] = targets.occurrences
        number = _add_event(ticket, changes, "threshold_reached", data, report_id)
    else:
        number = _add_event(ticket, changes, "routed", data, report_id)
    ticket.summary_ticket_id, ticket.below_threshold, ticket.unrouted = None, False, False
    _deliver(ticket, changes, number, DeliveryKind.CREATE, targets)
    if ticket.status is TicketStatus.CLOSED:
        _set_open(ticket)
        _mail_reporter(ticket, changes, number, targets)


def _apply_action(
    ticket: Ticket, report: Report, report_id: uuid.UUID, targets: DeliveryTargets, changes: Changes
) -> None:
    match report.action:
        case "commented":
            author = {"name": report.person.name, "email": report.person.email} if report.person else {}
            data = {"body": report.text, "author": author}
            number = _add_event(ticket, changes, "commented", data, report_id)
            _deliver(ticket, changes, number, DeliveryKind.COMMENT, targets)
        case "resolved":
            _resolve(ticket, report, report_id, targets, changes)
        case "unmuted" | "regressed":
            number = _add_event(ticket, changes, report.action, opening_data(report), report_id)
            if ticket.status is TicketStatus.CLOSED:
                _reopen(ticket, changes, number, targets)
            _comment_on_recurrence(ticket, changes, number, targets)
        case _:
            number = _add_event(ticket, changes, "recurred", opening_data(report), report_id)
            if ticket.status is TicketStatus.CLOSED:
                _reopen(ticket, changes, number, targets)
            _comment_on_recurrence(ticket, changes, number, targets)


def _resolve(
    ticket: Ticket, report: Report, report_id: uuid.UUID, targets: DeliveryTargets, changes: Changes
) -> None:
    """Comment that the source reports the problem as resolved, and close the ticket if the report says so."""
    if ticket.status is TicketStatus.CLOSED:
        return
    number = _add_event(ticket, changes, "resolved", opening_data(report), report_id)
    _deliver(ticket, changes, number, DeliveryKind.COMMENT, targets, key=RESOLVED_ACTION)
    if report.close_reason is not None:
        apply_state(
            ticket,
            "closed",
            report.close_reason,
            targets,
            changes,
            except_destination=None,
            actor={"by": "source"},
        )


def _set_open(ticket: Ticket) -> None:
    ticket.status, ticket.close_reason, ticket.recurrence_announced = TicketStatus.OPEN, None, False


def _reopen(ticket: Ticket, changes: Changes, number: int, targets: DeliveryTargets) -> None:
    _set_open(ticket)
    _deliver(ticket, changes, number, DeliveryKind.REOPEN, targets)
    _mail_reporter(ticket, changes, number, targets)


def _comment_on_recurrence(ticket: Ticket, changes: Changes, number: int, targets: DeliveryTargets) -> None:
    """Comment at all trackers. Comments about support tickets are never coalesced."""
    key = RECURRENCE_KEY if ticket.kind is TicketKind.ALERT else None
    _deliver(ticket, changes, number, DeliveryKind.COMMENT, targets, key=key)


def _add_event(
    ticket: Ticket, changes: Changes, kind: str, data: dict[str, Any], report_id: uuid.UUID | None = None
) -> int:
    """Add an event. Return its number."""
    number = ticket.next_event
    ticket.next_event += 1
    changes.events.append(Event(ticket.id, number, kind, data, report_id))
    return number


def _deliver(
    ticket: Ticket,
    changes: Changes,
    number: int,
    kind: DeliveryKind,
    targets: DeliveryTargets,
    *,
    except_destination: int | None = None,
    key: str | None = None,
) -> None:
    """Add a delivery to each tracker."""
    for destination_id in targets.trackers:
        if destination_id != except_destination:
            changes.deliveries.append(PlannedDelivery(ticket.id, destination_id, number, kind, key))


def _mail_reporter(ticket: Ticket, changes: Changes, number: int, targets: DeliveryTargets) -> None:
    if ticket.reporter_email and targets.mail is not None:
        changes.deliveries.append(
            PlannedDelivery(ticket.id, targets.mail, number, DeliveryKind.MAIL, TRANSITION_KEY)
        )
