"""Who may be inside at once. What is full says so at once, so that a flood of one kind leaves room for the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from aiohttp import web

from pointsman.errors import Overloaded
from pointsman.storage.db import Connection, Database, Row
from pointsman.web.client_address import Address

REPORTS_ROOM = 32 * 2**20
WEBHOOKS_ROOM = 32 * 2**20
WAIT_SECONDS = 5.0


class Door:
    """Lets in a number of requests; nobody waits at it. ``with door:`` is to be inside, and raises Overloaded.

    It is no generator, as there is one way in for every request and nothing to remember of it.
    """

    def __init__(self, what: str, at_once: int) -> None:
        self.what = what
        self.at_once = at_once
        self.inside = 0

    @property
    def full(self) -> bool:
        """Whether the next one is turned away."""
        return self.inside >= self.at_once

    def __enter__(self) -> None:
        if self.full:
            raise Overloaded(f"{self.inside} {self.what} are being answered already")
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


class Gate:
    """Lets in a few at once; some more wait for a moment."""

    def __init__(self, what: str, at_once: int, waiting: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.what = what
        self.waiting = 0
        self._most_waiting = waiting
        self._wait_seconds = wait_seconds
        self._places = asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def through(self) -> AsyncIterator[None]:
        """Be inside. Raises Overloaded where too many wait, or the wait is too long."""
        if self._places.locked() and self.waiting >= self._most_waiting:
            raise Overloaded(f"{self.waiting} {self.what} wait for the database already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{self.what} have waited for the database for {self._wait_seconds:g} s"
            ) from None
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._places.release()


class Room:
    """Memory for bodies that are being read or worked on."""

    def __init__(self, what: str, size: int) -> None:
        self.what = what
        self.size = size
        self.taken = 0

    def take(self, size: int) -> None:
        """Take some. Raises Overloaded, and then nothing is taken."""
        if self.taken + size > self.size:
            raise Overloaded(f"{self.taken} bytes of {self.what} are in memory already")
        self.taken += size


class Loan:
    """What one request has taken of a room."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: list[tuple[Room, int]] = []

    def take(self, room: Room, size: int) -> None:
        """Take some more. Raises Overloaded."""
        room.take(size)
        self._taken.append((room, size))

    def give_back(self) -> None:
        """At the request's end."""
        for room, size in self._taken:
            room.taken -= size
        self._taken.clear()


class Reads(Database):
    """The database for questions of the API and the console: a few of the pool's connections, never all."""

    def __init__(self, database: Database, gate: Gate) -> None:
        super().__init__(database.pool, database.dsn, database.listen_dsn)
        self.gate = gate

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """As the database has it."""
        async with self.gate.through(), super().transaction() as con:
            yield con

    async def fetch(self, sql: str, *args: Any, within_seconds: float | None = None) -> Sequence[Row]:
        """As the database has it."""
        async with self.gate.through():
            return await super().fetch(sql, *args, within_seconds=within_seconds)

    async def fetchrow(self, sql: str, *args: Any, within_seconds: float | None = None) -> Row | None:
        """As the database has it."""
        async with self.gate.through():
            return await super().fetchrow(sql, *args, within_seconds=within_seconds)

    async def fetchval(self, sql: str, *args: Any, within_seconds: float | None = None) -> Any:
        """As the database has it."""
        async with self.gate.through():
            return await super().fetchval(sql, *args, within_seconds=within_seconds)

    async def execute(self, sql: str, *args: Any, within_seconds: float | None = None) -> None:
        """As the database has it."""
        async with self.gate.through():
            await super().execute(sql, *args, within_seconds=within_seconds)


_OPEN = contextlib.nullcontext()
LOAN: web.RequestKey[Loan] = web.RequestKey("loan", Loan)


class Doors:
    """All of them. Shares of the connections, so that some are always free for health and metrics:
    reports 60 %, webhooks 20 %, everything else 10 %. Of a pool of ten, webhooks use three and questions three;
    the rest is for accepting, for health and for deliveries.
    """

    def __init__(self, connections: int, *, pool: int, webhook_bytes: int, per_address: int) -> None:
        self.reports = Door("reports", max(1, connections * 6 // 10))
        self.webhooks = Door("webhooks", max(1, connections * 2 // 10))
        self.others = Door("requests", max(1, connections // 10))
        third = max(1, pool * 3 // 10)
        self.webhook_writes = Gate("webhooks", third, 100)
        self.reads = Gate("questions", third, 50)
        self.report_room = Room("reports", REPORTS_ROOM)
        self.webhook_room = Room("webhooks", max(WEBHOOKS_ROOM, 2 * webhook_bytes))
        self._per_address = per_address
        self._of_address: Counter[Address] = Counter()

    def door(self, method: str, route: str) -> Door | None:
        """The door of a route; health and metrics have none."""
        if route.startswith("/intake/"):
            return self.reports
        if route.startswith("/webhooks/"):
            return self.webhooks
        if not route.startswith(("/api/", "/console")):
            return None
        if method == "POST" and route in ("/api/v1/tickets", "/api/v1/tickets/{ticket}/comments"):
            return self.reports
        return self.others

    def through(
        self, method: str, route: str, forwarded_for: Address | None
    ) -> contextlib.AbstractContextManager[None]:
        """Let a request in. ``forwarded_for`` is the client behind a trusted proxy. Raises Overloaded."""
        door = self.door(method, route)
        if door is None:
            return _OPEN
        if forwarded_for is None or not self._per_address:
            return door
        return self._both(door, forwarded_for)

    @contextlib.contextmanager
    def _both(self, door: Door, address: Address) -> Iterator[None]:
        with door, self._one_of(address):
            yield

    @contextlib.contextmanager
    def _one_of(self, address: Address) -> Iterator[None]:
        if self._of_address[address] >= self._per_address:
            raise Overloaded("one address has too many requests at once")
        self._of_address[address] += 1
        try:
            yield
        finally:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
