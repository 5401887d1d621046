"""Waking each other: one connection that listens, and at most one notification in 100 ms, sent after commit.

A notification carries nothing and is never needed: the bus polls. The listener proves itself by hearing its own
voice, since a connection can be dead without anybody telling.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg

from pointsman.logs import logger
from pointsman.storage.db import LOST, Database

log = logger("listener")

CHANNEL = "pointsman_work"
QUIET_SECONDS = 0.1
PROVE_EVERY_SECONDS = 10.0
PROVE_WITHIN_SECONDS = 2.0


class Listener:
    """Hears that work is there, and tells others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told = asyncio.Event()
        self._heard = asyncio.Event()
        self._self = str(uuid.uuid4())
        self.on_wake: Callable[[], None] = lambda: None

    def tell(self) -> None:
        """Work was committed: tell the other replicas soon."""
        self._told.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen and tell until the end."""
        tasks = [
            asyncio.create_task(self._listen(), name="listener"),
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
            with contextlib.suppress(*LOST, asyncpg.PostgresError):
                await self._database.execute("select pg_notify($1, $2)", CHANNEL, self._self)
            await asyncio.sleep(QUIET_SECONDS)

    def _hear(self, _: Any, __: int, ___: str, payload: str) -> None:
        if payload == f"prove {self._self}":
            self._heard.set()
        elif payload != self._self and not payload.startswith("prove"):
            self.on_wake()

    async def _listen(self) -> None:
        while True:
            try:
                con = await asyncpg.connect(self._database.dsn, timeout=10, command_timeout=10)
            except (*LOST, asyncpg.PostgresError):
                await asyncio.sleep(2.0)
                continue
            try:
                await con.add_listener(CHANNEL, self._hear)
                self.on_wake()
                while True:
                    await asyncio.sleep(PROVE_EVERY_SECONDS)
                    self._heard.clear()
                    await con.execute("select pg_notify($1, $2)", CHANNEL, f"prove {self._self}")
                    async with asyncio.timeout(PROVE_WITHIN_SECONDS):
                        await self._heard.wait()
            except (*LOST, asyncpg.PostgresError) as error:
                log.warning("listening anew", error=type(error).__name__)
            finally:
                con.terminate()
