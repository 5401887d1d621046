"""Fixtures for all tests: one PostgreSQL server per run, a database per test, a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pointsman import logs

# Unit tests need neither the application nor a driver, so the fixtures import them.
if TYPE_CHECKING:
    from pointsman.storage.db import Database
    from service_fixture import RunningService

settings.register_profile("unit", max_examples=20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run a fifth of the examples that property tests ask for, under ``--hypothesis-profile=unit``."""
    if config.getoption("--hypothesis-profile") != "unit":
        return
    for function in {item.obj for item in items if isinstance(item, pytest.Function)}:
        # ``settings`` decorates a test only once, so the number is replaced where the decorator stored it.
        if full := getattr(function, "_hypothesis_internal_use_settings", None):
            fewer = settings(full, max_examples=max(full.max_examples // 5, 10))
            function._hypothesis_internal_use_settings = fewer


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """Start a PostgreSQL server for the whole run, or use the one of POINTSMAN_TEST_DATABASE_URL."""
    from database_server import running_server

    with running_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """Create the migrated database that tests clone."""
    from database_server import create_template

    return asyncio.run(create_template(server_dsn))


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """Create a database without a schema for one test."""
    from database_server import cloned_database

    async for dsn in cloned_database(server_dsn, "template1"):
        yield dsn


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Create a migrated database for one test."""
    from database_server import cloned_database

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
