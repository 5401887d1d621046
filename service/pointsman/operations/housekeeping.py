"""Run per-replica housekeeping: reload the configuration, check the database, and run maintenance under a lease."""

from __future__ import annotations

import time
import uuid
from typing import ClassVar

from pointsman.bus.periodic import PeriodicService
from pointsman.bus.signals import MaintenanceChecked, Signals
from pointsman.logs import logger
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import maintenance
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.leases import acquire_lease

log = logger("housekeeping")

INTERVAL_SECONDS = 2.0
MAINTENANCE_SECONDS = 600.0
CLUSTER_CHECK_SECONDS = 300.0
LEASE = "housekeeping"

_REMEDIES = {
    "default_partition": "rows have no partition of their own day: see that partitions are created",
    "partition_missing": "partitions for the next days are missing: run `select create_partitions(3)` as their owner",
    "old_snapshot": "a transaction is open for minutes and keeps dead rows from being removed: find it in pg_stat_activity",
    "dead_rows": "dead rows accumulate: see that autovacuum runs and that no old transaction delays it",
}


class Housekeeper(PeriodicService):
    """Reloads the configuration, watches the database's identity, and runs maintenance when it holds the lease."""

    name: ClassVar[str] = "housekeeping"

    def __init__(
        self,
        database: Database,
        config: ConfigReloader,
        holder: uuid.UUID,
        *,
        signals: Signals | None = None,
    ) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._database = database
        self._config = config
        self._holder = holder
        self._signals = signals or Signals()
        self._maintenance_due = time.monotonic()
        self._cluster_check_due = time.monotonic() + CLUSTER_CHECK_SECONDS

    async def started(self) -> None:
        """Check the database's identity before anything is sent."""
        await maintenance.check_cluster_identity(self._database)

    async def run_once(self) -> None:
        """Reload the configuration, and run the checks that are due."""
        try:
            if time.monotonic() >= self._cluster_check_due:
                await maintenance.check_cluster_identity(self._database)
                self._cluster_check_due = time.monotonic() + CLUSTER_CHECK_SECONDS
            await self._config.refresh()
            if time.monotonic() >= self._maintenance_due:
                self._maintenance_due = time.monotonic() + MAINTENANCE_SECONDS
                await self.run_maintenance()
        except DatabaseUnavailable:
            # a database that was away may be another one when it is back
            self._cluster_check_due = time.monotonic()
            raise

    async def run_maintenance(self) -> bool:
        """Run maintenance unless another replica did lately, and check its results. Return whether it ran."""
        lease = await acquire_lease(self._database, LEASE, self._holder, MAINTENANCE_SECONDS * 0.9)
        if lease is not None:
            await maintenance.run_maintenance(self._database, lease)
        for check, value in (await maintenance.maintenance_checks(self._database)).items():
            self._signals.emit(MaintenanceChecked(check, value))
            if value and lease is not None:
                log.error(_REMEDIES[check], check=check, value=value)
        return lease is not None
