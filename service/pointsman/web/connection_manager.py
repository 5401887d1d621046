"""All connections of a replica: how many, of whom, and one sweep that ends those that are too slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from pointsman.logs import logger
from pointsman.web.client_address import Address, Networks, inside
from pointsman.web.connection import Phase, Visitor
from pointsman.web.timeouts import Patience

log = logger("connections")

EVICT_WAITING_SECONDS = 0.25
EVICT_IDLE_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 0.05
"""After a look in vain for a connection that may go; looking costs more than refusing."""
REFUSED_AT_ONCE = 200
"""Refused connections that are held for a moment so that the refusal can be read; more are cut."""


class Connections:
    """All connections of a replica."""

    def __init__(
        self,
        *,
        most: int,
        most_per_address: int,
        trusted: Networks = (),
        patience: Patience | None = None,
        overloaded: Callable[[], bool] = lambda: False,
        turned_away: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``most_per_address`` 0: no limit. ``turned_away`` hears why a client was."""
        self.most = most
        self.most_per_address = most_per_address
        self.patience = patience or Patience()
        self.overloaded = overloaded
        self.turned_away = turned_away
        self.shed = 0
        self.draining = False
        self._trusted = trusted
        self._visitors: dict[asyncio.BaseTransport, Visitor] = {}
        self._per_address: Counter[Address] = Counter()
        self._refused: set[Visitor] = set()
        wait = self.patience
        self.limits = {
            Phase.NEW: wait.first_byte,
            Phase.HEAD: wait.head,
            Phase.HEARD: wait.head,
            # body.read() answers 408 before; this is for handlers that do not read
            Phase.WORK: wait.body + wait.linger,
            Phase.SHED: wait.body,
            Phase.LINGER: wait.linger * 2,
            Phase.IDLE: wait.idle,
            Phase.CLOSING: wait.linger,
        }
        """How long a connection may stay in a phase, in seconds."""
        self.make: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._look_again_at = 0.0
        self.now = asyncio.get_running_loop().time

    def __call__(self) -> Visitor:
        """A visitor for a new connection."""
        return Visitor(self)

    def __len__(self) -> int:
        return len(self._visitors)

    def of(self, request: web.Request) -> Visitor | None:
        """The connection on which a request came; None if it is gone."""
        transport = request.transport
        return self._visitors.get(transport) if transport is not None else None

    # -- asked by visitors ---------------------------------------------------------------------------------------

    def let_in(self, visitor: Visitor) -> str:
        """Count a connection, or say why it can't come in."""
        address = visitor.address
        limited = self.most_per_address > 0 and self.limited(address)
        why = ""
        if limited and self._per_address[address] >= self.most_per_address:  # type: ignore[index]
            why = "too many of one address"
        elif len(self._visitors) >= self.most and not self._evict():
            why = "too many"
        if why:
            self._refused.add(visitor)
            return why
        assert visitor.transport is not None
        self._visitors[visitor.transport] = visitor
        if address is not None:
            self._per_address[address] += 1
        return ""

    def limited(self, address: Address | None) -> bool:
        """Whether an address stands for one client: not this machine, not a proxy."""
        return address is not None and not address.is_loopback and not inside(address, self._trusted)

    def forget(self, visitor: Visitor) -> None:
        """A connection is gone."""
        self._refused.discard(visitor)
        if visitor.transport is None or self._visitors.pop(visitor.transport, None) is None:
            return
        if visitor.address is not None:
            self._per_address[visitor.address] -= 1
            if not self._per_address[visitor.address]:
                del self._per_address[visitor.address]

    def may_linger(self) -> bool:
        """Whether a refused client may have a moment to read why."""
        return len(self._refused) <= REFUSED_AT_ONCE

    def _evict(self) -> bool:
        """Make room: whoever has waited longest without a whole request goes, then whoever is idle longest."""
        if self.now() < self._look_again_at:
            return False
        for phases, least in (
            ((Phase.NEW, Phase.HEAD), EVICT_WAITING_SECONDS),
            ((Phase.IDLE, Phase.CLOSING), EVICT_IDLE_SECONDS),
        ):
            waiting = [visitor for visitor in self._visitors.values() if visitor.phase in phases]
            oldest = min(waiting, key=lambda visitor: visitor.since, default=None)
            if oldest is not None and self.now() - oldest.since >= least:
                self.turned_away("made room")
                oldest.abort()
                self.forget(oldest)
                return True
        self._look_again_at = self.now() + LOOK_AGAIN_SECONDS
        return False

    # -- the sweep ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Sweep until the end."""

        async def forever() -> None:
            shed, said_at = 0, 0.0
            while True:
                await asyncio.sleep(self.patience.sweep)
                self._sweep()
                if self.shed != shed and self.now() - said_at > 1.0:
                    log.warning("reports refused, too many come at once", reports=self.shed - shed)
                    shed, said_at = self.shed, self.now()

        task = asyncio.create_task(forever(), name="connections")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _sweep(self) -> None:
        now = self.now()
        for visitor in [*self._visitors.values(), *self._refused]:
            try:
                visitor.check(now)
            except Exception:
                log.exception("a connection could not be checked")
                visitor.abort()

    async def drained(self) -> None:
        """The end: requests are answered, and idle connections are closed once they have been idle for a moment."""
        self.draining = True
        end = self.now() + self.patience.drain
        while self._visitors and self.now() < end:
            now = self.now()
            for visitor in list(self._visitors.values()):
                if (
                    visitor.phase in (Phase.IDLE, Phase.NEW)
                    and now - visitor.since >= self.patience.drain_idle
                ):
                    visitor.close()
            await asyncio.sleep(0.02)
