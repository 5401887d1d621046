"""Senders that repeat each request with the same idempotency key until it is accepted."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable
from typing import Self

import aiohttp
from oracle import KNOWN, AcceptedReports

from source_examples import alert

_ORDERS = itertools.count(1)


class Load:
    """Alerts and support tickets for a number of destinations, sent to any replica in service.

    ``refused`` counts responses other than 2xx and failed connections. Each ticket is about an order with a unique number.
    """

    def __init__(self, urls: Callable[[], list[str]], destinations: list[str], dice: random.Random) -> None:
        self.urls = urls
        self.destinations = destinations
        self.dice = dice
        self.accepted_reports = AcceptedReports()
        self.refused = 0
        self.repeated = 0
        self.reasons: dict[str, int] = {}
        self.stopped = False
        self.accepted_event = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=8), connector=aiohttp.TCPConnector(limit=200)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def until_accepted(self, count: int, timeout_seconds: float = 240.0) -> None:
        """Wait until ``count`` requests were accepted."""
        async with asyncio.timeout(timeout_seconds):
            while self.accepted_count < count:
                self.accepted_event.clear()
                await self.accepted_event.wait()

    async def _send(self, path: str, body: object, token: str = "") -> dict[str, str]:
        """Send a request until it is accepted and return the response."""
        assert self._session is not None
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        offset = self.dice.randrange(100)
        for attempt in range(2000):
            urls = self.urls()
            if urls:
                url = urls[(offset + attempt) % len(urls)]
                try:
                    async with self._session.post(url + path, json=body, headers=headers) as response:
                        if response.status < 300:
                            return await response.json()
                        text = await response.text()
                        assert response.status in (429, 503), f"{path}: {response.status} {text}"
                        self._refuse(f"{response.status} {text[:60]}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self._refuse(type(error).__name__)
            await asyncio.sleep(0.05 + 0.1 * self.dice.random())
        raise AssertionError(f"never accepted: {self.reasons}")

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def _next(self) -> tuple[int, str]:
        order = next(_ORDERS)
        return order, self.destinations[order % len(self.destinations)]

    async def alert(self) -> None:
        """Send an alert of a new problem."""
        order, destination = self._next()
        body = alert(id=str(uuid.uuid4()), title=f"Order {order} fails")
        await self._send(f"/intake/shop-{destination}/shop-token-of-the-tests", body)
        self.accepted_reports.opened(order)
        self.accepted_event.set()

    async def ticket(self, destination: str = "") -> tuple[int, str]:
        """Open a support ticket; return the order's number and the ticket's id."""
        order, next_destination = self._next()
        destination = destination or next_destination
        body = {"title": f"Order {order} fails", "description": "It does not work."}
        created = await self._send("/api/v1/tickets", body, f"desk-token-of-{destination}")
        self.accepted_reports.opened(order)
        self.accepted_event.set()
        return order, created["id"]

    async def update(self, destination: str, order: int, ticket: str, change: str) -> None:
        """Send ``note 3`` (a comment), ``closed`` or ``open`` for a ticket."""
        path, token = f"/api/v1/tickets/{ticket}", f"desk-token-of-{destination}"
        match change.split():
            case ["note", number]:
                comment = {"body": f"Note {number} on order {order}", "author": {"name": "Ada"}}
                await self._send(f"{path}/comments", comment, token)
            case ["closed"]:
                await self._send(f"{path}/close", {"reason": "completed"}, token)
            case ["open"]:
                await self._send(f"{path}/reopen", {}, token)
            case _:
                raise ValueError(change)
        self.accepted_reports.updated(order, change)
        self.accepted_event.set()

    async def story(self, notes: int, *, states: bool = False) -> None:
        """Open a support ticket and add comments, each after the previous request was accepted.

        With ``states`` the ticket is closed and reopened in between.
        """
        destination = self.dice.choice(self.destinations)
        order, ticket = await self.ticket(destination)
        for note in range(1, notes + 1):
            await self.update(destination, order, ticket, f"note {note}")
            if states and note == (notes + 1) // 2:
                await self.update(destination, order, ticket, "closed")
                await self.update(destination, order, ticket, "open")

    @property
    def accepted_count(self) -> int:
        """Number of accepted requests."""
        return self.accepted_reports.accepted + self.repeated

    async def run(self, accepted: int, *, at_once: int = 16, notes: int = 4, known: float = 0.0) -> None:
        """Send until ``accepted`` requests were accepted: two alerts for each story; a share ``known`` repeats known problems."""

        async def sender() -> None:
            while self.accepted_count < accepted and not self.stopped:
                if self.dice.random() < known:
                    await self.repeat()
                elif self.dice.random() < 1 / 3:
                    await self.story(notes, states=self.dice.random() < 0.3)
                else:
                    await self.alert()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(sender())

    async def steadily(self, per_second: float, *, fresh: float, at_once: int = 32) -> None:
        """Send alerts at a constant rate until stopped; a share ``fresh`` is of new problems, the others repeat known ones."""
        loop = asyncio.get_running_loop()
        due = loop.time()

        async def sender() -> None:
            nonlocal due
            while not self.stopped:
                due = max(due, loop.time() - 1.0) + 1 / per_second
                await asyncio.sleep(due - loop.time())
                await (self.alert() if self.dice.random() < fresh else self.repeat())

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(sender())

    async def repeat(self) -> None:
        """Send an alert of a known problem."""
        destination = self.dice.choice(self.destinations)
        body = alert(id=f"1f0d2a51-3c5e-4a0e-9c55-{self.dice.randrange(20):012}", title=KNOWN)
        await self._send(f"/intake/shop-{destination}/shop-token-of-the-tests", body)
        self.repeated += 1
        self.accepted_event.set()
