"""Fixtures: a real Postgres for the whole run, a database of its own for each test, a service to live in."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from pointsman import logs
from pointsman.storage import migrate
from pointsman.storage.db import Database
from service_fixture import RunningService

_SERVER = """
import asyncio, pathlib, sys
from pointsman import logs
from pointsman.storage.embedded import supervisor as embedded
logs.configure("json", level="error")
async def main():
    async with embedded.serve(pathlib.Path(sys.argv[1])) as server:
        print(server.dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres that lives as long as the run; POINTSMAN_TEST_DATABASE_URL names one that is there already."""
    if given := os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        yield given
        return
    folder = tmp_path_factory.mktemp("pg")
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        dsn = process.stdout.readline().strip()
        assert dsn, "the embedded Postgres did not start"
        yield dsn
        assert process.stdin is not None
        process.stdin.close()


def _named(dsn: str, name: str) -> str:
    head, _, query = dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """A migrated database that tests clone."""
    name = f"template_{uuid.uuid4().hex[:12]}"

    async def make() -> None:
        con = await asyncpg.connect(server_dsn)
        await con.execute(f"create database {name}")
        await con.close()
        async with Database.open(_named(server_dsn, name), size=2) as database:
            await migrate.migrate(database)

    asyncio.run(make())
    return name


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """A database without a schema."""
    async for dsn in _cloned(server_dsn, "template1"):
        yield dsn


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async for dsn in _cloned(server_dsn, template):
        yield dsn


async def _cloned(server_dsn: str, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    con = await asyncpg.connect(server_dsn)
    await con.execute(f"create database {name} template {template}")
    yield _named(server_dsn, name)
    await con.execute(f"drop database {name} with (force)")
    await con.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on the test's database."""
    async with Database.open(dsn, size=6) as database:
        yield database


@pytest.fixture
async def service(dsn: str, tmp_path: Path) -> AsyncIterator[RunningService]:
    """Everything around a replica: configuration file, mail server, client."""
    async with RunningService(dsn, tmp_path) as service:
        yield service


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logs.configure("json", level="error")
