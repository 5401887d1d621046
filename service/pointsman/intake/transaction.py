"""Accept a batch of reports in one transaction: reports, tickets, events, lanes and deliveries."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import msgspec

from pointsman.bus.publish import MarkerOf, publish
from pointsman.domain.recurrence import recurrence_action
from pointsman.domain.states import ReportState, TicketKind, TicketStatus
from pointsman.domain.ticket import RESOLVED_ACTION, Changes, DeliveryTargets, Ticket, apply_report
from pointsman.intake.batch import BatchDecision, BatchResult, ReportResult, TicketBatch
from pointsman.intake.deduplication import deduplicate, independent_parts
from pointsman.intake.destinations_for import destinations_for, postpone_for_quiet_hours
from pointsman.intake.errors import describe_failure
from pointsman.intake.generations import (
    may_start_generation,
    new_ticket,
    split_generations,
    successor_event,
)
from pointsman.intake.incoming import Incoming
from pointsman.intake.members import apply_members
from pointsman.intake.thresholds import evaluate_thresholds, record_occurrences
from pointsman.storage import intake as store
from pointsman.storage import ticket_throttle as throttle_store
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import ReportRow, as_json, restore, state_of

TicketKey = tuple[int, str]
"""A source id and a fingerprint."""


async def accept(
    database: Database, batch: Sequence[Incoming], marker_of: MarkerOf, mail_id: int | None
) -> BatchResult:
    """Accept reports in one transaction. Return the results, committed, in the order of the batch.

    ``mail_id`` is the destination of e-mails.
    """
    results: dict[uuid.UUID, ReportResult] = {}
    throttle_started: list[str] = []
    async with database.transaction() as con:
        for part in independent_parts(batch):
            repeats, new = await deduplicate(con, part)
            decision = await decide(con, new, mail_id)
            if new:
                await write(con, decision, marker_of, new)
            for incoming in new:
                ticket_id = decision.ticket_of.get(incoming.report_id)
                results[incoming.report_id] = ReportResult(
                    incoming.report_id, ticket_id, parked=incoming.report is None
                )
            results.update({repeat.incoming.report_id: repeat.result() for repeat in repeats})
            throttle_started += decision.throttle_started
    return BatchResult([results[incoming.report_id] for incoming in batch], throttle_started)


async def decide(con: Connection, reports: Sequence[Incoming], mail_id: int | None) -> BatchDecision:
    """Lock the tickets of new reports and apply each report, in order."""
    decision = BatchDecision(Changes())
    by_ticket: dict[TicketKey, list[Incoming]] = {}
    for incoming in reports:
        if incoming.report is not None and not incoming.is_test:
            by_ticket.setdefault((incoming.source_id, incoming.report.fingerprint), []).append(incoming)
    ignored = await _remove_unknown_resolved(con, by_ticket)
    if not by_ticket:
        return decision
    batches = await _upsert_tickets(con, decision, by_ticket)
    partly_resolved = await apply_members(con, batches)
    current = {(batch.ticket.source_id, batch.ticket.fingerprint): batch.ticket for batch in batches}
    if any(incoming.candidate_routes for incoming in reports):
        await evaluate_thresholds(con, batches)
    batches = await _start_generations(con, decision, batches)
    targets = await destinations_for(con, decision, batches, mail_id)
    for incoming in reports:
        if incoming.report is None or incoming.is_test or incoming.report_id in ignored:
            continue
        key = incoming.source_id, incoming.report.fingerprint
        if (successor := decision.successors.get(incoming.report_id)) is not None:
            decision.changes.events.append(successor_event(successor, incoming))
            current[key] = successor.ticket
        ticket = current[key]
        if incoming.report_id in partly_resolved:
            decision.ticket_of[incoming.report_id] = incoming.new_ticket_id = ticket.id
            continue
        if incoming.report_id in decision.threshold_targets:
            targets[ticket.id] = decision.threshold_targets[incoming.report_id]
        decision.ticket_of[incoming.report_id] = ticket.id
        # a repeated report later in the batch returns the ticket's final id
        incoming.new_ticket_id = ticket.id
        _apply(decision, ticket, incoming, targets[ticket.id])
    await record_occurrences(con, batches)
    return decision


async def _remove_unknown_resolved(
    con: Connection, by_ticket: dict[TicketKey, list[Incoming]]
) -> set[uuid.UUID]:
    """Remove 'resolved' reports whose fingerprint has no ticket: they are stored without opening one. Return their ids."""
    ignored: set[uuid.UUID] = set()
    resolved = [key for key, reports in by_ticket.items() if _is_resolved(reports[0])]
    if not resolved:
        return ignored
    existing = await store.existing_fingerprints(con, resolved)
    for key in resolved:
        if key in existing:
            continue
        while by_ticket[key] and _is_resolved(by_ticket[key][0]):
            ignored.add(by_ticket[key].pop(0).report_id)
        if not by_ticket[key]:
            del by_ticket[key]
    return ignored


def _is_resolved(incoming: Incoming) -> bool:
    return incoming.report is not None and incoming.report.action == RESOLVED_ACTION


async def _upsert_tickets(
    con: Connection, decision: BatchDecision, by_ticket: Mapping[TicketKey, Sequence[Incoming]]
) -> list[TicketBatch]:
    """Insert or lock the tickets of reports."""
    with_times = any(incoming.needs_times for reports in by_ticket.values() for incoming in reports)
    rows = await store.upsert_tickets(con, list(map(new_ticket, by_ticket.values())), with_times=with_times)
    decision.now = rows[0].now
    batches: list[TicketBatch] = []
    for row in rows:
        ticket = row.ticket
        decision.stored_states[ticket.id] = state_of(ticket)
        if row.inserted:
            ticket.next_event = 1  # the row counts its opening event already, which is written with the batch
        if ticket.next_event == 1:
            ticket.summary_ticket_id, ticket.below_threshold = None, False
        decision.tickets[ticket.id] = ticket
        reports = by_ticket[ticket.source_id, ticket.fingerprint]
        batches.append(TicketBatch(ticket, reports, row.unseen_seconds))
    return batches


async def _start_generations(
    con: Connection, decision: BatchDecision, batches: Sequence[TicketBatch]
) -> list[TicketBatch]:
    """Return the batches, with those of new generations after the batch of their predecessor."""
    all_batches: list[TicketBatch] = []
    for batch in batches:
        if not may_start_generation(batch):
            all_batches.append(batch)
            continue
        first, *successors = await split_generations(con, batch)
        if first.reports:
            all_batches.append(first)
        for successor in successors:
            ticket = successor.ticket
            decision.successors[successor.reports[0].report_id] = successor
            decision.tickets[ticket.id] = ticket
            decision.stored_states[ticket.id] = state_of(msgspec.structs.replace(ticket, next_event=2))
        all_batches += successors
    return all_batches


def _apply(decision: BatchDecision, ticket: Ticket, incoming: Incoming, targets: DeliveryTargets) -> None:
    """Apply one report to its ticket, and the quiet hours to its deliveries."""
    assert incoming.report is not None
    release, start = incoming.report.release, len(decision.changes.deliveries)
    apply_incoming(ticket, incoming, targets, decision.changes)
    if release and ticket.status is TicketStatus.OPEN:
        ticket.release = release
    if ticket.kind is TicketKind.ALERT and len(decision.changes.deliveries) > start:
        postpone_for_quiet_hours(decision, start, incoming.matched_routes)


def apply_incoming(ticket: Ticket, incoming: Incoming, targets: DeliveryTargets, changes: Changes) -> None:
    """Apply one report to its ticket; a defect in our code parks the report and leaves the ticket unchanged."""
    assert incoming.report is not None
    event_count, delivery_count = len(changes.events), len(changes.deliveries)
    before = state_of(ticket)
    try:
        action = recurrence_action(ticket, incoming.report, incoming.recurrence_rules)
        apply_report(ticket, incoming.report, incoming.report_id, targets, changes, action)
    except Exception as error:  # noqa: BLE001 - an accepted report is never lost to a defect
        del changes.events[event_count:], changes.deliveries[delivery_count:]
        restore(ticket, before)
        incoming.report, incoming.error = None, describe_failure(error)


async def write(
    con: Connection, decision: BatchDecision, marker_of: MarkerOf, new: Sequence[Incoming]
) -> None:
    """Write the changes and the new reports."""
    await publish(
        con,
        decision.changes,
        decision.tickets,
        marker_of,
        stored_states=decision.stored_states,
        reports=[_report_row(incoming, decision.ticket_of.get(incoming.report_id)) for incoming in new],
    )
    for summary_id, until in decision.window_ends.items():
        await throttle_store.postpone_comments(con, summary_id, until)


def _report_row(incoming: Incoming, ticket_id: uuid.UUID | None) -> ReportRow:
    report = incoming.report
    state = ReportState.STORED
    if report is None:
        state = ReportState.PARKED
    elif incoming.is_test:
        state = ReportState.TEST
    return ReportRow(
        incoming.report_id,
        incoming.source_id,
        ticket_id,
        report.action if report is not None else None,
        as_json(incoming.headers),
        incoming.body,
        incoming.body_sha256,
        state,
        incoming.error,
    )
