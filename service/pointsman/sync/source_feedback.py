"""Telling sources how their problems stand: closed, reopened, and where the issue was made.

What a source is told goes along a lane of its own, like anything that goes to a tracker: kept, in order, tried again, looked
for before it is said twice. For that a source is presented as a tracker whose issues are its problems. Such a lane
begins with the first thing to tell, and is no place that a route can name.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from pointsman.bus.publish import MarkerOf, publish
from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.domain.states import DeliveryKind
from pointsman.domain.ticket import Changes, Event, PlannedDelivery, Ticket
from pointsman.logs import logger
from pointsman.plugin_api import (
    Source,
    State,
)
from pointsman.storage import sources as store
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.errors import DatabaseUnavailable

log = logger("sources")

LOOK_SECONDS = 20.0
GATHER_SECONDS = 0.2
"""Issues that are made at about the same time are told together."""
LINKS = 200
CLOSED = 500
"""So many tickets at a time are told of that were closed with their storm's: others are served in between."""
LINKED = "linked"
"""The event that says that an issue was made; only where the ticket's source is told so."""


def promise_state(
    ticket: Ticket, decided: Changes, state: State, destination_id: int, source: Source | None
) -> bool:
    """Promise to tell a ticket's source that it was closed or reopened; whether there is anything to promise."""
    if source is None or not source.capabilities.set_state or not decided.events:
        return False
    kind = DeliveryKind.CLOSE if state == "closed" else DeliveryKind.REOPEN
    decided.deliveries.append(PlannedDelivery(ticket.id, destination_id, decided.events[-1].n, kind))
    return True


async def tell_closed(
    con: Connection, listed: Sequence[Ticket], destination_id: int, source: Source | None, marker_of: MarkerOf
) -> None:
    """Promise to tell a source that tickets of it were closed with their storm's, each by its last event."""
    if source is None or not source.capabilities.set_state:
        return
    tickets = {one.id: one for one in listed}
    # for their locks: the lanes that are there already, in the order of their ids as everywhere
    await lock_tracker_destinations(con, list(tickets))
    for start in range(0, len(listed), CLOSED):
        ids = [one.id for one in listed[start : start + CLOSED]]
        problems = await store.problems_of(con, ids, destination_id)
        decided = Changes()
        for row in problems:
            ticket = tickets[row["ticket_id"]]
            decided.deliveries.append(PlannedDelivery(ticket.id, destination_id, ticket.next_event - 1, DeliveryKind.CLOSE))
        await publish(con, decided, tickets, marker_of)
        await store.link_back(con, destination_id, problems)


class Places(Protocol):
    """What is needed of the configuration."""

    @property
    def backs(self) -> Mapping[int, int]:
        """The destination by which each source is told, by source."""
        ...

    @property
    def marker_of(self) -> MarkerOf:
        """Makes a delivery's marker."""
        ...

    def commented(self) -> Sequence[int]:
        """The sources that are told where issues were made."""
        ...


class SourceFeedback:
    """Tells sources where the issues of their tickets were made. Every replica looks; a ticket's lock decides."""

    def __init__(
        self,
        database: Database,
        places: Callable[[], Places],
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._places = places
        self._signals = signals or Signals()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """An issue was made just now."""
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look until the end."""
        task = asyncio.create_task(self._forever(), name="links")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            try:
                while await self.tell():
                    pass
            except DatabaseUnavailable:
                continue
            except Exception:
                log.exception("telling sources of new issues failed")

    async def tell(self) -> bool:
        """Promise what is new; whether there may be more at once."""
        places = self._places()
        wanted = places.commented()
        if not wanted:
            return False
        more = False
        since = await store.linked_to(self._database, wanted)
        for source_id, up_to in since.items():
            rows = await store.new_links(self._database, source_id, up_to, LINKS)
            for row in rows:
                await self._promise(row, places)
            if rows:
                self._signals.emit(WorkAvailable())
            full = len(rows) == LINKS
            more = more or full
            await store.move_linked_to(self._database, source_id, rows[-1]["linked_at"] if full else None)
        return more

    async def _promise(self, row: Row, places: Places) -> None:
        await self._database.run_transaction(lambda con: _linked(con, row, places))


async def _linked(con: Connection, row: Row, places: Places) -> None:
    ticket_id: uuid.UUID = row["ticket_id"]
    destination_id = places.backs[row["source_id"]]
    ticket = await lock_ticket(con, ticket_id)
    if ticket is None or await store.told_of(con, ticket_id, row["lane_id"]):
        return
    problem = await store.problem_of(con, ticket_id, destination_id)
    data = {
        "lane": row["lane_id"],
        "destination": row["destination"],
        "key": row["remote_key"],
        "url": row["url"],
    }
    decided = Changes()
    decided.events.append(Event(ticket_id, ticket.next_event, LINKED, data))
    if problem is not None:
        decided.deliveries.append(PlannedDelivery(ticket_id, destination_id, ticket.next_event, DeliveryKind.COMMENT))
    ticket.next_event += 1
    await publish(con, decided, {ticket_id: ticket}, places.marker_of)
    if problem is not None:
        await store.link_back(con, destination_id, [problem])
