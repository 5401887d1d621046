"""Start new generations: tickets for problems that recur under a route that asks for a new ticket."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pointsman.domain.recurrence import generation_starts
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import RESOLVED_ACTION, Event, Ticket
from pointsman.intake.batch import TicketBatch
from pointsman.intake.incoming import Incoming
from pointsman.intake.thresholds import evaluate_batch
from pointsman.storage import intake as store
from pointsman.storage.db import Connection
from pointsman.storage.ids import uuid7
from pointsman.storage.intake import NewTicket

SUCCEEDED = "succeeded"
"""Kind of the event of a ticket whose problem continues in a new ticket."""


def may_start_generation(batch: TicketBatch) -> bool:
    """Return whether a report may start a new generation; a cheap test that is false for nearly all batches."""
    if batch.ticket.status is not TicketStatus.CLOSED and len(batch.reports) == 1:
        return False
    return any(incoming.recurrence_rules for incoming in batch.reports)


async def split_generations(con: Connection, batch: TicketBatch) -> list[TicketBatch]:
    """Return the batch of a ticket, and those of its new generations, which are inserted.

    The reports of the first batch can be empty.
    """
    reports = batch.reports
    starts = generation_starts(
        batch.ticket,
        [(incoming.report, incoming.recurrence_rules) for incoming in reports if incoming.report is not None],
    )
    if not starts:
        return [batch]
    batches = [msgspec.structs.replace(batch, reports=reports[: starts[0]])]
    for start, end in zip(starts, [*starts[1:], len(reports)], strict=True):
        batches.append(
            await _create_successor(
                con, batches[-1].ticket, reports[start:], reports[start:end], all_moved=not start
            )
        )
    return batches


async def _create_successor(
    con: Connection,
    predecessor: Ticket,
    moved: Sequence[Incoming],
    reports: Sequence[Incoming],
    *,
    all_moved: bool,
) -> TicketBatch:
    """End a generation and insert the ticket of the next one.

    ``moved`` are the reports that were counted for the predecessor and are no longer; ``all_moved``: this batch has no
    others.
    """
    moved_occurrences = sum(incoming.is_occurrence for incoming in moved)
    issues = await store.close_generation(con, predecessor.id, moved_occurrences, all_moved=all_moved)
    ticket = Ticket(
        id=uuid7(),
        source_id=predecessor.source_id,
        kind=predecessor.kind,
        fingerprint=predecessor.fingerprint,
        generation=predecessor.generation + 1,
        status=TicketStatus.OPEN,
        close_reason=None,
        next_event=1,
        predecessor={"ticket": str(predecessor.id), "issues": issues},
    )
    row = new_ticket(reports)._replace(id=ticket.id, occurrences=moved_occurrences)
    await store.insert_generation(con, row, ticket.generation)
    batch = TicketBatch(ticket, reports, predecessor=predecessor)
    evaluate_batch(batch, {})
    return batch


def successor_event(batch: TicketBatch, incoming: Incoming) -> Event:
    """Return the event by which the predecessor names the ticket in which its problem continues."""
    assert batch.predecessor is not None
    number = batch.predecessor.next_event
    batch.predecessor.next_event += 1
    data = {"ticket": str(batch.ticket.id)}
    return Event(batch.predecessor.id, number, SUCCEEDED, data, incoming.report_id)


def new_ticket(reports: Sequence[Incoming]) -> NewTicket:
    """Return the ticket that the first of the reports opens, with the occurrences of all of them."""
    first = reports[0]
    report = first.report
    assert report is not None
    person = report.person
    return NewTicket(
        id=first.new_ticket_id,
        source_id=first.source_id,
        kind=first.ticket_kind,
        fingerprint=report.fingerprint,
        title=report.title,
        description=report.text if first.ticket_kind is TicketKind.SUPPORT else "",
        url=report.url,
        level=report.level,
        environment=report.environment,
        release=_last_release(reports),
        reporter_email=person.email if person else "",
        reporter_name=person.name if person else "",
        occurrences=sum(incoming.is_occurrence for incoming in reports),
    )


def _last_release(reports: Sequence[Incoming]) -> str:
    """Return the release that was reported last before the problem was resolved."""
    release = ""
    for incoming in reports:
        if incoming.report is None or incoming.report.action == RESOLVED_ACTION:
            break
        release = incoming.report.release or release
    return release
