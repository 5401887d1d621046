"""Connections to Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from pointsman.errors import DatabaseError

Row: TypeAlias = Any  # asyncpg.Record; the driver ships no types
Connection: TypeAlias = Any

#: What a lost or refused connection looks like; the work is tried again when the database is back.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)

#: Conflicts that go away when the transaction is run again.
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


_BEGIN = "begin; set local lock_timeout = '500ms'; set local statement_timeout = '5s'"


def uuid7() -> uuid.UUID:
    """A time-ordered UUID, version 7 of RFC 9562: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that leaves nothing behind in its session, so that handing it on costs no statement."""

    def get_reset_query(self) -> str:
        """Nothing: settings are made for one transaction only, and the listener has a connection of its own."""
        return ""


class Database:
    """A pool of connections. A query waits for the database at most ``command_timeout`` seconds."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self.pool = pool
        self.dsn = dsn

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, *, size: int = 10, statement_cache: bool = True) -> AsyncIterator[Database]:
        """Open the pool and close it at the end. Raises DatabaseError with the next step."""
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                command_timeout=30,
                timeout=10,
                target_session_attrs="read-write",
                max_inactive_connection_lifetime=120,
                connection_class=_Connection,
                statement_cache_size=200 if statement_cache else 0,
            )
        except (*LOST, asyncpg.PostgresError, ValueError) as error:
            raise DatabaseError(
                f"can't reach Postgres: {_plain(error)}. Check POINTSMAN_DATABASE_URL and that the server is up."
            ) from error
        try:
            yield cls(pool, dsn)
        finally:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *LOST):
                pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction that gives up on locks soon: nobody holds them for long."""
        async with self.pool.acquire() as con:
            # one round trip, and for this transaction only: a pooler may hand the connection to somebody else afterwards
            await con.execute(_BEGIN)
            try:
                yield con
            except BaseException:
                if not con.is_closed():
                    with contextlib.suppress(*LOST, asyncpg.PostgresError):
                        await con.execute("rollback")
                raise
            if (said := await con.execute("commit")) != "COMMIT":
                raise RuntimeError(f"a transaction ended with {said}: an error in it was swallowed")

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """All rows of one statement."""
        rows: Sequence[Row] = await self.pool.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        """The first row of one statement, None if there is none."""
        return await self.pool.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first value of the first row."""
        return await self.pool.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> None:
        """One statement without rows."""
        await self.pool.execute(sql, *args)


def _plain(error: BaseException) -> str:
    """An error's words without what a DSN may hold."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
