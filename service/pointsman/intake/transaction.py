"""Writing reports, tickets, events, lanes and deliveries: all that belongs together in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman.bus.publish import MarkerOf, publish
from pointsman.domain.ticket import RESOLVED, Decided, DeliveryTargets, Status, Ticket, TicketKind
from pointsman.intake import generations as past
from pointsman.intake import throttle
from pointsman.intake.destinations_for import Outcome, delay, places_for
from pointsman.intake.generations import Part
from pointsman.intake.incoming import Incoming
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.delivery_writer import ReportRow, as_json, state_of, ticket_from
from pointsman.storage.queries import queries

__all__ = ["Accepted", "Incoming", "accept", "parked", "rerun"]

SQL = queries("intake")

STORED, PARKED, TEST = 1, 2, 3


@dataclass(slots=True, frozen=True)
class Accepted:
    """What became of a report. ``repeated``: it was known, ``same_body``: with the very same bytes."""

    report_id: uuid.UUID
    ticket_id: uuid.UUID | None
    repeated: bool = False
    same_body: bool = True
    parked: bool = False


Decide = Callable[[Ticket, Incoming, DeliveryTargets, Decided], None]
OnStorm = Callable[[str], None]


async def accept(
    database: Database,
    batch: Sequence[Incoming],
    decide: Decide,
    marker_of: MarkerOf,
    mail_id: int | None,
    *,
    on_storm: OnStorm = lambda _: None,
) -> list[Accepted]:
    """Accept reports in one transaction; the answers are in the order of the batch, and true once this returns.

    ``on_storm`` is told each source whose storm began.
    """
    async with database.transaction() as con:
        answers, fresh = await _sort_out_known(con, batch)
        outcome = await _decide(con, fresh, decide, mail_id)
        if fresh:
            await _write(con, outcome, marker_of, fresh)
            for one in fresh:
                answers[one.report_id] = Accepted(
                    one.report_id, outcome.ticket_of.get(one.report_id), parked=one.report is None
                )
    for source in outcome.storms:
        on_storm(source)
    return [answers[one.report_id] for one in batch]


async def _sort_out_known(
    con: Connection, batch: Sequence[Incoming]
) -> tuple[dict[uuid.UUID, Accepted], list[Incoming]]:
    """Answers for reports seen before, within the batch too, and the fresh ones."""
    answers: dict[uuid.UUID, Accepted] = {}
    firsts: dict[tuple[int, bytes], Incoming] = {}
    for one in batch:
        firsts.setdefault((one.source_id, one.key_hash), one)
    asked = list(firsts.values())
    kept = await con.fetch(
        SQL["keep_keys"],
        [one.source_id for one in asked],
        [one.key_hash for one in asked],
        [one.report_id for one in asked],
        [one.body_sha256 for one in asked],
    )
    new = {row["report_id"] for row in kept}
    fresh = [one for one in batch if one.report_id in new]
    old = [one for one in batch if one.report_id not in new]
    if old:
        ticket_of_fresh = {(one.source_id, one.key_hash): one for one in fresh}
        rows = await con.fetch(
            SQL["known_keys"], [one.source_id for one in old], [one.key_hash for one in old]
        )
        known = {(row["source_id"], row["key_hash"]): row for row in rows}
        for one in old:
            key = (one.source_id, one.key_hash)
            row = known[key]
            twin = ticket_of_fresh.get(key)
            answers[one.report_id] = Accepted(
                row["report_id"],
                twin.new_ticket_id if twin is not None else row["ticket_id"],
                repeated=True,
                same_body=row["body_sha256"] == one.body_sha256,
                parked=row["state"] == PARKED,
            )
    return answers, fresh


async def _decide(con: Connection, fresh: Sequence[Incoming], decide: Decide, mail_id: int | None) -> Outcome:
    """Lock the tickets concerned and let each report, in order, say what it changes."""
    outcome = Outcome(Decided())
    by_ticket: dict[tuple[int, str], list[Incoming]] = {}
    for one in fresh:
        if one.report is not None and one.report.action != "test":
            by_ticket.setdefault((one.source_id, one.report.fingerprint), []).append(one)
    left_out = await _leave_out_the_unknown(con, by_ticket)
    if not by_ticket:
        return outcome
    parts = await _touch(con, outcome, by_ticket)
    tickets = {(one.ticket.source_id, one.ticket.fingerprint): one.ticket for one in parts}
    if any(one.fit for one in fresh):
        await past.weigh_past(con, parts)
    parts = await _follow(con, outcome, parts)
    places = await places_for(con, outcome, parts, mail_id)
    for one in fresh:
        if one.report is None or one.report.action == "test" or one.report_id in left_out:
            continue
        key = one.source_id, one.report.fingerprint
        if one.report_id in outcome.begins:
            part = outcome.begins[one.report_id]
            outcome.decided.events.append(past.begin(part, one))
            tickets[key] = part.ticket
        ticket = tickets[key]
        if one.report_id in outcome.posts:
            places[ticket.id] = outcome.posts[one.report_id]
        outcome.ticket_of[one.report_id] = ticket.id
        # a later twin of this report within the batch is told the ticket's true id
        one.new_ticket_id = ticket.id
        _apply(outcome, decide, ticket, one, places[ticket.id])
    await past.keep_held(con, parts)
    return outcome


async def _touch(
    con: Connection, outcome: Outcome, by_ticket: Mapping[tuple[int, str], Sequence[Incoming]]
) -> list[Part]:
    """Make or lock the tickets of reports."""
    asks = any(one.asks_time for reports in by_ticket.values() for one in reports)
    columns = zip(*map(_ticket_row, by_ticket.values()), strict=True)
    rows = await con.fetch(SQL["touch_tickets"], *columns, asks)
    outcome.now = rows[0]["at"]
    parts: list[Part] = []
    for row in rows:
        ticket = ticket_from(row)
        outcome.stood[ticket.id] = state_of(ticket)
        if row["inserted"]:
            ticket.next_event = 1  # its opening event is counted in the row, and written below
        if ticket.next_event == 1:
            ticket.summary_ticket_id, ticket.below_threshold = None, False
        ticket.closed_seconds = row["closed_seconds"] or 0.0
        outcome.tickets[ticket.id] = ticket
        parts.append(Part(ticket, by_ticket[ticket.source_id, ticket.fingerprint], row))
    return parts


def _apply(outcome: Outcome, decide: Decide, ticket: Ticket, one: Incoming, places: DeliveryTargets) -> None:
    """Let a report say what it changes, and when what it promises is due."""
    assert one.report is not None
    release, promised = one.report.release, len(outcome.decided.promises)
    decide(ticket, one, places, outcome.decided)
    if release and ticket.status is Status.OPEN:
        ticket.release = release
    if ticket.kind is TicketKind.ALERT and len(outcome.decided.promises) > promised:
        delay(outcome, promised, one.took)


async def _follow(con: Connection, outcome: Outcome, parts: Sequence[Part]) -> list[Part]:
    """The parts, with those whose problem goes on in a ticket of the next generation."""
    all_parts: list[Part] = []
    for part in parts:
        if not past.may_follow(part):
            all_parts.append(part)
            continue
        first, *more = await past.follow(con, part, _ticket_row)
        if first.reports:
            all_parts.append(first)
        for one in more:
            outcome.begins[one.reports[0].report_id] = one
            outcome.tickets[one.ticket.id] = one.ticket
            outcome.stood[one.ticket.id] = state_of(msgspec.structs.replace(one.ticket, next_event=2))
        all_parts += more
    return all_parts


async def _leave_out_the_unknown(
    con: Connection, by_ticket: dict[tuple[int, str], list[Incoming]]
) -> set[uuid.UUID]:
    """That a problem is over is no news where it is not known: such reports are kept, and make no ticket. Which they are."""
    left_out: set[uuid.UUID] = set()
    asked = [key for key, reports in by_ticket.items() if _is_end(reports[0])]
    if not asked:
        return left_out
    rows = await con.fetch(SQL["known_tickets"], [key[0] for key in asked], [key[1] for key in asked])
    known = {(row["source_id"], row["fingerprint"]) for row in rows}
    for key in asked:
        if key in known:
            continue
        while by_ticket[key] and _is_end(by_ticket[key][0]):
            left_out.add(by_ticket[key].pop(0).report_id)
        if not by_ticket[key]:
            del by_ticket[key]
    return left_out


def _is_end(one: Incoming) -> bool:
    return one.report is not None and one.report.action == RESOLVED


def _ticket_row(reports: Sequence[Incoming]) -> tuple[Any, ...]:
    """What a ticket is made of by the first of its reports, counted by all of them."""
    one = reports[0]
    report = one.report
    assert report is not None
    person = report.person
    return (
        one.new_ticket_id,
        one.source_id,
        one.ticket_kind,
        report.fingerprint,
        report.title,
        report.text if one.ticket_kind is TicketKind.SUPPORT else "",
        report.url,
        report.level,
        report.environment,
        _release(reports),
        person.email if person else "",
        person.name if person else "",
        sum(other.counts for other in reports),
    )


def _release(reports: Sequence[Incoming]) -> str:
    """The release that was reported last before the problem was over."""
    said = ""
    for one in reports:
        if one.report is None or one.report.action == RESOLVED:
            break
        said = one.report.release or said
    return said


async def _write(
    con: Connection, outcome: Outcome, marker_of: MarkerOf, fresh: Sequence[Incoming] = ()
) -> None:
    await publish(
        con,
        outcome.decided,
        outcome.tickets,
        marker_of,
        stored_states=outcome.stood,
        reports=[_report_row(one, outcome.ticket_of.get(one.report_id)) for one in fresh],
    )
    for parent_id, until in outcome.ends_at.items():
        await throttle.wait_for_more(con, parent_id, until)


def _report_row(one: Incoming, ticket_id: uuid.UUID | None) -> ReportRow:
    report = one.report
    state = PARKED if report is None else TEST if report.action == "test" else STORED
    return ReportRow(
        one.report_id,
        one.source_id,
        ticket_id,
        report.action if report is not None else None,
        as_json(one.headers),
        one.body,
        one.body_sha256,
        state,
        one.error,
    )


async def parked(database: Database, limit: int = 100) -> Sequence[Row]:
    """Reports that our code could not decide on, oldest first."""
    return await database.fetch(SQL["parked_reports"], limit)


async def rerun(
    database: Database,
    report_id: uuid.UUID,
    read: Callable[[Row], Sequence[Incoming]],
    decide: Decide,
    marker_of: MarkerOf,
    mail_id: int | None,
) -> uuid.UUID | None:
    """Decide again on a parked report; the ticket it belongs to now. None: there is no such parked report.

    ``read`` makes the report from its row, and those that came in the same request and are not kept yet; what it raises
    leaves the report parked.
    """
    async with database.transaction() as con:
        row = await con.fetchrow(SQL["parked_report"], report_id)
        if row is None:
            return None
        one, *others = read(row)
        _, fresh = await _sort_out_known(con, others) if others else ({}, [])
        outcome = await _decide(con, [one, *fresh], decide, mail_id)
        if one.report is None:
            raise ValueError(one.error)
        await _write(con, outcome, marker_of, fresh)
        ticket_id = outcome.ticket_of.get(one.report_id)
        await con.execute(SQL["unpark_report"], row["received_at"], report_id, ticket_id, one.report.action)
        return ticket_id
