"""Writing reports, tickets, events, lanes and deliveries: all that belongs together in one transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.plugin_api import Report
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.queries import queries
from pointsman.tickets.ticket import Decided, Places, Promise, Status, Ticket, TicketKind

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


@dataclass(slots=True, frozen=True)
class Accepted:
    """What became of a report. ``repeated``: it was known, ``same_body``: with the very same bytes."""

    report_id: uuid.UUID
    ticket_id: uuid.UUID | None
    repeated: bool = False
    same_body: bool = True
    parked: bool = False


MarkerOf = Callable[[Ticket, Promise], uuid.UUID]
Decide = Callable[[Ticket, Incoming, Places, Decided], None]


def ticket_from(row: Row) -> Ticket:
    """A locked ticket from its row."""
    return Ticket(
        id=row["id"],
        source_id=row["source_id"],
        kind=TicketKind(row["kind"]),
        fingerprint=row["fingerprint"],
        generation=row["generation"],
        status=Status(row["status"]),
        close_reason=row["close_reason"],
        next_event=row["next_event"],
        reporter_email=row["reporter_email"],
    )


async def accept(
    database: Database, batch: Sequence[Incoming], decide: Decide, marker_of: MarkerOf, mail_id: int | None
) -> list[Accepted]:
    """Accept reports in one transaction; the answers are in the order of the batch, and true once this returns."""
    async with database.transaction() as con:
        answers, fresh = await _sort_out_known(con, batch)
        if fresh:
            decided, tickets, ticket_of = await _decide(con, fresh, decide, mail_id)
            await write_decided(con, decided, tickets, marker_of)
            await _write_reports(con, fresh, ticket_of)
            for one in fresh:
                answers[one.report_id] = Accepted(
                    one.report_id, ticket_of.get(one.report_id), parked=one.report is None
                )
    return [answers[one.report_id] for one in batch]


async def _sort_out_known(
    con: Connection, batch: Sequence[Incoming]
) -> tuple[dict[uuid.UUID, Accepted], list[Incoming]]:
    """Answers for reports seen before, within the batch too, and the fresh ones."""
    answers: dict[uuid.UUID, Accepted] = {}
    firsts: dict[tuple[int, bytes], Incoming] = {}
    for one in batch:
        firsts.setdefault((one.source_id, one.key_hash), one)
    asked = sorted(firsts.values(), key=lambda one: (one.source_id, one.key_hash))
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
    con: Connection, fresh: list[Incoming], decide: Decide, mail_id: int | None
) -> tuple[Decided, dict[uuid.UUID, Ticket], dict[uuid.UUID, uuid.UUID]]:
    """Lock the tickets concerned and let each report, in order, say what it changes."""
    of_ticket = [one for one in fresh if one.report is not None and one.report.action != "test"]
    firsts: dict[tuple[int, str], Incoming] = {}
    counts: dict[tuple[int, str], int] = {}
    for one in of_ticket:
        assert one.report is not None
        key = (one.source_id, one.report.fingerprint)
        firsts.setdefault(key, one)
        counts[key] = counts.get(key, 0) + (one.report.action != "commented")
    decided = Decided()
    if not firsts:
        return decided, {}, {}
    rows = await con.fetch(SQL["touch_tickets"], *_ticket_columns(firsts, counts))
    tickets = {(row["source_id"], row["fingerprint"]): ticket_from(row) for row in rows}
    old = [row["id"] for row in rows if not row["inserted"]]
    lanes = await places_of(con, old) if old else {}
    ticket_of: dict[uuid.UUID, uuid.UUID] = {}
    for one in of_ticket:
        assert one.report is not None
        key = (one.source_id, one.report.fingerprint)
        ticket = tickets[key]
        ticket_of[one.report_id] = ticket.id
        # a later twin of this report within the batch is told the ticket's true id
        one.new_ticket_id = ticket.id
        trackers = lanes.get(ticket.id, ()) if ticket.id in lanes else firsts[key].routed
        decide(ticket, one, Places(trackers, mail_id), decided)
    return decided, {ticket.id: ticket for ticket in tickets.values()}, ticket_of


def _ticket_columns(
    firsts: dict[tuple[int, str], Incoming], counts: dict[tuple[int, str], int]
) -> list[list[Any]]:
    rows = []
    for key, one in firsts.items():
        report = one.report
        assert report is not None
        person = report.person
        rows.append(
            (
                one.new_ticket_id,
                one.source_id,
                int(one.ticket_kind),
                report.fingerprint,
                report.title,
                report.text if one.ticket_kind is TicketKind.SUPPORT else "",
                report.url,
                report.level,
                report.environment,
                report.release,
                person.email if person else "",
                person.name if person else "",
                counts[key],
            )
        )
    return [list(column) for column in zip(*rows, strict=True)]


async def places_of(con: Connection, ticket_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[int, ...]]:
    """The tracker destinations that each ticket has; a ticket without any has an empty one."""
    found: dict[uuid.UUID, tuple[int, ...]] = dict.fromkeys(ticket_ids, ())
    for row in await con.fetch(SQL["lanes_of_tickets"], ticket_ids):
        if row["kind"] == 1:
            found[row["ticket_id"]] += (row["destination_id"],)
    return found


async def lock_ticket(con: Connection, ticket_id: uuid.UUID) -> Ticket | None:
    """One ticket, locked until the end of the transaction; None if there is none."""
    row = await con.fetchrow(SQL["lock_ticket"], ticket_id)
    return ticket_from(row) if row is not None else None


async def write_decided(
    con: Connection, decided: Decided, tickets: dict[uuid.UUID, Ticket], marker_of: MarkerOf
) -> None:
    """Write events, the tickets' new standing, and the deliveries at the end of their lanes."""
    if decided.events:
        touched = [tickets[one] for one in dict.fromkeys(event.ticket_id for event in decided.events)]
        await con.execute(
            SQL["write_tickets"],
            [ticket.id for ticket in touched],
            [int(ticket.status) for ticket in touched],
            [ticket.close_reason or "" for ticket in touched],
            [ticket.next_event for ticket in touched],
        )
        await con.execute(
            SQL["write_events"],
            [event.ticket_id for event in decided.events],
            [event.n for event in decided.events],
            [event.kind for event in decided.events],
            [json.dumps(event.data) for event in decided.events],
            [event.report_id for event in decided.events],
        )
    if not decided.promises:
        return
    by_lane: dict[tuple[uuid.UUID, int], list[Promise]] = {}
    for promise in decided.promises:
        by_lane.setdefault((promise.ticket_id, promise.destination_id), []).append(promise)
    rows = await con.fetch(
        SQL["extend_lanes"],
        [ticket_id for ticket_id, _ in by_lane],
        [destination_id for _, destination_id in by_lane],
        [len(promises) for promises in by_lane.values()],
    )
    values = []
    for row in rows:
        promises = by_lane[row["ticket_id"], row["destination_id"]]
        first = row["next_seq"] - len(promises)
        values += [
            (row["id"], first + i, one.event_n, int(one.kind), marker_of(tickets[one.ticket_id], one))
            for i, one in enumerate(promises)
        ]
    await con.execute(SQL["write_deliveries"], *[list(column) for column in zip(*values, strict=True)])


async def _write_reports(
    con: Connection, fresh: list[Incoming], ticket_of: dict[uuid.UUID, uuid.UUID]
) -> None:
    def state(one: Incoming) -> int:
        if one.report is None:
            return PARKED
        return TEST if one.report.action == "test" else STORED

    await con.execute(
        SQL["write_reports"],
        [one.report_id for one in fresh],
        [one.source_id for one in fresh],
        [ticket_of.get(one.report_id) for one in fresh],
        [one.report.action if one.report else None for one in fresh],
        [json.dumps(one.headers) for one in fresh],
        [one.body for one in fresh],
        [one.body_sha256 for one in fresh],
        [state(one) for one in fresh],
        [one.error for one in fresh],
    )


async def parked(database: Database, limit: int = 100) -> Sequence[Row]:
    """Reports that our code could not decide on, oldest first."""
    return await database.fetch(SQL["parked_reports"], limit)


async def rerun(
    database: Database,
    report_id: uuid.UUID,
    read: Callable[[Row], Incoming],
    decide: Decide,
    marker_of: MarkerOf,
    mail_id: int | None,
) -> uuid.UUID | None:
    """Decide again on a parked report; the ticket it belongs to now. None: there is no such parked report.

    ``read`` makes the report from its row; what it raises leaves the report parked.
    """
    async with database.transaction() as con:
        row = await con.fetchrow(SQL["parked_report"], report_id)
        if row is None:
            return None
        one = read(row)
        decided, tickets, ticket_of = await _decide(con, [one], decide, mail_id)
        if one.report is None:
            raise ValueError(one.error)
        await write_decided(con, decided, tickets, marker_of)
        ticket_id = ticket_of.get(one.report_id)
        await con.execute(SQL["unpark_report"], row["received_at"], report_id, ticket_id, one.report.action)
        return ticket_id
