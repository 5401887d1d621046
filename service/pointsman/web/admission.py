"""Admission control: limits on concurrent requests, on queued database work and on memory for bodies.

Each kind of request has its own limits, so that a flood of one kind leaves capacity for the others. What is over a limit
is refused at once with ``Overloaded``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from enum import Enum
from typing import Any

from aiohttp import web

from pointsman.errors import Overloaded
from pointsman.storage.db import Connection, Database
from pointsman.web.client_address import Address, limit_key

REPORT_MEMORY_BYTES = 32 * 2**20
WEBHOOK_MEMORY_BYTES = 32 * 2**20
WAIT_SECONDS = 5.0


class RequestClass(Enum):
    """Which limit a request counts against."""

    UNLIMITED = "unlimited"
    REPORTS = "reports"
    WEBHOOKS = "webhooks"
    OTHER = "other"


class AdmissionLimit(contextlib.AbstractContextManager[None]):
    """Non-blocking limit on concurrent requests.

    ``with limit:`` holds one slot and raises Overloaded when all are taken. One instance serves all requests.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.active = 0

    @property
    def full(self) -> bool:
        """Whether the next request is refused."""
        return self.active >= self.limit

    def __enter__(self) -> None:
        if self.full:
            raise Overloaded(f"{self.active} {self.name} are being answered already")
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1


class ConcurrencyLimit:
    """Limit on concurrent database work; a few more requests wait for a slot, for a limited time."""

    def __init__(self, name: str, limit: int, max_waiting: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.name = name
        self.waiting = 0
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._slots = asyncio.Semaphore(limit)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Raises Overloaded when too many wait, or when the wait takes too long."""
        if self._slots.locked() and self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting} {self.name} wait for the database already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{self.name} have waited for the database for {self._wait_seconds:g} s"
            ) from None
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


class MemoryBudget:
    """Limit on the bytes of request bodies that are in memory, in total and for one client."""

    def __init__(self, name: str, size: int, client_share: int | None = None) -> None:
        """Create the budget. ``client_share`` is the limit for one client's address; None means no such limit."""
        self.name = name
        self.size = size
        self.used = 0
        self._client_share = size if client_share is None else client_share
        self._per_client: Counter[Address] = Counter()

    def reserve(self, size: int, client: Address | None = None) -> None:
        """Count ``size`` bytes, for a client if it is known. Raises Overloaded without counting them when they don't fit."""
        if self.used + size > self.size:
            raise Overloaded(f"{self.used} bytes of {self.name} are in memory already")
        if client is not None:
            if self._per_client[client] + size > self._client_share:
                raise Overloaded(
                    f"{self._per_client[client]} bytes of {self.name} of one address are in memory"
                )
            self._per_client[client] += size
        self.used += size

    def release(self, size: int, client: Address | None = None) -> None:
        """Give bytes back that ``reserve`` counted."""
        self.used -= size
        if client is not None:
            self._per_client[client] -= size
            if not self._per_client[client]:
                del self._per_client[client]


class MemoryReservation:
    """The bytes that one request has reserved."""

    __slots__ = ("_client", "_reserved")

    def __init__(self, client: Address | None = None) -> None:
        self._client = client
        self._reserved: Counter[MemoryBudget] = Counter()

    def reserve(self, budget: MemoryBudget, size: int) -> None:
        """Reserve more bytes. Raises Overloaded."""
        budget.reserve(size, self._client)
        self._reserved[budget] += size

    def release(self) -> None:
        """Give all bytes back."""
        for budget, size in self._reserved.items():
            budget.release(size, self._client)
        self._reserved.clear()


class ReadOnlyPool(Database):
    """The database for queries of the API and the console, limited to a share of the pool's connections."""

    def __init__(self, database: Database, limit: ConcurrencyLimit) -> None:
        super().__init__(database.pool, database.dsn, database.listen_dsn)
        self.limit = limit

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction, within the limit."""
        async with self.limit.slot(), super().transaction() as con:
            yield con

    async def fetch(self, sql: str, *args: Any, within_seconds: float | None = None) -> Sequence[Any]:
        """Return all rows of a query, within the limit."""
        async with self.limit.slot():
            return await super().fetch(sql, *args, within_seconds=within_seconds)

    async def fetchrow(self, sql: str, *args: Any, within_seconds: float | None = None) -> Any | None:
        """Return the first row of a query, within the limit."""
        async with self.limit.slot():
            return await super().fetchrow(sql, *args, within_seconds=within_seconds)

    async def fetchval(self, sql: str, *args: Any, within_seconds: float | None = None) -> Any:
        """Return the first value of a query, within the limit."""
        async with self.limit.slot():
            return await super().fetchval(sql, *args, within_seconds=within_seconds)


RESERVATION: web.RequestKey[MemoryReservation] = web.RequestKey("memory_reservation", MemoryReservation)


class AdmissionControl:
    """All limits of one replica.

    Of the connections, reports may use 60 %, webhooks 20 % and other requests 10 %; the rest stays free for health and
    metrics. Of the database pool, webhooks and queries may use 30 % each; the rest serves intake, health and deliveries.
    """

    def __init__(
        self,
        max_connections: int,
        *,
        pool_size: int,
        webhook_max_bytes: int,
        intake_max_bytes: int,
        max_per_address: int,
    ) -> None:
        """Create the limits. ``max_per_address`` 0 means no limit."""
        self.reports = AdmissionLimit("reports", max(1, max_connections * 6 // 10))
        self.webhooks = AdmissionLimit("webhooks", max(1, max_connections * 2 // 10))
        self.other = AdmissionLimit("requests", max(1, max_connections // 10))
        pool_share = max(1, pool_size * 3 // 10)
        self.webhook_writes = ConcurrencyLimit("webhooks", pool_share, 100)
        self.queries = ConcurrencyLimit("queries", pool_share, 50)
        self.report_memory = MemoryBudget("reports", max(REPORT_MEMORY_BYTES, 2 * intake_max_bytes))
        self.webhook_memory = MemoryBudget(
            "webhooks",
            max(WEBHOOK_MEMORY_BYTES, 2 * webhook_max_bytes),
            # read before their signature can be checked
            client_share=max(WEBHOOK_MEMORY_BYTES // 4, webhook_max_bytes),
        )
        self._max_per_address = max_per_address
        self._per_address: Counter[Address] = Counter()
        self._limits = {
            RequestClass.REPORTS: self.reports,
            RequestClass.WEBHOOKS: self.webhooks,
            RequestClass.OTHER: self.other,
        }

    def admit(
        self, request_class: RequestClass, forwarded_for: Address | None
    ) -> contextlib.AbstractContextManager[None]:
        """Return a context that counts the request; entering it raises Overloaded over a limit.

        ``forwarded_for`` is the address of a client behind a trusted proxy.
        """
        limit = self._limits.get(request_class)
        if limit is None:
            return contextlib.nullcontext()
        if forwarded_for is None or not self._max_per_address:
            return limit
        return self._limit_and_address(limit, limit_key(forwarded_for))

    @contextlib.contextmanager
    def _limit_and_address(self, limit: AdmissionLimit, address: Address) -> Iterator[None]:
        with limit, self._address_slot(address):
            yield

    @contextlib.contextmanager
    def _address_slot(self, address: Address) -> Iterator[None]:
        if self._per_address[address] >= self._max_per_address:
            raise Overloaded("one address has too many requests at once")
        self._per_address[address] += 1
        try:
            yield
        finally:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
