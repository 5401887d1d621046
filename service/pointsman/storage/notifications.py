"""LISTEN/NOTIFY between replicas: one listening connection, and at most one notification in 100 ms, after the commit.

A notification carries no data and is never needed: the bus polls. The listening connection probes itself by a
notification of its own, since a dead connection can stay silent without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg

from pointsman.errors import DatabaseError
from pointsman.logs import logger
from pointsman.storage.db import Database, connect
from pointsman.storage.errors import DRIVER_ERRORS, StatementError
from pointsman.storage.queries import queries

log = logger("listener")

SQL = queries("notifications")
CHANNEL = "pointsman_work"
MIN_INTERVAL_SECONDS = 0.1
PROBE_INTERVAL_SECONDS = 10.0
PROBE_TIMEOUT_SECONDS = 2.0
MAX_RECONNECT_SECONDS = 2.0


class Listener:
    """Receives the notifications of other replicas and sends ours.

    ``on_wake`` is called when there may be work. Without an address for listening it does neither: polling finds the work.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requested = asyncio.Event()
        self._probe_received = asyncio.Event()
        self._replica = str(uuid.uuid4())
        self._probe = ""
        self.on_wake: Callable[[], None] = lambda: None

    def notify(self) -> None:
        """Notify the other replicas of committed work, soon."""
        self._requested.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen and notify in the background until the end of the context."""
        if self._database.listen_dsn is None:
            log.info("no notifications behind a pooler without a direct address: polling only")
            yield
            return
        tasks = [
            asyncio.create_task(self._listen(self._database.listen_dsn), name="listener"),
            asyncio.create_task(self._send(), name="notifier"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            with contextlib.suppress(DatabaseError, StatementError):
                await self._database.execute(SQL["notify"], CHANNEL, self._replica)
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    def _receive(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        if payload.startswith("probe "):
            if payload == self._probe:
                self._probe_received.set()
        elif payload != self._replica:
            self.on_wake()

    async def _listen(self, dsn: str) -> None:
        while True:
            con: asyncpg.Connection | None = None
            try:
                con = await connect(dsn)
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    await con.add_listener(CHANNEL, self._receive)
                # notifications were missed before
                self.on_wake()
                while True:
                    if not await self._takes_writes(con):
                        log.warning("listener reconnects", error="the server takes no writes")
                        break
                    await asyncio.sleep(PROBE_INTERVAL_SECONDS)
            except DRIVER_ERRORS as error:
                log.warning("listener reconnects", error=type(error).__name__)
            except Exception:
                log.exception("listening failed")
            finally:
                if con is not None:
                    con.terminate()
            # spread the reconnections of all replicas after a server restart
            await asyncio.sleep(random.uniform(0.1, MAX_RECONNECT_SECONDS))  # noqa: S311

    async def _takes_writes(self, con: asyncpg.Connection) -> bool:
        """Probe the connection. Return whether its server takes writes. Raises TimeoutError if the probe does not arrive."""
        self._probe = f"probe {uuid.uuid4()}"
        self._probe_received.clear()
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            row = await con.fetchrow(SQL["probe"], CHANNEL, self._probe)
            await self._probe_received.wait()
        return bool(row["writable"])
