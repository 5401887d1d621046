"""The connection pool and transactions of PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import asyncpg

from pointsman.storage.errors import (
    DRIVER_ERRORS,
    DatabaseUnavailable,
    TransactionConflict,
    first_line,
    translate,
)

Row: TypeAlias = Any  # asyncpg.Record; the driver ships no types
_T = TypeVar("_T")

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 10.0
"""Timeout of a statement on our side; the server itself ends one in a transaction after 5 s."""

IDLE_SECONDS = 10
"""The server ends a transaction whose client sends nothing for so long."""
TRANSACTION_SECONDS = 15
"""The longest duration of a transaction."""
CONFLICT_TRIES = 4
"""How often a transaction is run that conflicts with others."""

_BEGIN = (
    "begin; set local lock_timeout = '500ms'; set local statement_timeout = '5s';"
    " set local idle_in_transaction_session_timeout = '{idle}s'"
)
# PostgreSQL 17 and later. Before, a client that vanishes between the preparing of a statement and its execution keeps
# its locks until the TCP connection times out: for the server its statement is still active.
_BEGIN_17 = _BEGIN + "; set local transaction_timeout = '{whole}s'"
_ROLLBACK_SECONDS = 2.0

# How the system detects a peer that vanished: seconds until the first probe, seconds between probes, number of probes,
# and milliseconds that sent bytes can stay unacknowledged.
_KEEPALIVE = (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 3),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)
# The same at the server's end, so that the locks of a vanished client are released. Set after connecting, since poolers
# refuse most start-up parameters.
_SERVER_KEEPALIVE = (
    "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 3; set tcp_keepalives_count = 3;"
    " set tcp_user_timeout = 10000"
)
# All types of our statements that the driver has to look up; see ``_load_types``.
_TYPES = (
    "select null::boolean[], null::smallint[], null::integer[], null::bigint[], null::double precision[], null::text[],"
    " null::bytea[], null::uuid[], null::jsonb[], null::timestamptz[], null::interval[]"
)


class Connection(Protocol):
    """A connection inside a transaction. Packages other than storage only pass it on to functions of storage."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """Return all rows of one statement."""

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        """Return the first row of one statement, or None without rows."""

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """Return the first value of the first row."""

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as the driver
        """Run one statement without rows."""


class _DriverConnection(asyncpg.Connection):  # type: ignore[misc]
    """A driver connection with TCP keepalive and without session state, so that its release needs no statement."""

    def __init__(self, protocol: Any, transport: Any, *more: Any) -> None:
        super().__init__(protocol, transport, *more)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE:
                if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def get_reset_query(self) -> str:
        """Return no statement: settings are local to a transaction, and the listener has its own connection."""
        return ""


async def _prepare_session(con: asyncpg.Connection) -> None:
    await con.execute(_SERVER_KEEPALIVE)
    await _load_types(con)


async def _load_types(con: asyncpg.Connection) -> None:
    """Load all types in one query. Otherwise the driver looks up each type on each connection when it first occurs."""
    await con.fetchrow(_TYPES)


async def connect(dsn: str) -> asyncpg.Connection:
    """Open a connection outside of the pool, to a server that takes writes. Raises errors of the driver."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        target_session_attrs="read-write",
        connection_class=_DriverConnection,
        statement_cache_size=0,
    )


async def retry_conflicts(run: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of ``run``, which is repeated when it raises TransactionConflict, up to CONFLICT_TRIES times."""
    for _ in range(CONFLICT_TRIES - 1):
        try:
            return await run()
        except TransactionConflict:
            continue
    return await run()


def seconds(value: float) -> dt.timedelta:
    """Return an interval for Postgres."""
    return dt.timedelta(seconds=value)


class Database:
    """A pool of connections.

    Notifications can be received at ``listen_dsn``; None: nowhere, so that work is found by polling. All methods raise
    the errors of ``storage.errors``.
    """

    def __init__(self, pool: asyncpg.Pool, dsn: str, listen_dsn: str | None = None) -> None:
        self.pool = pool
        self.dsn = dsn
        self.listen_dsn = listen_dsn

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dsn: str, *, size: int = 10, pooled: bool = False, listen_dsn: str = ""
    ) -> AsyncIterator[Database]:
        """Open the pool and close it at the end. Raises DatabaseUnavailable with the next step.

        ``pooled``: ``dsn`` is the address of a pooler, which can use another session for each transaction. Nothing is
        kept in a session then, prepared statements included, and notifications need ``listen_dsn``.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                command_timeout=STATEMENT_SECONDS,
                timeout=CONNECT_SECONDS,
                target_session_attrs="read-write",
                max_inactive_connection_lifetime=120,
                connection_class=_DriverConnection,
                statement_cache_size=0 if pooled else 200,
                # as long as the connection: preparing one anew within a transaction is one more moment to get stuck in
                max_cached_statement_lifetime=0,
                init=_load_types if pooled else _prepare_session,
            )
        except (*DRIVER_ERRORS, ValueError) as error:
            raise DatabaseUnavailable(
                f"can't reach Postgres: {first_line(error)}. Check POINTSMAN_DATABASE_URL and that the server is up.",
                type(error).__name__,
            ) from error
        try:
            yield cls(pool, dsn, listen_dsn or (None if pooled else dsn))
        finally:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except DRIVER_ERRORS:
                pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection inside a transaction with short timeouts, so that locks are never held for long."""
        try:
            async with self.pool.acquire(timeout=CONNECT_SECONDS) as con:
                try:
                    # one round trip, and for this transaction only: a pooler may use the session for somebody else's next
                    begin = _BEGIN_17 if con.get_server_version().major >= 17 else _BEGIN
                    await con.execute(begin.format(idle=IDLE_SECONDS, whole=TRANSACTION_SECONDS))
                    yield con
                except BaseException as error:
                    await self._rollback(con, error)
                    raise
                await self._commit(con)
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    async def run_transaction(self, function: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Return the result of ``function`` after it was run in a transaction and committed.

        After a conflict with another transaction it is run again, up to CONFLICT_TRIES times.
        """

        async def run() -> _T:
            async with self.transaction() as con:
                return await function(con)

        return await retry_conflicts(run)

    async def _commit(self, con: asyncpg.Connection) -> None:
        try:
            status = await con.execute("commit")
        except BaseException as error:
            # it is unknown whether the server committed; the connection is not used again
            con.terminate()
            await self._expire_if_demoted(error)
            raise
        if status != "COMMIT":
            raise RuntimeError(f"a transaction ended with {status}: an error in it was swallowed")

    async def _rollback(self, con: asyncpg.Connection, error: BaseException) -> None:
        """Roll back, or drop a connection that does not answer in time."""
        if isinstance(error, TimeoutError):
            con.terminate()
        elif not con.is_closed():
            try:
                await con.execute("rollback", timeout=_ROLLBACK_SECONDS)
            except DRIVER_ERRORS:
                con.terminate()
        await self._expire_if_demoted(error)

    async def _expire_if_demoted(self, error: BaseException) -> None:
        """Drop all connections to a server that was demoted, so that new ones are made to the new primary."""
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await self.pool.expire_connections()

    async def _translated(self, statement: Awaitable[_T]) -> _T:
        try:
            return await statement
        except DRIVER_ERRORS as error:
            await self._expire_if_demoted(error)
            raise translate(error) from error

    async def fetch(self, sql: str, *args: Any, within_seconds: float | None = None) -> Sequence[Row]:
        """Return all rows of one statement. ``within_seconds`` replaces STATEMENT_SECONDS for long statements."""
        rows: Sequence[Row] = await self._translated(self.pool.fetch(sql, *args, timeout=within_seconds))
        return rows

    async def fetchrow(self, sql: str, *args: Any, within_seconds: float | None = None) -> Row | None:
        """Return the first row of one statement, or None without rows."""
        return await self._translated(self.pool.fetchrow(sql, *args, timeout=within_seconds))

    async def fetchval(self, sql: str, *args: Any, within_seconds: float | None = None) -> Any:
        """Return the first value of the first row."""
        return await self._translated(self.pool.fetchval(sql, *args, timeout=within_seconds))

    async def execute(self, sql: str, *args: Any, within_seconds: float | None = None) -> None:
        """Run one statement without rows."""
        await self._translated(self.pool.execute(sql, *args, timeout=within_seconds))
