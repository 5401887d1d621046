"""PostgreSQL restarts, terminates connections, runs out of connections, and is replaced by a standby."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import asyncpg
import pytest
from harness import LONG, Cluster, eventually, time_limit
from processes import ForkServer, TrackerProcess
from server import Server

from pointsman.storage.embedded import data_dir

pytestmark = [pytest.mark.faults, pytest.mark.slow]

RESTARTS, TERMINATIONS = (500, 5000) if LONG else (5, 60)


async def test_restarts_and_terminated_connections(
    new_cluster, own_server: Server, tracker: TrackerProcess, dice: random.Random, note
):
    """Fast and immediate restarts and terminated connections while reports come in and issues are created."""
    cluster: Cluster = await new_cluster(on=own_server, count=2)
    ends = time.monotonic() + time_limit(0.2)
    recoveries: list[float] = []
    terminated = 0
    async with cluster.running():
        sending = cluster.send_load(at_once=8)
        for number in range(RESTARTS):
            if time.monotonic() > ends:
                break
            for _ in range(TERMINATIONS // RESTARTS):
                await asyncio.sleep(0.1)
                rows = await own_server.execute(
                    "select count(pg_terminate_backend(pid)) as ended from (select pid from pg_stat_activity"
                    " where datname like 'faults%' and backend_type = 'client backend' order by random() limit 1) backend"
                )
                terminated += rows[0]["ended"]
            await own_server.restart(signal.SIGQUIT if number % 2 else signal.SIGINT)
            ready = time.monotonic()
            before = len(cluster.effects())

            async def delivered(before: int = before) -> bool:
                return len(cluster.effects()) > before

            await eventually(delivered)
            recoveries.append(time.monotonic() - ready)
        cluster.load.stopped = True
        await sending
        verdict = await cluster.settled()
        seconds_text = "/".join(f"{seconds:.1f}" for seconds in recoveries[:10])
        note(
            verdict,
            restarts=len(recoveries),
            terminations=terminated,
            first_delivery_after=f"{seconds_text} s",
            refused=cluster.load.refused,
        )
        assert verdict.ok, await cluster.explain(verdict)
        assert LONG or (len(recoveries), terminated) == (RESTARTS, TERMINATIONS)


async def test_no_connection_is_left(new_cluster, own_server: Server, tracker: TrackerProcess, note):
    """Another client takes all connections for a while: replicas wait and get connections again."""
    cluster: Cluster = await new_cluster(on=own_server, count=2)
    name = cluster.direct.rpartition("/")[2]
    async with cluster.running():
        await cluster.load.run(20)
        taken_connections = await _take_all(own_server)
        terminate = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
        while await taken_connections[0].fetch(terminate, name):
            taken_connections += await _take_all(own_server)
        sending = cluster.send_load(120, at_once=8)

        async def refused() -> bool:
            return cluster.load.refused > 10

        await eventually(refused)
        for con in taken_connections:
            con.terminate()
        await sending
        verdict = await cluster.settled()
        note(verdict, connections_taken=len(taken_connections), refused=cluster.load.refused)
        assert verdict.ok, await cluster.explain(verdict)


async def _take_all(server: Server) -> list[asyncpg.Connection]:
    taken = []
    while True:
        try:
            taken.append(await asyncpg.connect(server.dsn(), timeout=20))
        except asyncpg.TooManyConnectionsError:
            return taken


async def test_a_server_that_turns_read_only_is_left(
    new_cluster, own_server: Server, tracker: TrackerProcess, note
):
    """A demoted server refuses writes: connections are closed, and opened again when it accepts writes."""
    cluster: Cluster = await new_cluster(on=own_server, count=2)
    name = cluster.direct.rpartition("/")[2]
    async with cluster.running():
        sending = cluster.send_load(at_once=8)
        await cluster.load.until_accepted(30)
        await own_server.execute("alter system set default_transaction_read_only = on")
        await own_server.execute("select pg_reload_conf()")

        async def refused() -> bool:
            return cluster.load.refused > 10

        async def disconnected() -> bool:
            sql = (
                "select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'"
            )
            return (await own_server.execute(sql, name))[0]["count"] == 0  # only refused connections remain

        await eventually(refused)
        await eventually(disconnected)
        await own_server.execute(
            "alter system reset default_transaction_read_only",
            settings={"default_transaction_read_only": "off"},
        )
        await own_server.execute("select pg_reload_conf()")
        await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 60)
        cluster.load.stopped = True
        await sending
        verdict = await cluster.settled()
        note(verdict, refused=cluster.load.refused)
        assert verdict.ok, await cluster.explain(verdict)


async def test_a_standby_takes_over(
    new_cluster, own_server: Server, tracker: TrackerProcess, tmp_path: Path, note
):
    """The primary ends and a synchronous standby is promoted: with both in the DSN, replicas find the new primary."""
    standby = await asyncio.to_thread(own_server.standby, tmp_path / "standby")
    cluster: Cluster = await new_cluster(
        on=own_server,
        count=2,
        dsn=lambda name: (
            f"postgresql://pointsman@127.0.0.1:{own_server.port},127.0.0.1:{standby.port}/{name}"
        ),
    )
    name = cluster.direct.rpartition("/")[2]
    try:
        await standby.start_async()
        await own_server.execute("alter system set synchronous_standby_names = '*'")
        await own_server.execute("select pg_reload_conf()")

        async def follows() -> bool:
            rows = await own_server.execute("select sync_state from pg_stat_replication")
            return [row["sync_state"] for row in rows] == ["sync"]

        await eventually(follows)
        async with cluster.running():
            sending = cluster.send_load(at_once=8)
            await cluster.load.until_accepted(80)
            await asyncio.to_thread(own_server.end, signal.SIGQUIT)
            await asyncio.to_thread(standby.promote)
            cluster.direct = standby.dsn(name)
            await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 80)
            cluster.load.stopped = True
            await sending
            verdict = await cluster.settled()
            note(verdict, refused=cluster.load.refused)
            assert verdict.ok, await cluster.explain(verdict)
    finally:
        await asyncio.to_thread(standby.stop)


async def test_the_embedded_server_comes_back_by_itself(
    fork_server: ForkServer, tracker: TrackerProcess, tmp_path: Path, dice: random.Random, note
):
    """SIGKILL of the embedded server that a replica started."""
    cluster = Cluster(fork_server, tracker, tmp_path, "", dice, count=1)
    data = tmp_path / "replica-0" / "data"
    async with cluster.running():
        folder = data_dir.DataFolder(data).socket_folder()
        assert folder is not None
        cluster.direct = data_dir.dsn(folder)
        sending = cluster.send_load(at_once=6)
        for _ in range(2):
            await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 40)
            pid = int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            assert str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGKILL)
        await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 40)
        cluster.load.stopped = True
        await sending
        verdict = await cluster.settled()
        note(verdict, kills_of_the_server=2, refused=cluster.load.refused)
        assert verdict.ok, await cluster.explain(verdict)
