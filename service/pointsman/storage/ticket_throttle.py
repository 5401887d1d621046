"""Rate windows of sources, and the summary tickets that list what a window does not admit."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from pointsman.domain.ticket import Ticket
from pointsman.domain.ticket_throttle import RateWindow
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import ticket_from
from pointsman.storage.ids import uuid7
from pointsman.storage.queries import queries
from pointsman.storage.rows import rows_of

SQL = queries("ticket_throttle")

LIST_LIMIT = 50
"""Most tickets listed in a summary."""


class ThrottledTickets(msgspec.Struct, frozen=True):
    """The newest throttled tickets of a summary, as ids with titles, and the number of all."""

    total: int
    tickets: Sequence[tuple[str, str]]


class ThrottledTicket(NamedTuple):
    """A ticket listed in a summary, for people; ``total`` counts all of that summary."""

    id: uuid.UUID
    title: str
    status: int
    occurrences: int
    total: int


async def rate_windows(
    con: Connection, source_ids: Sequence[int]
) -> dict[int, tuple[RateWindow, dt.datetime]]:
    """Return the rate windows of sources with the database's time, not locked."""
    return _windows(await con.fetch(SQL["rate_windows"], source_ids))


async def lock_rate_windows(
    con: Connection, source_ids: Sequence[int]
) -> dict[int, tuple[RateWindow, dt.datetime]]:
    """Lock the rate windows of sources, which must be sorted. Return them with the database's time."""
    return _windows(await con.fetch(SQL["lock_rate_windows"], source_ids))


def _windows(records: Sequence[Mapping[str, object]]) -> dict[int, tuple[RateWindow, dt.datetime]]:
    windows: dict[int, tuple[RateWindow, dt.datetime]] = {}
    for record in records:
        source_id, started_at, opened, parent_id, now = record.values()
        windows[source_id] = RateWindow(started_at, opened, parent_id), now  # type: ignore[index,arg-type,assignment]
    return windows


async def write_rate_windows(con: Connection, windows: Mapping[int, RateWindow]) -> None:
    """Store the locked rate windows of sources."""
    await con.execute(
        SQL["update_rate_windows"],
        list(windows),
        [window.started_at for window in windows.values()],
        [window.opened for window in windows.values()],
        [window.summary_ticket_id for window in windows.values()],
    )


async def open_summary_ticket(con: Connection, source_id: int, fingerprint: str, title: str) -> uuid.UUID:
    """Insert the summary ticket of a throttle, or find it if it exists. Return its id."""
    ticket_id: uuid.UUID = await con.fetchval(
        SQL["upsert_summary_ticket"], uuid7(), source_id, fingerprint, title
    )
    return ticket_id


async def add_throttled(con: Connection, summary_ticket_id: uuid.UUID, count: int) -> Ticket:
    """Lock a summary ticket and add to the number of tickets that it lists."""
    return ticket_from(await con.fetchrow(SQL["increment_throttled"], summary_ticket_id, count))


async def destinations_with_unsent(con: Connection, summary_ticket_id: uuid.UUID) -> set[int]:
    """Lock the lanes of a summary ticket. Return the destinations where an issue or comment about it waits to be sent."""
    records = await con.fetch(SQL["destinations_with_unsent_summary"], summary_ticket_id)
    return {record["destination_id"] for record in records}


async def postpone_comments(con: Connection, summary_ticket_id: uuid.UUID, until: dt.datetime) -> None:
    """Postpone the comments of a summary ticket on idle lanes to the end of the rate window."""
    await con.execute(SQL["postpone_throttle_comment"], summary_ticket_id, until)


async def throttled_tickets_for(
    database: Database, summary_ticket_id: uuid.UUID, destination_id: int, limit: int = LIST_LIMIT
) -> ThrottledTickets:
    """Return the newest throttled tickets that were meant for a destination."""
    records = await database.fetch(
        SQL["throttled_tickets_of_destination"], summary_ticket_id, destination_id, limit
    )
    return ThrottledTickets(
        records[0]["total"] if records else 0, [(str(record["id"]), record["title"]) for record in records]
    )


async def throttled_tickets(
    database: Database, summary_ticket_id: uuid.UUID, limit: int = LIST_LIMIT
) -> list[ThrottledTicket]:
    """Return the throttled tickets of a summary, newest first, for people."""
    return rows_of(ThrottledTicket, await database.fetch(SQL["throttled_tickets"], summary_ticket_id, limit))
