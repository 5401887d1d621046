"""Plain SQL migrations, safe when several replicas start at once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files

import asyncpg

from pointsman.errors import SchemaError
from pointsman.storage.db import Database, Row
from pointsman.storage.errors import StatementError, TransactionConflict

_LOCK = 0x706F696E74736D6E  # "pointsmn"
_WAIT_SECONDS = 120.0
_MIGRATION_SECONDS = 600.0
_BREAKING = "-- breaking"
_APPLIED = "select name, sha256, breaking from schema_migration"

OLDEST = 15
"""The oldest major version of Postgres that is supported."""


def known() -> Sequence[tuple[str, str, str]]:
    """The migrations of this program: name, text and digest, in order."""
    folder = files("pointsman.sql") / "migrations"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    texts = [(name.removesuffix(".sql"), (folder / name).read_text("utf-8")) for name in found]
    return [(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]


async def _require_version(database: Database) -> None:
    number = int(await database.fetchval("show server_version_num"))
    if number < OLDEST * 10_000:
        raise SchemaError(f"this is PostgreSQL {number // 10_000}; use {OLDEST} or later")


async def migrate(database: Database) -> list[str]:
    """Bring the schema up to date; the names of what was applied. Waits for another process that migrates.

    Each migration is a transaction of its own that holds a lock for as long as it lasts, so this works through a
    pooler too. A table that is in use is not waited for with the queue of everybody behind us: the lock is tried for
    shortly, again and again.
    """
    await _require_version(database)
    end = time.monotonic() + _WAIT_SECONDS
    applied: list[str] = []
    while True:
        try:
            name = await _migrate_once(database)
        except (_Busy, TransactionConflict):
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


class _Busy(Exception):
    """Another process migrates."""


async def _migrate_once(database: Database) -> str | None:
    """Apply the next migration; its name, None if there is none left."""
    async with database.transaction() as con:
        # asked for, never waited for inside Postgres, where it would hold a snapshot and stand in others' way
        if not await con.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
            raise _Busy
        await con.execute("set local statement_timeout = 0; set local lock_timeout = '2s'")
        if con.get_server_version().major >= 17:
            await con.execute("set local transaction_timeout = 0")
        await con.execute(
            "create table if not exists schema_migration ("
            " name text primary key, sha256 text not null, breaking boolean not null default false,"
            " applied_at timestamptz not null default now())"
        )
        done = _checked(await con.fetch(_APPLIED))
        for name, text, digest in known():
            if name in done:
                continue
            await con.execute(
                "insert into schema_migration (name, sha256, breaking) values ($1, $2, $3)",
                name,
                digest,
                text.startswith(_BREAKING),
            )
            await con.execute(text, timeout=_MIGRATION_SECONDS)
            return name
        return None


def _checked(rows: Sequence[Row]) -> set[str]:
    """The migrations that were applied. Refuses what this program can't live with.

    A later migration that only adds is no reason to stop: during a rolling upgrade the old program works on. One whose
    first line says ``-- breaking`` is.
    """
    ours = {name: digest for name, _, digest in known()}
    if breaking := sorted(row["name"] for row in rows if row["breaking"] and row["name"] not in ours):
        raise SchemaError(
            f"the database went past this program with {', '.join(breaking)}: start the newer program"
        )
    if changed := [row["name"] for row in rows if ours.get(row["name"], row["sha256"]) != row["sha256"]]:
        raise SchemaError(
            f"migration {changed[0]} was changed after it was applied; install the release that it came with"
        )
    return {row["name"] for row in rows}


async def require(database: Database) -> None:
    """Refuse to work with a schema that is older than this program, or that went past it."""
    await _require_version(database)
    try:
        done = _checked(await database.fetch(_APPLIED))
    except StatementError as error:
        if not isinstance(error.__cause__, asyncpg.UndefinedTableError):
            raise
        raise SchemaError("the database is empty: run `pointsman migrate` first") from None
    if missing := [name for name, _, _ in known() if name not in done]:
        raise SchemaError(f"the database lacks {', '.join(missing)}: run `pointsman migrate` first")
