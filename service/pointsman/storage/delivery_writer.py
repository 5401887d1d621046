"""Writing what was decided about tickets: their standing, events, and deliveries at the ends of their lanes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.domain.ticket import Decided, Promise, Status, Ticket, TicketKind, fold
from pointsman.domain.ticket_throttle import STORM, is_parent
from pointsman.storage.db import Connection, Row
from pointsman.storage.queries import queries

SQL = queries("deliveries")

MarkerOf = Callable[[Ticket, Promise], uuid.UUID]
Standing = tuple[Status, str | None, int, uuid.UUID | None, bool, bool]
LaneKey = tuple[uuid.UUID, int]

CLOSED_AT_ONCE = 3_000
"""So many tickets listed in a storm are closed with it at most; the rest stays open."""
REPORT_COLUMNS = 9
_to_json = msgspec.json.Encoder().encode
# an enum's own look is ten times as slow as a dict's
_KINDS = {int(one): one for one in TicketKind}
_STATES = {int(one): one for one in Status}


def as_json(value: Any) -> str:
    """A value as Postgres takes it for jsonb."""
    return _to_json(value).decode()


def ticket_from(row: Row) -> Ticket:
    """A locked ticket from its row."""
    return Ticket(
        id=row["id"],
        source_id=row["source_id"],
        kind=_KINDS[row["kind"]],
        fingerprint=row["fingerprint"],
        generation=row["generation"],
        status=_STATES[row["status"]],
        close_reason=row["close_reason"],
        next_event=row["next_event"],
        reporter_email=row["reporter_email"],
        storm_parent=row["storm_parent"],
        held=row.get("held", False),
        noted=row.get("noted", False),
        release=row.get("release", ""),
    )


def standing(ticket: Ticket) -> Standing:
    """What of a ticket can change by a decision."""
    return (
        ticket.status,
        ticket.close_reason,
        ticket.next_event,
        ticket.storm_parent,
        ticket.held,
        ticket.noted,
    )


def restore(ticket: Ticket, stood: Standing) -> None:
    """Let a ticket stand as it stood."""
    ticket.status, ticket.close_reason, ticket.next_event, ticket.storm_parent, ticket.held, ticket.noted = (
        stood
    )


async def lock_ticket(con: Connection, ticket_id: uuid.UUID) -> Ticket | None:
    """One ticket, locked until the end of the transaction; None if there is none."""
    row = await con.fetchrow(SQL["lock_ticket"], ticket_id)
    return ticket_from(row) if row is not None else None


async def places_of(con: Connection, ticket_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[int, ...]]:
    """The tracker destinations that each locked ticket has, their lanes locked too; a ticket without any has an empty
    one.
    """
    found: dict[uuid.UUID, tuple[int, ...]] = dict.fromkeys(ticket_ids, ())
    for row in await con.fetch(SQL["lanes_of_tickets"], ticket_ids):
        if row["kind"] == 1:
            found[row["ticket_id"]] += (row["destination_id"],)
    return found


async def write_decided(
    con: Connection,
    decided: Decided,
    tickets: Mapping[uuid.UUID, Ticket],
    marker_of: MarkerOf,
    *,
    stood: Mapping[uuid.UUID, Standing] | None = None,
    reports: Sequence[tuple[Any, ...]] = (),
) -> Sequence[Ticket]:
    """Write events, the tickets' new standing, the deliveries at the end of their lanes, and rows of reports. The tickets
    that were closed with their storm's, each by its last event.

    ``stood``: how the tickets stood in the database; those that stand as they stood are not written.
    """
    if stood is None:
        changed = [tickets[one] for one in dict.fromkeys(event.ticket_id for event in decided.events)]
    else:
        changed = [one for one in tickets.values() if stood[one.id] != standing(one)]
    if changed:
        await con.execute(
            SQL["write_tickets"],
            [one.id for one in changed],
            [one.status for one in changed],
            [one.close_reason for one in changed],
            [one.next_event for one in changed],
            [one.storm_parent for one in changed],
            [one.held for one in changed],
            [one.noted for one in changed],
            [one.release for one in changed],
        )
    lanes = await _make_room(con, decided.promises, tickets, marker_of)
    if reports or decided.events or lanes:
        await con.execute(
            SQL["write"],
            *_columns(reports, REPORT_COLUMNS),
            *_columns([(e.ticket_id, e.n, e.kind, as_json(e.data), e.report_id) for e in decided.events], 5),
            *_columns([(*key, len(of_lane), of_lane[0].due_at) for key, of_lane in lanes.items()], 4),
            *_columns(
                [
                    (
                        *key,
                        len(promises) - i,
                        one.event_n,
                        one.kind,
                        marker_of(tickets[one.ticket_id], one),
                        one.collapse_key,
                        one.collapsed,
                    )
                    for key, promises in lanes.items()
                    for i, one in enumerate(promises)
                ],
                8,
            ),
        )
    listed: list[Ticket] = []
    for event in decided.events:
        if event.kind == "closed" and is_parent(tickets[event.ticket_id]):
            told = as_json({**event.data, STORM: str(event.ticket_id)})
            reason = event.data.get("reason") or "completed"
            rows = await con.fetch(SQL["close_held"], event.ticket_id, reason, told, CLOSED_AT_ONCE)
            listed += map(ticket_from, rows)
    return listed


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


async def _make_room(
    con: Connection, promises: Sequence[Promise], tickets: Mapping[uuid.UUID, Ticket], marker_of: MarkerOf
) -> dict[LaneKey, list[Promise]]:
    """The promises of each lane that need a place at its end; the others took the place of an older one."""
    lanes: dict[LaneKey, list[Promise]] = {}
    keyed = False
    for one in promises:
        lanes.setdefault((one.ticket_id, one.destination_id), []).append(one)
        keyed = keyed or one.collapse_key is not None
    if not keyed:
        return lanes
    asked = []
    for key, of_lane in lanes.items():
        lanes[key] = folded = fold(of_lane)
        for one in folded:
            if one.collapse_key is not None:
                marker = marker_of(tickets[one.ticket_id], one)
                leads = one is folded[0]
                asked.append((*key, one.collapse_key, one.event_n, marker, one.collapsed, leads))
    for row in await con.fetch(SQL["collapse"], *_columns(asked, 7)):
        if row["moves"]:
            key = row["ticket_id"], row["destination_id"]
            del lanes[key][0]
            if not lanes[key]:
                del lanes[key]
    return lanes
