"""Every statement is one Postgres understands, and the schema file is what the migrations make."""

from __future__ import annotations

from importlib.resources import files

import pytest

from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.queries import queries

NAMES = sorted(entry.name.removesuffix(".sql") for entry in (files("pointsman.sql") / "queries").iterdir())


@pytest.mark.parametrize("file", NAMES)
async def test_every_statement_can_be_prepared(database: Database, file: str):
    """A misspelt column or a parameter of two types fails here, not on the first outage."""
    found = queries(file)
    assert list(found)
    async with database.pool.acquire() as con:
        for name in found:
            await con.prepare(found[name])


async def test_migrating_twice_changes_nothing(empty_dsn: str):
    async with Database.open(empty_dsn, size=2) as database:
        assert await migrate.migrate(database) == [name for name, _, _ in migrate.known()]
        assert await migrate.migrate(database) == []
        await migrate.require(database)


async def test_partitions_of_the_days_to_come_are_there(database: Database):
    for parent in ("report", "attempt", "webhook"):
        found = await database.fetchval(
            "select count(*) from pg_inherits where inhparent = $1::regclass", parent
        )
        assert found >= 4
    await database.execute("select create_partitions(5)")
    assert await database.fetchval("select count(*) from report_default") == 0
