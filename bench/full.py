"""A database as years leave it, kept between runs under the bench's data folder; made anew when the schema changes."""

from __future__ import annotations

import hashlib
import sys
import time

import asyncpg
from ground import BASE, HERE, Ground
from scale import Scale

_TABLES = ("ticket", "event", "lane", "delivery", "link", "marker_observation")
_PER_TICKET = 10
_BLOCKED_FROM = 100_000_000  # lanes and tickets that wait are numbered from here
_OLD_DAYS = 10  # older than this, housekeeping would soon have something to forget


async def full_database(ground: Ground, scale: Scale) -> str:
    """Its address."""
    made_of = b"".join(
        path.read_bytes() for path in sorted((HERE.parent / "sql" / "migrations").glob("*.sql"))
    )
    made_of += (HERE / "full.sql").read_bytes()
    of_this_size = f"bench_full_{scale.finished}_{scale.blocked}_"
    name = of_this_size + hashlib.sha256(made_of).hexdigest()[:12]
    known = [row["datname"] for row in await ground.admin.fetch("select datname from pg_database")]
    if name not in known or not await _fit(ground, name, scale.blocked):
        for one in known:
            if one.startswith(of_this_size):
                await ground.drop(one)
        print(f"  filling {scale.finished:,} finished deliveries, once", file=sys.stderr, flush=True)
        began = time.monotonic()
        await ground.drop("bench_filling")
        await ground.admin.execute(f"create database bench_filling template {BASE}")
        await _fill(ground, scale)
        await ground.admin.execute(f"alter database bench_filling rename to {name}")
        print(f"  filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return ground.dsn(name)


async def _fit(ground: Ground, name: str, blocked: int) -> bool:
    """Whether what is there is young, and no earlier run left it in disorder."""
    con = await asyncpg.connect(ground.dsn(name))
    young = await con.fetchval(
        "select max(opened_at) > now() - make_interval(days => $1) from ticket where id < $2",
        _OLD_DAYS,
        "0192a000-0000-7000-8000-000000ffffff",
    )
    waits = await con.fetchval("select count(*) from lane where state <> 0 and id > $1", _BLOCKED_FROM)
    others = await con.fetchval("select count(*) from lane where state <> 0 and id <= $1", _BLOCKED_FROM)
    await con.close()
    return bool(young and waits == blocked and not others)


async def _fill(ground: Ground, scale: Scale) -> None:
    dsn = ground.dsn("bench_filling")
    await ground.configure(dsn, paused=True)
    con = await asyncpg.connect(dsn)
    source = await con.fetchval("select id from source where slug = 'bench'")
    board = await con.fetchval("select id from destination where slug = 'board'")
    dead = await con.fetchval("select id from destination where slug = 'dead'")
    await con.execute(
        "set session_replication_role = replica"
    )  # foreign keys are kept by how the rows are made
    await con.execute("set maintenance_work_mem = '512MB'")
    again = await _without_indexes(con)
    tickets = scale.finished // _PER_TICKET
    for step, sql in _steps():
        await con.execute(sql, source, board, tickets, 0, 0, _PER_TICKET, timeout=3600)
        await con.execute(sql, source, dead, scale.blocked, _BLOCKED_FROM, 1, 1, timeout=3600)
        print(f"  {step}", file=sys.stderr, flush=True)
    for sql in again:
        await con.execute(sql, timeout=3600)
    # numbers of new lanes come between those that are done and those that wait
    await con.execute(
        "select setval(pg_get_serial_sequence('lane', 'id'), $1::bigint)".replace("$1", str(tickets + 1))
    )
    await con.execute("vacuum (analyze, freeze)", timeout=3600)
    await con.execute("checkpoint", timeout=3600)
    await con.close()


def _steps() -> list[tuple[str, str]]:
    """The statements of full.sql by their names."""
    found = []
    for part in (HERE / "full.sql").read_text("utf-8").split("-- step: ")[1:]:
        step, _, sql = part.partition("\n")
        found.append((step.strip(), sql))
    return found


async def _without_indexes(con: asyncpg.Connection) -> list[str]:
    """Drop keys and indexes of the large tables; what makes them again, keys first."""
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
