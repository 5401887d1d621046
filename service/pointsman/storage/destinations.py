"""How each destination stands: failures, pauses, polls."""

from __future__ import annotations

import datetime as dt
from typing import Literal, NamedTuple

import msgspec

from pointsman.logs import scrub
from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds
from pointsman.storage.rows import rows_of

SQL = queries("destinations")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong at a destination, scrubbed."""

    error_type: str
    message: str
    status: int | None = None
    excerpt: str = ""
    is_json: bool | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What an error says."""
        status = getattr(error, "status", None)
        return cls(
            error_type=type(error).__name__,
            message=scrub(str(error)) or type(error).__name__,
            status=status if isinstance(status, int) else None,
            excerpt=scrub(str(getattr(error, "excerpt", ""))),
            is_json=getattr(error, "is_json", None),
        )

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"[:2000]


class DestinationStatusRow(NamedTuple):
    """A destination with its last failure and its queue."""

    slug: str
    kind: int
    tracker: str
    retired: bool
    pause_reason: str | None
    blocked_until: dt.datetime | None
    breaker: int
    open_until: dt.datetime | None
    failures: int
    failed_at: dt.datetime | None
    failure_type: str | None
    failure_message: str | None
    failure_status: int | None
    failure_excerpt: str | None
    failure_is_json: bool | None
    polled_to: dt.datetime | None
    waiting_lanes: int
    parked_lanes: int


class Standing(msgspec.Struct, frozen=True):
    """How a destination stands after a failure. ``opened``: its breaker has just opened."""

    failures: int
    opened: bool


async def note_failure(
    database: Database,
    destination_id: int,
    failure: Failure,
    *,
    origin: Literal["delivery", "poll"] = "delivery",
    away: bool = False,
    mostly_away: bool = False,
    in_a_row: int = 5,
    open_seconds: float = 30.0,
    open_seconds_at_most: float = 900.0,
) -> Standing:
    """Remember a failure, with what it means for the breaker; how many in a row by now.

    ``away``: the service gave no answer. ``mostly_away``: most calls of late had none, open at once. The breaker opens
    after so many ``in_a_row``, for ``open_seconds``, doubled each time up to ``open_seconds_at_most``.
    """
    row = await database.fetchrow(
        SQL["record_failure"],
        destination_id,
        failure.error_type,
        failure.message,
        failure.status,
        failure.excerpt,
        failure.is_json,
        away,
        mostly_away,
        in_a_row,
        seconds(open_seconds),
        seconds(open_seconds_at_most),
        origin,
    )
    return Standing(row["failures"], row["opens"]) if row is not None else Standing(0, opened=False)


async def hold_back(database: Database, destination_id: int, hold_seconds: float) -> None:
    """No lane of a destination is claimed for so long."""
    await database.execute(SQL["block_destination"], destination_id, seconds(hold_seconds))


async def list_status(database: Database) -> list[DestinationStatusRow]:
    """Return every destination with its last failure and its queue."""
    return rows_of(DestinationStatusRow, await database.fetch(SQL["destination_statuses"]))


async def set_pause(database: Database, slug: str, why: str | None) -> bool:
    """Stop or resume a destination; False if there is none of that name."""
    return await database.fetchval(SQL["set_pause"], slug, why) is not None


async def last_webhook(database: Database, destination_id: int) -> dt.datetime | None:
    """When a destination's tracker last called us with a valid signature, None if never (or 30 days ago)."""
    found: dt.datetime | None = await database.fetchval(SQL["last_webhook"], destination_id)
    return found
