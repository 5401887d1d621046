"""The one database, as replicas reach it: statements take a while, connections break, transactions are given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pointsman.storage.errors import DatabaseUnavailable
from simulation.memory import Memory

if TYPE_CHECKING:
    from simulation.model import World

READS = frozenset({"lock_claimable_destinations", "load_next_deliveries", "known_report_keys", "lock_lanes_of_tickets", "lock_lane"})


class Store:
    """The one database, as a server: a statement that reached it is carried out, whatever became of its sender."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = Memory(lambda: world.loop.now, world.uuid)
        self.down_until = 0.0
        self.owner: Connection | None = None
        """Who has a transaction open; the others wait, as they would for locks."""
        self.kept: dict[str, Any] | None = None
        self.free: list[asyncio.Future[None]] = []
        self.last_look = 0.0

    def begin(self, owner: Connection) -> None:
        # nobody is there any more to end it
        there = any(one.name == owner.replica and one.alive for one in self.world.replicas)
        if owner.closed or not there:
            raise DatabaseUnavailable("the replica is gone")
        self.owner, self.kept = owner, None

    def end(self, owner: Connection, *, commit: bool) -> None:
        if self.owner is owner:
            if not commit and self.kept is not None:
                self.memory.come_back(self.kept)
            self.owner = None
            for one in self.free:
                if not one.done():
                    one.set_result(None)
            self.free.clear()

    def run(self, sql: str, args: tuple[Any, ...], who: str) -> list[dict[str, Any]]:
        name = sql[3 : sql.index(" ", 3)]
        if self.owner is not None and self.kept is None and name not in READS:
            self.kept = self.memory.kept()
        rows = self.memory.run(sql, args)
        if name == "has_due_work":
            self.last_look = self.world.loop.now
            if not rows[0]["due"] and not rows[0]["lapsed"]:
                return rows
        self.world.say(f"{who} {name} -> {len(rows)}")
        try:
            self.memory.check()
        except AssertionError as error:
            self.world.broken(f"after {name}: {error}")
        return rows


class Connection:
    """The ``Database`` of one replica: statements take a while, and now and then the connection breaks."""

    def __init__(self, world: World, replica: str) -> None:
        self.world = world
        self.replica = replica
        self.closed = False

    async def _ask(self, do: Any, *, inside: bool = False) -> Any:
        """Let the server do something; its answer comes a while later, or never."""
        world, store, dice = self.world, self.world.store, self.world.dice
        answer: asyncio.Future[Any] = world.loop.create_future()
        broken = dice.random() < world.database_trouble
        before = broken and dice.random() < 0.5
        there, back = dice.uniform(0.0005, 0.02), dice.uniform(0.0005, 0.02)

        def tell(result: Any, error: BaseException | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error is not None else answer.set_result(result)

        async def serve() -> None:
            await asyncio.sleep(there)
            result, error = None, None
            if world.loop.now < store.down_until:
                error = DatabaseUnavailable("the database is away")
            elif before:
                error = self._break()
            else:
                while not inside and store.owner is not None:
                    free = world.loop.create_future()
                    store.free.append(free)
                    await free
                try:
                    result = do() if not inside or store.owner is self else _ended()
                except Exception as raised:  # noqa: BLE001
                    error = raised
                if broken and error is None:
                    error = self._break()
            await asyncio.sleep(back)
            tell(result, error)

        world.outside(serve())
        return await answer

    def _break(self) -> BaseException:
        self.world.happened["database error"] += 1
        self.world.store.end(self, commit=False)
        return DatabaseUnavailable("connection lost")

    async def fetch(self, sql: str, *args: Any, inside: bool = False) -> list[dict[str, Any]]:
        return await self._ask(lambda: self.world.store.run(sql, args, self.replica), inside=inside)

    async def fetchrow(self, sql: str, *args: Any, inside: bool = False) -> dict[str, Any] | None:
        return next(iter(await self.fetch(sql, *args, inside=inside)), None)

    async def fetchval(self, sql: str, *args: Any, inside: bool = False) -> Any:
        row = await self.fetchrow(sql, *args, inside=inside)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any, inside: bool = False) -> None:
        await self.fetch(sql, *args, inside=inside)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Inside]:
        # a session of its own, as a pool gives one
        session = Connection(self.world, self.replica)
        store = self.world.store
        self.world.sessions.append(session)
        try:
            await session._ask(lambda: store.begin(session))
            yield Inside(session)
            await session._ask(lambda: store.end(session, commit=True), inside=True)
        finally:
            session.closed = True
            store.end(session, commit=False)


class Inside:
    """A connection inside its transaction."""

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
