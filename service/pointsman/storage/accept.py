"""Writing reports, tickets, events, lanes and deliveries: all that belongs together in one transaction."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pointsman.plugin_api import Report
from pointsman.storage import storm
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.promises import (
    MarkerOf,
    Standing,
    as_json,
    lock_ticket,
    places_of,
    standing,
    ticket_from,
    write_decided,
)
from pointsman.storage.queries import queries
from pointsman.tickets.ticket import QUIET, Decided, Places, Ticket, TicketKind, may_promise

__all__ = ["Accepted", "Incoming", "accept", "lock_ticket", "parked", "places_of", "rerun", "write_decided"]

SQL = queries("accept")

STORED, PARKED, TEST = 1, 2, 3


@dataclass(slots=True)
class Incoming:
    """One report on its way in. ``report`` is None where our code could not decide; ``error`` then says why."""

    report_id: uuid.UUID
    source_id: int
    key_hash: bytes
    body: bytes
    body_sha256: bytes
    headers: dict[str, str]
    ticket_kind: TicketKind
    report: Report | None
    error: str | None = None
    routed: tuple[int, ...] = ()
    new_ticket_id: uuid.UUID = field(default_factory=uuid.uuid4)
    source: str = ""
    """The source's slug."""
    allowed: int = 0
    """How many tickets its source may open in a minute before the rest is listed in a storm; 0: any number."""
    since: float = 0.0
    """Since when its sender waits, in seconds of the loop's clock."""


@dataclass(slots=True, frozen=True)
class Accepted:
    """What became of a report. ``repeated``: it was known, ``same_body``: with the very same bytes."""

    report_id: uuid.UUID
    ticket_id: uuid.UUID | None
    repeated: bool = False
    same_body: bool = True
    parked: bool = False


Decide = Callable[[Ticket, Incoming, Places, Decided], None]
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


class _Outcome(msgspec.Struct):
    """What was decided over a batch: the tickets, how they stood before, and which report belongs to which."""

    decided: Decided
    tickets: dict[uuid.UUID, Ticket] = {}
    stood: dict[uuid.UUID, Standing] = {}
    ticket_of: dict[uuid.UUID, uuid.UUID] = {}
    ends_at: dict[uuid.UUID, dt.datetime] = {}
    storms: list[str] = []


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


async def _decide(
    con: Connection, fresh: Sequence[Incoming], decide: Decide, mail_id: int | None
) -> _Outcome:
    """Lock the tickets concerned and let each report, in order, say what it changes."""
    outcome = _Outcome(Decided())
    by_ticket: dict[tuple[int, str], list[Incoming]] = {}
    for one in fresh:
        if one.report is not None and one.report.action != "test":
            by_ticket.setdefault((one.source_id, one.report.fingerprint), []).append(one)
    left_out = await _leave_out_the_unknown(con, by_ticket)
    if not by_ticket:
        return outcome
    rows = await con.fetch(SQL["touch_tickets"], *zip(*map(_ticket_row, by_ticket.values()), strict=True))
    tickets: dict[tuple[int, str], Ticket] = {}
    for row in rows:
        ticket = ticket_from(row)
        outcome.stood[ticket.id] = standing(ticket)
        if row["inserted"]:
            ticket.next_event = 1  # its opening event is counted in the row, and written below
        if ticket.next_event == 1:
            ticket.storm_parent = None
        tickets[ticket.source_id, ticket.fingerprint] = ticket
        outcome.tickets[ticket.id] = ticket
    places = await _places(con, outcome, tickets, by_ticket, mail_id)
    for one in fresh:
        if one.report is None or one.report.action == "test":
            continue
        if one.report_id in left_out:
            continue
        ticket = tickets[one.source_id, one.report.fingerprint]
        outcome.ticket_of[one.report_id] = ticket.id
        # a later twin of this report within the batch is told the ticket's true id
        one.new_ticket_id = ticket.id
        decide(ticket, one, places[ticket.id], outcome.decided)
    return outcome


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
    return one.report is not None and one.report.action == "resolved"


async def _places(
    con: Connection,
    outcome: _Outcome,
    tickets: Mapping[tuple[int, str], Ticket],
    by_ticket: Mapping[tuple[int, str], list[Incoming]],
    mail_id: int | None,
) -> dict[uuid.UUID, Places]:
    """Where each ticket's deliveries go, with what a storm holds back. What promises nothing is not asked."""
    places: dict[uuid.UUID, Places] = {}
    nowhere = Places((), mail_id)
    ask: list[uuid.UUID] = []
    new: list[storm.Asking] = []
    again: list[storm.Asking] = []
    for key, reports in by_ticket.items():
        ticket, first = tickets[key], reports[0]
        if ticket.next_event == 1:
            places[ticket.id] = Places(first.routed, mail_id)
            if first.allowed and first.routed:
                new.append(_asking(ticket, first))
            continue
        places[ticket.id] = nowhere
        if ticket.storm_parent is not None:
            again += [_asking(ticket, one) for one in reports if one.routed and not _is_comment(one)][:1]
        elif any(one.report is not None and may_promise(ticket, one.report) for one in reports):
            ask.append(ticket.id)
    if ask:
        for ticket_id, trackers in (await places_of(con, ask)).items():
            places[ticket_id] = Places(trackers, mail_id)
    if new or again:
        answer = await storm.admit(con, new, again, outcome.decided, mail_id)
        _heed(answer, outcome, places, mail_id, new, again)
    return places


def _heed(
    answer: storm.Answer,
    outcome: _Outcome,
    places: dict[uuid.UUID, Places],
    mail_id: int | None,
    new: Sequence[storm.Asking],
    again: Sequence[storm.Asking],
) -> None:
    """Do as a storm's rules say: what is held goes nowhere, what is singled out goes where it should have gone."""
    for one in new:
        if one.ticket.id in answer.held:
            places[one.ticket.id] = Places((), mail_id, one.routed)
    for one in again:
        if one.ticket.id in answer.singled_out:
            places[one.ticket.id] = Places(one.routed, mail_id)
    outcome.tickets.update({one.id: one for one in answer.parents})
    outcome.stood.update(answer.stood)
    outcome.ends_at, outcome.storms = answer.ends_at, answer.began


def _asking(ticket: Ticket, one: Incoming) -> storm.Asking:
    return storm.Asking(ticket, one.source, one.allowed, one.routed)


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
        report.release,
        person.email if person else "",
        person.name if person else "",
        sum(not _is_comment(other) for other in reports),
    )


def _is_comment(one: Incoming) -> bool:
    return one.report is not None and one.report.action in QUIET


async def _write(
    con: Connection, outcome: _Outcome, marker_of: MarkerOf, fresh: Sequence[Incoming] = ()
) -> None:
    await write_decided(
        con,
        outcome.decided,
        outcome.tickets,
        marker_of,
        stood=outcome.stood,
        reports=[_report_row(one, outcome.ticket_of.get(one.report_id)) for one in fresh],
    )
    for parent_id, until in outcome.ends_at.items():
        await storm.wait_for_more(con, parent_id, until)


def _report_row(one: Incoming, ticket_id: uuid.UUID | None) -> tuple[Any, ...]:
    report = one.report
    state = PARKED if report is None else TEST if report.action == "test" else STORED
    return (
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
