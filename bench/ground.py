"""The ground that all stand on: one Postgres, fresh databases, child processes whose share of the machine is known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg

from pointsman.operations.apply import apply_file
from pointsman.config.settings import Settings
from pointsman.plugin_api import Secret
from pointsman.plugin_host.registry import Registry
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor

HERE = Path(__file__).parent
OURS = Path(sys.executable)
PEERS = HERE / ".venv" / "bin" / "python"
TOKEN = "intake-token-of-the-bench-0123456789"
_KEY = "6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk="  # seals what these databases hold, and nothing else
BASE = "bench_base"
_TICKS = os.sysconf("SC_CLK_TCK")

_CONFIG = """
[[source]]
slug = "bench"
kind = "bugsink"
token = "{token}"
limits = {{ new_tickets_per_minute = 0 }}

[[destination]]
slug = "board"
tracker = "forgejo"
limits = {{ writes_per_minute = 0, at_once = 64 }}
[destination.settings]
url = "{tracker}"
token = "forgejo-token-of-the-bench"
repository = "acme/shop"

[[destination]]
slug = "dead"
tracker = "forgejo"
[destination.settings]
url = "http://127.0.0.1:9"
token = "forgejo-token-of-the-bench"
repository = "acme/dead"

[[route]]
destination = "board"
"""


class Child:
    """A process that we started; ended by its own id."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid
        self.url = ""

    @classmethod
    async def start(cls, log: Path, *words: str | Path, **environ: str) -> Self:
        """Start one; what it says on its error stream goes to the log."""
        kept = {name: value for name, value in os.environ.items() if "POINTSMAN" not in name}
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *map(str, words),
                env={**kept, **environ},
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                limit=2**26,
            )
        return cls(process, log)

    async def said(self) -> dict[str, Any]:
        """The next line that it prints, as JSON. Raises RuntimeError with its last words if it ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(json.JSONDecodeError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
        raise RuntimeError(f"{self._log.stem} ended: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mib(self) -> float:
        """The most memory it ever held."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text("ascii"))
        assert found is not None
        return int(found[1]) / 1024

    async def end(self) -> None:
        """End it at once: nothing it holds is needed any more."""
        if not self.ended:
            self._process.send_signal(signal.SIGKILL)
            await self._process.communicate()


class Ground:
    """Postgres and the tracker's double; databases and processes by name."""

    def __init__(self, server: supervisor.EmbeddedServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.tracker: Tracker = None  # type: ignore[assignment]
        self.admin: asyncpg.Connection = None

    @classmethod
    @contextlib.asynccontextmanager
    async def ready(cls, folder: Path) -> AsyncIterator[Ground]:
        """Everything up, and down again at the end."""
        async with supervisor.serve(folder) as server:
            ground = cls(server, folder)
            ground.admin = await asyncpg.connect(server.dsn)
            fsync = await ground.admin.fetchval("show fsync")
            assert fsync == "on", "figures without fsync say nothing"
            await ground.drop(BASE)
            await ground.admin.execute(f"create database {BASE}")
            async with Database.open(ground.dsn(BASE), size=2) as database:
                await migrate.migrate(database)
            async with ground.child("tracker", OURS, HERE / "tracker.py") as child:
                url = (await child.said())["url"]
                async with aiohttp.ClientSession() as session:
                    ground.tracker = Tracker(url, session)
                    yield ground
            await ground.admin.close()

    def dsn(self, name: str) -> str:
        """The address of a database of this name."""
        head, _, query = self.server.dsn.partition("?")
        return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"

    async def drop(self, name: str) -> None:
        """Drop a database if it is there."""
        await self.admin.execute(f"drop database if exists {name} with (force)")

    @contextlib.asynccontextmanager
    async def database(self, template: str = "template1") -> AsyncIterator[str]:
        """A fresh database; its address."""
        name = "bench_round"
        await self.drop(name)
        await self.admin.execute(f"create database {name} template {template}")
        try:
            yield self.dsn(name)
        finally:
            await self.drop(name)

    async def settle(self) -> None:
        """Write out what earlier rounds left, so that no round pays for another."""
        await self.admin.execute("checkpoint")

    @contextlib.asynccontextmanager
    async def child(self, name: str, *words: str | Path, **environ: str) -> AsyncIterator[Child]:
        """A process for as long as the block lasts."""
        child = await Child.start(self.logs / f"{name}.log", *words, **environ)
        try:
            yield child
        finally:
            await child.end()

    async def told(self, name: str, *words: str | Path, **environ: str) -> dict[str, Any]:
        """What a process that ends by itself says."""
        async with self.child(name, *words, **environ) as child:
            return await child.said()

    @contextlib.asynccontextmanager
    async def peer(self, file: str, *words: str, dsn: str) -> AsyncIterator[Child]:
        """Somebody we are measured beside. Those that need packages of their own run in their own environment."""
        python = PEERS if file.endswith("_peer.py") else OURS
        environ = {"BENCH_DSN": dsn, "BENCH_TRACKER": self.tracker.url}
        async with self.child(
            file.removesuffix(".py"), python, HERE / "peers" / file, *words, **environ
        ) as it:
            yield it

    async def fill(self, file: str, count: int, dsn: str) -> None:
        """Have a peer make its tables and queue so many jobs."""
        async with self.peer(file, "fill", str(count), dsn=dsn) as child:
            await child.said()
        con = await asyncpg.connect(dsn)
        await con.execute("vacuum analyze")
        await con.close()

    @contextlib.asynccontextmanager
    async def service(self, dsn: str) -> AsyncIterator[Child]:
        """One replica, by its own command; ``configure`` came before."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environ = {
            "POINTSMAN_DATABASE_URL": dsn,
            "POINTSMAN_LISTEN": f"127.0.0.1:{port}",
            "POINTSMAN_DATA_DIR": str(self.folder / "service"),
            "POINTSMAN_OUTBOUND_ALLOW": "127.0.0.0/8",
            "POINTSMAN_SECRET_KEYS": _KEY,
        }
        async with self.child("service", OURS, "-m", "pointsman", "serve", **environ) as child:
            child.url = f"http://127.0.0.1:{port}"

            async def ready() -> bool:
                if child.ended:
                    raise RuntimeError(f"the service ended: {child.last_words()}")
                return await self.tracker.status(f"{child.url}/health/ready") == 200

            await until(ready, every=0.05)
            yield child

    async def configure(self, dsn: str, *, paused: bool) -> None:
        """One source, one live and one dead destination; the live one works or waits."""
        file = self.folder / "pointsman.toml"
        file.write_text(_CONFIG.format(token=TOKEN, tracker=self.tracker.url), "utf-8")
        settings = Settings(
            database_url=Secret(dsn), data_dir=self.folder / "service", secret_keys=(Secret(_KEY),)
        )
        async with Database.open(dsn, size=2) as database:
            await apply_file(database, settings, Registry.load(), file)
            await database.execute(
                "update destination_state set breaker = 2, open_until = now() + interval '1 day'"
                " where destination_id = (select id from destination where slug = 'dead')"
            )
            await database.execute(
                "update destination_state set pause_reason = $1"
                " where destination_id = (select id from destination where slug = 'board')",
                "operator" if paused else None,
            )

    async def load(self, url: str, *words: str) -> dict[str, Any]:
        """What the load generator saw."""
        return await self.told("load", OURS, HERE / "load.py", f"{url}/intake/bench/{TOKEN}", *words)


class Tracker:
    """The tracker's double, from outside."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, what: str) -> Any:
        """``calls``, ``times`` or ``reset``."""
        async with self._session.get(f"{self.url}/bench/{what}") as answer:
            return await answer.json()

    async def status(self, url: str) -> int:
        """The status that an address answers, 0 if nobody listens."""
        try:
            async with self._session.get(url) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0


async def until(look: Callable[[], Awaitable[bool]], *, every: float, patience: float = 180.0) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + patience
    while not await look():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {patience:g} s in vain")
        await asyncio.sleep(every)
