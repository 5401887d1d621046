"""What a replica does on the side: it watches the configuration and the database, and in its turn keeps house."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from pointsman.bus.signals import MaintenanceChecked, Signals
from pointsman.logs import logger
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import maintenance
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.leases import take_turn

log = logger("house")

LOOK_SECONDS = 2.0
TURN_SECONDS = 600.0
CLUSTER_SECONDS = 300.0

_SAID = {
    "default_partition": "rows have no partition of their own day: see that partitions are made",
    "partition_missing": "partitions for the next days are missing: run `select create_partitions(3)` as their owner",
    "old_snapshot": "a transaction is open for minutes and keeps dead rows from being removed: find it in pg_stat_activity",
    "dead_rows": "dead rows pile up: see that autovacuum runs and that no old transaction holds it up",
}


class House:
    """Look after things until the end; checks are announced every ten minutes, by each replica for itself."""

    def __init__(
        self,
        database: Database,
        catalog: ConfigReloader,
        holder: uuid.UUID,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._holder = holder
        self._signals = signals or Signals()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after the database first, before anything is sent."""
        with contextlib.suppress(DatabaseUnavailable):
            await maintenance.same_cluster(self._database)
        task = asyncio.create_task(self._forever(), name="house")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        clock = asyncio.get_running_loop().time
        turn_due = clock()
        cluster_due = clock() + CLUSTER_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if clock() >= cluster_due:
                    await maintenance.same_cluster(self._database)
                    cluster_due = clock() + CLUSTER_SECONDS
                await self._catalog.refresh()
                if clock() >= turn_due:
                    turn_due = clock() + TURN_SECONDS
                    await self.turn()
            except DatabaseUnavailable:
                # it may come back as another one
                cluster_due = clock()
            except Exception:
                log.exception("housekeeping failed")

    async def turn(self) -> bool:
        """Keep house, unless another replica did lately; and see whether something is wrong. Whether it was our turn."""
        turn = await take_turn(self._database, "housekeeping", self._holder, TURN_SECONDS * 0.9)
        if turn is not None:
            await maintenance.keep_house(self._database, turn)
        for what, value in (await maintenance.alarms(self._database)).items():
            self._signals.emit(MaintenanceChecked(what, value))
            if value and turn is not None:
                log.error(_SAID[what], alarm=what, value=value)
        return turn is not None
