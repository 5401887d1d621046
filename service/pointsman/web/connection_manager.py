"""All connections of a replica: their number, their number per address, and a periodic check of their timeouts."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from pointsman.logs import logger
from pointsman.web.client_address import Address, Networks, is_in_networks, limit_key
from pointsman.web.connection import ConnectionGuard, Phase
from pointsman.web.timeouts import HttpTimeouts

log = logger("connections")

EVICT_WAITING_SECONDS = 0.25
EVICT_IDLE_SECONDS = 1.0
EVICT_RETRY_SECONDS = 0.05
"""Time without another search after no connection could be evicted; searching costs more than rejecting."""
MAX_LINGERING_REJECTIONS = 200
"""Rejected connections that stay open for a moment so that the response can be read; more are cut."""


class ConnectionManager:
    """Factory and registry of the connections of a replica."""

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
        """Create the manager. ``max_per_address`` 0 means no limit; ``on_rejected`` is called with a reason."""
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
        self._rejected: set[ConnectionGuard] = set()
        timeouts = self.timeouts
        self.limits = {
            Phase.NEW: timeouts.first_byte,
            Phase.HEAD: timeouts.head,
            Phase.HEAD_RECEIVED: timeouts.head,
            # body.read() answers 408 earlier; this is for handlers that do not read the body
            Phase.HANDLING: timeouts.body + timeouts.linger,
            Phase.SHEDDING: timeouts.body,
            Phase.LINGERING: timeouts.linger * 2,
            Phase.IDLE: timeouts.idle,
            Phase.CLOSING: timeouts.linger,
        }
        """How long a connection may stay in a phase, in seconds."""
        self.protocol_factory: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._evict_again_at = 0.0
        self.now = asyncio.get_running_loop().time

    def __call__(self) -> ConnectionGuard:
        """Return the guard of a new connection."""
        return ConnectionGuard(self)

    def __len__(self) -> int:
        return len(self._guards)

    def guard_of(self, request: web.Request) -> ConnectionGuard | None:
        """Return the connection of a request, or None if it is closed."""
        transport = request.transport
        return self._guards.get(transport) if transport is not None else None

    # -- called by the guards ---------------------------------------------------------------------------------------

    def admit(self, guard: ConnectionGuard) -> str:
        """Count a connection, or return the reason why it is rejected."""
        address = limit_key(guard.address) if guard.address is not None else None
        limited = self.max_per_address > 0 and self.limited(guard.address)
        reason = ""
        if limited and self._per_address[address] >= self.max_per_address:  # type: ignore[index]
            reason = "too many per address"
        elif len(self._guards) >= self.max_connections and not self._evict():
            reason = "too many"
        if reason:
            self._rejected.add(guard)
            return reason
        assert guard.transport is not None
        self._guards[guard.transport] = guard
        if address is not None:
            self._per_address[address] += 1
        return ""

    def limited(self, address: Address | None) -> bool:
        """Return whether an address belongs to a single client: not to this machine or a trusted proxy."""
        return address is not None and not address.is_loopback and not is_in_networks(address, self._trusted)

    def remove(self, guard: ConnectionGuard) -> None:
        """Forget a closed connection."""
        self._rejected.discard(guard)
        if guard.transport is None or self._guards.pop(guard.transport, None) is None:
            return
        if guard.address is not None:
            address = limit_key(guard.address)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def may_linger(self) -> bool:
        """Return whether a rejected client gets time to read the response."""
        return len(self._rejected) <= MAX_LINGERING_REJECTIONS

    def _evict(self) -> bool:
        """Close the connection that waits longest without a complete request, or else the one that is idle longest."""
        if self.now() < self._evict_again_at:
            return False
        for phases, min_seconds in (
            ((Phase.NEW, Phase.HEAD), EVICT_WAITING_SECONDS),
            ((Phase.IDLE, Phase.CLOSING), EVICT_IDLE_SECONDS),
        ):
            candidates = [guard for guard in self._guards.values() if guard.phase in phases]
            oldest = min(candidates, key=lambda guard: guard.since, default=None)
            if oldest is not None and self.now() - oldest.since >= min_seconds:
                self.on_rejected("evicted")
                oldest.abort()
                self.remove(oldest)
                return True
        self._evict_again_at = self.now() + EVICT_RETRY_SECONDS
        return False

    # -- timeouts and shutdown ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check timeouts until the end of the context."""

        async def forever() -> None:
            logged, logged_at = 0, 0.0
            while True:
                await asyncio.sleep(self.timeouts.check_interval)
                self._check_all()
                if self.shed_requests != logged and self.now() - logged_at > 1.0:
                    log.warning("overloaded: reports refused", reports=self.shed_requests - logged)
                    logged, logged_at = self.shed_requests, self.now()

        task = asyncio.create_task(forever(), name="connections")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _check_all(self) -> None:
        now = self.now()
        for guard in [*self._guards.values(), *self._rejected]:
            try:
                guard.check_timeouts(now)
            except Exception:
                log.exception("connection check failed")
                guard.abort()

    async def drain(self) -> None:
        """Let running requests finish, and close connections once they have been idle for a moment."""
        self.draining = True
        end = self.now() + self.timeouts.drain
        while self._guards and self.now() < end:
            now = self.now()
            for guard in list(self._guards.values()):
                if guard.phase in (Phase.IDLE, Phase.NEW) and now - guard.since >= self.timeouts.drain_idle:
                    guard.close()
            await asyncio.sleep(0.02)
