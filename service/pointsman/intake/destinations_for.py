"""Decide where the deliveries of a batch's tickets go, and when."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.domain.quiet_hours import quiet_hours_end, quiet_hours_for
from pointsman.domain.recurrence import is_silent
from pointsman.domain.routing import Route
from pointsman.domain.states import DeliveryKind
from pointsman.domain.ticket import DeliveryTargets, PlannedDelivery, Ticket, may_plan_deliveries
from pointsman.intake import throttle
from pointsman.intake.batch import BatchDecision, TicketBatch
from pointsman.intake.incoming import Incoming
from pointsman.storage.db import Connection
from pointsman.storage.delivery_writer import lock_tracker_destinations

_POSTPONED = (DeliveryKind.CREATE, DeliveryKind.COMMENT, DeliveryKind.REOPEN)
"""Deliveries that wait for the end of quiet hours."""


class _IssueRequests(msgspec.Struct):
    """Tickets that need an issue: new ones, those throttled or below a threshold before, and the report of each."""

    new: list[throttle.IssueRequest]
    recurring: list[throttle.IssueRequest]
    report_of: dict[uuid.UUID, Incoming]

    def request(self, ticket: Ticket, incoming: Incoming) -> throttle.IssueRequest:
        """Return the request of a ticket, by this report."""
        self.report_of[ticket.id] = incoming
        return throttle.IssueRequest(
            ticket, incoming.source_slug, incoming.ticket_rate_limit, incoming.destination_ids
        )


async def destinations_for(
    con: Connection, decision: BatchDecision, batches: Sequence[TicketBatch], mail_id: int | None
) -> dict[uuid.UUID, DeliveryTargets]:
    """Return the targets of each ticket's deliveries, after throttling.

    The lanes of a ticket are locked only if its reports can lead to deliveries.
    """
    targets: dict[uuid.UUID, DeliveryTargets] = {}
    existing: list[uuid.UUID] = []
    requests = _IssueRequests([], [], {})
    for batch in batches:
        ticket, reports = batch.ticket, batch.reports
        targets[ticket.id] = DeliveryTargets((), mail_id)
        if batch.is_new:
            first = reports[0]
            targets[ticket.id] = DeliveryTargets(
                first.destination_ids, mail_id, below_threshold=first.below_threshold
            )
            if first.ticket_rate_limit and first.destination_ids:
                requests.new.append(requests.request(ticket, first))
        elif ticket.summary_ticket_id is not None or ticket.unrouted:
            _request_issue(batch, requests)
        elif any(_may_plan_deliveries(ticket, incoming) for incoming in reports):
            existing.append(ticket.id)
        if (incoming := batch.threshold_report) is not None:
            requests.recurring.append(requests.request(ticket, incoming))
    if existing:
        for ticket_id, trackers in (await lock_tracker_destinations(con, existing)).items():
            targets[ticket_id] = DeliveryTargets(trackers, mail_id)
    if requests.new or requests.recurring:
        result = await throttle.admit(con, requests.new, requests.recurring, decision.changes, mail_id)
        _apply_throttle(result, decision, targets, mail_id, requests)
    return targets


def _request_issue(batch: TicketBatch, requests: _IssueRequests) -> None:
    """Request an issue for a ticket that is throttled or that no route took, by the first report that a route takes.

    A ticket that a route takes but for its threshold is counted from now on.
    """
    occurrences = [incoming for incoming in batch.reports if incoming.is_occurrence]
    routed = next((incoming for incoming in occurrences if incoming.destination_ids), None)
    if routed is not None:
        requests.recurring.append(requests.request(batch.ticket, routed))
    elif batch.ticket.unrouted and any(incoming.below_threshold for incoming in occurrences):
        batch.ticket.unrouted, batch.ticket.below_threshold = False, True


def _may_plan_deliveries(ticket: Ticket, incoming: Incoming) -> bool:
    report = incoming.report
    return (
        report is not None
        and may_plan_deliveries(ticket, report)
        and not is_silent(ticket, report, incoming.recurrence_rules)
    )


def _apply_throttle(
    result: throttle.ThrottleResult,
    decision: BatchDecision,
    targets: dict[uuid.UUID, DeliveryTargets],
    mail_id: int | None,
    requests: _IssueRequests,
) -> None:
    """Apply the throttling decision: throttled tickets get no destination; released ones get their original ones."""
    for request in requests.new:
        if request.ticket.id in result.throttled:
            targets[request.ticket.id] = DeliveryTargets((), mail_id, request.destination_ids)
    for request in requests.recurring:
        ticket = request.ticket
        if ticket.id not in result.released:
            continue
        if ticket.summary_ticket_id is not None:
            targets[ticket.id] = DeliveryTargets(request.destination_ids, mail_id)
        else:
            incoming = requests.report_of[ticket.id]
            decision.threshold_targets[incoming.report_id] = DeliveryTargets(
                request.destination_ids, mail_id, occurrences=incoming.occurrences
            )
    if result.throttled:
        _postpone_summaries(decision, requests)
    decision.tickets.update({summary.id: summary for summary in result.summaries})
    decision.stored_states.update(result.stored_states)
    decision.window_ends, decision.throttle_started = result.window_ends, result.started


def _postpone_summaries(decision: BatchDecision, requests: _IssueRequests) -> None:
    """Postpone the deliveries of summary tickets by the quiet hours of the first ticket that each lists."""
    deliveries = decision.changes.deliveries
    for index, delivery in enumerate(deliveries):
        first = next(
            (request for request in requests.new if request.ticket.summary_ticket_id == delivery.ticket_id),
            None,
        )
        if first is not None:
            routes = requests.report_of[first.ticket.id].matched_routes
            deliveries[index] = _postponed(delivery, routes, decision.now)


def postpone_for_quiet_hours(decision: BatchDecision, start: int, routes: Sequence[Route]) -> None:
    """Postpone the deliveries from index ``start`` on to the end of the quiet hours of their destinations."""
    deliveries = decision.changes.deliveries
    if any(route.options.quiet_hours is not None for route in routes):
        deliveries[start:] = [_postponed(delivery, routes, decision.now) for delivery in deliveries[start:]]


def _postponed(
    delivery: PlannedDelivery, routes: Sequence[Route], now: dt.datetime | None
) -> PlannedDelivery:
    if now is None or delivery.kind not in _POSTPONED:
        return delivery
    hours = quiet_hours_for(routes, delivery.destination_id)
    try:
        until = quiet_hours_end(hours, now) if hours is not None else None
    except ValueError:
        # the time zone was known where the configuration was applied, but not here: too early is better than never
        return delivery
    return msgspec.structs.replace(delivery, due_at=until) if until is not None else delivery
