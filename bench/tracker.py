"""Test double of a tracker, a separate process that is the same for all contestants: responds as Forgejo, stores nothing.

It uses asyncio protocols, so that it is never the bottleneck. It counts the created issues and records when each arrived, by
the word ``bench`` and twelve hexadecimal digits in it. Prints its address and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time

_KEY = re.compile(rb"bench([0-9a-f]{12})")
_ACCOUNT = {"id": 7, "login": "pointsman", "username": "pointsman"}


class Calls:
    """Calls since the last reset."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0
        self.last = 0
        self.times: dict[str, int] = {}


class Connection(asyncio.Protocol):
    """One persistent connection."""

    calls = Calls()
    number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            at = self._received[:head].lower().find(b"content-length: ")
            length = int(self._received[at + 16 : head].partition(b"\r\n")[0]) if at >= 0 else 0
            end = head + 4 + length
            if len(self._received) < end:
                return
            line = self._received[: self._received.index(b"\r\n")].decode()
            body, self._received = self._received[head + 4 : end], self._received[end:]
            method, path, _ = line.split(" ")
            status, response = self._respond(method, path.partition("?")[0], body)
            text = json.dumps(response).encode()
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(text), text)
            )

    def _respond(self, method: str, path: str, body: bytes) -> tuple[bytes, object]:
        if method == "POST" and path.endswith("/issues"):
            return b"201 Created", self._created(body)
        match path:
            case "/bench/reset":
                Connection.calls = Calls()
                return b"200 OK", {}
            case "/bench/calls":
                calls = Connection.calls
                return b"200 OK", {"count": calls.count, "first": calls.first, "last": calls.last}
            case "/bench/times":
                return b"200 OK", Connection.calls.times
            case "/api/v1/user":
                return b"200 OK", _ACCOUNT
        return b"200 OK", []

    def _created(self, body: bytes) -> object:
        now = time.monotonic_ns()
        calls = Connection.calls
        calls.count += 1
        calls.first = calls.first or now
        calls.last = now
        if match := _KEY.search(body):
            calls.times.setdefault(match[1].decode(), now)
        Connection.number += 1
        number = Connection.number
        sent = json.loads(body)
        return {
            "id": 1000 + number,
            "number": number,
            "title": sent["title"],
            "body": sent["body"],
            "state": "open",
            "user": _ACCOUNT,
            "labels": [],
            "assignees": None,
            "html_url": f"http://tracker.example.com/acme/shop/issues/{number}",
            "created_at": "2026-11-21T21:35:04Z",
            "updated_at": "2026-11-21T21:35:04Z",
        }


async def main() -> None:
    """Listen on a free port."""
    # numbers continue from run to run, since a database kept between runs knows the earlier ones
    Connection.number = time.time_ns() // 1_000
    gc.disable()
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
