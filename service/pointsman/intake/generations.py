"""Problems that are reported again: how often, while they are below a threshold, and the tickets of a next generation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.domain.recurrence import generations
from pointsman.domain.routing import History, weigh, windows
from pointsman.domain.ticket import Event, Status, Ticket
from pointsman.intake.incoming import Incoming
from pointsman.storage.db import Connection, Row, uuid7
from pointsman.storage.queries import queries

SQL = queries("intake")

MOST_KEPT = 10_000
"""So many reports of a held ticket are kept, however many a threshold asks for."""
SUCCEEDED = "succeeded"
"""The event of a ticket whose problem goes on in another one."""

RowOf = Callable[[Sequence[Incoming]], tuple[Any, ...]]
"""Makes a ticket's row of its reports: its id first, how often it was reported last."""

_MET = 2**62


class Part(msgspec.Struct):
    """The reports of a batch that belong to one ticket, in order. ``row``: how it was found, None if it was made here."""

    ticket: Ticket
    reports: Sequence[Incoming]
    row: Row | None = None
    before: Ticket | None = None
    """The ticket that it follows."""

    @property
    def is_new(self) -> bool:
        """Whether the first of the reports opens it."""
        return self.ticket.next_event == 1

    @property
    def posted_by(self) -> Incoming | None:
        """The report by which a ticket below its threshold reaches it."""
        if not (self.ticket.held or (self.is_new and self.reports[0].held)):
            return None
        return next((one for one in self.reports if one.routed and one.counts), None)


async def weigh_past(con: Connection, parts: Sequence[Part]) -> None:
    """Let the rules that ask for a problem's past say what they say of each report."""
    asking = [part for part in parts if any(one.fit for one in part.reports)]
    spans = sorted({span for part in asking for one in part.reports for span in windows(one.fit)})
    held = [part.ticket.id for part in asking if part.ticket.held]
    counted: dict[uuid.UUID, dict[int, int]] = {}
    if held and spans:
        for row in await con.fetch(SQL["count_held"], held, spans):
            counted.setdefault(row["ticket_id"], {})[row["seconds"]] = row["times"]
    for part in asking:
        _settle(part, counted.get(part.ticket.id, {}))


def _settle(part: Part, counted: Mapping[int, int]) -> None:
    """``counted``: how often a held ticket was reported before, within spans of seconds."""
    ticket = part.ticket
    # a ticket that was made just now was never reported before
    unseen: float | None = part.row["unseen_seconds"] if part.row is not None else None
    times = 0
    for one in part.reports:
        times += one.counts
        if not one.fit:
            continue
        spans = windows(one.fit)
        # what has an issue once passed its threshold, and need not again
        below = part.is_new or ticket.held
        within = {span: counted.get(span, 0) + times if below else _MET for span in spans}
        past = History(
            occurrences_within=within,
            unseen_seconds=unseen if times <= 1 else 0.0,
            closed_seconds=ticket.closed_seconds if ticket.status is Status.CLOSED else None,
            close_reason=ticket.close_reason or "",
            release=ticket.release,
        )
        choice = weigh(one.fit, past)
        one.routed, one.took = choice.destinations, choice.routes or choice.pending
        one.held = below and choice.held
        one.times = max(within.values(), default=times) if below else 0


async def keep_held(con: Connection, parts: Sequence[Part]) -> None:
    """Keep when tickets that are still held were reported, as far as it is asked for."""
    rows = []
    for part in parts:
        times = sum(one.counts for one in part.reports)
        if not part.ticket.held or not times:
            continue
        fit = [route for one in part.reports for route in one.fit]
        if spans := windows(fit):
            most = max(route.match.occurrences or 0 for route in fit)
            rows.append((part.ticket.id, times, min(most, MOST_KEPT), spans[-1]))
    if rows:
        await con.execute(SQL["keep_held"], *map(list, zip(*rows, strict=True)))


# -- the next generation -------------------------------------------------------------------------------------------


async def follow(con: Connection, part: Part, row_of: RowOf) -> list[Part]:
    """The parts of a ticket's reports: its own, and those by which its problem goes on in tickets of their own, which are
    made. Nearly always that is one.
    """
    asked = [(one.report, one.rules) for one in part.reports if one.report is not None]
    begins = generations(part.ticket, asked)
    if not begins:
        return [part]
    reports = part.reports
    parts = [msgspec.structs.replace(part, reports=reports[: begins[0]])]
    for at, end in zip(begins, [*begins[1:], len(reports)], strict=True):
        parts.append(
            await _succeed(con, parts[-1].ticket, reports[at:], reports[at:end], row_of, only=not at)
        )
    return parts


def may_follow(part: Part) -> bool:
    """Whether a ticket's problem may go on in another one; for nearly all the answer is no, and quick."""
    if part.ticket.status is not Status.CLOSED and len(part.reports) == 1:
        return False
    return any(one.rules for one in part.reports)


async def _succeed(
    con: Connection,
    old: Ticket,
    moved: Sequence[Incoming],
    reports: Sequence[Incoming],
    row_of: RowOf,
    *,
    only: bool,
) -> Part:
    """Let a ticket make room for the next. ``moved``: the reports that were counted for it and are no more; ``only``: there
    are no others.
    """
    issues = await con.fetchval(SQL["supersede"], old.id, sum(one.counts for one in moved), only)
    new_id = uuid7()
    generation = old.generation + 1
    row = [new_id, *row_of(reports)[1:-1], sum(one.counts for one in moved)]
    await con.execute(SQL["succeed"], *row, generation)
    new = Ticket(
        id=new_id,
        source_id=old.source_id,
        kind=old.kind,
        fingerprint=old.fingerprint,
        generation=generation,
        status=Status.OPEN,
        close_reason=None,
        next_event=1,
        earlier={"ticket": str(old.id), "issues": json.loads(issues) if issues else {}},
    )
    part = Part(new, reports, before=old)
    _settle(part, {})
    return part


def begin(part: Part, one: Incoming) -> Event:
    """The event by which a ticket tells where its problem goes on."""
    assert part.before is not None
    n = part.before.next_event
    part.before.next_event += 1
    return Event(part.before.id, n, SUCCEEDED, {"ticket": str(part.ticket.id)}, one.report_id)
