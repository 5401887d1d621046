"""A database with years of history, kept between runs in the data folder and rebuilt when the schema changes."""

from __future__ import annotations

import hashlib
import sys
import time

import asyncpg
from environment import BASE, HERE, Environment
from scale import Scale

_TABLES = ("ticket", "event", "lane", "delivery", "link", "marker_observation")
_PER_TICKET = 10
_BLOCKED_FROM = 100_000_000  # lanes and tickets that wait are numbered from here
_OLD_DAYS = 10  # with older rows, housekeeping would soon delete some


async def full_database(environment: Environment, scale: Scale) -> str:
    """Return the DSN of the database, after creating it if necessary."""
    content = b"".join(
        path.read_bytes() for path in sorted((HERE.parent / "sql" / "migrations").glob("*.sql"))
    )
    content += (HERE / "full.sql").read_bytes()
    prefix = f"bench_full_{scale.finished}_{scale.blocked}_"
    name = prefix + hashlib.sha256(content).hexdigest()[:12]
    known = [row["datname"] for row in await environment.admin.fetch("select datname from pg_database")]
    if name not in known or not await _fit(environment, name, scale.blocked):
        for database in known:
            if database.startswith(prefix):
                await environment.drop(database)
        print(f"  filling {scale.finished:,} finished deliveries, once", file=sys.stderr, flush=True)
        started_at = time.monotonic()
        await environment.drop("bench_filling")
        await environment.admin.execute(f"create database bench_filling template {BASE}")
        await _fill(environment, scale)
        await environment.admin.execute(f"alter database bench_filling rename to {name}")
        print(f"  filled in {time.monotonic() - started_at:.0f} s", file=sys.stderr, flush=True)
    return environment.dsn(name)


async def _fit(environment: Environment, name: str, blocked: int) -> bool:
    """Return whether the database is recent and unchanged by an earlier run."""
    con = await asyncpg.connect(environment.dsn(name))
    young = await con.fetchval(
        "select max(opened_at) > now() - make_interval(days => $1) from ticket where id < $2",
        _OLD_DAYS,
        "0192a000-0000-7000-8000-000000ffffff",
    )
    waits = await con.fetchval("select count(*) from lane where state <> 0 and id > $1", _BLOCKED_FROM)
    others = await con.fetchval("select count(*) from lane where state <> 0 and id <= $1", _BLOCKED_FROM)
    await con.close()
    return bool(young and waits == blocked and not others)


async def _fill(environment: Environment, scale: Scale) -> None:
    dsn = environment.dsn("bench_filling")
    await environment.configure(dsn, paused=True)
    con = await asyncpg.connect(dsn)
    source = await con.fetchval("select id from source where slug = 'bench'")
    board = await con.fetchval("select id from destination where slug = 'board'")
    dead = await con.fetchval("select id from destination where slug = 'dead'")
    await con.execute("set session_replication_role = replica")  # the generated rows satisfy the foreign keys
    await con.execute("set maintenance_work_mem = '512MB'")
    create_statements = await _without_indexes(con)
    tickets = scale.finished // _PER_TICKET
    for step, sql in _steps():
        await con.execute(sql, source, board, tickets, 0, 0, _PER_TICKET, timeout=3600)
        await con.execute(sql, source, dead, scale.blocked, _BLOCKED_FROM, 1, 1, timeout=3600)
        print(f"  {step}", file=sys.stderr, flush=True)
    for sql in create_statements:
        await con.execute(sql, timeout=3600)
    # ids of new lanes lie between those of finished lanes and those of waiting lanes
    await con.execute(
        "select setval(pg_get_serial_sequence('lane', 'id'), $1::bigint)".replace("$1", str(tickets + 1))
    )
    await con.execute("vacuum (analyze, freeze)", timeout=3600)
    await con.execute("checkpoint", timeout=3600)
    await con.close()


def _steps() -> list[tuple[str, str]]:
    """Return the names and statements of full.sql."""
    steps = []
    for part in (HERE / "full.sql").read_text("utf-8").split("-- step: ")[1:]:
        step, _, sql = part.partition("\n")
        steps.append((step.strip(), sql))
    return steps


async def _without_indexes(con: asyncpg.Connection) -> list[str]:
    """Drop keys and indexes of the large tables and return the statements that create them again, keys first."""
    keys = await con.fetch(
        "select c.conrelid::regclass::text as tbl, c.conname as name, pg_get_constraintdef(c.oid) as def, c.contype::text"
        " from pg_constraint c where c.contype in ('p', 'u', 'f')"
        " and (c.conrelid::regclass::text = any ($1) or c.confrelid::regclass::text = any ($1))"
        " order by c.contype = 'f' desc, c.contype",
        _TABLES,
    )
    for key in keys:
        await con.execute(f'alter table {key["tbl"]} drop constraint "{key["name"]}"')
    indexes = await con.fetch(
        "select schemaname || '.' || indexname as name, indexdef as def from pg_indexes"
        " where schemaname = current_schema() and tablename = any ($1)",
        _TABLES,
    )
    for index in indexes:
        await con.execute(f"drop index {index['name']}")
    makes = [
        f'alter table {key["tbl"]} add constraint "{key["name"]}" {key["def"]}' for key in reversed(keys)
    ]
    return (
        [make for make in makes if " FOREIGN KEY " not in make]
        + [index["def"] for index in indexes]
        + [make + " not valid" for make in makes if " FOREIGN KEY " in make]
    )
