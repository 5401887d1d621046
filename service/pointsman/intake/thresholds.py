"""Evaluate the routes that depend on how often a problem was reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pointsman.domain.routing import History, evaluate_history, occurrence_windows
from pointsman.domain.states import TicketStatus
from pointsman.intake.batch import TicketBatch
from pointsman.storage import intake as store
from pointsman.storage.db import Connection
from pointsman.storage.intake import Occurrences

RECORDED_LIMIT = 10_000
"""Most occurrences recorded of a ticket below its threshold, whatever a threshold asks for."""
_THRESHOLD_MET = 2**62


async def evaluate_thresholds(con: Connection, batches: Sequence[TicketBatch]) -> None:
    """Set the destinations of all reports whose candidate routes depend on the history of the problem."""
    dependent = [batch for batch in batches if any(incoming.candidate_routes for incoming in batch.reports)]
    spans = sorted(
        {
            span
            for batch in dependent
            for incoming in batch.reports
            for span in occurrence_windows(incoming.candidate_routes)
        }
    )
    waiting = [batch.ticket.id for batch in dependent if batch.ticket.below_threshold]
    counts = await store.count_occurrences(con, waiting, spans) if waiting and spans else {}
    for batch in dependent:
        evaluate_batch(batch, counts.get(batch.ticket.id, {}))


def evaluate_batch(batch: TicketBatch, recorded: Mapping[int, int]) -> None:
    """Set the destinations of the reports of one ticket.

    ``recorded`` maps seconds to how often a ticket below its threshold was reported within them before this batch.
    """
    ticket = batch.ticket
    # a ticket that has or had an issue passed its threshold before
    below = batch.is_new or ticket.below_threshold or ticket.unrouted
    count = 0
    for incoming in batch.reports:
        count += incoming.is_occurrence
        if not incoming.candidate_routes:
            continue
        spans = occurrence_windows(incoming.candidate_routes)
        within = {span: recorded.get(span, 0) + count if below else _THRESHOLD_MET for span in spans}
        history = History(
            occurrences_within=within,
            unseen_seconds=batch.unseen_seconds if count <= 1 else 0.0,
            closed_seconds=ticket.closed_seconds if ticket.status is TicketStatus.CLOSED else None,
            close_reason=ticket.close_reason or "",
            release=ticket.release,
        )
        choice = evaluate_history(incoming.candidate_routes, history)
        incoming.destination_ids = choice.destinations
        incoming.matched_routes = choice.routes or choice.pending
        incoming.below_threshold = below and choice.below_threshold
        incoming.occurrences = max(within.values(), default=count) if below else 0


async def record_occurrences(con: Connection, batches: Sequence[TicketBatch]) -> None:
    """Record when tickets that are still below a threshold were reported, as far as their routes ask for it."""
    rows = []
    for batch in batches:
        count = sum(incoming.is_occurrence for incoming in batch.reports)
        if not batch.ticket.below_threshold or not count:
            continue
        routes = [route for incoming in batch.reports for route in incoming.candidate_routes]
        if spans := occurrence_windows(routes):
            limit = max(route.match.occurrences or 0 for route in routes)
            rows.append(Occurrences(batch.ticket.id, count, min(limit, RECORDED_LIMIT), spans[-1]))
    await store.record_occurrences(con, rows)
