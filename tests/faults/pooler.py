"""A connection pooler in transaction mode that gives each transaction another session.

It implements the necessary part of the protocol: https://www.postgresql.org/docs/current/protocol-message-formats.html.
A client gets a server connection with its first message and loses the connection with ReadyForQuery outside a transaction.
The least recently used connection is taken next, so that a client never finds session state that it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections import deque
from typing import Self

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102


class _Messages:
    """Reader of whole messages; cancelling a read loses no bytes."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self._read = b""

    async def next(self) -> tuple[bytes, bytes]:
        """Return the type and the bytes of the next message."""
        while (size := self._size()) is None:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self._read += data
        message, self._read = self._read[:size], self._read[size:]
        return message[:1], message

    def _size(self) -> int | None:
        if len(self._read) < 5:
            return None
        size = 1 + struct.unpack("!I", self._read[1:5])[0]
        return size if len(self._read) >= size else None


class _Session:
    """Connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.messages, self.writer = _Messages(reader), writer
        self.greeting = b""
        self.key = b""

    async def greet(self, startup: bytes) -> Self:
        """Log in and keep the server's greeting for clients."""
        self.writer.write(startup)
        while True:
            letter, message = await self.messages.next()
            if letter == b"E":
                raise ConnectionError(message.decode(errors="replace"))
            if letter == b"K":
                self.key = message[5:]
            elif letter == b"Z":
                return self
            else:
                self.greeting += message


class Pooler:
    """Pooler on ``port`` of loopback; ``transactions`` counts the transactions."""

    def __init__(self, host: str, port: int, size: int = 6) -> None:
        self._target = (host, port)
        self._capacity = asyncio.Semaphore(size)
        self._idle: dict[bytes, deque[_Session]] = {}
        self._linked: dict[bytes, _Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.transactions = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self._sessions:
            session.writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._client(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = await reader.readexactly(4)
            startup = length + await reader.readexactly(struct.unpack("!I", length)[0] - 4)
            code = struct.unpack("!I", startup[4:8])[0]
            if code not in (_SSL, _GSS):
                break
            writer.write(b"N")
        if code == _CANCEL:
            await self._cancel(startup[8:16])
            return
        key = secrets.token_bytes(8)
        async with self._capacity:
            session = await self._acquire(startup)
            self._release(startup, session)
        writer.write(session.greeting + b"K" + struct.pack("!I", 12) + key + b"Z\x00\x00\x00\x05I")
        messages = _Messages(reader)
        while True:
            letter, message = await messages.next()
            if letter == b"X":
                return
            async with self._capacity:
                session = await self._acquire(startup)
                self._linked[key] = session
                reusable = False
                try:
                    reusable = await self._transaction(session, messages, writer, letter, message)
                finally:
                    del self._linked[key]
                    if reusable:
                        self._release(startup, session)
                    else:
                        # the client left during the transaction: closing the connection rolls back
                        session.writer.transport.abort()
                        self._sessions.discard(session)
            self.transactions += 1
            if not reusable:
                return

    async def _transaction(
        self,
        session: _Session,
        client: _Messages,
        writer: asyncio.StreamWriter,
        letter: bytes,
        message: bytes,
    ) -> bool:
        """Forward messages until the transaction is over; return whether the session can be reused."""
        pending = 0
        from_client: asyncio.Task[tuple[bytes, bytes]] | None = None
        from_server = asyncio.create_task(session.messages.next())
        try:
            while True:
                if letter == b"X":
                    return False
                if letter:
                    pending += letter in (b"Q", b"S", b"F")
                    session.writer.write(message)
                    letter = b""
                from_client = from_client or asyncio.create_task(client.next())
                await asyncio.wait((from_client, from_server), return_when=asyncio.FIRST_COMPLETED)
                if from_server.done():
                    response_type, response = from_server.result()
                    writer.write(response)
                    if response_type == b"Z":
                        pending -= 1
                        if response[5:6] == b"I" and pending <= 0 and not from_client.done():
                            return True
                    from_server = asyncio.create_task(session.messages.next())
                elif from_client.done():
                    letter, message = from_client.result()
                    from_client = None
        finally:
            for task in (from_server, from_client):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def _acquire(self, startup: bytes) -> _Session:
        idle = self._idle.setdefault(startup, deque())
        while idle:
            session = idle.popleft()
            if not session.messages.reader.at_eof():
                return session
            self._sessions.discard(session)
        session = await _Session(*await asyncio.open_connection(*self._target)).greet(startup)
        self._sessions.add(session)
        return session

    def _release(self, startup: bytes, session: _Session) -> None:
        self._idle[startup].append(session)

    async def _cancel(self, key: bytes) -> None:
        """Forward a cancel request."""
        if (session := self._linked.get(key)) is not None:
            _, writer = await asyncio.open_connection(*self._target)
            writer.write(struct.pack("!II", 16, _CANCEL) + session.key)
            await writer.drain()
            writer.close()
