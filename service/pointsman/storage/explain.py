"""Reading what a ticket's story is told from, and deliveries by filter."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries

SQL = queries("explain")


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one ticket that its story is told from."""

    ticket: Row
    events: Sequence[Row]
    lanes: Sequence[Row]
    deliveries: Sequence[Row]
    attempts: Sequence[Row]
    storm_children: int = 0
    held: Row | None = None
    """When it was reported (``seen``) and the time ``now``, if it is below its threshold."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are meant; what is left out is not asked. ``older_than``: made at least so long ago."""

    state: int | None = None
    destination: str | None = None
    ticket_id: uuid.UUID | None = None
    parked: bool = False
    cls: str | None = None
    kind: int | None = None
    in_doubt: bool = False
    older_than: dt.timedelta | None = None


async def material(database: Database, ticket: Row) -> Material:
    """Everything about one ticket, whose row is known."""
    ticket_id = ticket["id"]
    return Material(
        ticket=ticket,
        events=await database.fetch(SQL["events_and_reports"], ticket_id),
        lanes=await database.fetch(SQL["lanes_of_ticket"], ticket_id),
        deliveries=await database.fetch(SQL["deliveries_of_ticket"], ticket_id),
        attempts=await database.fetch(SQL["attempts_of_lanes"], ticket_id),
        storm_children=await database.fetchval(SQL["storm_children"], ticket_id),
        held=await database.fetchrow(SQL["held_seen"], ticket_id) if ticket["held"] else None,
    )


async def report(database: Database, report_id: uuid.UUID) -> Row | None:
    """One report without its body, None if it is not (or no longer) kept."""
    return await database.fetchrow(SQL["report"], report_id)


async def ticket_of_lane(database: Database, lane_id: int) -> uuid.UUID | None:
    """The ticket that a lane belongs to."""
    found: uuid.UUID | None = await database.fetchval(SQL["ticket_of_lane"], lane_id)
    return found


async def tickets_of_issue(
    database: Database, keys: Sequence[str], address: str | None = None
) -> list[uuid.UUID]:
    """Tickets by an issue's key, or by its address and the keys that may stand in it."""
    rows = await database.fetch(SQL["tickets_of_keys"], keys, address)
    if not rows and address is not None:
        rows = await database.fetch(SQL["tickets_of_address"], address)
    return [row["ticket_id"] for row in rows]


async def tickets_of_fingerprint(database: Database, fingerprint: str) -> list[uuid.UUID]:
    """Tickets by their fingerprint."""
    rows = await database.fetch(SQL["tickets_of_fingerprint"], fingerprint)
    return [row["ticket_id"] for row in rows]


async def tickets_in_words(database: Database, ticket_ids: Sequence[uuid.UUID]) -> Sequence[Row]:
    """What tells tickets apart."""
    return await database.fetch(SQL["tickets_in_words"], ticket_ids)


async def deliveries_where(database: Database, wanted: Filter, limit: int) -> Sequence[Row]:
    """Deliveries that fit a filter, newest first."""
    return await database.fetch(
        SQL["deliveries_where"],
        wanted.state,
        wanted.destination,
        wanted.ticket_id,
        wanted.parked,
        wanted.cls,
        wanted.kind,
        wanted.in_doubt,
        wanted.older_than,
        limit,
    )
