"""Waking each other: one connection that listens, and at most one notification in 100 ms, sent after commit.

A notification carries nothing and is never needed: the bus polls. The listener proves itself by hearing its own
voice, since a connection can be dead without anybody telling.
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

SQL = queries("notify")
CHANNEL = "pointsman_work"
QUIET_SECONDS = 0.1
PROVE_EVERY_SECONDS = 10.0
PROVE_WITHIN_SECONDS = 2.0
AGAIN_WITHIN_SECONDS = 2.0


class Listener:
    """Hears that work is there, and tells others. Where nobody can listen it does neither: polling finds the work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told = asyncio.Event()
        self._heard = asyncio.Event()
        self._self = str(uuid.uuid4())
        self._nonce = ""
        self.on_wake: Callable[[], None] = lambda: None

    def tell(self) -> None:
        """Work was committed: tell the other replicas soon."""
        self._told.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen and tell until the end."""
        if self._database.listen_dsn is None:
            log.info("polling only: behind a pooler, without an address to listen at")
            yield
            return
        tasks = [
            asyncio.create_task(self._listen(self._database.listen_dsn), name="listener"),
            asyncio.create_task(self._speak(), name="speaker"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _speak(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            with contextlib.suppress(DatabaseError, StatementError):
                await self._database.execute(SQL["notify"], CHANNEL, self._self)
            await asyncio.sleep(QUIET_SECONDS)

    def _hear(self, _: Any, __: int, ___: str, payload: str) -> None:
        if payload.startswith("prove "):
            if payload == self._nonce:
                self._heard.set()
        elif payload != self._self:
            self.on_wake()

    async def _listen(self, dsn: str) -> None:
        while True:
            con: asyncpg.Connection | None = None
            try:
                con = await connect(dsn)
                async with asyncio.timeout(PROVE_WITHIN_SECONDS):
                    await con.add_listener(CHANNEL, self._hear)
                # what was told while nobody listened
                self.on_wake()
                while True:
                    if not await self._proved(con):
                        log.warning("listening anew", error="the server takes no writes")
                        break
                    await asyncio.sleep(PROVE_EVERY_SECONDS)
            except DRIVER_ERRORS as error:
                log.warning("listening anew", error=type(error).__name__)
            except Exception:
                log.exception("listening failed")
            finally:
                if con is not None:
                    con.terminate()
            # not all replicas at the same moment when a server comes back
            await asyncio.sleep(random.uniform(0.1, AGAIN_WITHIN_SECONDS))  # noqa: S311

    async def _proved(self, con: asyncpg.Connection) -> bool:
        """Whether we hear our own voice in time, on a server that takes writes. Raises TimeoutError if we don't."""
        self._nonce = f"prove {uuid.uuid4()}"
        self._heard.clear()
        async with asyncio.timeout(PROVE_WITHIN_SECONDS):
            row = await con.fetchrow(SQL["probe"], CHANNEL, self._nonce)
            await self._heard.wait()
        return bool(row["writable"])
