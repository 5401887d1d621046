"""Apply the SQL migrations; safe when several replicas start at once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from pointsman.errors import SchemaError
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError, TransactionConflict
from pointsman.storage.queries import queries
from pointsman.storage.rows import rows_of

SQL = queries("migrate")

OLDEST_POSTGRES = 15
"""The oldest supported major version of PostgreSQL."""

_LOCK = 0x706F696E74736D6E  # "pointsmn"
_WAIT_SECONDS = 120.0
_MIGRATION_SECONDS = 600.0
_BREAKING = "-- breaking"
_PRE_RELEASE = "0001_base"
"""The first migration of databases from before the first release, which had another schema."""


class Migration(NamedTuple):
    """A migration of this program."""

    name: str
    sql: str
    sha256: str


class _AppliedMigration(NamedTuple):
    name: str
    sha256: str
    breaking: bool


class _LockTaken(Exception):
    """Another process migrates."""


def known_migrations() -> Sequence[Migration]:
    """Return the migrations of this program, in order."""
    folder = files("pointsman.sql") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    texts = [(name.removesuffix(".sql"), (folder / name).read_text("utf-8")) for name in names]
    return [Migration(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]


async def migrate(database: Database) -> list[str]:
    """Apply all missing migrations and return their names. Waits for another process that migrates.

    Each migration is a transaction of its own and holds an advisory lock until its end, so it works through a pooler
    too. Locks of tables in use are requested with a short timeout and repeatedly, because everybody else queues behind
    such a request.
    """
    await _require_version(database)
    end = time.monotonic() + _WAIT_SECONDS
    applied: list[str] = []
    while True:
        try:
            name = await _apply_next(database)
        except (_LockTaken, TransactionConflict):
            if time.monotonic() > end:
                raise SchemaError(
                    "another process has been migrating, or using what must change, for two minutes; see what it"
                    " waits for, then repeat"
                ) from None
            await asyncio.sleep(0.1)
            continue
        if name is None:
            return applied
        applied.append(name)
        end = time.monotonic() + _WAIT_SECONDS


async def require(database: Database) -> None:
    """Check that the schema fits this program. Raises SchemaError if it is older, or newer in a breaking way."""
    await _require_version(database)
    try:
        applied = rows_of(_AppliedMigration, await database.fetch(SQL["applied_migrations"]))
    except StatementError as error:
        if not isinstance(error.__cause__, asyncpg.UndefinedTableError):
            raise
        raise SchemaError("the database is empty: run `pointsman migrate` first") from None
    _check_compatible(applied)
    names = {migration.name for migration in applied}
    if missing := [migration.name for migration in known_migrations() if migration.name not in names]:
        raise SchemaError(f"the database lacks {', '.join(missing)}: run `pointsman migrate` first")


async def _require_version(database: Database) -> None:
    version = int(await database.fetchval("show server_version_num"))
    if version < OLDEST_POSTGRES * 10_000:
        raise SchemaError(f"this is PostgreSQL {version // 10_000}; use {OLDEST_POSTGRES} or later")


async def _apply_next(database: Database) -> str | None:
    """Apply the next migration and return its name, or None if all are applied."""
    async with database.transaction() as con:
        # tried, not waited for: a waiting statement would hold a snapshot and delay others
        if not await con.fetchval(SQL["try_migration_lock"], _LOCK):
            raise _LockTaken
        await con.execute("set local statement_timeout = 0; set local lock_timeout = '2s'")
        if int(await con.fetchval("show server_version_num")) >= 170_000:
            await con.execute("set local transaction_timeout = 0")
        await con.execute(SQL["create_migration_table"])
        applied = rows_of(_AppliedMigration, await con.fetch(SQL["applied_migrations"]))
        _check_compatible(applied)
        names = {migration.name for migration in applied}
        for migration in known_migrations():
            if migration.name not in names:
                await con.execute(
                    SQL["insert_migration"],
                    migration.name,
                    migration.sha256,
                    migration.sql.startswith(_BREAKING),
                )
                await con.execute(migration.sql, timeout=_MIGRATION_SECONDS)
                return migration.name
        return None


def _check_compatible(applied: Iterable[_AppliedMigration]) -> None:
    """Raise SchemaError if this program can't work with the applied migrations.

    An unknown migration that only adds to the schema is compatible: during a rolling upgrade the old program keeps
    running. An unknown migration whose first line is ``-- breaking`` is not.
    """
    known = {migration.name: migration.sha256 for migration in known_migrations()}
    if any(migration.name == _PRE_RELEASE for migration in applied):
        raise SchemaError(
            "the database was made by a version before the first release, whose tables this program can't use and"
            " does not convert. Create an empty database, set POINTSMAN_DATABASE_URL to it (or POINTSMAN_DATA_DIR to a"
            " new folder if the database is embedded), then run `pointsman migrate` and `pointsman apply FILE`. Issues"
            " stay on their trackers; tickets and their history stay in the old database"
        )
    breaking = sorted(
        migration.name for migration in applied if migration.breaking and migration.name not in known
    )
    if breaking:
        raise SchemaError(
            f"the database went past this program with {', '.join(breaking)}: start the newer program"
        )
    changed = [
        migration.name
        for migration in applied
        if known.get(migration.name, migration.sha256) != migration.sha256
    ]
    if changed:
        raise SchemaError(
            f"migration {changed[0]} was changed after it was applied; install the release that it came with"
        )
