"""Reading the values that the metrics page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pointsman.storage import rate_limits
from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from pointsman.storage.rate_limits import RateLimitStatus
from pointsman.storage.rows import row_of, rows_of

SQL = queries("metrics")


class DestinationMetrics(NamedTuple):
    """State of one destination, and what waits for it."""

    slug: str
    circuit_breaker_state: int
    paused: bool
    consecutive_failures: int
    backoff_seconds: float
    pending: int
    outcome_unknown: int
    oldest_pending_seconds: float
    parked_lanes: int


class DeadLetterMetrics(NamedTuple):
    """Dead letters of one destination with one outcome."""

    slug: str
    outcome: str
    deliveries: int


class MaintenanceMetrics(NamedTuple):
    """Parked reports, and whether every write is verified first."""

    reports_parked: int
    verify_writes: bool


class DatabaseMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the metrics page reads from the database."""

    destinations: Sequence[DestinationMetrics]
    dead_letters: Sequence[DeadLetterMetrics]
    rate_limits: Sequence[RateLimitStatus]
    maintenance: MaintenanceMetrics


class PoolUsage(NamedTuple):
    """Connections of the pool: in use, and at most."""

    used: int
    size: int


async def read(database: Database) -> DatabaseMetrics:
    """Read unfinished work and the state of the destinations. Finished deliveries are never read."""
    maintenance = row_of(MaintenanceMetrics, await database.fetchrow(SQL["maintenance_metrics"]))
    assert maintenance is not None
    return DatabaseMetrics(
        destinations=rows_of(DestinationMetrics, await database.fetch(SQL["destination_metrics"])),
        dead_letters=rows_of(DeadLetterMetrics, await database.fetch(SQL["dead_letter_metrics"])),
        rate_limits=await rate_limits.list_status(database),
        maintenance=maintenance,
    )


def pool_usage(database: Database) -> PoolUsage:
    """Return how many connections of the pool are in use."""
    pool = database.pool
    return PoolUsage(pool.get_size() - pool.get_idle_size(), pool.get_max_size())
