"""One connection, watched: the HTTP server itself waits for a slow client as long as it likes.

A visitor stands between the socket and aiohttp's own protocol. It knows in which phase the connection is, and since
when. What it has to know of HTTP is where a head ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import TYPE_CHECKING, cast

from aiohttp import StreamReader

from pointsman.logs import logger
from pointsman.web import static_responses
from pointsman.web.body import INTAKE_LIMIT
from pointsman.web.client_address import Address, read_address

if TYPE_CHECKING:
    from pointsman.web.connection_manager import Connections

log = logger("connections")


class Phase(Enum):
    """Where a connection stands."""

    NEW = "no byte yet"
    HEAD = "part of a head"
    HEARD = "a whole head, not yet at its handler"
    WORK = "a handler is at it"
    SHED = "refused unread, its body is on the way"
    LINGER = "answered before its body was there"
    IDLE = "between requests"
    CLOSING = "said goodbye"


class Visitor(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_all",
        "_early",
        "_owed",
        "_seen",
        "_tail",
        "address",
        "blocked_since",
        "content",
        "inner",
        "phase",
        "shown",
        "since",
        "transport",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self.transport: asyncio.Transport | None = None
        self.inner: asyncio.Protocol | None = None
        self.address: Address | None = None
        self.shown = ""
        """The address as the log shows it."""
        self.phase = Phase.NEW
        self.since = 0.0
        self.blocked_since: float | None = None
        self.content: StreamReader | None = None
        self._seen = 0
        self._early = 0
        self._owed = 0
        self._tail = b""

    # -- called by the event loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there; it is let in, or told to come again."""
        # any loop brings its own kind, which need not be one of asyncio's
        self.transport = cast("asyncio.Transport", transport)
        self.since = self._all.now()
        self.address = read_address(transport.get_extra_info("peername"))
        self.shown = str(self.address or "")
        why = self._all.let_in(self)
        if why:
            self._all.turned_away(why)
            self.refuse(503)
            return
        self.inner = self._all.make()
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._all.forget(self)
        if self.inner is not None:
            self.inner.connection_lost(exc)
        self.inner = self.content = None

    def data_received(self, data: bytes) -> None:
        """Bytes came: to aiohttp with them, unless the head is too long or we shed load."""
        if self.phase is Phase.CLOSING or self.inner is None:
            return
        self._settle()
        if self.phase is Phase.SHED:
            data = self._swallow(data)
        if self.phase in (Phase.NEW, Phase.IDLE):
            data = data.lstrip(b"\r\n")  # allowed before a request; the time goes on
            if not data or self._shed(data):
                return
            self._seen, self._tail = 0, b""
            self.phase, self.since = Phase.HEAD, self.since if self.phase is Phase.NEW else self._all.now()
        why = self._too_much(data)
        if why:
            self._all.turned_away(why)
            self.refuse(431)
            return
        try:
            self.inner.data_received(data)
        except Exception:
            log.exception("a connection failed", phase=self.phase.value)
            self.abort()

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self.inner.eof_received() if self.inner is not None else None

    def pause_writing(self) -> None:
        """The client does not read."""
        self.blocked_since = self._all.now()
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.blocked_since = None
        if self.inner is not None:
            self.inner.resume_writing()

    # -- called around each request ----------------------------------------------------------------------------

    def began(self, content: StreamReader) -> None:
        """A handler begins."""
        self.content, self._early = content, 0
        self._to(Phase.WORK)

    def ended(self) -> None:
        """A handler is done; its answer is written in the same step."""
        if self.phase is Phase.CLOSING:
            return
        if self.content is not None and not self.content.is_eof():
            self._to(Phase.LINGER)
            return
        self._seen, self._tail = self._early, b""
        self._to(Phase.HEAD if self._early else Phase.IDLE)

    # -- called by the sweep -----------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """End the connection if it has been too slow."""
        patience = self._all.patience
        if self.blocked_since is not None and now - self.blocked_since > patience.write:
            self._end("reads too slowly")
            return
        self._settle()
        if self.phase is Phase.WORK and (self.content is None or self.content.is_eof()):
            return
        if now - self.since <= self._all.limits[self.phase]:
            return
        if self.phase is Phase.IDLE:
            self.close()
        elif self.phase is Phase.CLOSING:
            self.abort()
        elif self.phase in (Phase.HEAD, Phase.HEARD):
            self._all.turned_away("head too slow")
            self.refuse(408)
        else:
            self._end("no first byte" if self.phase is Phase.NEW else "body too slow")

    def close(self) -> None:
        """Close in peace."""
        self._to(Phase.CLOSING)
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        self._to(Phase.CLOSING)
        if self.transport is not None:
            self.transport.abort()

    def refuse(self, status: int) -> None:
        """Say why in one breath, take no more, and be gone within a moment."""
        self._to(Phase.CLOSING)
        assert self.transport is not None
        if not self._all.may_linger():
            self.abort()
            return
        self.transport.write(static_responses.ANSWERS[status])
        if self.transport.can_write_eof() and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                # a close now, with bytes of the client unread, would take the answer back
                self.transport.write_eof()
                return
        self.transport.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _to(self, phase: Phase) -> None:
        self.phase, self.since = phase, self._all.now()

    def _end(self, why: str) -> None:
        self._all.turned_away(why)
        self.abort()

    def _settle(self) -> None:
        """After an early answer: once the rest of the body was read, the connection is free again."""
        if self.phase is Phase.LINGER and (self.content is None or self.content.is_eof()):
            self._to(Phase.IDLE)

    def _too_much(self, data: bytes) -> str:
        """Look for the head's end; say so when a head, or what comes after a request, grows too long."""
        if self.phase is Phase.HEAD:
            joined = self._tail + data if self._tail else data
            end = joined.find(b"\r\n\r\n")
            if end >= 0:
                self._seen += end + 4 - len(self._tail)
                self._to(Phase.HEARD)
            else:
                self._seen += len(data)
                self._tail = joined[-3:]
            return "head too long" if self._seen > self._all.patience.head_bytes else ""
        if self.phase is Phase.WORK and self.content is not None and self.content.is_eof():
            self._early += len(data)
            return "too much at once" if self._early > self._all.patience.head_bytes else ""
        return ""

    def _shed(self, data: bytes) -> bool:
        """Under overload, answer a report before anything is made of it; what follows its body is taken in turn."""
        assert self.transport is not None
        if self.blocked_since is not None or not self._all.overloaded():
            return False
        found = static_responses.report_length(data)
        if found is None or found[1] > INTAKE_LIMIT:
            return False
        self._all.shed += 1
        self._all.turned_away("overload")
        self.transport.write(static_responses.SHED)
        self._owed = sum(found)
        self._to(Phase.SHED)
        rest = self._swallow(data)
        if rest:
            self.data_received(rest)
        return True

    def _swallow(self, data: bytes) -> bytes:
        """Take the body of a report that was refused unread; what comes after it is the next request."""
        owed = self._owed
        self._owed = max(0, owed - len(data))
        if not self._owed:
            self._to(Phase.IDLE)
        return data[owed:]
