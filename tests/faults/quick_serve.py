"""The service as `pointsman serve` runs it, with short leases and settle times, so that faults heal in seconds."""

from __future__ import annotations

import asyncio
import os
import signal

from msgspec.structs import replace

from pointsman import app, logs, settings
from pointsman.plugins import Registry
from pointsman.storage import migrate
from pointsman_forgejo.tracker import ForgejoTracker

ForgejoTracker.capabilities = replace(
    ForgejoTracker.capabilities, settle_seconds=(1.0,), request_timeout_seconds=3.0, poll_seconds=2.0
)

if os.environ.get("QUICK_WITHOUT") == "find":
    # the harness must bite: without looking first, lost answers become duplicates

    async def find_nothing(*_: object) -> list[object]:
        return []

    ForgejoTracker.find_issue = find_nothing  # type: ignore[method-assign]


async def main() -> None:
    """Serve until told to stop."""
    found = settings.load()
    logs.configure("json")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with app.open_database(found) as database:
        await migrate.migrate(database)
        lease = float(os.environ.get("QUICK_LEASE_SECONDS", "6"))
        async with app.running(found, database, Registry.load(), lease_seconds=lease):
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
