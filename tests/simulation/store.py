"""The database of the simulated world: statements take time, connections break, transactions are rolled back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pointsman.storage.errors import DatabaseUnavailable
from simulation.memory import Memory

if TYPE_CHECKING:
    from simulation.model import World

READS = frozenset(
    {
        "lock_claimable_destinations",
        "load_next_deliveries",
        "known_report_keys",
        "lock_lanes_of_tickets",
        "lock_lane",
    }
)


class Store:
    """Database server: a statement that reached it is executed, even if its sender is killed meanwhile."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = Memory(lambda: world.loop.now, world.uuid)
        self.down_until = 0.0
        self.owner: Connection | None = None
        """Connection with the open transaction; all others wait, as they would for locks."""
        self.snapshot: dict[str, Any] | None = None
        self.free: list[asyncio.Future[None]] = []
        self.last_poll = 0.0

    def begin(self, owner: Connection) -> None:
        # a killed replica could not end its transaction
        alive = any(replica.name == owner.replica and replica.alive for replica in self.world.replicas)
        if owner.closed or not alive:
            raise DatabaseUnavailable("the replica is gone")
        self.owner, self.snapshot = owner, None

    def end(self, owner: Connection, *, commit: bool) -> None:
        if self.owner is owner:
            if not commit and self.snapshot is not None:
                self.memory.restore(self.snapshot)
            self.owner = None
            for waiter in self.free:
                if not waiter.done():
                    waiter.set_result(None)
            self.free.clear()

    def run(self, sql: str, args: tuple[Any, ...], replica: str) -> list[dict[str, Any]]:
        name = sql[3 : sql.index(" ", 3)]
        if self.owner is not None and self.snapshot is None and name not in READS:
            self.snapshot = self.memory.snapshot()
        rows = self.memory.run(sql, args)
        if name == "has_due_work":
            self.last_poll = self.world.loop.now
            if not rows[0]["due"] and not rows[0]["lapsed"]:
                return rows
        self.world.trace(f"{replica} {name} -> {len(rows)}")
        try:
            self.memory.check()
        except AssertionError as error:
            self.world.broken(f"after {name}: {error}")
        return rows


class Connection:
    """The ``Database`` of one replica: statements take time, and some break the connection."""

    def __init__(self, world: World, replica: str) -> None:
        self.world = world
        self.replica = replica
        self.closed = False

    async def _call(self, operation: Any, *, inside: bool = False) -> Any:
        """Let the server run an operation; the result or an error arrives later."""
        world, store, dice = self.world, self.world.store, self.world.dice
        response: asyncio.Future[Any] = world.loop.create_future()
        broken = dice.random() < world.database_trouble
        before = broken and dice.random() < 0.5
        request_seconds, response_seconds = dice.uniform(0.0005, 0.02), dice.uniform(0.0005, 0.02)

        def respond(result: Any, error: BaseException | None) -> None:
            if not response.done():
                response.set_exception(error) if error is not None else response.set_result(result)

        async def serve() -> None:
            await asyncio.sleep(request_seconds)
            result, error = None, None
            if world.loop.now < store.down_until:
                error = DatabaseUnavailable("the database is unavailable")
            elif before:
                error = self._break()
            else:
                while not inside and store.owner is not None:
                    free = world.loop.create_future()
                    store.free.append(free)
                    await free
                try:
                    result = operation() if not inside or store.owner is self else _ended()
                except Exception as raised:  # noqa: BLE001
                    error = raised
                if broken and error is None:
                    error = self._break()
            await asyncio.sleep(response_seconds)
            respond(result, error)

        world.run_detached(serve())
        return await response

    def _break(self) -> BaseException:
        self.world.happened["database error"] += 1
        self.world.store.end(self, commit=False)
        return DatabaseUnavailable("connection lost")

    async def fetch(self, sql: str, *args: Any, inside: bool = False) -> list[dict[str, Any]]:
        return await self._call(lambda: self.world.store.run(sql, args, self.replica), inside=inside)

    async def fetchrow(self, sql: str, *args: Any, inside: bool = False) -> dict[str, Any] | None:
        return next(iter(await self.fetch(sql, *args, inside=inside)), None)

    async def fetchval(self, sql: str, *args: Any, inside: bool = False) -> Any:
        row = await self.fetchrow(sql, *args, inside=inside)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any, inside: bool = False) -> None:
        await self.fetch(sql, *args, inside=inside)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Inside]:
        # a separate session, as from a pool
        session = Connection(self.world, self.replica)
        store = self.world.store
        self.world.sessions.append(session)
        try:
            await session._call(lambda: store.begin(session))
            yield Inside(session)
            await session._call(lambda: store.end(session, commit=True), inside=True)
        finally:
            session.closed = True
            store.end(session, commit=False)


class Inside:
    """Connection with an open transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        return await self._session.fetch(sql, *args, inside=True)

    async def fetchrow(self, sql: str, *args: Any) -> dict[str, Any] | None:
        return next(iter(await self.fetch(sql, *args)), None)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = await self.fetchrow(sql, *args)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any) -> None:
        await self.fetch(sql, *args)


def _ended() -> None:
    raise DatabaseUnavailable("the transaction was ended")
