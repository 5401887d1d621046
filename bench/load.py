"""Load generator, a separate process that is the same for all contestants: alerts over persistent connections, closed loop.

It uses asyncio protocols and patches bodies instead of rendering them, so that it costs a fraction of the measured service;
its own processor time is part of the result. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

BODY_BYTES = 764
CUT_SECONDS = 30.0

_ID = "f90db5dc-6985-4629-971f-{:012x}"
_SLOT = "@@@@@@@@-@@@@-@@@@-@@@@-@@@@@@@@@@@@"
_SEEN = "2026-11-21T21:{:02d}:{:02d}.{:06d}Z"
_SEEN_SLOT = "####-##-##T##:##:##.######Z"


def _body(reason: str) -> bytes:
    """Return a Bugsink alert with slots for the issue id and the time, padded to the size of a real one."""
    alert = {
        "id": _SLOT,
        "friendly_id": "SHOP-1",
        "project": 1,
        "digest_order": 1,
        "last_seen": _SEEN_SLOT,
        "first_seen": "2026-11-21T21:35:04.457289Z",
        "digested_event_count": 1,
        "stored_event_count": 1,
        "calculated_type": "ZeroDivisionError",
        "calculated_value": "division by zero",
        "transaction": "/basket/average",
        "is_resolved": False,
        "is_resolved_unconditionally": False,
        "is_resolved_by_next_release": False,
        "fixed_at": [],
        "events_at": ["shop@2.3.0"],
        "is_muted": False,
        "unmute_after": None,
        "unmute_on_volume_based_conditions": [],
        "title": f"bench{_SLOT[24:]}",
        "project_name": "",
        "url": f"https://bugsink.example.com/issues/issue/{_SLOT}/event/last/",
        "alert_reason": reason,
    }
    alert["project_name"] = "S" * (BODY_BYTES - len(json.dumps(alert, separators=(",", ":"))))
    return json.dumps(alert, separators=(",", ":")).encode()


class Alerts:
    """Generator of requests with different bodies; ``hot_percent`` of them are about the same issue."""

    def __init__(self, url: str, hot_percent: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host, self.port = parts.hostname, parts.port
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        ).encode()
        self._new = self._pieces(head, "NEW")
        self._regressed = self._pieces(head, "REGRESSED")
        self._hot = hot_percent
        self._from = random.getrandbits(40) << 4
        self.number = 0

    @staticmethod
    def _pieces(head: bytes, reason: str) -> tuple[bytes, ...]:
        whole = head + _body(reason)
        parts = []
        for slot in (_SLOT, _SEEN_SLOT, _SLOT[24:], _SLOT):
            before, _, whole = whole.partition(slot.encode())
            parts.append(before)
        return (*parts, whole)

    def next(self) -> bytes:
        """Return the next request: about a new issue, or a later event of the hot issue."""
        self.number += 1
        number = self.number
        hot = number % 100 < self._hot
        a, b, c, d, e = self._regressed if hot else self._new
        issue = _ID.format(self._from if hot else self._from + number).encode()
        seen = _SEEN.format(number // 60_000_000 % 60, number // 1_000_000 % 60, number % 1_000_000).encode()
        return b"".join((a, issue, b, seen, c, issue[24:], d, issue, e))


class Sender(asyncio.Protocol):
    """One connection: sends a request, reads the response, and sends the next."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._received = b""
        self._sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def _send(self) -> None:
        assert self.transport is not None
        request = self._run.alerts.next()
        self._sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0:
            return
        at = received.find(b"Content-Length: ")
        length = int(received[at + 16 : received.index(b"\r\n", at)])
        if len(received) < head + 4 + length:
            return
        self._received = b""
        self._run.answered(self._sent, good=received[9:12] == b"202")
        if not self._run.over:
            self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._run.over:
            self._run.cut += 1


class Run:
    """Figures between warm-up and end."""

    def __init__(self, alerts: Alerts) -> None:
        self.alerts = alerts
        self.counting = False
        self.over = False
        self.cut = 0
        self.refused = 0
        self.seconds: list[float] = []

    def answered(self, sent: float, *, good: bool) -> None:
        """Record a response."""
        if not self.counting or self.over:
            return
        if good:
            self.seconds.append(time.perf_counter() - sent)
        else:
            self.refused += 1


def percentile(values: list[float], percent: float) -> float:
    """Return the percentile of the values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0.0


async def closed_loop(alerts: Alerts, connections: int, warm_up: float, seconds: float) -> dict[str, float]:
    """Send over every connection the next alert as soon as the last one is answered."""
    loop = asyncio.get_running_loop()
    run = Run(alerts)
    senders = [
        (await loop.create_connection(lambda: Sender(run), alerts.host, alerts.port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(warm_up)
    run.counting, started_at, used = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    run.over, took, used = True, time.perf_counter() - started_at, time.process_time() - used
    for sender in senders:
        if sender.transport is not None:
            sender.transport.abort()
    return {
        "per_second": len(run.seconds) / took,
        "p50_ms": percentile(run.seconds, 50) * 1000,
        "p99_ms": percentile(run.seconds, 99) * 1000,
        "refused": run.refused,
        "cut": run.cut,
        "generator_core_percent": used / took * 100,
    }


async def exactly(alerts: Alerts, connections: int, count: int) -> dict[str, float]:
    """Send exactly ``count`` alerts and return how many were accepted."""
    left = count

    def remaining() -> Iterator[bytes]:
        nonlocal left
        while left > 0:
            left -= 1
            yield alerts.next()

    requests = remaining()

    async def sender() -> int:
        reader, writer = await asyncio.open_connection(alerts.host, alerts.port)
        accepted = 0
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.index(b"Content-Length: ")
            await reader.readexactly(int(head[at + 16 : head.index(b"\r\n", at)]))
            accepted += head[9:12] == b"202"
        writer.close()
        return accepted

    accepted = sum(await asyncio.gather(*(sender() for _ in range(connections))))
    return {"accepted": accepted}


async def paced(alerts: Alerts, count: int, pause: float) -> dict[str, object]:
    """Send alerts one after the other with random pauses and return when each was sent and answered.

    Times are nanoseconds of the monotonic clock, by the number in the alert's title.
    """
    reader, writer = await asyncio.open_connection(alerts.host, alerts.port)
    times = {}
    for _ in range(count):
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
        request = alerts.next()
        at = request.index(b'"bench') + 6
        started_at = time.monotonic_ns()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        at_length = head.index(b"Content-Length: ")
        await reader.readexactly(int(head[at_length + 16 : head.index(b"\r\n", at_length)]))
        times[request[at : at + 12].decode()] = (started_at, time.monotonic_ns())
    writer.close()
    return {"times": times}


def main() -> None:
    """Read the options, send the alerts and print the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--warm-up", type=float, default=1.0)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--hot-percent", type=int, default=0)
    options.add_argument("--count", type=int, help="send exactly so many")
    options.add_argument("--pause", type=float, help="with --count: one after the other, with pauses")
    arguments = options.parse_args()
    alerts = Alerts(arguments.url, arguments.hot_percent)
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def run() -> dict[str, object]:
        async with asyncio.timeout(
            CUT_SECONDS + arguments.seconds + arguments.warm_up + (arguments.count or 0)
        ):
            if arguments.count and arguments.pause:
                return await paced(alerts, arguments.count, arguments.pause)
            if arguments.count:
                return {**await exactly(alerts, arguments.connections, arguments.count)}
            return {**await closed_loop(alerts, arguments.connections, arguments.warm_up, arguments.seconds)}

    print(json.dumps(asyncio.run(run())), flush=True)


if __name__ == "__main__":
    main()
