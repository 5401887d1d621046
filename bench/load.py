"""The load generator, a process of its own and the same for everybody: alerts over kept connections, closed loop.

Raw asyncio, bodies patched and not rendered, so that it costs a fraction of what it measures; its own share of a core
is in the result. Prints one JSON line.
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
    """A Bugsink alert with slots for its issue's id and its time, padded to the size of a real one."""
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
    """Requests, each with a body of its own; a share of them speaks of one and the same issue."""

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
        self._again = self._pieces(head, "REGRESSED")
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
        """The next request: of a new issue, or of the hot one seen again later."""
        self.number += 1
        number = self.number
        hot = number % 100 < self._hot
        a, b, c, d, e = self._again if hot else self._new
        issue = _ID.format(self._from if hot else self._from + number).encode()
        seen = _SEEN.format(number // 60_000_000 % 60, number // 1_000_000 % 60, number % 1_000_000).encode()
        return b"".join((a, issue, b, seen, c, issue[24:], d, issue, e))


class Sender(asyncio.Protocol):
    """One connection: sends, reads the answer, sends again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._got = b""
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
        got = self._got = self._got + data if self._got else data
        head = got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = got.find(b"Content-Length: ")
        length = int(got[at + 16 : got.index(b"\r\n", at)])
        if len(got) < head + 4 + length:
            return
        self._got = b""
        self._run.answered(self._sent, good=got[9:12] == b"202")
        if not self._run.over:
            self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._run.over:
            self._run.cut += 1


class Run:
    """What was seen between warm-up and end."""

    def __init__(self, alerts: Alerts) -> None:
        self.alerts = alerts
        self.begun = False
        self.over = False
        self.cut = 0
        self.refused = 0
        self.seconds: list[float] = []

    def answered(self, sent: float, *, good: bool) -> None:
        """One answer."""
        if not self.begun or self.over:
            return
        if good:
            self.seconds.append(time.perf_counter() - sent)
        else:
            self.refused += 1


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0.0


async def closed_loop(alerts: Alerts, connections: int, warm_up: float, seconds: float) -> dict[str, float]:
    """Every connection sends its next alert as soon as the last one is answered."""
    loop = asyncio.get_running_loop()
    run = Run(alerts)
    senders = [
        (await loop.create_connection(lambda: Sender(run), alerts.host, alerts.port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(warm_up)
    run.begun, began, used = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    run.over, took, used = True, time.perf_counter() - began, time.process_time() - used
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
    """So many alerts, and no more; each has to be taken."""
    left = count

    def one_more() -> Iterator[bytes]:
        nonlocal left
        while left > 0:
            left -= 1
            yield alerts.next()

    requests = one_more()

    async def sender() -> int:
        reader, writer = await asyncio.open_connection(alerts.host, alerts.port)
        taken = 0
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.index(b"Content-Length: ")
            await reader.readexactly(int(head[at + 16 : head.index(b"\r\n", at)]))
            taken += head[9:12] == b"202"
        writer.close()
        return taken

    taken = sum(await asyncio.gather(*(sender() for _ in range(connections))))
    return {"taken": taken}


async def paced(alerts: Alerts, count: int, pause: float) -> dict[str, object]:
    """One alert after the other with pauses of random length; when each began and when it was answered.

    Times are of the machine's monotonic clock, in nanoseconds, by the number in the alert's title.
    """
    reader, writer = await asyncio.open_connection(alerts.host, alerts.port)
    times = {}
    for _ in range(count):
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
        request = alerts.next()
        at = request.index(b'"bench') + 6
        began = time.monotonic_ns()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        at_length = head.index(b"Content-Length: ")
        await reader.readexactly(int(head[at_length + 16 : head.index(b"\r\n", at_length)]))
        times[request[at : at + 12].decode()] = (began, time.monotonic_ns())
    writer.close()
    return {"times": times}


def main() -> None:
    """Read the options, send, print what was seen."""
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--warm-up", type=float, default=1.0)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--hot-percent", type=int, default=0)
    options.add_argument("--count", type=int, help="send so many and no more")
    options.add_argument("--pause", type=float, help="with --count: one after the other, with pauses")
    given = options.parse_args()
    alerts = Alerts(given.url, given.hot_percent)
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def run() -> dict[str, object]:
        async with asyncio.timeout(CUT_SECONDS + given.seconds + given.warm_up + (given.count or 0)):
            if given.count and given.pause:
                return await paced(alerts, given.count, given.pause)
            if given.count:
                return {**await exactly(alerts, given.connections, given.count)}
            return {**await closed_loop(alerts, given.connections, given.warm_up, given.seconds)}

    print(json.dumps(asyncio.run(run())), flush=True)


if __name__ == "__main__":
    main()
