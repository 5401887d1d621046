"""All connections of a replica: how many, of whom, and one sweep that ends those that are too slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from pointsman.logs import logger
from pointsman.web.client_address import Address, Networks, is_in_networks
from pointsman.web.connection import ConnectionGuard, Phase
from pointsman.web.timeouts import HttpTimeouts

log = logger("connections")

EVICT_WAITING_SECONDS = 0.25
EVICT_IDLE_SECONDS = 1.0
EVICT_RETRY_SECONDS = 0.05
"""After a look in vain for a connection that may go; looking costs more than refusing."""
MAX_LINGERING_REJECTIONS = 200
"""Refused connections that are held for a moment so that the refusal can be read; more are cut."""


class ConnectionManager:
    """All connections of a replica."""

    def __init__(
        self,
        *,
        max_connections: int,
        max_per_address: int,
        trusted: Networks = (),
        timeouts: HttpTimeouts | None = None,
        overloaded: Callable[[], bool] = lambda: False,
        on_rejected: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``most_per_address`` 0: no limit. ``turned_away`` hears why a client was."""
        self.max_connections = max_connections
        self.max_per_address = max_per_address
        self.timeouts = timeouts or HttpTimeouts()
        self.overloaded = overloaded
        self.on_rejected = on_rejected
        self.shed_requests = 0
        self.draining = False
        self._trusted = trusted
        self._guards: dict[asyncio.BaseTransport, ConnectionGuard] = {}
        self._per_address: Counter[Address] = Counter()
        self._refused: set[ConnectionGuard] = set()
        wait = self.timeouts
        self.limits = {
            Phase.NEW: wait.first_byte,
            Phase.HEAD: wait.head,
            Phase.HEAD_RECEIVED: wait.head,
            # body.read() answers 408 before; this is for handlers that do not read
            Phase.HANDLING: wait.body + wait.linger,
            Phase.SHEDDING: wait.body,
            Phase.LINGERING: wait.linger * 2,
            Phase.IDLE: wait.idle,
            Phase.CLOSING: wait.linger,
        }
        """How long a connection may stay in a phase, in seconds."""
        self.protocol_factory: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._evict_again_at = 0.0
        self.now = asyncio.get_running_loop().time

    def __call__(self) -> ConnectionGuard:
        """A visitor for a new connection."""
        return ConnectionGuard(self)

    def __len__(self) -> int:
        return len(self._guards)

    def guard_of(self, request: web.Request) -> ConnectionGuard | None:
        """The connection on which a request came; None if it is gone."""
        transport = request.transport
        return self._guards.get(transport) if transport is not None else None

    # -- asked by visitors ---------------------------------------------------------------------------------------

    def admit(self, guard: ConnectionGuard) -> str:
        """Count a connection, or say why it can't come in."""
        address = guard.address
        limited = self.max_per_address > 0 and self.limited(address)
        reason = ""
        if limited and self._per_address[address] >= self.max_per_address:  # type: ignore[index]
            reason = "too many of one address"
        elif len(self._guards) >= self.max_connections and not self._evict():
            reason = "too many"
        if reason:
            self._refused.add(guard)
            return reason
        assert guard.transport is not None
        self._guards[guard.transport] = guard
        if address is not None:
            self._per_address[address] += 1
        return ""

    def limited(self, address: Address | None) -> bool:
        """Whether an address stands for one client: not this machine, not a proxy."""
        return address is not None and not address.is_loopback and not is_in_networks(address, self._trusted)

    def remove(self, guard: ConnectionGuard) -> None:
        """A connection is gone."""
        self._refused.discard(guard)
        if guard.transport is None or self._guards.pop(guard.transport, None) is None:
            return
        if guard.address is not None:
            self._per_address[guard.address] -= 1
            if not self._per_address[guard.address]:
                del self._per_address[guard.address]

    def may_linger(self) -> bool:
        """Whether a refused client may have a moment to read why."""
        return len(self._refused) <= MAX_LINGERING_REJECTIONS

    def _evict(self) -> bool:
        """Make room: whoever has waited longest without a whole request goes, then whoever is idle longest."""
        if self.now() < self._evict_again_at:
            return False
        for phases, least in (
            ((Phase.NEW, Phase.HEAD), EVICT_WAITING_SECONDS),
            ((Phase.IDLE, Phase.CLOSING), EVICT_IDLE_SECONDS),
        ):
            waiting = [visitor for visitor in self._guards.values() if visitor.phase in phases]
            oldest = min(waiting, key=lambda visitor: visitor.since, default=None)
            if oldest is not None and self.now() - oldest.since >= least:
                self.on_rejected("made room")
                oldest.abort()
                self.remove(oldest)
                return True
        self._evict_again_at = self.now() + EVICT_RETRY_SECONDS
        return False

    # -- the sweep ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep until the end."""

        async def forever() -> None:
            shed, said_at = 0, 0.0
            while True:
                await asyncio.sleep(self.timeouts.check_interval)
                self._check_all()
                if self.shed_requests != shed and self.now() - said_at > 1.0:
                    log.warning("reports refused, too many come at once", reports=self.shed_requests - shed)
                    shed, said_at = self.shed_requests, self.now()

        task = asyncio.create_task(forever(), name="connections")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _check_all(self) -> None:
        now = self.now()
        for guard in [*self._guards.values(), *self._refused]:
            try:
                guard.check_timeouts(now)
            except Exception:
                log.exception("a connection could not be checked")
                guard.abort()

    async def drain(self) -> None:
        """The end: requests are answered, and idle connections are closed once they have been idle for a moment."""
        self.draining = True
        end = self.now() + self.timeouts.drain
        while self._guards and self.now() < end:
            now = self.now()
            for guard in list(self._guards.values()):
                if guard.phase in (Phase.IDLE, Phase.NEW) and now - guard.since >= self.timeouts.drain_idle:
                    guard.close()
            await asyncio.sleep(0.02)
