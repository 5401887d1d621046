"""sql/schema.sql is what the migrations make, and is enough to read the schema without running them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import asyncpg
import pytest

from pointsman.storage.db import Database
from pointsman.storage.embedded.binaries import _folders, _inspect

ROOT = Path(__file__).parents[3]


@pytest.fixture
def schema():
    spec = importlib.util.spec_from_file_location("schema_script", ROOT / "scripts" / "schema.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_schema_file_is_what_the_migrations_make(schema, database: Database):
    """Mend it with: python scripts/schema.py."""
    major = int(await database.fetchval("select current_setting('server_version_num')::int / 10000"))
    usable = [
        binaries
        for folder in _folders()
        if (binaries := _inspect(folder)) is not None and binaries.major == major
    ]
    programs = [binaries.folder for binaries in usable if (binaries.folder / "pg_dump").exists()]
    if not programs:
        pytest.skip(f"no pg_dump {major} here")
    generated = schema.normalize(schema.dump(programs[0], database.dsn))
    assert schema.FILE.read_text("utf-8") == generated


async def test_the_schema_file_runs_on_an_empty_database(schema, empty_dsn: str, database: Database):
    con = await asyncpg.connect(empty_dsn)
    try:
        await con.execute(schema.FILE.read_text("utf-8"))
        tables = {row["name"] for row in await con.fetch(_TABLES)}
    finally:
        await con.close()
    expected = {row["name"] for row in await database.fetch(_TABLES)}
    assert tables == {name for name in expected if not re.search(r"_(\d{8}|default)$", name)}


_TABLES = "select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"


async def test_every_table_is_described_in_words(database: Database):
    """Each table but the partitions has its row in sql/README.md, and each row its table."""
    readme = (ROOT / "sql" / "README.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE))
    tables = {row["name"] for row in await database.fetch(_TABLES)}
    assert rows == {name for name in tables if not re.search(r"_(\d{8}|default)$", name)}
