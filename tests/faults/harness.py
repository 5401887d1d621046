"""Replicas as real processes over one real Postgres, and a tracker in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg
import oracle
from load import Load
from server import free_port
from tracker_main import REPOSITORY, TOKEN

from polling import until

HERE = Path(__file__).parent
LONG = os.environ.get("FAULTS_LONG") == "1"
STARTED = time.monotonic()
DRAIN_SECONDS = 1200.0 if LONG else 120.0
"""How long a suite whose work piles up may take until all is delivered."""

#: What goes wrong at a tracker on an ordinary bad day; shares of all writes.
BAD_DAY = {
    "500": 0.02,
    "500 applied": 0.01,
    "429": 0.002,
    "applied, dropped": 0.04,
    "applied, slow": 0.01,
    "dropped": 0.02,
    "late": 0.01,
}


def budget(seconds: float) -> float:
    """How long a suite of the long form may take: its share of FAULTS_MINUTES."""
    minutes = float(os.environ.get("FAULTS_MINUTES", "0"))
    return minutes * 60 * seconds if minutes else float("inf")


def _with_paths() -> dict[str, str]:
    """The environment of our own programs."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Zygote:
    """The process that replicas are forked from."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_with_paths(),
            cwd=folder,
        )
        self._orders = 0
        self._pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        self._said = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = json.loads(line)
            if "forked" in words:
                self._pids[words["order"]] = words["forked"]
            elif "ended" in words:
                self.codes[words["ended"]] = words["code"]

    async def fork(self, environ: dict[str, str], log: Path) -> int:
        """A new replica's pid."""
        self._orders += 1
        order = self._orders
        assert self._process.stdin is not None
        line = json.dumps({"order": order, "env": environ, "log": str(log)})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

        async def forked() -> int | None:
            assert self._process.poll() is None, "the zygote died"
            return self._pids.get(order)

        return await until(forked, 120, every_seconds=0.003)

    def close(self) -> None:
        """Let it and all its children go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class TrackerProcess:
    """The tracker's process; see ``tracker_main``."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.effects = folder / "effects.jsonl"
        self.effects.touch()
        self._log = (folder / "tracker.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "tracker_main.py"), str(count), str(self.effects), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_with_paths(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (folder / "tracker.log").read_text()
        said = json.loads(line)
        self.control: str = said["control"]
        self.places: dict[str, str] = said["places"]

    async def order(self, **words: Any) -> None:
        """Set attributes of the trackers; ``place`` names one."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.control}/order", json=words) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def state(self) -> dict[str, Any]:
        """How each place stands."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/state") as answer:
            return await answer.json()

    def close(self) -> None:
        """The end of it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def configuration(places: dict[str, str], at_once: int = 8, more: str = "") -> str:
    """A source of alerts and one of tickets for each place."""
    parts = []
    for name, url in places.items():
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
    """One service process, at one address for all its lives."""

    def __init__(self, zygote: Zygote, folder: Path, config: str, *, dsn: str, **more: str) -> None:
        self._zygote = zygote
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
        """Begin a life, with more in its environment."""
        self.pid = await self._zygote.fork({**self.environ, **more}, self.log)

    async def start(self, **more: str) -> Self:
        """Begin a life and wait until it takes requests."""
        await self.fork(**more)
        await until(self.ready, 90)
        self.in_service = True
        return self

    @property
    def code(self) -> int | None:
        """How its last life ended, None while it lives."""
        return self._zygote.codes.get(self.pid)

    async def ready(self) -> bool:
        """Whether it answers its probe."""
        assert self.code is None, f"the replica ended with {self.code}: {self.log.read_text()[-3000:]}"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def send(self, sign: signal.Signals) -> None:
        """A signal."""
        os.kill(self.pid, sign)

    async def ended(self, patience_seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""

        async def look() -> bool:
            return self.code is not None

        await until(look, patience_seconds, every_seconds=0.005)
        self.in_service = False
        assert self.code is not None
        return self.code

    async def kill(self) -> None:
        """kill -9."""
        self.in_service = False
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.code is None:
            self.send(signal.SIGTERM)
        return await self.ended()

    @property
    def holders(self) -> list[str]:
        """Under which names its lives held leases, the last one last."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return [json.loads(line)["holder"] for line in lines if line.startswith('{"holder"')]


class Cluster:
    """Replicas, a load and the judge, over one database."""

    def __init__(
        self,
        zygote: Zygote,
        tracker: TrackerProcess,
        folder: Path,
        dsn: str,
        dice: random.Random,
        *,
        direct: str = "",
        places: dict[str, str] | None = None,
        config: str = "",
        count: int = 3,
        **more: str,
    ) -> None:
        self.tracker = tracker
        self.direct = direct or dsn
        self.dice = dice
        self.places = places or tracker.places
        text = config or configuration(self.places)
        self.replicas = [
            Replica(zygote, folder / f"replica-{number}", text, dsn=dsn, **more) for number in range(count)
        ]
        self.load = Load(self.urls, list(self.places), dice)
        self._start = tracker.effects.stat().st_size
        self._tasks: list[asyncio.Task[None]] = []

    def urls(self) -> list[str]:
        """Where requests may be sent: replicas that nobody took away on purpose."""
        return [one.url for one in self.replicas if one.in_service]

    async def trouble(self, **words: Any) -> None:
        """An order to the trackers of our places."""
        for place in self.places:
            await self.tracker.order(place=place, **words)

    def sends(self, accepted: int = 10**9, **how: Any) -> asyncio.Task[None]:
        """The load, in the background; see ``Load.run``."""
        task = asyncio.create_task(self.load.run(accepted, **how))
        self._tasks.append(task)
        return task

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """All replicas up; at the end all down, by force if it went wrong."""
        try:
            # the first one applies the configuration
            await self.replicas[0].start()
            await asyncio.gather(*(one.start() for one in self.replicas[1:]))
            async with self.load:
                try:
                    yield self
                finally:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)
            for one in self.replicas:
                assert await one.stop() == 0, one.log.read_text()[-3000:]
        finally:
            for one in self.replicas:
                if one.pid and one.code is None:
                    one.send(signal.SIGKILL)

    async def holding(self) -> Replica | None:
        """A replica that has three lanes or more in its hands, if there is one."""
        return await self._holder("true")

    async def about_to_send(self) -> Replica | None:
        """A replica that has three lanes with an intent just written, if there is one."""
        return await self._holder("d.outcome_unknown and d.first_sent_at > now() - interval '0.2 seconds'")

    async def _holder(self, which: str) -> Replica | None:
        con = await asyncpg.connect(self.direct, timeout=20)
        try:
            holder = await con.fetchval(
                "select l.holder::text from lane l join delivery d on d.lane_id = l.id and d.seq = l.head_seq"
                f" where l.state = 2 and {which}"
                " group by l.holder having count(*) >= 3 order by count(*) desc limit 1"
            )
        finally:
            await con.close(timeout=5)
        return next((one for one in self.replicas if holder and one.holders[-1:] == [holder]), None)

    async def amid_alerts(self, look: Callable[[], Awaitable[Replica | None]]) -> Replica:
        """The replica that a look found after eight alerts; where the moment was missed, eight more come."""
        for _ in range(12):
            await asyncio.gather(*(self.load.alert() for _ in range(8)))
            with contextlib.suppress(AssertionError):
                found: Replica = await until(look, 5.0)
                return found
        raise AssertionError(f"{look.__name__}: never seen in 12 attempts")

    async def settled(self, patience_seconds: float = 120.0) -> oracle.Verdict:
        """Wait until nothing is under way any more, or as long as it may take, and judge."""

        async def look() -> bool:
            left = await oracle.stuck(self.direct)
            return not any(left[name] for name in ("pending", "leased", "unfinished"))

        with contextlib.suppress(AssertionError):
            await until(look, patience_seconds, every_seconds=0.2)
        return await self.verdict()

    async def verdict(self) -> oracle.Verdict:
        """Judge now."""
        left = await oracle.stuck(self.direct)
        counted = await oracle.counted(self.direct)
        return oracle.Verdict.of(
            self.load.promises, self.happened(), left, repeated=self.load.repeated, counted=counted
        )

    def happened(self) -> list[oracle.Effect]:
        """What took effect at our places since we began."""
        found = oracle.effects(self.tracker.effects, self._start)
        return [effect for effect in found if effect.place in self.places]

    async def why(self, verdict: oracle.Verdict) -> str:
        """The verdict with what is known about the first orders it names, for a failure."""
        named = re.findall(r"order (\d+)", " ".join(verdict.lost + verdict.duplicates + verdict.misordered))
        told = [str(verdict)]
        for order in list(dict.fromkeys(map(int, named)))[:4]:
            told += [f"order {order}, promised: {self.load.promises.said.get(order)}"]
            told += [f"  {line}" for line in await oracle.history(self.direct, order, self.happened())]
        for one in self.replicas:
            told += [f"-- {one.log}: {one.log.read_text('utf-8', 'replace')[-1000:]}"]
        return "\n".join(told)


async def eventually(look: Callable[[], Awaitable[Any]], patience_seconds: float = 60.0) -> Any:
    """Look ten times a second until there is something."""
    return await until(look, patience_seconds, every_seconds=0.1)
