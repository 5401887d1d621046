"""A Postgres of a suite's own, which may be stopped, restarted, made read-only, and followed by a standby."""

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
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """One Postgres on a port of loopback. What it holds survives the death of its processes, not of the machine."""

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
            # loaded tests leave little, and two cores are not for sweeping
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
        """Where a database is found."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def _environ(self) -> dict[str, str]:
        return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"}

    def run(self, program: str, *words: str) -> None:
        """Run one of Postgres' programs to its end."""
        done = subprocess.run(
            [*self._launcher.prefix, str(self._programs / program), *words],
            env=self._environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr[-2000:]}"

    def create(self) -> None:
        """Make the cluster."""
        self.run(
            "initdb",
            *("--pgdata", str(self.cluster), "--username", USER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-instructions", "--no-sync"),
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._spawn()
        self._wait()

    def _spawn(self) -> None:
        """The server ends with the thread that starts it, so that must be the main one."""
        assert threading.current_thread() is threading.main_thread()
        words = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._launcher.prefix, str(self._programs / "postgres"), "-D", str(self.cluster), *words],
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
            assert self.process.poll() is None, f"Postgres ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, "Postgres does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        done = subprocess.run(
            [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "5"],
            env=self._environ(),
            check=False,
        )
        return done.returncode == 0

    def end(self, how: signal.Signals) -> None:
        """SIGINT: fast, clients are sent away. SIGQUIT: immediate, as after a crash. Waits until it is gone."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)

    def stop(self) -> None:
        """The end of it, cluster and all."""
        if self.process is not None:
            self.end(signal.SIGQUIT)
        shutil.rmtree(self.cluster, ignore_errors=True)

    async def restart(self, how: signal.Signals) -> None:
        """Down and up again, while the test's own loop goes on."""
        await asyncio.to_thread(self.end, how)
        await self.come_up()

    async def come_up(self) -> None:
        """Start it while the test's own loop goes on."""
        self._spawn()
        await asyncio.to_thread(self._wait)

    def standby(self, folder: Path) -> Server:
        """A second server that follows this one; not started."""
        follower = Server(folder)
        self.run(
            "pg_basebackup",
            *("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-D", str(follower.cluster)),
            *("--checkpoint=fast", "--no-sync", "--write-recovery-conf"),
        )
        return follower

    def promote(self) -> None:
        """Let a standby take over."""
        self.run("pg_ctl", "promote", "-D", str(self.cluster), "--wait")

    async def execute(
        self, sql: str, *args: object, database: str = "postgres", settings: dict[str, str] | None = None
    ) -> list[asyncpg.Record]:
        """One statement over a connection of its own."""
        con = await asyncpg.connect(self.dsn(database), timeout=20, server_settings=settings)
        try:
            return await con.fetch(sql, *args)
        finally:
            with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                await con.close(timeout=5)

    async def database(self) -> str:
        """A new migrated database; its name."""
        if not self._template:
            name = f"template_{uuid.uuid4().hex[:8]}"
            await self.execute(f"create database {name}")
            async with Database.open(self.dsn(name), size=1) as database:
                await migrate.migrate(database)
            self._template = name
        name = f"faults_{uuid.uuid4().hex[:8]}"
        await self.execute(f"create database {name} template {self._template} strategy file_copy")
        return name
