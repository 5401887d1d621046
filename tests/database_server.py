"""A PostgreSQL server for a test run, and databases cloned from a migrated template."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg

from pointsman.storage import migrate
from pointsman.storage.db import Database

# A separate process: the server must outlive the event loops of single tests. No data has to survive a crash of the
# machine, and without fsync a database is dropped about ten times as fast.
_SERVER = """
import asyncio, pathlib, sys
from pointsman import logs
from pointsman.storage.embedded import supervisor
logs.configure("json", level="error")
assert "fsync" in supervisor._SETTINGS
supervisor._SETTINGS |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
async def main():
    async with supervisor.serve(pathlib.Path(sys.argv[1])) as server:
        print(server.dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Start a server and yield its DSN, or yield the one of POINTSMAN_TEST_DATABASE_URL."""
    if configured := os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        yield configured
        return
    with (
        tempfile.TemporaryDirectory(prefix="pg") as folder,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        dsn = process.stdout.readline().strip()
        assert dsn, "the embedded PostgreSQL did not start"
        try:
            yield dsn
        finally:
            process.stdin.close()
            process.wait()


def with_database(dsn: str, name: str) -> str:
    """Return the DSN of another database of the same server."""
    head, _, query = dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"


async def create_template(server_dsn: str) -> str:
    """Create a migrated database to clone and return its name."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    con = await asyncpg.connect(server_dsn)
    await con.execute(f"create database {name}")
    await con.close()
    async with Database.open(with_database(server_dsn, name), size=2) as database:
        await migrate.migrate(database)
    return name


async def cloned_database(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Clone a database, yield the DSN of the clone, and drop it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    con = await asyncpg.connect(server_dsn)
    await con.execute(f"create database {name} template {template}")
    yield with_database(server_dsn, name)
    await con.execute(f"drop database {name} with (force)")
    await con.close()
