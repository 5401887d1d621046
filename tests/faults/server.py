"""A PostgreSQL server that a suite can stop, restart, make read-only and replicate to a standby."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path

import asyncpg

from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded.binaries import find_binaries, find_launcher

USER = "pointsman"
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME")


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """PostgreSQL on a port of loopback. Without fsync: data survives a kill of the server, not a crash of the machine."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.cluster = folder / "cluster"
        self.log = folder / "postgres.log"
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "100",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
            "log_min_messages": "warning",
            # checkpoints would take processor time from the tests
            "checkpoint_timeout": "15min",
            "max_wal_size": "2GB",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._launcher = find_launcher(folder, self.cluster)
        self._programs = find_binaries(self.cluster).folder
        self._template = ""

    def dsn(self, database: str = "postgres") -> str:
        """Return the DSN of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def _environ(self) -> dict[str, str]:
        return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL to its end."""
        completed = subprocess.run(
            [*self._launcher.prefix, str(self._programs / program), *arguments],
            env=self._environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, f"{program}: {completed.stderr[-2000:]}"

    def create(self) -> None:
        """Create the cluster."""
        self.run(
            "initdb",
            *("--pgdata", str(self.cluster), "--username", USER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-instructions", "--no-sync"),
        )

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._spawn()
        self._wait()

    def _spawn(self) -> None:
        """Start the server from the main thread: the server ends with the thread that starts it."""
        assert threading.current_thread() is threading.main_thread()
        arguments = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._launcher.prefix,
                    str(self._programs / "postgres"),
                    "-D",
                    str(self.cluster),
                    *arguments,
                ],
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> None:
        assert self.process is not None
        end = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, f"PostgreSQL ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, "PostgreSQL does not respond"
            time.sleep(0.02)

    def _answers(self) -> bool:
        completed = subprocess.run(
            [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "5"],
            env=self._environ(),
            check=False,
        )
        return completed.returncode == 0

    def end(self, shutdown: signal.Signals) -> None:
        """Stop the server and wait: SIGINT for a fast shutdown, SIGQUIT for an immediate one, as after a crash."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(shutdown)
        self.process.wait(60)

    def stop(self) -> None:
        """Stop the server and delete the cluster."""
        if self.process is not None:
            self.end(signal.SIGQUIT)
        shutil.rmtree(self.cluster, ignore_errors=True)

    async def restart(self, shutdown: signal.Signals) -> None:
        """Stop and start the server without blocking the event loop."""
        await asyncio.to_thread(self.end, shutdown)
        await self.start_async()

    async def start_async(self) -> None:
        """Start the server without blocking the event loop."""
        self._spawn()
        await asyncio.to_thread(self._wait)

    def standby(self, folder: Path) -> Server:
        """Create a standby of this server, not yet started."""
        follower = Server(folder)
        self.run(
            "pg_basebackup",
            *("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-D", str(follower.cluster)),
            *("--checkpoint=fast", "--no-sync", "--write-recovery-conf"),
        )
        return follower

    def promote(self) -> None:
        """Promote a standby."""
        self.run("pg_ctl", "promote", "-D", str(self.cluster), "--wait")

    async def execute(
        self, sql: str, *args: object, database: str = "postgres", settings: dict[str, str] | None = None
    ) -> list[asyncpg.Record]:
        """Run a statement over a new connection."""
        con = await asyncpg.connect(self.dsn(database), timeout=20, server_settings=settings)
        try:
            return await con.fetch(sql, *args)
        finally:
            with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                await con.close(timeout=5)

    async def database(self) -> str:
        """Create a migrated database and return its name."""
        if not self._template:
            name = f"template_{uuid.uuid4().hex[:8]}"
            await self.execute(f"create database {name}")
            async with Database.open(self.dsn(name), size=1) as database:
                await migrate.migrate(database)
            self._template = name
        name = f"faults_{uuid.uuid4().hex[:8]}"
        await self.execute(f"create database {name} template {self._template} strategy file_copy")
        return name
