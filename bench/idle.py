"""What a replica costs that has nothing to do: processor time, and statements by Postgres' own log."""

from __future__ import annotations

import asyncio
import re

from ground import BASE, Ground
from scale import Figures, Scale

CONTESTANTS = ("pointsman",)
_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")
_START_SECONDS = 5.0


async def measure(ground: Ground, scale: Scale, contestant: str) -> Figures:
    """One round."""
    del contestant
    async with ground.database(BASE) as dsn:
        await ground.configure(dsn, paused=False)
        await ground.admin.execute("alter database bench_round set log_statement = 'all'")
        async with ground.service(dsn) as child:
            await asyncio.sleep(min(_START_SECONDS, scale.idle_seconds))
            log = ground.server.log_path
            began, used = log.stat().st_size, child.cpu_seconds()
            await asyncio.sleep(scale.idle_seconds)
            used = child.cpu_seconds() - used
            with log.open("rb") as file:
                file.seek(began)
                said = _STATEMENT.findall(file.read())
            return {
                "core_percent": used / scale.idle_seconds * 100,
                "statements_per_minute": len(said) / scale.idle_seconds * 60,
                "peak_mib": child.peak_mib(),
            }
