"""The embedded PostgreSQL through everything that can happen to it, with real processes and real kills."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import structlog
from structlog.testing import capture_logs

from pointsman.storage.embedded import binaries, supervisor
from pointsman.storage.embedded import data_dir as embedded_folder

# A process of its own: says how it got its server, keeps it until its input ends.
CHILD = """
import asyncio, json, pathlib, sys, structlog
from pointsman.storage.embedded import supervisor as embedded
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    try:
        async with embedded.serve(pathlib.Path(sys.argv[1])) as server:
            said = {"dsn": server.dsn, "owned": server.owned, "holder": server.holder, "version": server.version}
            print(json.dumps(said), flush=True)
            await asyncio.to_thread(sys.stdin.read)
            print(json.dumps({"owned": server.owned}), flush=True)
    except embedded.EmbeddedError as error:
        print(json.dumps({"error": str(error)}), flush=True)

asyncio.run(main())
"""

DEADLINE_SECONDS = 60.0


def running_dsn(data_dir: Path) -> str | None:
    """The DSN of the server that runs on a data folder, None without one."""
    folder = embedded_folder.DataFolder(data_dir).socket_folder()
    if folder is None:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(embedded_folder.socket_file(folder)))
        except OSError:
            return None
    return embedded_folder.dsn(folder)


@contextlib.asynccontextmanager
async def child(data_dir, *prefix, environment=None):
    """A running child process; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *prefix,
        sys.executable,
        "-c",
        CHILD,
        str(data_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd="/",
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def message_of(process) -> dict[str, Any]:
    line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)
    assert line, "the child ended without a word"
    return json.loads(line)


async def leave(process) -> dict[str, Any]:
    """Let a child end as it should."""
    process.stdin.close()
    last = await message_of(process)
    assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == 0
    return last


async def until(condition):
    """Wait for a condition, which may be async, and give back its value."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.01)


async def run_sql(dsn, sql):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def put_row(dsn):
    await run_sql(dsn, "create table if not exists kept (at timestamptz default now())")
    await run_sql(dsn, "insert into kept default values")


async def count_rows(dsn) -> int:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        return (await run_sql(dsn, "select count(*) from kept"))[0][0]
    return -1


def postmaster_pid(data_dir) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def lock_is_free(data_dir) -> bool:
    with (data_dir / "postgres.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def log_of(data_dir) -> str:
    return (data_dir / "postgres.log").read_text()


def socket_folder(dsn) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


@pytest.fixture(scope="module", autouse=True)
def runtime_folder():
    """Where sockets go whose path would be too long; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template_folder(tmp_path_factory, runtime_folder):
    """A data folder whose cluster was made once, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "data"

    async def make():
        async with supervisor.serve(folder):
            pass

    asyncio.run(make())
    return folder


@pytest.fixture
def data_dir(template_folder, tmp_path):
    """A data folder with a cluster that has been stopped."""
    folder = tmp_path / "data"
    shutil.copytree(template_folder, folder)
    return folder


async def test_a_new_folder_gets_a_server_and_keeps_its_rows(tmp_path):
    """Cold start, restart: same DSN, rows there, nothing open to other users, no TCP, no secrets in the server."""
    data_dir = tmp_path / "new" / "data"
    assert running_dsn(data_dir) is None
    async with supervisor.serve(data_dir) as server:
        assert server.owned
        assert str(os.getpid()) in server.holder
        assert int(server.version.split(".")[0]) >= 15
        assert running_dsn(data_dir) == server.dsn
        await put_row(server.dsn)
        shown = {
            name: (await run_sql(server.dsn, f"show {name}"))[0][0]
            for name in ("listen_addresses", "fsync", "max_connections", "timezone", "server_encoding")
        }
        assert shown == {
            "listen_addresses": "",
            "fsync": "on",
            "max_connections": "100",
            "timezone": "UTC",
            "server_encoding": "UTF8",
        }
        first = server.dsn
    assert running_dsn(data_dir) is None
    assert lock_is_free(data_dir)
    for path in (data_dir, data_dir / "postgres", socket_folder(first)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("postgres.lock", "postgres.log"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600
    async with supervisor.serve(data_dir) as server:
        assert server.dsn == first
        assert await count_rows(server.dsn) == 1


async def test_the_server_does_not_see_our_environment(data_dir, monkeypatch):
    monkeypatch.setenv("POINTSMAN_SECRET_KEYS", "a-secret")
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    async with supervisor.serve(data_dir) as server:
        assert await run_sql(server.dsn, "select 1")
        with contextlib.suppress(FileNotFoundError):
            assert b"a-secret" not in Path(f"/proc/{postmaster_pid(data_dir)}/environ").read_bytes()


async def test_a_second_process_joins_says_who_holds_and_takes_over(data_dir):
    async with child(data_dir) as owner:
        first = await message_of(owner)
        assert first["owned"]
        async with child(data_dir) as other:
            second = await message_of(other)
            assert not second["owned"]
            assert f"pid {owner.pid} " in second["holder"]
            assert second["dsn"] == first["dsn"]
            async with supervisor.serve(data_dir) as third:
                assert not third.owned
                await put_row(third.dsn)
            assert await count_rows(first["dsn"]) == 1, "a client that leaves stops nothing"
            await leave(owner)
            await until(lambda: (data_dir / "postgres.lock").read_text().startswith(f"{other.pid}\n"))
            await until(lambda: is_one(first["dsn"]))


async def is_one(dsn) -> bool:
    return await count_rows(dsn) == 1


async def test_three_processes_on_a_new_folder_make_one_server(tmp_path):
    data_dir = tmp_path / "data"
    async with child(data_dir) as a, child(data_dir) as b, child(data_dir) as c:
        answers = [await message_of(process) for process in (a, b, c)]
        assert sorted(answer["owned"] for answer in answers) == [False, False, True]
        assert len({answer["dsn"] for answer in answers}) == 1
        assert await run_sql(answers[0]["dsn"], "select 1")


@pytest.mark.faults
async def test_a_killed_owner_takes_its_server_down_cleanly(data_dir):
    async with child(data_dir) as owner:
        dsn = (await message_of(owner))["dsn"]
        await put_row(dsn)
        owner.kill()
        await until(lambda: lock_is_free(data_dir))
    assert "database system is shut down" in log_of(data_dir).splitlines()[-1]
    async with supervisor.serve(data_dir) as server:
        assert server.owned
        assert await count_rows(server.dsn) == 1
    assert "not properly shut down" not in log_of(data_dir)


@pytest.mark.faults
async def test_a_start_right_after_a_kill_waits_for_the_old_server(data_dir):
    async with child(data_dir) as owner:
        await put_row((await message_of(owner))["dsn"])
        owner.kill()
        async with supervisor.serve(data_dir) as server:
            assert server.owned
            assert await count_rows(server.dsn) == 1


@pytest.mark.faults
async def test_a_killed_server_comes_back_with_its_rows(data_dir, logged):
    async with supervisor.serve(data_dir) as server:
        await put_row(server.dsn)
        for times in (1, 2, 3):
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            await until(lambda: warnings(logged).count("embedded Postgres restarted") == times)  # noqa: B023
            assert await count_rows(server.dsn) == 1
        assert not server.failed.is_set()
    assert warnings(logged).count("embedded Postgres died") == 3


@pytest.mark.faults
async def test_a_server_that_keeps_dying_is_given_up(data_dir, logged, monkeypatch):
    monkeypatch.setattr(supervisor, "_QUICK_DEATHS", 2)
    async with supervisor.serve(data_dir) as server:
        while not server.failed.is_set():
            with contextlib.suppress(OSError, ValueError, IndexError):  # a dying server has no pid to read
                os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            await asyncio.sleep(0.01)
    assert "died 3 times" in str(server.failure)
    assert str(server.log_path) in str(server.failure)
    assert warnings(logged).count("embedded Postgres died") == 2
    async with supervisor.serve(data_dir) as server:
        assert await run_sql(server.dsn, "select 1")


async def test_marks_that_a_killed_server_left_empty_bar_no_start(data_dir):
    """Killed between making and writing them; PostgreSQL itself refuses to start over an empty one."""
    async with supervisor.serve(data_dir) as server:
        socket_folder = embedded_folder.DataFolder(data_dir).socket_folder()
        await run_sql(server.dsn, "select 1")
    assert socket_folder is not None
    for mark in (
        data_dir / "postgres" / "postmaster.pid",
        socket_folder / f"{embedded_folder.socket_file(socket_folder).name}.lock",
    ):
        mark.touch(mode=0o600)
    async with supervisor.serve(data_dir) as server:
        assert await run_sql(server.dsn, "select 1")


@pytest.fixture
def logged():
    """What is logged, at every level."""
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def warnings(logs) -> list[str]:
    return [log["event"] for log in logs if log["log_level"] == "warning"]


@pytest.mark.faults
async def test_a_kill_while_the_cluster_is_made_leaves_no_half_of_one(tmp_path):
    data_dir = tmp_path / "data"
    async with child(data_dir) as owner:
        await until(lambda: list(data_dir.glob("postgres.new-*/base")))
        owner.kill()
        await owner.wait()
    assert not (data_dir / "postgres").exists()
    async with supervisor.serve(data_dir) as server:
        assert await run_sql(server.dsn, "select 1")
    assert not list(data_dir.glob("postgres.new-*"))


async def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path, runtime_folder):
    data_dir = tmp_path / ("long" * 20) / ("way" * 20)
    async with supervisor.serve(data_dir) as server:
        first = server.dsn
        folder = socket_folder(first)
        assert running_dsn(data_dir) == first
        assert (data_dir / "postgres.socket-dir").read_text() == str(folder)
        assert folder.parent == runtime_folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        async with child(data_dir) as other:
            assert (await message_of(other))["dsn"] == first
            await leave(other)
    async with supervisor.serve(data_dir) as server:
        assert server.dsn == first
    shutil.rmtree(folder)
    assert running_dsn(data_dir) is None
    async with supervisor.serve(data_dir) as server:  # a reboot cleans such folders away
        assert server.dsn != first


async def test_a_path_with_odd_letters(tmp_path):
    for name in ("with space & ünï", "comma,quote'"):
        async with supervisor.serve(tmp_path / name) as server:
            assert await run_sql(server.dsn, "select 1")


async def test_modes_of_folders_that_exist_stay(tmp_path):
    above = tmp_path / "above"
    data_dir = above / "data"
    data_dir.mkdir(parents=True)
    above.chmod(0o755)
    data_dir.chmod(0o755)
    before = [(path, path.stat().st_mode) for path in (data_dir, *data_dir.parents)]
    async with supervisor.serve(data_dir):
        pass
    assert [(path, path.stat().st_mode) for path, _ in before] == before


async def test_a_socket_folder_open_to_others_is_refused(runtime_folder):
    data_dir = runtime_folder / "data"
    (data_dir / "postgres.socket").mkdir(parents=True)
    (data_dir / "postgres.socket").chmod(0o777)
    with pytest.raises(supervisor.EmbeddedError, match="open to other users"):
        async with supervisor.serve(data_dir):
            pass


async def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(supervisor.EmbeddedError, match="is not a folder"):
        async with supervisor.serve(tmp_path / "file"):
            pass


async def test_something_else_in_the_clusters_place_is_refused(tmp_path):
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    with pytest.raises(supervisor.EmbeddedError, match="not a PostgreSQL cluster"):
        async with supervisor.serve(tmp_path / "data"):
            pass


async def test_a_holder_without_a_server_is_named(data_dir, monkeypatch):
    monkeypatch.setattr(supervisor, "_JOIN_SECONDS", 0.3)
    with (data_dir / "postgres.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\na-holder\n")
        lock.truncate()
        lock.flush()
        with pytest.raises(supervisor.EmbeddedError, match=rf"in use by pid {os.getpid()} \(a-holder\)"):
            async with supervisor.serve(data_dir):
                pass


async def test_the_mark_of_a_dead_server_whose_pid_lives_on_does_not_bar_the_start(data_dir):
    mark = data_dir / "postgres" / "postmaster.pid"
    mark.write_text(f"{os.getppid()}\n{data_dir / 'postgres'}\n1\n5432\n\n\n  1 1\nstarting\n")
    mark.chmod(0o600)
    async with supervisor.serve(data_dir) as server:
        assert await run_sql(server.dsn, "select 1")


async def test_a_large_log_is_put_aside_at_the_start(data_dir):
    (data_dir / "postgres.log").write_bytes(b"x" * (10 * 1024 * 1024 + 1))
    async with supervisor.serve(data_dir):
        assert (data_dir / "postgres.log").stat().st_size < 100_000
    assert (data_dir / "postgres.log.1").stat().st_size > 10 * 1024 * 1024


async def test_a_server_that_can_not_start_tells_its_last_words(data_dir):
    with (data_dir / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(supervisor.EmbeddedError, match="no_such_setting"):
        async with supervisor.serve(data_dir):
            pass


def test_binaries_are_those_of_the_clusters_version(tmp_path):
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(supervisor.EmbeddedError, match=r"PostgreSQL 9.*not found \(found: .*pg_upgrade"):
        binaries.find_binaries(tmp_path)
    newest = binaries.find_binaries(tmp_path / "none")
    (tmp_path / "PG_VERSION").write_text(f"{newest.major}\n")
    assert binaries.find_binaries(tmp_path) == newest


def test_binaries_can_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("POINTSMAN_PG_BIN", str(tmp_path))
    with pytest.raises(supervisor.EmbeddedError, match=r"POINTSMAN_PG_BIN=.*no working postgres"):
        binaries.find_binaries(tmp_path)
    for name, text in (("postgres", "echo 'postgres (PostgreSQL) 14.9'"), ("initdb", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(
        supervisor.EmbeddedError, match=r"PostgreSQL 15 or newer was not found \(found: 14\.9 in"
    ):
        binaries.find_binaries(tmp_path)
    (tmp_path / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 19.1 (some build)'\n")
    chosen = binaries.find_binaries(tmp_path)
    assert (chosen.major, chosen.minor, chosen.folder) == (19, 1, tmp_path)


# As root, and as nobody

UNPRIVILEGED = 65534
AS_NOBODY = ("setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups")


@pytest.fixture
def open_folder():
    """A folder every user can reach, which a test's own folder is not."""
    folder = Path(tempfile.mkdtemp(prefix="pointsman-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged():
    """The prefix that runs a program as another user, where root can do that."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become another user")
    tried = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", "import pointsman.storage.embedded.supervisor"],
        cwd="/",
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip("another user can't read this Python or this checkout")
    return AS_NOBODY


async def test_a_normal_user(open_folder, unprivileged):
    data_dir = open_folder / "data"
    data_dir.mkdir(mode=0o755)
    os.chown(data_dir, UNPRIVILEGED, UNPRIVILEGED)
    for rows in (1, 2):
        async with child(data_dir, *unprivileged) as owner:
            answer = await message_of(owner)
            assert answer.get("owned"), answer
            await put_row(answer["dsn"])
            assert await count_rows(answer["dsn"]) == rows
            if rows == 1:
                await leave(owner)
            else:
                owner.kill()
                await until(lambda: lock_is_free(data_dir))
    assert "database system is shut down" in log_of(data_dir).splitlines()[-1]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755


async def test_another_users_folder_is_refused(open_folder, unprivileged):
    async with child(open_folder, *unprivileged) as refused:
        assert f"{open_folder} belongs to uid 0" in (await message_of(refused))["error"]


async def test_root_serves_a_folder_of_another_user_as_that_user(open_folder, unprivileged):
    data_dir = open_folder / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, UNPRIVILEGED, UNPRIVILEGED)
    async with child(data_dir) as owner:
        await put_row((await message_of(owner))["dsn"])
        owner.kill()
        await until(lambda: lock_is_free(data_dir))
    assert "database system is shut down" in log_of(data_dir).splitlines()[-1]
    async with child(data_dir, *unprivileged) as owner:
        answer = await message_of(owner)
        assert answer.get("owned"), answer
        assert await count_rows(answer["dsn"]) == 1
        await leave(owner)


async def test_root_without_user_namespaces_is_told_what_to_do(tmp_path, unprivileged):
    unshare = tmp_path / "bin" / "unshare"
    unshare.parent.mkdir()
    unshare.write_text("#!/bin/sh\nexit 1\n")
    unshare.chmod(0o755)
    barred = os.environ | {"PATH": f"{unshare.parent}:{os.environ['PATH']}"}
    async with child(tmp_path / "data", environment=barred) as refused:
        error = (await message_of(refused))["error"]
    assert "refuses to run as root" in error
    assert "chown" in error


async def test_root_below_a_closed_folder_of_another_user_is_told_so(open_folder, unprivileged):
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, UNPRIVILEGED, UNPRIVILEGED)
    (closed / "data").mkdir()
    async with child(closed / "data") as refused:
        assert "out of reach" in (await message_of(refused))["error"]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
