"""Keeping house, by whoever holds the lease."""

from __future__ import annotations

import uuid

from pointsman.storage.db import Database
from pointsman.storage.lanes import seconds
from pointsman.storage.queries import queries

SQL = queries("maintenance")


async def keep_house(database: Database, holder: uuid.UUID) -> bool:
    """Make partitions for the days to come and forget what is old; False if another replica sees to it."""
    if await database.fetchval(SQL["take_lease"], "house", holder, seconds(120)) is None:
        return False
    for name in ("keep_partitions", "forget_report_keys", "forget_webhook_keys", "forget_deliveries"):
        await database.execute(SQL[name])
    return True
