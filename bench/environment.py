"""Environment of all measurements: one PostgreSQL, fresh databases, and child processes whose cost is measured."""

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

from pointsman.config.settings import Settings
from pointsman.operations.apply import apply_file
from pointsman.plugin_api import Secret
from pointsman.plugin_host.registry import Registry
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor

HERE = Path(__file__).parent
OURS = Path(sys.executable)
PEERS = HERE / ".venv" / "bin" / "python"
TOKEN = "intake-token-of-the-bench-0123456789"
_KEY = "6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk="  # seals the secrets of these databases only
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
    """A child process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid
        self.url = ""

    @classmethod
    async def start(cls, log: Path, *command: str | Path, **environ: str) -> Self:
        """Start a process; its standard error goes to the log."""
        inherited = {name: value for name, value in os.environ.items() if "POINTSMAN" not in name}
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                env={**inherited, **environ},
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                limit=2**26,
            )
        return cls(process, log)

    async def read_line(self) -> dict[str, Any]:
        """Return the next printed line, decoded from JSON. Raises RuntimeError with the end of the log if it ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(json.JSONDecodeError):
                decoded = json.loads(line)
                if isinstance(decoded, dict):
                    return decoded
        raise RuntimeError(f"{self._log.stem} ended: {self.log_end()}")

    def log_end(self) -> str:
        """Return the end of the log."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mib(self) -> float:
        """Return the peak memory."""
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text("ascii"))
        assert match is not None
        return int(match[1]) / 1024

    async def end(self) -> None:
        """Kill the process: its state is not needed any more."""
        if not self.ended:
            self._process.send_signal(signal.SIGKILL)
            await self._process.communicate()


class Environment:
    """PostgreSQL and the test double of the tracker; databases and processes by name."""

    def __init__(self, server: supervisor.EmbeddedServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.tracker: Tracker = None  # type: ignore[assignment]
        self.admin: asyncpg.Connection = None

    @classmethod
    @contextlib.asynccontextmanager
    async def ready(cls, folder: Path) -> AsyncIterator[Environment]:
        """Start everything, and stop it at the end."""
        async with supervisor.serve(folder) as server:
            environment = cls(server, folder)
            environment.admin = await asyncpg.connect(server.dsn)
            fsync = await environment.admin.fetchval("show fsync")
            assert fsync == "on", "figures without fsync have no meaning"
            await environment.drop(BASE)
            await environment.admin.execute(f"create database {BASE}")
            async with Database.open(environment.dsn(BASE), size=2) as database:
                await migrate.migrate(database)
            async with environment.child("tracker", OURS, HERE / "tracker.py") as child:
                url = (await child.read_line())["url"]
                async with aiohttp.ClientSession() as session:
                    environment.tracker = Tracker(url, session)
                    yield environment
            await environment.admin.close()

    def dsn(self, name: str) -> str:
        """Return the DSN of a database."""
        head, _, query = self.server.dsn.partition("?")
        return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"

    async def drop(self, name: str) -> None:
        """Drop a database if it exists."""
        await self.admin.execute(f"drop database if exists {name} with (force)")

    @contextlib.asynccontextmanager
    async def database(self, template: str = "template1") -> AsyncIterator[str]:
        """Create a database for the time of the context and yield its DSN."""
        name = "bench_round"
        await self.drop(name)
        await self.admin.execute(f"create database {name} template {template}")
        try:
            yield self.dsn(name)
        finally:
            await self.drop(name)

    async def settle(self) -> None:
        """Run a checkpoint, so that no round pays for an earlier one."""
        await self.admin.execute("checkpoint")

    @contextlib.asynccontextmanager
    async def child(self, name: str, *command: str | Path, **environ: str) -> AsyncIterator[Child]:
        """Run a process for the time of the context."""
        child = await Child.start(self.logs / f"{name}.log", *command, **environ)
        try:
            yield child
        finally:
            await child.end()

    async def result_of(self, name: str, *command: str | Path, **environ: str) -> dict[str, Any]:
        """Run a process and return the line that it prints."""
        async with self.child(name, *command, **environ) as child:
            return await child.read_line()

    @contextlib.asynccontextmanager
    async def peer(self, file: str, *arguments: str, dsn: str) -> AsyncIterator[Child]:
        """Run a peer to compare with; peers with packages of their own run in another virtual environment."""
        python = PEERS if file.endswith("_peer.py") else OURS
        environ = {"BENCH_DSN": dsn, "BENCH_TRACKER": self.tracker.url}
        async with self.child(
            file.removesuffix(".py"), python, HERE / "peers" / file, *arguments, **environ
        ) as child:
            yield child

    async def fill(self, file: str, count: int, dsn: str) -> None:
        """Let a peer create its tables and queue ``count`` jobs."""
        async with self.peer(file, "fill", str(count), dsn=dsn) as child:
            await child.read_line()
        con = await asyncpg.connect(dsn)
        await con.execute("vacuum analyze")
        await con.close()

    @contextlib.asynccontextmanager
    async def service(self, dsn: str) -> AsyncIterator[Child]:
        """Run one replica with its command; call ``configure`` before."""
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
                    raise RuntimeError(f"the service ended: {child.log_end()}")
                return await self.tracker.status(f"{child.url}/health/ready") == 200

            await until(ready, every=0.05)
            yield child

    async def configure(self, dsn: str, *, paused: bool) -> None:
        """Configure one source, one live and one dead destination; ``paused`` pauses the live one."""
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

    async def load(self, url: str, *options: str) -> dict[str, Any]:
        """Run the load generator and return its figures."""
        return await self.result_of("load", OURS, HERE / "load.py", f"{url}/intake/bench/{TOKEN}", *options)


class Tracker:
    """Client of the tracker's test double."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, name: str) -> Any:
        """Get ``calls``, ``times`` or ``reset``."""
        async with self._session.get(f"{self.url}/bench/{name}") as response:
            return await response.json()

    async def status(self, url: str) -> int:
        """Return the status of a GET request, 0 if the connection fails."""
        try:
            async with self._session.get(url) as response:
                return response.status
        except aiohttp.ClientError:
            return 0


async def until(look: Callable[[], Awaitable[bool]], *, every: float, timeout_seconds: float = 180.0) -> None:
    """Call ``look`` until its result is true."""
    end = time.monotonic() + timeout_seconds
    while not await look():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {timeout_seconds:g} s in vain")
        await asyncio.sleep(every)
