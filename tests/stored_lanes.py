"""Insert lanes and deliveries in given states, without the service."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from pointsman.domain.states import DeliveryState
from pointsman.storage.db import Database
from pointsman.storage.ids import uuid7

HOUR = dt.timedelta(hours=1)


class StoredLanes:
    """Insert lanes of two destinations (``here`` and ``there``) directly into the database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def set_up(self) -> None:
        """Insert a source and two destinations."""
        await self.database.execute(
            "insert into source (slug, kind) values ('s', 'tickets');"
            "insert into destination (slug, tracker) values ('here', 'folder'), ('there', 'folder');"
            "insert into destination_state (destination_id) select id from destination where kind = 1"
        )

    async def lane(self, destination: str, *deliveries: dict[str, Any], **columns: Any) -> int:
        """Insert a lane with its deliveries in order and return its id; ``head`` is the sequence number of the head."""
        fetchval = self.database.fetchval
        ticket = uuid7()
        await self.database.execute(
            "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, 1, 2, $2, 'a title')",
            ticket,
            str(ticket),
        )
        head = columns.get("head", 1)
        lane: int = await fetchval(
            "insert into lane (ticket_id, destination_id, state, head_seq, next_seq, park_reason, due_at)"
            " select $1, id, $3, $4, $5, $6, now() - $7::interval from destination where slug = $2 returning id",
            ticket,
            destination,
            columns.get("state", 3),
            head,
            len(deliveries) + 1,
            columns.get("park_reason"),
            columns.get("ago", HOUR),
        )
        for seq, delivery in enumerate(deliveries, 1):
            await self.database.execute(
                "insert into event (ticket_id, n, kind) values ($1, $2, 'commented')", ticket, seq
            )
            await self.database.execute(
                "insert into delivery (lane_id, seq, event_n, kind, marker, state, attempts, outcome_unknown, last_outcome,"
                " done_at, created_at, expires_at) values ($1, $2::integer, $2::integer, $3, $4, $5, 9, $6, $7, now() - $8::interval,"
                " now() - $8::interval, now() - interval '1 day')",
                lane,
                seq,
                delivery.get("kind", 2),
                uuid.uuid4(),
                delivery.get("state", DeliveryState.DEAD),
                delivery.get("outcome_unknown", False),
                delivery.get("cls", "refused"),
                delivery.get("ago", HOUR),
            )
        return lane

    async def everything(self) -> list[Any]:
        """Return all rows that a replay could change."""
        all_rows: list[Any] = []
        for table in ("lane", "delivery", "audit"):
            rows = await self.database.fetch(f"select * from {table} order by 1, 2")
            all_rows += [tuple(row) for row in rows]
        return all_rows

    async def delivery(self, lane: int, marker: uuid.UUID) -> Any:
        """Return a delivery of a lane by its marker."""
        return await self.database.fetchrow(
            "select * from delivery where lane_id = $1 and marker = $2", lane, marker
        )


async def insert_finished(con: Any, count: int) -> None:
    """Insert ``count`` lanes whose deliveries are done."""
    await con.execute(
        "insert into ticket (id, source_id, kind, fingerprint, title)"
        f" select gen_random_uuid(), 1, 2, 'f' || n, 't' from generate_series(1, {count}) n;"
        "insert into lane (ticket_id, destination_id, head_seq, next_seq) select id, 2, 2, 2 from ticket"
        " where fingerprint like 'f%';"
        "insert into event (ticket_id, n, kind) select id, 1, 'opened' from ticket where fingerprint like 'f%';"
        "insert into delivery (lane_id, seq, event_n, kind, marker, state, done_at)"
        " select id, 1, 1, 1, gen_random_uuid(), 1, now() from lane where next_seq = 2 and head_seq = 2;"
        "analyze"
    )
