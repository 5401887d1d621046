"""How each destination stands: failures, pauses, polls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pointsman.storage.db import Database, Row
from pointsman.storage.lanes import seconds
from pointsman.storage.queries import queries

SQL = queries("destinations")


async def note_failure(
    database: Database,
    destination_id: int,
    *,
    error_type: str,
    message: str,
    status: int | None,
    excerpt: str,
    is_json: bool | None,
    hold_seconds: float | None,
) -> int:
    """Remember a failure, hold the destination's lanes back where asked; how many in a row by now."""
    hold = seconds(hold_seconds) if hold_seconds is not None else None
    failures: int | None = await database.fetchval(
        SQL["note_failure"], destination_id, error_type, message, status, excerpt, is_json, hold
    )
    return failures or 0


async def note_success(database: Database, destination_id: int) -> None:
    """Clear the failure."""
    await database.execute(SQL["note_success"], destination_id)


async def standing(database: Database) -> Sequence[Row]:
    """Every destination with its failure and its queue."""
    return await database.fetch(SQL["standing"])


async def set_pause(database: Database, slug: str, why: str | None) -> bool:
    """Stop or resume a destination; False if there is none of that name."""
    return await database.fetchval(SQL["set_pause"], slug, why) is not None


async def take_poll(
    database: Database, destination_id: int, every_seconds: float
) -> tuple[dt.datetime, dt.datetime | None] | None:
    """Win a turn to poll: the database's time now, and up to when changes are known. None: not our turn."""
    row = await database.fetchrow(SQL["take_poll"], destination_id, seconds(every_seconds))
    return (row["asked_at"], row["polled_to"]) if row is not None else None


async def polled(database: Database, destination_id: int, up_to: dt.datetime) -> None:
    """Changes up to a time are known."""
    await database.execute(SQL["polled"], destination_id, up_to)
