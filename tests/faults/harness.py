"""Harness of the fault suites: replicas as real processes over a real PostgreSQL, and a tracker process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg
import oracle
from load import Load
from processes import ForkServer, TrackerProcess
from server import free_port
from tracker_main import REPOSITORY, TOKEN

from polling import until

LONG = os.environ.get("FAULTS_LONG") == "1"
STARTED = time.monotonic()
DRAIN_SECONDS = 1200.0 if LONG else 120.0
"""Time limit for delivering the backlog of a suite."""

#: Shares of the writes that fail in each way at an unreliable tracker.
BAD_DAY = {
    "500": 0.02,
    "500 applied": 0.01,
    "429": 0.002,
    "applied, dropped": 0.04,
    "applied, slow": 0.01,
    "dropped": 0.02,
    "late": 0.01,
}


def time_limit(share: float) -> float:
    """Return the seconds of a suite of the long form: its share of FAULTS_MINUTES."""
    minutes = float(os.environ.get("FAULTS_MINUTES", "0"))
    return minutes * 60 * share if minutes else float("inf")


def configuration(destinations: dict[str, str], at_once: int = 8, more: str = "") -> str:
    """Return a configuration with a source of alerts and a source of tickets for each destination."""
    parts = []
    for name, url in destinations.items():
        parts.append(f"""
[[source]]
slug = "shop-{name}"
kind = "bugsink"
token = "shop-token-of-the-tests"
limits = {{ new_tickets_per_minute = 0 }}
[[source]]
slug = "desk-{name}"
kind = "tickets"
token = "desk-token-of-{name}"
limits = {{ new_tickets_per_minute = 0 }}
[[destination]]
slug = "{name}"
tracker = "forgejo"
limits = {{ writes_per_minute = 0, at_once = {at_once} }}
[destination.settings]
url = "{url}"
token = "{TOKEN}"
repository = "{REPOSITORY}"
{more}
[[route]]
destination = "{name}"
[route.match]
source = "shop-{name}"
[[route]]
destination = "{name}"
[route.match]
source = "desk-{name}"
""")
    return "".join(parts)


class Replica:
    """One replica of the service, restarted at the same address."""

    def __init__(self, fork_server: ForkServer, folder: Path, config: str, *, dsn: str, **more: str) -> None:
        self._fork_server = fork_server
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pointsman.toml").write_text(config, "utf-8")
        self.log = folder / "replica.log"
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("POINTSMAN", "DATABASE", "PG"))
            },
            "POINTSMAN_LISTEN": f"127.0.0.1:{self.port}",
            "POINTSMAN_CONFIG": str(folder / "pointsman.toml"),
            "POINTSMAN_DATA_DIR": str(folder / "data"),
            "POINTSMAN_OUTBOUND_ALLOW": "127.0.0.0/8",
            "POINTSMAN_ADMIN_TOKEN": "admin-token-of-the-tests",
            "POINTSMAN_SECRET_KEYS": "6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk=",
            **({"POINTSMAN_DATABASE_URL": dsn} if dsn else {}),
            **more,
        }
        self.pid = 0
        self.in_service = False

    async def fork(self, **more: str) -> None:
        """Fork the process, with more in its environment."""
        self.pid = await self._fork_server.fork({**self.environ, **more}, self.log)

    async def start(self, **more: str) -> Self:
        """Fork the process and wait until it is ready."""
        await self.fork(**more)
        await until(self.ready, 90)
        self.in_service = True
        return self

    @property
    def code(self) -> int | None:
        """Exit code of the last process, None while it runs."""
        return self._fork_server.codes.get(self.pid)

    async def ready(self) -> bool:
        """Return whether the readiness probe succeeds."""
        assert self.code is None, f"the replica ended with {self.code}: {self.log.read_text()[-3000:]}"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/health/ready") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    async def ended(self, timeout_seconds: float = 60.0) -> int:
        """Wait until the process has ended and return its exit code."""

        async def look() -> bool:
            return self.code is not None

        await until(look, timeout_seconds, every_seconds=0.005)
        self.in_service = False
        assert self.code is not None
        return self.code

    async def kill(self) -> None:
        """End the process with SIGKILL."""
        self.in_service = False
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """End the process with SIGTERM and return its exit code."""
        if self.code is None:
            self.send(signal.SIGTERM)
        return await self.ended()

    @property
    def holders(self) -> list[str]:
        """Lease holder ids of all processes of this replica, in order."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return [json.loads(line)["holder"] for line in lines if line.startswith('{"holder"')]


class Cluster:
    """Replicas over one database, the load, and the comparison of accepted reports with effects."""

    def __init__(
        self,
        fork_server: ForkServer,
        tracker: TrackerProcess,
        folder: Path,
        dsn: str,
        dice: random.Random,
        *,
        direct: str = "",
        destinations: dict[str, str] | None = None,
        config: str = "",
        count: int = 3,
        **more: str,
    ) -> None:
        self.tracker = tracker
        self.direct = direct or dsn
        self.dice = dice
        self.destinations = destinations or tracker.destinations
        text = config or configuration(self.destinations)
        self.replicas = [
            Replica(fork_server, folder / f"replica-{number}", text, dsn=dsn, **more)
            for number in range(count)
        ]
        self.load = Load(self.urls, list(self.destinations), dice)
        self._start = tracker.effects.stat().st_size
        self._tasks: list[asyncio.Task[None]] = []

    def urls(self) -> list[str]:
        """Return the addresses of the replicas that are in service."""
        return [replica.url for replica in self.replicas if replica.in_service]

    async def configure_trackers(self, **attributes: Any) -> None:
        """Set attributes of the trackers of this cluster."""
        for destination in self.destinations:
            await self.tracker.configure(destination=destination, **attributes)

    def send_load(self, accepted: int = 10**9, **options: Any) -> asyncio.Task[None]:
        """Send load in the background; see ``Load.run``."""
        task = asyncio.create_task(self.load.run(accepted, **options))
        self._tasks.append(task)
        return task

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start all replicas; stop them at the end, by force after an error."""
        try:
            # the first replica applies the configuration
            await self.replicas[0].start()
            await asyncio.gather(*(replica.start() for replica in self.replicas[1:]))
            async with self.load:
                try:
                    yield self
                finally:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)
            for replica in self.replicas:
                assert await replica.stop() == 0, replica.log.read_text()[-3000:]
        finally:
            for replica in self.replicas:
                if replica.pid and replica.code is None:
                    replica.send(signal.SIGKILL)

    async def replica_with_lanes(self) -> Replica | None:
        """Return a replica that has claimed three lanes or more, if there is one."""
        return await self._holder("true")

    async def about_to_send(self) -> Replica | None:
        """Return a replica that has just recorded the intents of three lanes, if there is one."""
        return await self._holder("d.outcome_unknown and d.first_sent_at > now() - interval '0.2 seconds'")

    async def _holder(self, condition: str) -> Replica | None:
        con = await asyncpg.connect(self.direct, timeout=20)
        try:
            holder = await con.fetchval(
                "select l.holder::text from lane l join delivery d on d.lane_id = l.id and d.seq = l.head_seq"
                f" where l.state = 2 and {condition}"
                " group by l.holder having count(*) >= 3 order by count(*) desc limit 1"
            )
        finally:
            await con.close(timeout=5)
        return next(
            (replica for replica in self.replicas if holder and replica.holders[-1:] == [holder]), None
        )

    async def find_during_alerts(self, look: Callable[[], Awaitable[Replica | None]]) -> Replica:
        """Send eight alerts until ``look`` returns a replica, and return the replica."""
        for _ in range(12):
            await asyncio.gather(*(self.load.alert() for _ in range(8)))
            with contextlib.suppress(AssertionError):
                replica: Replica = await until(look, 5.0)
                return replica
        raise AssertionError(f"{look.__name__}: never seen in 12 attempts")

    async def settled(self, timeout_seconds: float = 120.0) -> oracle.Verdict:
        """Wait until nothing is pending or the time is over, and return the verdict."""

        async def look() -> bool:
            left = await oracle.stuck(self.direct)
            return not any(left[name] for name in ("pending", "leased", "unfinished"))

        with contextlib.suppress(AssertionError):
            await until(look, timeout_seconds, every_seconds=0.2)
        return await self.verdict()

    async def verdict(self) -> oracle.Verdict:
        """Return the verdict of this moment."""
        left = await oracle.stuck(self.direct)
        counted = await oracle.counted(self.direct)
        return oracle.Verdict.of(
            self.load.accepted_reports, self.effects(), left, repeated=self.load.repeated, counted=counted
        )

    def effects(self) -> list[oracle.Effect]:
        """Return what took effect at the destinations of this cluster so far."""
        effects = oracle.effects(self.tracker.effects, self._start)
        return [effect for effect in effects if effect.destination in self.destinations]

    async def explain(self, verdict: oracle.Verdict) -> str:
        """Return the verdict with the history of the first orders that it names, for an assertion message."""
        named = re.findall(r"order (\d+)", " ".join(verdict.lost + verdict.duplicates + verdict.misordered))
        lines = [str(verdict)]
        for order in list(dict.fromkeys(map(int, named)))[:4]:
            lines += [f"order {order}, accepted: {self.load.accepted_reports.updates.get(order)}"]
            lines += [f"  {line}" for line in await oracle.history(self.direct, order, self.effects())]
        for replica in self.replicas:
            lines += [f"-- {replica.log}: {replica.log.read_text('utf-8', 'replace')[-1000:]}"]
        return "\n".join(lines)


async def eventually(look: Callable[[], Awaitable[Any]], timeout_seconds: float = 60.0) -> Any:
    """Call ``look`` ten times a second until its result is true, and return the result."""
    return await until(look, timeout_seconds, every_seconds=0.1)
