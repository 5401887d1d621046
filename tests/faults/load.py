"""Senders with a queue: what nobody took is sent again, under the same key, until it is taken."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable
from typing import Self

import aiohttp
from oracle import KNOWN, Promises

from source_examples import alert

_ORDERS = itertools.count(1)


class Load:
    """Alerts and support tickets for any number of places, to whichever replica answers.

    ``refused`` counts what was not answered with a 2xx at the first try. Orders are numbered over all of them.
    """

    def __init__(self, urls: Callable[[], list[str]], places: list[str], dice: random.Random) -> None:
        self.urls = urls
        self.places = places
        self.dice = dice
        self.promises = Promises()
        self.refused = 0
        self.repeated = 0
        self.reasons: dict[str, int] = {}
        self.stopped = False
        self.taken = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=8), connector=aiohttp.TCPConnector(limit=200)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def until_accepted(self, count: int, patience_seconds: float = 240.0) -> None:
        """Wait until so many 2xx were given."""
        async with asyncio.timeout(patience_seconds):
            while self.taken_count < count:
                self.taken.clear()
                await self.taken.wait()

    async def _send(self, path: str, body: object, token: str = "") -> dict[str, str]:
        """Send until it is taken; the answer."""
        assert self._session is not None
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        turn = self.dice.randrange(100)
        for attempt in range(2000):
            urls = self.urls()
            if urls:
                url = urls[(turn + attempt) % len(urls)]
                try:
                    async with self._session.post(url + path, json=body, headers=headers) as answer:
                        if answer.status < 300:
                            return await answer.json()
                        said = await answer.text()
                        assert answer.status in (429, 503), f"{path}: {answer.status} {said}"
                        self._refuse(f"{answer.status} {said[:60]}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self._refuse(type(error).__name__)
            await asyncio.sleep(0.05 + 0.1 * self.dice.random())
        raise AssertionError(f"nobody took it: {self.reasons}")

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.reasons[why] = self.reasons.get(why, 0) + 1

    def _next(self) -> tuple[int, str]:
        order = next(_ORDERS)
        return order, self.places[order % len(self.places)]

    async def alert(self) -> None:
        """One alert of a new problem."""
        order, place = self._next()
        body = alert(id=str(uuid.uuid4()), title=f"Order {order} fails")
        await self._send(f"/intake/shop-{place}/shop-token-of-the-tests", body)
        self.promises.opened(order)
        self.taken.set()

    async def ticket(self, place: str = "") -> tuple[int, str]:
        """A support ticket; the order's number and the ticket's id."""
        order, turn = self._next()
        place = place or turn
        body = {"title": f"Order {order} fails", "description": "It does not work."}
        made = await self._send("/api/v1/tickets", body, f"desk-token-of-{place}")
        self.promises.opened(order)
        self.taken.set()
        return order, made["id"]

    async def on(self, place: str, order: int, ticket: str, what: str) -> None:
        """Say ``note 3``, ``closed`` or ``open`` of a ticket."""
        at, token = f"/api/v1/tickets/{ticket}", f"desk-token-of-{place}"
        match what.split():
            case ["note", number]:
                said = {"body": f"Note {number} on order {order}", "author": {"name": "Ada"}}
                await self._send(f"{at}/comments", said, token)
            case ["closed"]:
                await self._send(f"{at}/close", {"reason": "completed"}, token)
            case ["open"]:
                await self._send(f"{at}/reopen", {}, token)
            case _:
                raise ValueError(what)
        self.promises.says(order, what)
        self.taken.set()

    async def story(self, notes: int, *, states: bool = False) -> None:
        """A support ticket with so many comments, each said after the one before was taken; with ``states`` it is closed
        and opened again in between.
        """
        place = self.dice.choice(self.places)
        order, ticket = await self.ticket(place)
        for note in range(1, notes + 1):
            await self.on(place, order, ticket, f"note {note}")
            if states and note == (notes + 1) // 2:
                await self.on(place, order, ticket, "closed")
                await self.on(place, order, ticket, "open")

    @property
    def taken_count(self) -> int:
        """How many 2xx were given."""
        return self.promises.accepted + self.repeated

    async def run(self, accepted: int, *, at_once: int = 16, notes: int = 4, known: float = 0.0) -> None:
        """Send until so much was taken: one story for two alerts. A share ``known`` is of known problems."""

        async def sender() -> None:
            while self.taken_count < accepted and not self.stopped:
                if self.dice.random() < known:
                    await self.again()
                elif self.dice.random() < 1 / 3:
                    await self.story(notes, states=self.dice.random() < 0.3)
                else:
                    await self.alert()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(sender())

    async def steadily(self, per_second: float, *, fresh: float, at_once: int = 32) -> None:
        """So many alerts a second until stopped, or as many as the machine can; a share is of new problems, the others
        are of known ones.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()

        async def sender() -> None:
            nonlocal due
            while not self.stopped:
                due = max(due, loop.time() - 1.0) + 1 / per_second
                await asyncio.sleep(due - loop.time())
                await (self.alert() if self.dice.random() < fresh else self.again())

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(sender())

    async def again(self) -> None:
        """A problem that is known already."""
        place = self.dice.choice(self.places)
        body = alert(id=f"1f0d2a51-3c5e-4a0e-9c55-{self.dice.randrange(20):012}", title=KNOWN)
        await self._send(f"/intake/shop-{place}/shop-token-of-the-tests", body)
        self.repeated += 1
        self.taken.set()
