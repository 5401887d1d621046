"""Clients that know nothing of HTTP: sockets that send what they like, when they like."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

import msgspec


class Answer(msgspec.Struct):
    """What came back: a status (0: nothing), everything in bytes, and after how many seconds the line was closed."""

    status: int
    raw: bytes
    seconds: float


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.began = time.monotonic()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole answer, the connection left open."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def end(self, timeout_seconds: float = 10.0) -> Answer:
        """Wait until the other side closes."""
        raw = b""
        try:
            async with asyncio.timeout(timeout_seconds):
                with contextlib.suppress(ConnectionError):
                    while piece := await self.reader.read(65536):
                        raw += piece
        except TimeoutError:
            raise AssertionError(f"still open after {timeout_seconds:g} s; came: {raw[:200]!r}") from None
        status = int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.") else 0
        return Answer(status, raw, time.monotonic() - self.began)


async def exchange(url: str, *pieces: bytes, timeout_seconds: float = 10.0) -> Answer:
    """Send some bytes and wait for the end."""
    async with Wire.to(url) as wire:
        for piece in pieces:
            await wire.send(piece)
        return await wire.end(timeout_seconds)


def request(target: str, body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    """A request as it should be; more header lines may spoil it."""
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: pointsman",
        "Content-Type: application/json",
        *(
            []
            if any("content-length" in line.lower() for line in lines)
            else [f"Content-Length: {len(body)}"]
        ),
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
