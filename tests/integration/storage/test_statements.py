"""Every statement is one Postgres understands, and the schema file is what the migrations make."""

from __future__ import annotations

from importlib.resources import files

import pytest

from pointsman.errors import SchemaError
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.queries import queries

NAMES = sorted(entry.name.removesuffix(".sql") for entry in (files("pointsman.sql") / "queries").iterdir())


@pytest.mark.parametrize("file", NAMES)
async def test_every_statement_can_be_prepared(database: Database, file: str):
    """A misspelt column or a parameter of two types fails here, not on the first outage."""
    statements = queries(file)
    assert list(statements)
    async with database.pool.acquire() as con:
        for name in statements:
            await con.prepare(statements[name])


async def test_migrating_twice_changes_nothing(empty_dsn: str):
    async with Database.open(empty_dsn, size=2) as database:
        assert await migrate.migrate(database) == [migration.name for migration in migrate.known_migrations()]
        assert await migrate.migrate(database) == []
        await migrate.require(database)


async def test_a_database_of_a_pre_release_is_refused_with_the_next_step(empty_dsn: str):
    async with Database.open(empty_dsn, size=2) as database:
        await database.execute(queries("migrate")["create_migration_table"])
        await database.execute(queries("migrate")["insert_migration"], "0001_base", "0" * 64, False)
        for refuses in (migrate.migrate, migrate.require):
            with pytest.raises(
                SchemaError, match=r"empty database.*POINTSMAN_DATABASE_URL.*pointsman migrate"
            ):
                await refuses(database)
        assert await database.fetchval("select to_regclass('ticket') is null"), "nothing was made"


async def test_partitions_of_the_days_to_come_are_there(database: Database):
    for parent in ("report", "attempt", "webhook"):
        partitions = await database.fetchval(
            "select count(*) from pg_inherits where inhparent = $1::regclass", parent
        )
        assert partitions >= 4
    await database.execute("select create_partitions(5)")
    assert await database.fetchval("select count(*) from report_default") == 0
