"""Maintenance of the database under a lease, and the check whether it is still the same database cluster."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any, NamedTuple

import asyncpg

from pointsman.logs import logger
from pointsman.storage.db import Database, seconds
from pointsman.storage.errors import DatabaseUnavailable, StatementError, TransactionConflict
from pointsman.storage.leases import Lease
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of

SQL = queries("maintenance")
log = logger("housekeeping")

BATCH = 1000
"""Rows that each statement of DELETE_STEPS deletes at most."""
SECONDS_PER_STEP = 20.0
CHECKS = ("default_partition", "partition_missing", "old_snapshot", "dead_rows")
DELETE_STEPS = (
    "delete_report_keys",
    "delete_webhook_keys",
    "delete_deliveries",
    "delete_ticket_members",
    "delete_marker_observations",
    "delete_audit_entries",
    "delete_occurrences",
)
_NOT_READABLE = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)


class VerifyWritesStatus(NamedTuple):
    """Until when an operator wants every write verified first, if at all; and whether that is done now."""

    until: dt.datetime | None
    now: bool


async def run_maintenance(
    database: Database, lease: Lease, *, seconds_per_step: float = SECONDS_PER_STEP
) -> None:
    """Create the partitions of the next days and delete expired rows, as far as the time allows."""
    await _maintain_partitions(database, lease)
    clock = asyncio.get_running_loop().time
    for step in DELETE_STEPS:
        end = clock() + seconds_per_step
        while await database.fetchval(SQL[step], *lease) == BATCH and clock() < end:
            pass


async def _maintain_partitions(database: Database, lease: Lease) -> None:
    await _run_partition_step(database, lease, "create_partitions")
    while await _run_partition_step(database, lease, "drop_expired_partition"):
        pass


async def _run_partition_step(database: Database, lease: Lease, step: str) -> Any:
    """Return the result of a statement, or None if it failed or the tables are in use; the next run tries again."""
    try:
        async with database.transaction() as con:
            return await con.fetchval(SQL[step], *lease)
    except TransactionConflict:
        log.info("partitions are in use, left for the next run", step=step)
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise
        log.info("partitions are in use, left for the next run", step=step)
    except StatementError as error:
        # for example rows of that day in the default partition; the other steps do not depend on it
        log.error("partitions can't be maintained", step=step, error=str(error))  # noqa: TRY400 - no traceback needed
    return None


async def maintenance_checks(database: Database) -> dict[str, float]:
    """Return the value of each of CHECKS; every value is 0 when healthy."""
    row = await database.fetchrow(SQL["maintenance_checks"])
    assert row is not None
    return {check: row[check] for check in CHECKS}


async def check_cluster_identity(database: Database) -> bool:
    """Return whether this is the cluster and timeline that were seen last.

    If not, acknowledged commits may be lost: a standby was promoted, or a backup was restored. Every write is verified
    first for an hour then.
    """
    current = [await _read_identity(database, name) for name in ("system_identifier", "timeline")]
    known: str | None = await database.fetchval(SQL["known_cluster"])
    previous = (known or "/").split("/")
    # a part that can't be read now keeps its known value
    now = "/".join(part or before for part, before in zip(current, previous, strict=True))
    if known == now:
        return True
    changed = any(before and part and part != before for part, before in zip(current, previous, strict=True))
    if await database.fetchval(SQL["record_cluster"], known, now, changed) is None or not changed:
        return True
    log.warning(
        "the database is another cluster or timeline than before: every write is verified first for an hour",
        before=known,
        now=now,
        next_step="`pointsman verify-writes --hours N` if it may have lost more, --off if it lost nothing",
    )
    return False


async def _read_identity(database: Database, name: str) -> str:
    """Return a part of the cluster's identity, or an empty string where it can't be read."""
    try:
        return str(await database.fetchval(SQL[name]))
    except StatementError as error:
        if isinstance(error.__cause__, _NOT_READABLE):
            return ""
        raise


async def verify_writes_status(database: Database) -> VerifyWritesStatus:
    """Return whether every write is verified first."""
    status = row_of(VerifyWritesStatus, await database.fetchrow(SQL["verify_writes_status"]))
    assert status is not None
    return status


async def set_verify_writes(database: Database, hours: float) -> dt.datetime:
    """Verify every write first for so many hours; 0: not any longer. Return until when."""
    until: dt.datetime = await database.fetchval(SQL["set_verify_writes"], seconds(hours * 3600))
    return until
