"""A TCP proxy that fails: conditions for all connections, and cuts of single ones.

``to_server`` is the direction of requests, ``to_client`` that of responses. A cut applies to the first suitable connection
that transfers bytes in its direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Literal, Self

Direction = Literal["to_server", "to_client"]


@dataclass
class Conditions:
    """Conditions for every byte; ``drop`` discards bytes without closing the connection."""

    latency_seconds: float = 0.0
    bytes_per_second: float = 0.0
    drop: bool = False


@dataclass
class Cut:
    """End of a connection after ``at_byte`` more bytes in a direction: by a reset, or with ``graceful`` by a normal close.

    Applies to a connection that has transferred at least ``after_bytes`` before.
    """

    direction: Direction
    at_byte: int
    graceful: bool = False
    after_bytes: int = 0


class _Pair:
    """Connection of a client and the corresponding connection to the server."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.cut: Cut | None = None
        self.transferred = 0
        self.dead = False

    def end(self, *, graceful: bool = False) -> None:
        """Close both connections."""
        for writer in self.writers:
            if not graceful:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.close()


class Proxy:
    """Proxy on ``port`` of loopback to a server."""

    def __init__(self, host: str, port: int, dice: random.Random) -> None:
        self._target = (host, port)
        self._dice = dice
        self.port = 0
        self.conditions = Conditions()
        self.cuts: deque[Cut] = deque()
        self.applied_cuts = 0
        self.connections = 0
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_all(self) -> int:
        """Reset every connection and return their number."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.end()
        return len(pairs)

    def freeze_all(self) -> int:
        """Discard all further bytes of the present connections and return their number; new connections work."""
        for pair in self._pairs:
            pair.dead = True
        return len(self._pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = _Pair()
        pair.writers.append(writer)
        self._pairs.add(pair)
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                server_reader, server_writer = await asyncio.open_connection(*self._target)
                pair.writers.append(server_writer)
                await asyncio.gather(
                    self._forward(pair, reader, server_writer, "to_server"),
                    self._forward(pair, server_reader, writer, "to_client"),
                )
        finally:
            pair.end(graceful=True)
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _forward(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if pair.dead or self.conditions.drop:
                    # the connection stays dead when the conditions improve
                    pair.dead = True
                    continue
                if self.conditions.latency_seconds:
                    await asyncio.sleep(self._dice.random() * self.conditions.latency_seconds)
                if pair.cut is None:
                    pair.cut = self._next_cut(pair, direction)
                cut = pair.cut
                if cut is not None and cut.direction == direction:
                    if len(data) > cut.at_byte:
                        await self._write(writer, data[: cut.at_byte])
                        self.applied_cuts += 1
                        pair.end(graceful=cut.graceful)
                        return
                    cut.at_byte -= len(data)
                await self._write(writer, data)
                pair.transferred += len(data)
        if pair.dead:
            # half open: the other side does not notice
            return
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()

    def _next_cut(self, pair: _Pair, direction: Direction) -> Cut | None:
        """Take the first cut that applies to the connection."""
        for cut in self.cuts:
            if cut.direction == direction and pair.transferred >= cut.after_bytes:
                self.cuts.remove(cut)
                return cut
        return None

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not self.conditions.bytes_per_second:
            writer.write(data)
            await writer.drain()
            return
        for start in range(0, len(data), 10):
            if not self.conditions.bytes_per_second:
                writer.write(data[start:])
                break
            writer.write(data[start : start + 10])
            await asyncio.sleep(10 / self.conditions.bytes_per_second)
        await writer.drain()
