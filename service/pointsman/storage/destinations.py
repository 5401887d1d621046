"""The state of destinations: failures, circuit breaker, pauses."""

from __future__ import annotations

import datetime as dt
from typing import Literal, NamedTuple

import msgspec

from pointsman.logs import scrub
from pointsman.storage.db import Database, seconds
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("destinations")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failure at a destination, without secrets."""

    error_type: str
    message: str
    status: int | None = None
    excerpt: str = ""
    is_json: bool | None = None

    @classmethod
    def from_error(cls, error: BaseException) -> Failure:
        """Return the failure that an error describes."""
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


class FailureResult(NamedTuple):
    """The number of consecutive failures of a destination, and whether the last one opened its circuit breaker."""

    failures: int
    opened: bool


async def record_failure(
    database: Database,
    destination_id: int,
    failure: Failure,
    *,
    origin: Literal["delivery", "poll"] = "delivery",
    no_answer: bool = False,
    mostly_no_answer: bool = False,
    failure_threshold: int = 5,
    open_seconds: float = 30.0,
    max_open_seconds: float = 900.0,
) -> FailureResult:
    """Record a failure and its effect on the circuit breaker.

    ``no_answer``: the service did not answer. ``mostly_no_answer``: most recent calls had no answer, so the breaker opens
    at once. Otherwise it opens after ``failure_threshold`` consecutive failures, for ``open_seconds``, which doubles each
    time up to ``max_open_seconds``.
    """
    record = await database.fetchrow(
        SQL["record_failure"],
        destination_id,
        failure.error_type,
        failure.message,
        failure.status,
        failure.excerpt,
        failure.is_json,
        no_answer,
        mostly_no_answer,
        failure_threshold,
        seconds(open_seconds),
        seconds(max_open_seconds),
        origin,
    )
    return row_of(FailureResult, record) or FailureResult(0, opened=False)


async def record_answer(database: Database, destination_id: int) -> None:
    """Record that a destination answered: its circuit breaker closes. Its last failure and back-off stay."""
    await database.execute(SQL["close_breaker"], destination_id)


async def block(database: Database, destination_id: int, block_seconds: float) -> None:
    """Block a destination: none of its lanes is claimed for so long."""
    await database.execute(SQL["block_destination"], destination_id, seconds(block_seconds))


async def list_status(database: Database) -> list[DestinationStatusRow]:
    """Return every destination with its last failure and its queue."""
    return rows_of(DestinationStatusRow, await database.fetch(SQL["destination_statuses"]))


async def set_pause(database: Database, slug: str, reason: str | None) -> bool:
    """Pause a destination, or resume it with None. Return False if no destination has this slug."""
    return await database.fetchval(SQL["set_pause"], slug, reason) is not None


async def retry_now(database: Database, slug: str) -> bool:
    """End the back-off of a destination and of its lanes. Return False if no destination has this slug."""
    destination_id = await database.fetchval(SQL["end_back_off"], slug)
    if destination_id is None:
        return False
    await end_lane_back_offs(database, destination_id)
    return True


async def retry_after_restart(database: Database) -> None:
    """End the back-off of destinations whose credential or settings were refused: both may be others now."""
    for status in await list_status(database):
        if status.failure_type in ("AuthFailed", "Misconfigured"):
            await retry_now(database, status.slug)


async def end_lane_back_offs(database: Database, destination_id: int) -> None:
    """Let the lanes of a destination that wait after a failure be tried now."""
    await database.execute(SQL["end_lane_back_offs"], destination_id)


async def last_webhook(database: Database, destination_id: int) -> dt.datetime | None:
    """Return when a destination's tracker last sent a validly signed webhook; None: not within 30 days."""
    received_at: dt.datetime | None = await database.fetchval(SQL["last_webhook"], destination_id)
    return received_at
