"""A pooler in transaction mode between the service and PostgreSQL: ours, and PgBouncer if it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from harness import BAD_DAY, LONG, Cluster, eventually
from pooler import Pooler
from processes import TrackerProcess
from server import USER, Server, free_port

from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLS, ACCEPTED = (200, 20_000) if LONG else (9, 300)
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextlib.asynccontextmanager
async def _pgbouncer(server: Server, folder: Path) -> AsyncIterator[int]:
    """Run PgBouncer and yield its port."""
    assert PGBOUNCER
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(f"""
[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
ignore_startup_parameters =
logfile = {folder}/pgbouncer.log
""")
    settings.write_text(settings.read_text().replace("* = ", f"* = user={USER} "))
    with subprocess.Popen(
        [*server._launcher.prefix, PGBOUNCER, str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:

            async def listens() -> bool:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return True
                return False

            await eventually(listens)
            yield port
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def _ours(server: Server, _: Path) -> AsyncIterator[int]:
    async with Pooler("127.0.0.1", server.port) as pooler:
        yield pooler.port


POOLERS = {"ours": _ours, "pgbouncer": _pgbouncer}
needs_pgbouncer = pytest.mark.skipif(
    not PGBOUNCER, reason="pgbouncer is not installed; only our own pooler is tested"
)
both = pytest.mark.parametrize("kind", ["ours", pytest.param("pgbouncer", marks=needs_pgbouncer)])


async def test_our_pooler_is_a_hard_one(server: Server):
    """Session state is gone with the next transaction: a client that relies on it fails soon."""
    name = await server.database()
    async with Pooler("127.0.0.1", server.port) as pooler:
        dsn = f"postgresql://{USER}@127.0.0.1:{pooler.port}/{name}"
        async with Database.open(dsn, size=4) as careless:
            with pytest.raises(StatementError) as refused:
                await _many(careless)
            assert isinstance(
                refused.value.__cause__,
                (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError),
            )
        async with Database.open(dsn, size=4, pooled=True) as careful:
            await _many(careful)


async def _many(database: Database) -> None:
    for _ in range(50):
        values = await asyncio.gather(*(database.fetchval("select $1::int", n) for n in range(4)))
        assert values == [0, 1, 2, 3]


@both
async def test_the_schema_is_made_through_a_pooler(kind: str, server: Server, tmp_path: Path):
    """Two processes migrate at once: one migrates, the other finds the schema migrated."""
    name = f"empty_{random.randrange(10**9)}"
    await server.execute(f"create database {name}")
    async with POOLERS[kind](server, tmp_path) as port:
        dsn = f"postgresql://{USER}@127.0.0.1:{port}/{name}"
        async with (
            Database.open(dsn, size=2, pooled=True) as first,
            Database.open(dsn, size=2, pooled=True) as second,
        ):
            applied = await asyncio.gather(migrate.migrate(first), migrate.migrate(second))
            assert sorted(itertools.chain(*applied)) == [
                migration.name for migration in migrate.known_migrations()
            ]
            assert await migrate.migrate(first) == []


async def test_killed_behind_a_pooler(
    new_cluster, server: Server, tracker: TrackerProcess, tmp_path: Path, note
):
    """Kill replicas while every transaction uses another session, with and without a direct connection for LISTEN."""

    async def kill(kind: str, destination: str, *, listening: bool) -> None:
        async with POOLERS[kind](server, tmp_path) as port:
            cluster: Cluster = await new_cluster(
                part=destination,
                count=2,
                destinations={destination: tracker.destinations[destination]},
                dsn=lambda name: f"postgresql://{USER}@127.0.0.1:{port}/{name}",
                POINTSMAN_POOLER="transaction",
            )
            for replica in cluster.replicas if listening else ():
                replica.environ["POINTSMAN_LISTEN_DSN"] = cluster.direct
            await cluster.configure_trackers(mix=BAD_DAY)
            kills = 0
            async with cluster.running():
                sending = cluster.send_load(ACCEPTED, at_once=6)
                while kills < KILLS:
                    victim = cluster.dice.choice(cluster.replicas)
                    await asyncio.sleep(cluster.dice.random() * 0.4)
                    await victim.kill()
                    await victim.start()
                    kills += 1
                await sending
                verdict = await cluster.settled()
                note(
                    verdict,
                    kills=kills,
                    pooler=kind,
                    wake_up="listening" if listening else "polling",
                    refused=cluster.load.refused,
                )
                assert verdict.ok, await cluster.explain(verdict)

    await asyncio.gather(
        kill("pgbouncer" if PGBOUNCER else "ours", "destination-0", listening=True),
        kill("ours", "destination-1", listening=False),
    )
