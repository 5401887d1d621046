"""The rows of storms: each source's minute, the tickets held back in one, and the parent that lists them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from pointsman.domain import ticket_throttle
from pointsman.domain.ticket import Decided, DeliveryTargets, Ticket
from pointsman.domain.ticket_throttle import Window
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.ids import uuid7
from pointsman.storage.delivery_writer import TicketState, lock_tracker_destinations, state_of, ticket_from
from pointsman.storage.queries import queries

SQL = queries("ticket_throttle")

LISTED = 50


class Listed(msgspec.Struct, frozen=True):
    """The newest of a storm's held tickets, with their titles, and how many there are."""

    total: int
    tickets: Sequence[tuple[str, str]]


class Asking(msgspec.Struct, frozen=True):
    """A ticket that wants an issue of its own, and where it would go. ``allowed``: its source's tickets a minute; 0: all."""

    ticket: Ticket
    source: str
    allowed: int
    routed: tuple[int, ...]


class Answer(msgspec.Struct):
    """Who got what they asked for. ``held`` are listed in a storm, whose ``parents`` go on to be written; ``singled_out``
    get an issue of their own at last; ``began`` names the sources whose storm began.
    """

    held: set[uuid.UUID] = set()
    singled_out: set[uuid.UUID] = set()
    parents: list[Ticket] = []
    stood: dict[uuid.UUID, TicketState] = {}
    ends_at: dict[uuid.UUID, dt.datetime] = {}
    began: list[str] = []


async def admit(
    con: Connection, new: Sequence[Asking], again: Sequence[Asking], decided: Decided, mail_id: int | None
) -> Answer:
    """Let tickets in as far as their sources' minutes allow, and list the surplus in the storms' parents.

    ``new`` tickets come first; ``again`` are those listed in a storm that were reported once more. A minute is locked only
    if it may change.
    """
    answer = Answer()
    over = await _over(con, again)
    answer.singled_out.update(one.ticket.id for one in again if not one.allowed)
    by_source: dict[int, tuple[list[Asking], list[Asking]]] = {}
    for one in new:
        by_source.setdefault(one.ticket.source_id, ([], []))[0].append(one)
    for one in again:
        if one.ticket.source_id in over:
            by_source.setdefault(one.ticket.source_id, ([], []))[1].append(one)
    if not by_source:
        return answer
    locked = await lock_windows(con, sorted(by_source))
    changed: dict[int, Window] = {}
    for source_id, (fresh, back) in sorted(by_source.items()):
        window, now = locked[source_id]
        allowed = (fresh or back)[0].allowed
        window = ticket_throttle.window_at(window, now, allowed)
        window, room = ticket_throttle.admit(window, allowed, new=len(fresh), again=len(back))
        answer.singled_out.update(one.ticket.id for one in back[: room.singled_out])
        if room.held:
            window = await _list(con, source_id, window, fresh[room.own :], answer, decided, mail_id)
        changed[source_id] = window
    await write_windows(con, changed)
    return answer


async def _over(con: Connection, again: Sequence[Asking]) -> set[int]:
    """The sources, of those with an allowance, where no storm goes on."""
    allowed = {one.ticket.source_id: one.allowed for one in again if one.allowed}
    if not allowed:
        return set()
    known = await windows(con, list(allowed))
    return {
        source_id
        for source_id in allowed
        if source_id not in known
        or ticket_throttle.window_at(*known[source_id], allowed[source_id]).parent_id is None
    }


async def _list(
    con: Connection,
    source_id: int,
    window: Window,
    held: Sequence[Asking],
    answer: Answer,
    decided: Decided,
    mail_id: int | None,
) -> Window:
    """List tickets in the storm of their source; the window, with the storm's parent."""
    first = held[0]
    if window.parent_id is None:
        name = ticket_throttle.fingerprint(window)
        title = ticket_throttle.title(first.source, first.allowed)
        parent_id = await con.fetchval(SQL["open_parent"], uuid7(), source_id, name, title)
        window = msgspec.structs.replace(window, parent_id=parent_id)
        answer.began.append(first.source)
    assert window.parent_id is not None
    parent = ticket_from(await con.fetchrow(SQL["count_held"], window.parent_id, len(held)))
    answer.parents.append(parent)
    answer.stood[parent.id] = state_of(parent)
    trackers: tuple[int, ...] = ()
    waiting: set[int] = set()
    if parent.next_event > 1:
        trackers = (await lock_tracker_destinations(con, [parent.id]))[parent.id]
        rows = await con.fetch(SQL["unsent_news"], parent.id)
        waiting = {row["destination_id"] for row in rows}
        answer.ends_at[parent.id] = window.ends_at
    wanted = list(dict.fromkeys(place for one in held for place in one.routed))
    places = DeliveryTargets(trackers, mail_id)
    ticket_throttle.on_surplus(parent, wanted, places, waiting, decided, allowed=first.allowed)
    for one in held:
        one.ticket.summary_ticket_id = parent.id
        answer.held.add(one.ticket.id)
    return window


def _window(row: Row) -> Window:
    return Window(row["began_at"], row["opened"], row["parent_id"])


async def windows(con: Connection, source_ids: Sequence[int]) -> dict[int, tuple[Window, dt.datetime]]:
    """The minutes of sources with the database's time, not locked."""
    rows = await con.fetch(SQL["windows"], source_ids)
    return {row["source_id"]: (_window(row), row["now"]) for row in rows}


async def lock_windows(con: Connection, source_ids: Sequence[int]) -> dict[int, tuple[Window, dt.datetime]]:
    """The minutes of sources with the database's time, locked until the end of the transaction."""
    rows = await con.fetch(SQL["lock_windows"], source_ids)
    return {row["source_id"]: (_window(row), row["now"]) for row in rows}


async def write_windows(con: Connection, changed: Mapping[int, Window]) -> None:
    """Keep the minutes of sources."""
    await con.execute(
        SQL["write_windows"],
        list(changed),
        [one.began_at for one in changed.values()],
        [one.opened for one in changed.values()],
        [one.parent_id for one in changed.values()],
    )


async def wait_for_more(con: Connection, parent_id: uuid.UUID, until: dt.datetime) -> None:
    """Let the storm's news wait for the end of its minute."""
    await con.execute(SQL["wait_for_more"], parent_id, until)


async def listed(
    database: Database, parent_id: uuid.UUID, destination_id: int, limit: int = LISTED
) -> Listed:
    """What an issue of a storm tells: the newest held tickets that were meant for its destination."""
    rows = await database.fetch(SQL["held_at"], parent_id, destination_id, limit)
    return Listed(rows[0]["total"] if rows else 0, [(str(row["id"]), row["title"]) for row in rows])


async def held(database: Database, parent_id: uuid.UUID, limit: int = LISTED) -> Sequence[Row]:
    """The tickets listed in a storm, newest first, for people; each row has the total."""
    return await database.fetch(SQL["held"], parent_id, limit)
