"""Cost of an idle replica: processor time, and statements counted in the log of PostgreSQL."""

from __future__ import annotations

import asyncio
import re

from environment import BASE, Environment
from scale import Figures, Scale

CONTESTANTS = ("pointsman",)
_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")
_START_SECONDS = 5.0


async def measure(environment: Environment, scale: Scale, contestant: str) -> Figures:
    """Measure one round."""
    del contestant
    async with environment.database(BASE) as dsn:
        await environment.configure(dsn, paused=False)
        await environment.admin.execute("alter database bench_round set log_statement = 'all'")
        async with environment.service(dsn) as child:
            await asyncio.sleep(min(_START_SECONDS, scale.idle_seconds))
            log = environment.server.log_path
            start, used = log.stat().st_size, child.cpu_seconds()
            await asyncio.sleep(scale.idle_seconds)
            used = child.cpu_seconds() - used
            with log.open("rb") as file:
                file.seek(start)
                statements = _STATEMENT.findall(file.read())
            return {
                "core_percent": used / scale.idle_seconds * 100,
                "statements_per_minute": len(statements) / scale.idle_seconds * 60,
                "peak_mib": child.peak_mib(),
            }
