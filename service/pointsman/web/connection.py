"""Timeouts and size limits of one connection, which aiohttp does not have.

A guard sits between the socket and aiohttp's protocol and tracks the phase of the connection. Of HTTP it only knows where
the head of a request ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol, cast

from aiohttp import StreamReader

from pointsman.logs import logger
from pointsman.web import static_responses
from pointsman.web.client_address import Address, read_address
from pointsman.web.timeouts import HttpTimeouts

log = logger("connections")

SHED_BODY_BYTES = 256 * 1024
"""Larger reports are not refused without parsing: their bodies would have to be read to be skipped."""


class Phase(Enum):
    """Phases of a connection; each has its own timeout."""

    NEW = "no byte received"
    HEAD = "receiving a head"
    HEAD_RECEIVED = "head received, handler not started"
    HANDLING = "handler running"
    SHEDDING = "refused without reading, discarding the body"
    LINGERING = "answered before the body was complete"
    IDLE = "between requests"
    CLOSING = "closing"


class ConnectionOwner(Protocol):
    """What a connection needs of its manager."""

    timeouts: HttpTimeouts
    shed_requests: int

    @property
    def limits(self) -> Mapping[Phase, float]:
        """Return how long a connection may stay in each phase, in seconds."""
        ...

    @property
    def now(self) -> Callable[[], float]:
        """Return the clock."""
        ...

    @property
    def overloaded(self) -> Callable[[], bool]:
        """Return the check for overload."""
        ...

    @property
    def on_rejected(self) -> Callable[[str], None]:
        """Return the callback for a rejected connection or request."""
        ...

    @property
    def protocol_factory(self) -> Callable[[], asyncio.Protocol]:
        """Return the factory of aiohttp's protocol."""
        ...

    def admit(self, guard: ConnectionGuard) -> str:
        """Count a connection, or return the reason why it is rejected."""
        ...

    def remove(self, guard: ConnectionGuard) -> None:
        """Forget a closed connection."""
        ...

    def may_linger(self) -> bool:
        """Return whether a rejected client gets time to read the response."""
        ...


class ConnectionGuard(asyncio.Protocol):
    """Protocol of one connection that enforces timeouts and size limits around aiohttp's protocol."""

    __slots__ = (
        "_body_bytes_left",
        "_head_bytes",
        "_manager",
        "_pipelined_bytes",
        "_tail",
        "address",
        "blocked_since",
        "content",
        "display_address",
        "inner",
        "phase",
        "since",
        "transport",
    )

    def __init__(self, connections: ConnectionOwner) -> None:
        self._manager = connections
        self.transport: asyncio.Transport | None = None
        self.inner: asyncio.Protocol | None = None
        self.address: Address | None = None
        self.display_address = ""
        """The address for the log."""
        self.phase = Phase.NEW
        self.since = 0.0
        self.blocked_since: float | None = None
        self.content: StreamReader | None = None
        self._head_bytes = 0
        self._pipelined_bytes = 0
        self._body_bytes_left = 0
        self._tail = b""

    # -- called by the event loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit a new connection, or reject it with a 503."""
        # the type depends on the event loop and need not derive from asyncio's
        self.transport = cast("asyncio.Transport", transport)
        self.since = self._manager.now()
        self.address = read_address(transport.get_extra_info("peername"))
        self.display_address = str(self.address or "")
        reason = self._manager.admit(self)
        if reason:
            self._manager.on_rejected(reason)
            self.reject(503)
            return
        self.inner = self._manager.protocol_factory()
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._manager.remove(self)
        if self.inner is not None:
            self.inner.connection_lost(exc)
        self.inner = self.content = None

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to aiohttp, unless the head is too long or load is shed."""
        if self.phase is Phase.CLOSING or self.inner is None:
            return
        self._finish_lingering()
        if self.phase is Phase.SHEDDING:
            data = self._discard_body(data)
        if self.phase in (Phase.NEW, Phase.IDLE):
            data = data.lstrip(b"\r\n")  # allowed before a request; it does not restart the timeout
            if not data or self._shed(data):
                return
            self._head_bytes, self._tail = 0, b""
            self.phase, self.since = (
                Phase.HEAD,
                self.since if self.phase is Phase.NEW else self._manager.now(),
            )
        reason = self._excess_reason(data)
        if reason:
            self._manager.on_rejected(reason)
            self.reject(431)
            return
        try:
            self.inner.data_received(data)
        except Exception:
            log.exception("connection failed", phase=self.phase.value)
            self.abort()

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        return self.inner.eof_received() if self.inner is not None else None

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.blocked_since = self._manager.now()
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self.blocked_since = None
        if self.inner is not None:
            self.inner.resume_writing()

    # -- called around each request ----------------------------------------------------------------------------

    def request_started(self, content: StreamReader) -> None:
        """Note that a handler starts."""
        self.content, self._pipelined_bytes = content, 0
        self._enter(Phase.HANDLING)

    def request_finished(self) -> None:
        """Note that a handler is done. The response is written in the same step of the event loop."""
        if self.phase is Phase.CLOSING:
            return
        if self.content is not None and not self.content.is_eof():
            self._enter(Phase.LINGERING)
            return
        self._head_bytes, self._tail = self._pipelined_bytes, b""
        self._enter(Phase.HEAD if self._pipelined_bytes else Phase.IDLE)

    # -- called by the connection manager -----------------------------------------------------------------------------------

    def check_timeouts(self, now: float) -> None:
        """End the connection if it is too slow for its phase."""
        if self.blocked_since is not None and now - self.blocked_since > self._manager.timeouts.write:
            self._cut("reads too slowly")
            return
        self._finish_lingering()
        if self.phase is Phase.HANDLING and (self.content is None or self.content.is_eof()):
            return
        if now - self.since <= self._manager.limits[self.phase]:
            return
        if self.phase is Phase.IDLE:
            self.close()
        elif self.phase is Phase.CLOSING:
            self.abort()
        elif self.phase in (Phase.HEAD, Phase.HEAD_RECEIVED):
            self._manager.on_rejected("head too slow")
            self.reject(408)
        else:
            self._cut("no first byte" if self.phase is Phase.NEW else "body too slow")

    def close(self) -> None:
        """Close after what is buffered was written."""
        self._enter(Phase.CLOSING)
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, without writing what is buffered."""
        self._enter(Phase.CLOSING)
        if self.transport is not None:
            self.transport.abort()

    def reject(self, status: int) -> None:
        """Send a static error response, stop reading, and close the connection."""
        self._enter(Phase.CLOSING)
        assert self.transport is not None
        if not self._manager.may_linger():
            self.abort()
            return
        self.transport.write(static_responses.RESPONSES[status])
        if self.transport.can_write_eof() and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                # closing with unread bytes sends a reset, and the client would lose the response
                self.transport.write_eof()
                return
        self.transport.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, self._manager.now()

    def _cut(self, reason: str) -> None:
        self._manager.on_rejected(reason)
        self.abort()

    def _finish_lingering(self) -> None:
        """Go back to idle once the rest of an early-answered request's body was read."""
        if self.phase is Phase.LINGERING and (self.content is None or self.content.is_eof()):
            self._enter(Phase.IDLE)

    def _excess_reason(self, data: bytes) -> str:
        """Find the end of the head. Return a reason if the head or the pipelined requests are too long."""
        if self.phase is Phase.HEAD:
            joined = self._tail + data if self._tail else data
            end = joined.find(b"\r\n\r\n")
            if end >= 0:
                self._head_bytes += end + 4 - len(self._tail)
                self._enter(Phase.HEAD_RECEIVED)
            else:
                self._head_bytes += len(data)
                self._tail = joined[-3:]
            return "head too long" if self._head_bytes > self._manager.timeouts.head_bytes else ""
        if self.phase is Phase.HANDLING and self.content is not None and self.content.is_eof():
            self._pipelined_bytes += len(data)
            return "too much at once" if self._pipelined_bytes > self._manager.timeouts.head_bytes else ""
        return ""

    def _shed(self, data: bytes) -> bool:
        """Under overload, refuse a plain report without parsing it. Later requests on the connection are served."""
        assert self.transport is not None
        if self.blocked_since is not None or not self._manager.overloaded():
            return False
        lengths = static_responses.report_length(data)
        if lengths is None or lengths[1] > SHED_BODY_BYTES:
            return False
        self._manager.shed_requests += 1
        self._manager.on_rejected("overload")
        self.transport.write(static_responses.SHED_RESPONSE)
        self._body_bytes_left = sum(lengths)
        self._enter(Phase.SHEDDING)
        rest = self._discard_body(data)
        if rest:
            self.data_received(rest)
        return True

    def _discard_body(self, data: bytes) -> bytes:
        """Discard the body of a report that was refused. Return the bytes of the next request."""
        left = self._body_bytes_left
        self._body_bytes_left = max(0, left - len(data))
        if not self._body_bytes_left:
            self._enter(Phase.IDLE)
        return data[left:]
