"""Keeping house, by whoever has the turn; and whether the database is still the one we knew."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import asyncpg

from pointsman.logs import logger
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable, StatementError, TransactionConflict
from pointsman.storage.leases import Turn
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("maintenance")
log = logger("house")
_UNREADABLE = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)

BATCH = 1000
SECONDS_PER_STEP = 20.0
ALARMS = ("default_partition", "partition_missing", "old_snapshot", "dead_rows")
_FORGET = (
    "delete_report_keys",
    "delete_webhook_keys",
    "delete_deliveries",
    "delete_marker_observations",
    "delete_audit_entries",
    "delete_occurrences",
)


async def keep_house(database: Database, turn: Turn, *, seconds_per_step: float = SECONDS_PER_STEP) -> None:
    """Make partitions for the days to come and forget what is old, all of it or as much as the time allows; the next turn
    goes on.
    """
    await _partitions(database, turn)
    clock = asyncio.get_running_loop().time
    for name in _FORGET:
        end = clock() + seconds_per_step
        while await database.fetchval(SQL[name], *turn) == BATCH and clock() < end:
            pass


async def _partitions(database: Database, turn: Turn) -> None:
    """New ones first, then one old one after the other. What is in use just now is left for the next turn."""
    await _partition(database, turn, "create_partitions")
    while await _partition(database, turn, "drop_expired_partition"):
        pass


async def _partition(database: Database, turn: Turn, name: str) -> Any:
    """What the statement gives, None if it could not be done now."""
    try:
        async with database.transaction() as con:
            return await con.fetchval(SQL[name], *turn)
    except TransactionConflict:
        log.info("partitions are in use, and seen to in the next turn", step=name)
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise
        log.info("partitions are in use, and seen to in the next turn", step=name)
    except StatementError as error:
        # rows of a day in the default partition, say: what else there is to do must not wait for that
        log.error("partitions can't be kept", step=name, error=str(error))  # noqa: TRY400 - it is said in words
    return None


async def alarms(database: Database) -> dict[str, float]:
    """What should be nought, by the names of ``ALARMS``."""
    row = await database.fetchrow(SQL["maintenance_checks"])
    assert row is not None
    return {name: row[name] for name in ALARMS}


async def same_cluster(database: Database) -> bool:
    """Whether we still work on the cluster and the timeline that we last worked on.

    If not, commits may be lost that were answered already: a standby took over, or a backup was restored. From now on
    every write looks first, for an hour.
    """
    asked = [await _ask(database, name) for name in ("system_identifier", "timeline")]
    known: str | None = await database.fetchval(SQL["known_cluster"])
    before = (known or "/").split("/")
    # what can't be read now stays as it was known
    now = "/".join(one or other for one, other in zip(asked, before, strict=True))
    if known == now:
        return True
    changed = any(other and one and one != other for one, other in zip(asked, before, strict=True))
    if await database.fetchval(SQL["record_cluster"], known, now, changed) is None or not changed:
        return True
    log.warning(
        "the database is another cluster or timeline than before: every write looks first for an hour",
        before=known,
        now=now,
        next_step="`pointsman careful --hours N` if it may have lost more, --off if it lost nothing",
    )
    return False


async def _ask(database: Database, name: str) -> str:
    """A part of the cluster's identity, empty where it can't be read."""
    try:
        return str(await database.fetchval(SQL[name]))
    except StatementError as error:
        if isinstance(error.__cause__, _UNREADABLE):
            return ""
        raise


async def careful(database: Database) -> tuple[dt.datetime | None, bool]:
    """Until when every write looks first by order, None without one; and whether it does now."""
    row = await database.fetchrow(SQL["verify_writes_status"])
    assert row is not None
    return row["until"], row["now"]


async def set_careful(database: Database, hours: float) -> dt.datetime:
    """Every write looks first for so many hours, none for no longer; until when."""
    until: dt.datetime = await database.fetchval(SQL["set_verify_writes"], seconds(hours * 3600))
    return until
