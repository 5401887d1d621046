"""Ask the routes again about open tickets that no route took, after the configuration was changed."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from pointsman.bus.publish import publish
from pointsman.config.settings import Settings
from pointsman.domain.routing import Facts, prefilter
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import Changes, DeliveryTargets, route_ticket
from pointsman.intake.preparation import choose
from pointsman.plugin_host.bootstrap import open_reloader
from pointsman.plugin_host.snapshot import ConfigSnapshot
from pointsman.storage import delivery_writer
from pointsman.storage.db import Connection, Database
from pointsman.storage.unrouted import UnroutedTicket, unrouted_tickets

PAGE_ROWS = 500
_FIRST = uuid.UUID(int=0)


class ReroutedTicket(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that a route takes now, and the slugs of its destinations."""

    id: uuid.UUID
    title: str
    source: str
    destinations: Sequence[str]


async def reroute_tickets(
    settings: Settings, database: Database, *, dry_run: bool
) -> AsyncIterator[ReroutedTicket]:
    """Create the issues of open tickets that a route takes now, oldest first, each in its own transaction.

    The routes see a ticket as it was opened. Trackers' rate limits apply, the throttle and quiet hours do not.
    """
    async with open_reloader(settings, database) as reloader:
        snapshot, after = reloader.current, _FIRST
        while rows := await unrouted_tickets(database, after, PAGE_ROWS):
            after = rows[-1].id
            for row in rows:
                destination_ids = _destinations(snapshot, row)
                if not destination_ids:
                    continue
                if not dry_run and not await _route(database, snapshot, row, destination_ids):
                    continue
                yield ReroutedTicket(
                    id=row.id,
                    title=row.title,
                    source=snapshot.source_slugs.get(row.source_id, ""),
                    destinations=[snapshot.destinations[number].slug for number in destination_ids],
                )


def _destinations(snapshot: ConfigSnapshot, row: UnroutedTicket) -> Sequence[int]:
    source = snapshot.source_of(row.source_id)
    if source is None:
        return ()
    kind = TicketKind(row.kind)
    tags = tuple((str(name), str(value)) for name, value in _data(row).get("facts", ()))
    facts = Facts(source.slug, kind.name.lower(), row.environment, row.level, row.release, row.title, tags)
    return choose(prefilter(snapshot.routes, facts), kind).destinations


def _data(row: UnroutedTicket) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(row.data)
    return data


async def _route(
    database: Database, snapshot: ConfigSnapshot, row: UnroutedTicket, destination_ids: Sequence[int]
) -> bool:
    """Create the issues of one ticket. Return whether it still had no route."""

    async def run(con: Connection) -> bool:
        ticket = await delivery_writer.lock_ticket(con, row.id)
        if ticket is None or not ticket.unrouted or ticket.status is not TicketStatus.OPEN:
            return False
        changes = Changes()
        targets = DeliveryTargets(destination_ids, snapshot.mail_id)
        route_ticket(ticket, {**_data(row), "by": "operator"}, targets, changes)
        await publish(con, changes, {ticket.id: ticket}, snapshot.marker_of)
        return True

    return await database.run_transaction(run)
