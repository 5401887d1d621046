"""Measure a replica under three times its maximum load: `python bench/overload.py`.

First the peak is measured, with callers that wait for their responses. Then reports arrive at three times that rate, whether
or not earlier ones are answered, over as many connections as necessary. The output shows how many were accepted, how and how
fast the others were answered, the responses of health, metrics and webhooks, and the memory of the process.

The callers run on the last core alone, so that delays are caused by the service.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from pointsman import logs
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor

TOKEN = "token-of-the-overload"
CONFIG = f'[[source]]\nslug = "shop"\nkind = "bugsink"\ntoken = "{TOKEN}"\n'
BODY = (
    b'{"id": "6f0d2a51-3c5e-4a0e-9c55-%012d", "friendly_id": "SHOP-1", "project": 1, "project_name": "Shop",'
    b' "title": "KeyError: \'basket\'", "calculated_type": "KeyError", "calculated_value": "x", "transaction": "/",'
    b' "last_seen": "2026-11-20T10:00:00Z", "alert_reason": "NEW", "url": "https://bugsink.example.com/issues/1",'
    b' "more": "%b"}'
)
HEAD = b"POST /intake/shop/%b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Caller(asyncio.Protocol):
    """Connection with at most one open request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.sent = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.load.free(self)

    def post(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)content-length: *(\d+)", self.buffer[:end])
            whole = end + 4 + int(length[1] if length else 0)
            if len(self.buffer) < whole:
                return
            self.load.answered(int(self.buffer[9:12]), time.perf_counter() - self.sent)
            self.buffer = self.buffer[whole:]
            self.sent = 0.0
            self.load.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.load.gone(self, cut=bool(self.sent))


class Load:
    """Callers and the statuses of their responses."""

    def __init__(self, url: str, most: int, filler: bytes) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.most = most
        self.filler = filler
        self.number = int(time.time()) % 1_000_000 * 1_000_000
        self.idle: deque[Caller] = deque()
        self.open = 0
        self.closed_loop = False
        self.statuses: Counter[int] = Counter()
        self.total: Counter[int] = Counter()
        self.seconds: dict[int, list[float]] = {}
        self.unsent = self.cut = 0

    def request(self) -> bytes:
        self.number += 1
        body = BODY % (self.number, self.filler)
        return HEAD % (TOKEN.encode(), len(body)) + body

    def free(self, caller: Caller) -> None:
        if self.closed_loop:
            caller.post()
        else:
            self.idle.append(caller)

    def answered(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.total[status] += 1
        self.seconds.setdefault(status, []).append(seconds)

    def gone(self, caller: Caller, *, cut: bool) -> None:
        self.open -= 1
        self.cut += cut
        with contextlib.suppress(ValueError):
            self.idle.remove(caller)

    async def connect(self) -> None:
        self.open += 1
        try:
            await asyncio.get_running_loop().create_connection(lambda: Caller(self), *self.address)
        except OSError:
            self.open -= 1

    def forget(self) -> None:
        self.statuses.clear()
        self.seconds.clear()
        self.unsent = self.cut = 0

    async def peak(self, callers: int, seconds: float) -> float:
        """Return the accepted reports per second with ``callers`` that wait for their responses."""
        self.closed_loop = True
        await asyncio.gather(*(self.connect() for _ in range(callers)))
        await asyncio.sleep(1.0)
        self.forget()
        await asyncio.sleep(seconds)
        accepted = self.statuses[202] / seconds
        self.closed_loop = False
        await asyncio.sleep(1.0)
        return accepted

    async def flood(self, rate: float, seconds: float) -> None:
        """Send ``rate`` reports per second, answered or not."""
        self.forget()
        opening: set[asyncio.Task[None]] = set()
        started_at, sent = time.perf_counter(), 0
        while (now := time.perf_counter() - started_at) < seconds:
            while sent < now * rate:
                sent += 1
                if self.idle:
                    self.idle.popleft().post()
                else:
                    self.unsent += 1
                    if self.open < self.most and len(opening) < 50:
                        opening.add(task := asyncio.create_task(self.connect()))
                        task.add_done_callback(opening.discard)
            await asyncio.sleep(0.001)


async def watch(url: str, seen: dict[str, list[float]], bad: Counter[str]) -> None:
    """Call the endpoints that must respond under any load."""
    async with aiohttp.ClientSession(url) as session:
        while True:
            for method, path, good in (
                ("GET", "/health/live", 200),
                ("GET", "/health/ready", 200),
                ("GET", "/metrics", 200),
                ("POST", "/webhooks/forgejo/nothing", 401),
            ):
                started_at = time.perf_counter()
                async with session.request(method, path) as response:
                    bad[f"{path} {response.status}"] += response.status != good
                seen.setdefault(path, []).append(time.perf_counter() - started_at)
            await asyncio.sleep(0.1)


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    match = re.search(r"VmRSS:\s+(\d+)", status)
    return int(match[1]) / 1024 if match else 0.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of the process, a fairer measure than wall time on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(name: str, values: list[float]) -> str:
    if not values:
        return f"{name}: none"
    values = sorted(values)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"{name}: p50 {statistics.median(values) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {values[-1] * 1000:.0f} ms"


def stay_on(cores: list[int]) -> None:
    """Bind this thread and its children to cores."""
    os.sched_setaffinity(0, cores)


async def main() -> None:
    *ours, last = sorted(os.sched_getaffinity(0))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--callers", type=int, default=64)
    arguments.add_argument("--times", type=float, default=3.0, help="load, as a multiple of the peak")
    arguments.add_argument("--connections", type=int, default=1500, help="of the flood, at most")
    options = arguments.parse_args()
    logs.configure("json", level="error")
    stay_on(ours or [last])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "pointsman.toml").write_text(CONFIG, "utf-8")
        async with supervisor.serve(data / "pg") as server:
            async with Database.open(server.dsn, size=2) as database:
                await migrate.migrate(database)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pointsman", "serve",
                env={
                    **os.environ,
                    "POINTSMAN_DATABASE_URL": server.dsn,
                    "POINTSMAN_CONFIG": str(data / "pointsman.toml"),
                    "POINTSMAN_LISTEN": "127.0.0.1:18099",
                    "POINTSMAN_DATA_DIR": folder,
                    "POINTSMAN_LOG": "json",
                },
                stderr=(data / "log").open("wb"),
            )  # fmt: skip
            stay_on([last])
            try:
                await run("http://127.0.0.1:18099", child.pid, options)
            finally:
                if child.returncode is None:
                    child.terminate()
                if await child.wait():
                    print((data / "log").read_text("utf-8")[-2000:], file=sys.stderr)


async def run(url: str, pid: int, options: argparse.Namespace) -> None:
    async with aiohttp.ClientSession(url) as session:
        for _ in range(200):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/health/ready") as response:
                    if response.status == 200:
                        break
            await asyncio.sleep(0.1)
    load = Load(url, options.connections, b"x" * 1600)
    before, used = rss_mib(pid), cpu_seconds(pid)
    peak = await load.peak(options.callers, options.seconds)
    print(
        f"peak, {options.callers} callers: {peak:.0f}/s; memory {before:.0f} -> {rss_mib(pid):.0f} MiB;"
        f" {load.total[202] / (cpu_seconds(pid) - used):.0f} for each second of CPU",
        flush=True,
    )
    seen: dict[str, list[float]] = {}
    bad: Counter[str] = Counter()
    watching = asyncio.create_task(watch(url, seen, bad))
    await load.flood(peak * options.times, 2.0)
    middle = rss_mib(pid)
    used = cpu_seconds(pid)
    await load.flood(peak * options.times, options.seconds)
    used = cpu_seconds(pid) - used
    after = rss_mib(pid)
    watching.cancel()
    posted = sum(load.statuses.values())
    print(f"offered {peak * options.times:.0f}/s; sent and answered {posted / options.seconds:.0f}/s; no connection free for"
          f" {load.unsent / options.seconds:.0f}/s; {load.open} connections, {load.cut} cut")  # fmt: skip
    print(
        f"accepted {load.statuses[202] / options.seconds:.0f}/s = {load.statuses[202] / options.seconds / peak:.0%} of the peak; {load.statuses[202] / used:.0f}"
        f" for each second of CPU; statuses {dict(load.statuses)}"
    )
    for status in sorted(load.seconds):
        print("  " + summary(str(status), load.seconds[status]))
    for path, values in seen.items():
        print("  " + summary(path, values))
    async with aiohttp.ClientSession(url) as session, session.get("/metrics") as response:
        page = await response.text()
    rejected = dict(
        re.findall(r'pointsman_http_rejected_connections_total\{reason="([^"]+)"\} ([0-9.]+)', page)
    )
    print(f"  connections rejected since the start: {rejected}")
    print(f"  unexpected responses: {dict(+bad)}; memory {middle:.0f} -> {after:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
