"""A tracker's double, a process of its own and the same for everybody: answers creates as Forgejo does, keeps nothing.

Raw asyncio, so that it is never what is measured. It counts the creates and notes when each came, by the word
``bench`` and twelve hexadecimal digits in it. Prints its address, then serves until it is told to stop.
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
    """What was asked of the tracker since the last reset."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0
        self.last = 0
        self.times: dict[str, int] = {}


class Connection(asyncio.Protocol):
    """One kept connection."""

    calls = Calls()
    number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (head := self._got.find(b"\r\n\r\n")) >= 0:
            at = self._got[:head].lower().find(b"content-length: ")
            length = int(self._got[at + 16 : head].partition(b"\r\n")[0]) if at >= 0 else 0
            end = head + 4 + length
            if len(self._got) < end:
                return
            line = self._got[: self._got.index(b"\r\n")].decode()
            body, self._got = self._got[head + 4 : end], self._got[end:]
            method, path, _ = line.split(" ")
            status, answer = self._answer(method, path.partition("?")[0], body)
            text = json.dumps(answer).encode()
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(text), text)
            )

    def _answer(self, method: str, path: str, body: bytes) -> tuple[bytes, object]:
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
        if found := _KEY.search(body):
            calls.times.setdefault(found[1].decode(), now)
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
    # numbers go on from run to run, as a database kept between runs knows the earlier ones
    Connection.number = time.time_ns() // 1_000
    gc.disable()
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
