"""Connections to Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pgproto import pgproto

from pointsman.errors import DatabaseError

Row: TypeAlias = Any  # asyncpg.Record; the driver ships no types
Connection: TypeAlias = Any
_T = TypeVar("_T")

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
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    OSError,
    TimeoutError,
)

#: Conflicts that go away when the transaction is run again.
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 10.0
"""How long a statement is waited for here; the server itself ends one in a transaction after 5 s."""

IDLE_SECONDS = 10
"""How long a transaction may stand still, because whoever began it does, before the server ends it."""
TRANSACTION_SECONDS = 15
"""How long it may last at all."""
_BEGIN = (
    "begin; set local lock_timeout = '500ms'; set local statement_timeout = '5s';"
    " set local idle_in_transaction_session_timeout = '{idle}s'"
)
# Since version 17. Before, a client that is gone between the preparing of a statement and its execution holds its locks
# until the system finds out that it is gone: the server waits for the rest of what it calls an active statement.
_BEGIN_17 = _BEGIN + "; set local transaction_timeout = '{whole}s'"
_END_SECONDS = 2.0

# What the system does about a peer that is gone without a word, in seconds: first question, between questions, how
# many, and how long bytes may stay without an acknowledgement.
_KEEPALIVE = (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 3),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)
# All types that statements have and the driver has to ask about; see ``_learn_types``.
_TYPES = (
    "select null::boolean[], null::smallint[], null::integer[], null::bigint[], null::double precision[], null::text[],"
    " null::bytea[], null::uuid[], null::jsonb[], null::timestamptz[], null::interval[]"
)
# The same at the server's end, so that the locks of a client that is gone go too. Said once it is connected: poolers
# refuse most of what is said before.
_SERVER_KEEPALIVE = (
    "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 3; set tcp_keepalives_count = 3;"
    " set tcp_user_timeout = 10000"
)


_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def _ten_random() -> bytes:
    """Ten bytes that nobody else gets: drawn in hundreds, as each draw is a call of the system."""
    try:
        return _random.pop()
    except IndexError:
        drawn = os.urandom(10 * 256)
        _random.extend(drawn[at : at + 10] for at in range(0, len(drawn), 10))
        return os.urandom(10)  # whatever another thread takes of the rest


def uuid7() -> uuid.UUID:
    """A time-ordered UUID, version 7 of RFC 9562: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7."""
    return _uuid(7, (time.time_ns() // 1_000_000).to_bytes(6, "big") + _ten_random())


def uuid5(namespace: uuid.UUID, name: str) -> uuid.UUID:
    """The same as ``uuid.uuid5``, made in a third of the time."""
    return _uuid(5, hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])


def _uuid(version: int, sixteen: bytes) -> uuid.UUID:
    made = bytearray(sixteen)
    made[6] = made[6] & 0x0F | version << 4
    made[8] = made[8] & 0x3F | 0x80
    # the driver's own kind of UUID, as it stands in every row: written in C, it is made, shown, compared and sent in a
    # fraction of the time
    quick: uuid.UUID = pgproto.UUID(bytes(made))
    return quick


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that leaves nothing behind in its session, so that handing it on costs no statement."""

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
        """Nothing: settings are made for one transaction only, and the listener has a connection of its own."""
        return ""


async def _keep_alive(con: Connection) -> None:
    await con.execute(_SERVER_KEEPALIVE)
    await _learn_types(con)


async def _learn_types(con: Connection) -> None:
    """The driver asks the server about each type that it does not know, on each connection, when a statement first has
    it: here about all of them at once.
    """
    await con.fetchrow(_TYPES)


async def connect(dsn: str) -> Connection:
    """A connection of one's own to a server that takes writes. Raises what LOST names."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        target_session_attrs="read-write",
        connection_class=_Connection,
        statement_cache_size=0,
    )


class Database:
    """A pool of connections. ``listen_dsn`` is where notifications can be heard; None: nowhere, so poll."""

    def __init__(self, pool: asyncpg.Pool, dsn: str, listen_dsn: str | None = None) -> None:
        self.pool = pool
        self.dsn = dsn
        self.listen_dsn = listen_dsn

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dsn: str, *, size: int = 10, pooled: bool = False, listen_dsn: str = ""
    ) -> AsyncIterator[Database]:
        """Open the pool and close it at the end. Raises DatabaseError with the next step.

        ``pooled``: a pooler stands before the server and gives us another session for each transaction, so nothing
        may be kept in one, prepared statements included. Then only ``listen_dsn`` can be listened at.
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
                connection_class=_Connection,
                statement_cache_size=0 if pooled else 200,
                # kept as long as the connection: to prepare one anew within a transaction is a moment to get stuck in
                max_cached_statement_lifetime=0,
                init=_learn_types if pooled else _keep_alive,
            )
        except (*LOST, asyncpg.PostgresError, ValueError) as error:
            raise DatabaseError(
                f"can't reach Postgres: {_plain(error)}. Check POINTSMAN_DATABASE_URL and that the server is up."
            ) from error
        try:
            yield cls(pool, dsn, listen_dsn or (None if pooled else dsn))
        finally:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *LOST):
                pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction that gives up on locks soon: nobody holds them for long."""
        try:
            async with self.pool.acquire(timeout=CONNECT_SECONDS) as con:
                try:
                    # one round trip, and for this transaction only: a pooler may hand the connection to somebody else
                    # afterwards
                    begin = _BEGIN_17 if con.get_server_version().major >= 17 else _BEGIN
                    await con.execute(begin.format(idle=IDLE_SECONDS, whole=TRANSACTION_SECONDS))
                    yield con
                except BaseException as error:
                    await self._undo(con, error)
                    raise
                await self._commit(con)
        except (OSError, TimeoutError) as error:
            raise _silent(error) from error

    async def _commit(self, con: Connection) -> None:
        try:
            said = await con.execute("commit")
        except BaseException as error:
            # whether it was committed is not known; that connection is not asked again
            con.terminate()
            await self._demoted(error)
            raise
        if said != "COMMIT":
            raise RuntimeError(f"a transaction ended with {said}: an error in it was swallowed")

    async def _undo(self, con: Connection, error: BaseException) -> None:
        """Roll back, or drop a connection that does not answer in time."""
        if isinstance(error, TimeoutError):
            con.terminate()
        elif not con.is_closed():
            try:
                await con.execute("rollback", timeout=_END_SECONDS)
            except (*LOST, asyncpg.PostgresError):
                con.terminate()
        await self._demoted(error)

    async def _demoted(self, error: BaseException) -> None:
        """A server that takes no writes any more was demoted: every connection to it is dropped, so that the next one
        is made to the server that took over.
        """
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await self.pool.expire_connections()

    async def _watched(self, running: Awaitable[_T]) -> _T:
        try:
            return await running
        except asyncpg.ReadOnlySQLTransactionError as error:
            await self._demoted(error)
            raise
        except (OSError, TimeoutError) as error:
            raise _silent(error) from error

    async def fetch(self, sql: str, *args: Any, within_seconds: float | None = None) -> Sequence[Row]:
        """All rows of one statement. ``within_seconds`` is for those that take long; STATEMENT_SECONDS without."""
        rows: Sequence[Row] = await self._watched(self.pool.fetch(sql, *args, timeout=within_seconds))
        return rows

    async def fetchrow(self, sql: str, *args: Any, within_seconds: float | None = None) -> Row | None:
        """The first row of one statement, None if there is none."""
        return await self._watched(self.pool.fetchrow(sql, *args, timeout=within_seconds))

    async def fetchval(self, sql: str, *args: Any, within_seconds: float | None = None) -> Any:
        """The first value of the first row."""
        return await self._watched(self.pool.fetchval(sql, *args, timeout=within_seconds))

    async def execute(self, sql: str, *args: Any, within_seconds: float | None = None) -> None:
        """One statement without rows."""
        await self._watched(self.pool.execute(sql, *args, timeout=within_seconds))


def _silent(error: BaseException) -> asyncpg.PostgresConnectionError:
    """A database that can't be reached or does not answer, told apart from anything else that does not."""
    return asyncpg.ConnectionFailureError(f"the database does not answer: {_plain(error)}")


def _plain(error: BaseException) -> str:
    """An error's words without what a DSN may hold."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
