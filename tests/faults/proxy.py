"""A network that fails: a TCP proxy with a weather for all its connections and accidents for single ones.

``to_server`` is the direction of requests, ``to_client`` that of answers. Accidents are taken by whichever connection
moves bytes in their direction first after they were ordered.
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
class Weather:
    """What happens to every byte. ``swallow``: it vanishes, and nobody is told."""

    latency_seconds: float = 0.0
    bytes_per_second: float = 0.0
    swallow: bool = False


@dataclass
class Cut:
    """A connection ends after so many more bytes in a direction: by a reset, or ``politely`` as if all had been said.
    It is one that has carried ``after_bytes`` before.
    """

    direction: Direction
    at_byte: int
    politely: bool = False
    after_bytes: int = 0


class _Pair:
    """A connection of a client and the one to the server that belongs to it."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.cut: Cut | None = None
        self.carried = 0
        self.dead = False

    def end(self, *, politely: bool = False) -> None:
        """Both sides lose the other."""
        for writer in self.writers:
            if not politely:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.close()


class Proxy:
    """Listens on ``port`` of loopback and leads to a server."""

    def __init__(self, host: str, port: int, dice: random.Random) -> None:
        self._target = (host, port)
        self._dice = dice
        self.port = 0
        self.weather = Weather()
        self.cuts: deque[Cut] = deque()
        self.accidents = 0
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
        """Reset every connection; how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.end()
        return len(pairs)

    def freeze_all(self) -> int:
        """The connections that are there now swallow everything from here on, though new ones work; how many."""
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
                behind, before = await asyncio.open_connection(*self._target)
                pair.writers.append(before)
                await asyncio.gather(
                    self._carry(pair, reader, before, "to_server"),
                    self._carry(pair, behind, writer, "to_client"),
                )
        finally:
            pair.end(politely=True)
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _carry(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if pair.dead or self.weather.swallow:
                    # this connection is lost for good, even if the weather gets better
                    pair.dead = True
                    continue
                if self.weather.latency_seconds:
                    await asyncio.sleep(self._dice.random() * self.weather.latency_seconds)
                if pair.cut is None:
                    pair.cut = self._order(pair, direction)
                cut = pair.cut
                if cut is not None and cut.direction == direction:
                    if len(data) > cut.at_byte:
                        await self._write(writer, data[: cut.at_byte])
                        self.accidents += 1
                        pair.end(politely=cut.politely)
                        return
                    cut.at_byte -= len(data)
                await self._write(writer, data)
                pair.carried += len(data)
        if pair.dead:
            # half open: the other side hears nothing of it
            return
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()

    def _order(self, pair: _Pair, direction: Direction) -> Cut | None:
        """The first accident that is ordered for such a connection."""
        for cut in self.cuts:
            if cut.direction == direction and pair.carried >= cut.after_bytes:
                self.cuts.remove(cut)
                return cut
        return None

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not self.weather.bytes_per_second:
            writer.write(data)
            await writer.drain()
            return
        for start in range(0, len(data), 10):
            if not self.weather.bytes_per_second:
                writer.write(data[start:])
                break
            writer.write(data[start : start + 10])
            await asyncio.sleep(10 / self.weather.bytes_per_second)
        await writer.drain()
