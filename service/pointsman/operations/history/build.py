"""Build a ticket's history from its rows. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman.content.redaction.outgoing_filter import redaction_summary
from pointsman.content.sanitize import one_line
from pointsman.domain.retry_policy import Outcome
from pointsman.domain.routing import Facts, Route, has_threshold, occurrence_windows, prefilter
from pointsman.domain.states import (
    DeliveryKind,
    DeliveryState,
    DestinationKind,
    LaneState,
    LinkState,
    ReportState,
    TicketKind,
    TicketStatus,
)
from pointsman.operations.history.events import describe_event
from pointsman.operations.history.lane_status import backs_off_until, issue_status, next_step, waits_for
from pointsman.operations.history.model import (
    Attempt,
    Delivery,
    DestinationHistory,
    Report,
    Ticket,
    TicketHistory,
)
from pointsman.operations.outcomes import ACTIONS, StatusMessage, outcome_status, park_message
from pointsman.operations.route_results import RouteResult, evaluate_routes
from pointsman.storage.explain import (
    HistoryAttemptRow,
    HistoryDeliveryRow,
    HistoryLaneRow,
    HistoryRows,
    HistoryTicketRow,
    StoredReportRow,
)


def build_history(
    rows: HistoryRows,
    routes: Sequence[Route],
    slugs: Mapping[int, str],
    report: StoredReportRow | None = None,
) -> TicketHistory:
    """Return a ticket's history. ``slugs``: destinations by id; ``report``: the report it is requested by."""
    ticket = rows.ticket
    facts = Facts(
        ticket.source,
        TicketKind(ticket.kind).name.lower(),
        ticket.environment,
        ticket.level,
        ticket.release,
        ticket.title,
        tags=None,
    )
    destinations = tuple(_destination(lane, rows) for lane in rows.lanes)
    results = tuple(evaluate_routes(routes, slugs, facts))
    return TicketHistory(
        report=_report(report) if report is not None else None,
        reasons=(
            *_threshold_reasons(rows, routes, facts),
            *_reasons(ticket, destinations, results, rows.throttled_tickets),
        ),
        ticket=_ticket(ticket),
        events=tuple(map(describe_event, rows.events)),
        routes=results,
        destinations=destinations,
        truncated=rows.truncated,
        older_events=rows.events[0].n if rows.has_older_events else None,
    )


def build_report_history(report: StoredReportRow) -> TicketHistory:
    """Return the history of a report without a ticket."""
    if report.state == ReportState.TEST:
        message, todo = "it was a test message, which is stored and opens no ticket", ""
    else:
        message = f"it could not be processed and is parked: {one_line(report.error or '', 500)}"
        todo = f"install the release that understands it, then run `pointsman reports reprocess {report.id}`"
    return TicketHistory(
        report=Report(
            id=str(report.id), received_at=report.received_at, source=report.source, message=message
        ),
        reasons=(f"There is no ticket: {message}.",),
        next_step=todo,
    )


def _ticket(row: HistoryTicketRow) -> Ticket:
    fields = row._asdict()
    fields |= {
        "kind": TicketKind(row.kind).name.lower(),
        "status": TicketStatus(row.status).name.lower(),
        "close_reason": row.close_reason or "",
    }
    return Ticket(**fields)


def _report(report: StoredReportRow) -> Report:
    message = (
        f"it {' and '.join(report.kinds)} the ticket"
        if report.kinds
        else "a repeat of an open problem: counted, nothing was sent"
    )
    return Report(id=str(report.id), received_at=report.received_at, source=report.source, message=message)


# -- why there is an issue or none -------------------------------------------------------------------------------


def _reasons(
    ticket: HistoryTicketRow,
    destinations: Sequence[DestinationHistory],
    routes: Sequence[RouteResult],
    throttled_tickets: int,
) -> Iterator[str]:
    if throttled_tickets:
        yield f"It lists {throttled_tickets} tickets above the limit of new tickets per minute of its source."
    if ticket.summary_ticket_id is not None:
        yield (
            "It has no issue of its own: its source had reached its limit of new tickets per minute, so it is listed"
            f" in ticket {ticket.summary_ticket_id}."
        )
    elif not ticket.below_threshold and not any(entry.kind != "mail" for entry in destinations):
        yield "There is no issue: no route matched the ticket when it was opened."
        if any(route.matches for route in routes):
            yield "A current route would match it; a ticket keeps the destinations it got when it was opened."
    yield from (entry.reason for entry in destinations)


def _threshold_reasons(rows: HistoryRows, routes: Sequence[Route], facts: Facts) -> Iterator[str]:
    """Yield how far a ticket that is only counted is below its thresholds."""
    if not rows.ticket.below_threshold:
        return
    yield "It has no issue: it is below its threshold and only counted."
    occurrences = rows.occurrences
    for route in filter(has_threshold, prefilter(routes, facts)):
        conditions = [f"not reported for {route.match.unseen_for}"] if route.match.unseen_for else []
        for span in occurrence_windows([route]):
            count = 0
            if occurrences is not None:
                since = occurrences.now - dt.timedelta(seconds=span)
                count = sum(moment > since for moment in occurrences.occurred_at)
            conditions.append(
                f"seen {count} of {route.match.occurrences} times within {route.match.within or '1d'}"
            )
        yield f"Route {route.position} would match it: {', '.join(conditions)}."


# -- destinations ------------------------------------------------------------------------------------------------


def _destination(lane: HistoryLaneRow, rows: HistoryRows) -> DestinationHistory:
    deliveries = [row for row in rows.deliveries if row.lane_id == lane.id]
    head = next((row for row in deliveries if row.seq == lane.head_seq), None)
    waits = tuple(waits_for(lane, head)) if lane.state != LaneState.IDLE else ()
    retried_at = lane.due_at if lane.state == LaneState.READY and lane.due_at > lane.now else None
    return DestinationHistory(
        destination=lane.destination,
        kind=DestinationKind(lane.destination_kind).name.lower(),
        tracker=lane.tracker,
        issue=one_line(lane.remote_key or "", 120),
        url=lane.url or "",
        issue_state=TicketStatus(lane.remote_state).name.lower() if lane.remote_state else "",
        status=issue_status(
            link_state=lane.link_state,
            issue=lane.remote_key or "",
            lane_state=lane.state,
            park_reason=lane.park_reason,
            last_outcome=head.last_outcome if head is not None else None,
            retired=lane.retired,
            pause_reason=lane.pause_reason,
            backing_off=backs_off_until(lane.breaker, lane.open_until, lane.blocked_until, lane.now)
            is not None,
        ),
        reason=_reason(lane, head, waits, sum(row.state == DeliveryState.DEAD for row in deliveries)),
        waits_for=waits,
        next_step=next_step(lane, head),
        error=one_line(head.last_error or "", 2000)
        if head is not None and lane.state != LaneState.IDLE
        else "",
        next_attempt_at=retried_at,
        command=f"pointsman replay {lane.id}/{head.seq}"
        if head is not None and lane.state == LaneState.PARKED
        else "",
        deliveries=tuple(_deliveries(lane, deliveries, rows.attempts)),
    )


def _reason(lane: HistoryLaneRow, head: HistoryDeliveryRow | None, waits: Sequence[str], dead: int) -> str:
    if lane.destination_kind == DestinationKind.MAIL:
        subject = f"E-mail ({lane.destination})"
    elif lane.destination_kind == DestinationKind.SOURCE:
        missing = ", which no longer has the problem" if lane.link_state == LinkState.ORPHANED else ""
        subject = f"Feedback to the source ({lane.destination}){missing}"
    elif lane.remote_key:
        missing = ", which no longer exists" if lane.link_state == LinkState.ORPHANED else ""
        subject = f"Issue {one_line(lane.remote_key, 120)} at {lane.destination}{missing}"
    else:
        subject = f"No issue at {lane.destination} yet"
    if lane.state == LaneState.IDLE:
        dead_letters = f", and {dead} {'was' if dead == 1 else 'were'} given up" if dead else ""
        return f"{subject}: no delivery is pending{dead_letters}."
    delivery = (
        f"{DeliveryKind(head.kind).name.lower()} {lane.id}/{head.seq}" if head is not None else "the lane"
    )
    return f"{subject}: {delivery} waits: {'; '.join(waits)}."


# -- deliveries --------------------------------------------------------------------------------------------------


def _deliveries(
    lane: HistoryLaneRow, rows: Sequence[HistoryDeliveryRow], attempts: Sequence[HistoryAttemptRow]
) -> Iterator[Delivery]:
    by_delivery: dict[int, list[HistoryAttemptRow]] = {}
    for attempt in attempts:
        if attempt.lane_id == lane.id:
            by_delivery.setdefault(attempt.seq, []).append(attempt)
    known = {row.seq for row in rows}
    for seq in sorted(by_delivery.keys() - known):
        yield Delivery(
            id=f"{lane.id}/{seq}",
            kind="",
            action="deliver",
            state="removed",
            status=StatusMessage("removed", "calm", "The delivery is no longer stored."),
            attempts=tuple(_fold(by_delivery[seq])),
        )
    for row in rows:
        yield _delivery(lane, row, by_delivery.get(row.seq, ()))


def _delivery(
    lane: HistoryLaneRow, row: HistoryDeliveryRow, attempts: Sequence[HistoryAttemptRow]
) -> Delivery:
    head = row.seq == lane.head_seq
    parked = lane.state == LaneState.PARKED and head and row.state == DeliveryState.PENDING
    retry_scheduled = (
        row.state == DeliveryState.PENDING
        and head
        and lane.state == LaneState.READY
        and bool(row.last_outcome)
    )
    return Delivery(
        id=f"{row.lane_id}/{row.seq}",
        kind=DeliveryKind(row.kind).name.lower(),
        action=ACTIONS.get(row.kind, "deliver"),
        state=DeliveryState(row.state).name.lower(),
        status=_delivery_status(lane, row, head=head),
        outcome=one_line(row.last_outcome or "", 80),
        outcome_unknown=row.outcome_unknown,
        event_number=row.event_n,
        counted_attempts=row.attempts,
        created_at=row.created_at,
        due_at=lane.due_at if retry_scheduled else None,
        done_at=row.done_at,
        expires_at=row.expires_at,
        resent_at=row.resent_at,
        passed=row.state == DeliveryState.DEAD and row.seq < lane.head_seq,
        blocked=row.state == DeliveryState.PENDING and row.seq > lane.head_seq,
        notes=tuple(_notes(row)),
        command=f"pointsman replay {row.lane_id}/{row.seq}"
        if row.state == DeliveryState.DEAD or parked
        else "",
        attempts=tuple(_fold(attempts)),
    )


def _delivery_status(lane: HistoryLaneRow, row: HistoryDeliveryRow, *, head: bool) -> StatusMessage:
    """Describe a delivery. ``head``: it is the delivery that its lane works on."""
    if row.state == DeliveryState.DONE:
        return outcome_status(row.last_outcome if row.last_outcome == Outcome.VERIFIED else Outcome.DONE)
    if row.state == DeliveryState.DEAD:
        return StatusMessage("dead letter", "bad", outcome_status(row.last_outcome).message)
    if not head:
        return StatusMessage("waiting", "wait", "It waits for the delivery before it: their order is kept.")
    if lane.state == LaneState.PARKED:
        return StatusMessage("parked", "bad", park_message(lane.park_reason))
    if row.outcome_unknown:
        return outcome_status("unknown")
    if row.last_outcome:
        return StatusMessage("to be retried", "wait", outcome_status(row.last_outcome).message)
    if lane.state == LaneState.LEASED:
        return StatusMessage("in progress", "wait")
    return StatusMessage("waiting", "wait", "It waits to be sent.")


def _notes(row: HistoryDeliveryRow) -> Iterator[str]:
    if row.coalesced_count:
        yield f"it also covers {row.coalesced_count} other events"
    if row.masked:
        yield f"redacted before it was sent: {redaction_summary(json.loads(row.masked))}"
    if row.template_problem:
        yield f"sent with the built-in text: {one_line(row.template_problem, 500)}"


def _fold(rows: Sequence[HistoryAttemptRow]) -> list[Attempt]:
    """Merge consecutive attempts with the same outcome, HTTP status and error."""
    attempts: list[Attempt] = []
    for row in rows:
        attempt = Attempt(
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome=row.outcome,
            status=outcome_status(row.outcome),
            http_status=row.status,
            error=one_line(row.error or "", 2000),
        )
        last = attempts[-1] if attempts else None
        if last is not None and (last.outcome, last.http_status, last.error) == (
            attempt.outcome,
            attempt.http_status,
            attempt.error,
        ):
            attempts[-1] = msgspec.structs.replace(
                last, count=last.count + 1, last_started_at=row.started_at, ended_at=row.ended_at
            )
        else:
            attempts.append(attempt)
    return attempts
