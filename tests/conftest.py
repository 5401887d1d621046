"""Fixtures for all tests: one PostgreSQL server per run, a database per test, a running service."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pointsman import logs

# Unit tests need neither the application nor a driver: whatever imports them is imported by the fixtures.
if TYPE_CHECKING:
    from pointsman.storage.db import Database
    from service_fixture import RunningService

settings.register_profile("unit", max_examples=20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run a fifth of the examples that property tests ask for, under ``--hypothesis-profile=unit``."""
    if config.getoption("--hypothesis-profile") != "unit":
        return
    for function in {item.obj for item in items if isinstance(item, pytest.Function)}:
        # ``settings`` decorates a test only once, so the number is replaced where the decorator left it.
        if full := getattr(function, "_hypothesis_internal_use_settings", None):
            fewer = settings(full, max_examples=max(full.max_examples // 5, 10))
            function._hypothesis_internal_use_settings = fewer


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
    """Start a PostgreSQL server for the whole run, or use the one of POINTSMAN_TEST_DATABASE_URL."""
    if configured := os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        yield configured
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


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """Create the migrated database that tests clone."""
    import asyncpg

    from cloned_database import with_database
    from pointsman.storage import migrate
    from pointsman.storage.db import Database

    name = f"template_{uuid.uuid4().hex[:12]}"

    async def create() -> None:
        con = await asyncpg.connect(server_dsn)
        await con.execute(f"create database {name}")
        await con.close()
        async with Database.open(with_database(server_dsn, name), size=2) as database:
            await migrate.migrate(database)

    asyncio.run(create())
    return name


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """Create a database without a schema for one test."""
    from cloned_database import cloned_database

    async for dsn in cloned_database(server_dsn, "template1"):
        yield dsn


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Create a migrated database for one test."""
    from cloned_database import cloned_database

    async for dsn in cloned_database(server_dsn, template):
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """Open a pool on the test's database."""
    from pointsman.storage.db import Database

    async with Database.open(dsn, size=6) as database:
        yield database


@pytest.fixture
async def service(dsn: str, tmp_path: Path) -> AsyncIterator[RunningService]:
    """Prepare everything that surrounds a replica: configuration file, SMTP server, HTTP client."""
    from service_fixture import RunningService

    async with RunningService(dsn, tmp_path) as service:
        yield service


@pytest.fixture(autouse=True)
def _errors_only() -> None:
    logs.configure("json", level="error")
