"""Raw sockets that send any bytes at any time, to test an HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

import msgspec


class Answer(msgspec.Struct):
    """Response: its status (0 without a response), all bytes, and the seconds until the connection was closed."""

    status: int
    raw: bytes
    seconds: float


class Wire:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.started_at = time.monotonic()

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
        """Read one response and leave the connection open."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def end(self, timeout_seconds: float = 10.0) -> Answer:
        """Wait until the server closes the connection and return the response."""
        raw = b""
        try:
            async with asyncio.timeout(timeout_seconds):
                with contextlib.suppress(ConnectionError):
                    while chunk := await self.reader.read(65536):
                        raw += chunk
        except TimeoutError:
            raise AssertionError(f"still open after {timeout_seconds:g} s; received: {raw[:200]!r}") from None
        status = int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.") else 0
        return Answer(status, raw, time.monotonic() - self.started_at)


async def exchange(url: str, *chunks: bytes, timeout_seconds: float = 10.0) -> Answer:
    """Send bytes, wait until the server closes the connection, and return the response."""
    async with Wire.to(url) as wire:
        for chunk in chunks:
            await wire.send(chunk)
        return await wire.end(timeout_seconds)


def request(target: str, body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    """Return a correct request; ``lines`` adds or replaces header lines."""
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
