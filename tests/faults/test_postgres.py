"""Postgres restarts, throws connections out, runs out of them, and is followed by another server."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import asyncpg
import pytest
from harness import LONG, Cluster, TrackerProcess, Zygote, budget, eventually
from server import Server

from pointsman.storage.embedded import data_dir

pytestmark = [pytest.mark.faults, pytest.mark.slow]

RESTARTS, TERMINATIONS = (500, 5000) if LONG else (5, 60)


async def test_restarts_and_terminated_connections(
    cluster, own_server: Server, tracker: TrackerProcess, dice: random.Random, note
):
    """Fast and immediate restarts, and connections that end one by one, while reports come in and issues are made."""
    two: Cluster = await cluster(over=own_server, count=2)
    ends = time.monotonic() + budget(0.2)
    recoveries: list[float] = []
    terminated = 0
    async with two.running():
        sending = two.sends(at_once=8)
        for number in range(RESTARTS):
            if time.monotonic() > ends:
                break
            for _ in range(TERMINATIONS // RESTARTS):
                await asyncio.sleep(0.1)
                found = await own_server.execute(
                    "select count(pg_terminate_backend(pid)) as ended from (select pid from pg_stat_activity"
                    " where datname like 'faults%' and backend_type = 'client backend' order by random() limit 1) one"
                )
                terminated += found[0]["ended"]
            await own_server.restart(signal.SIGQUIT if number % 2 else signal.SIGINT)
            ready = time.monotonic()
            before = len(two.happened())

            async def delivered(before: int = before) -> bool:
                return len(two.happened()) > before

            await eventually(delivered)
            recoveries.append(time.monotonic() - ready)
        two.load.stopped = True
        await sending
        verdict = await two.settled()
        said = "/".join(f"{seconds:.1f}" for seconds in recoveries[:10])
        note(
            verdict,
            restarts=len(recoveries),
            terminations=terminated,
            first_delivery_after=f"{said} s",
            refused=two.load.refused,
        )
        assert verdict.ok, await two.why(verdict)
        assert LONG or (len(recoveries), terminated) == (RESTARTS, TERMINATIONS)


async def test_no_connection_is_left(cluster, own_server: Server, tracker: TrackerProcess, note):
    """Somebody else takes all connections for a while: replicas wait for theirs, and get them back."""
    two: Cluster = await cluster(over=own_server, count=2)
    name = two.direct.rpartition("/")[2]
    async with two.running():
        await two.load.run(20)
        greedy = await _take_all(own_server)
        thrown_out = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
        while await greedy[0].fetch(thrown_out, name):
            greedy += await _take_all(own_server)
        sending = two.sends(120, at_once=8)

        async def refused() -> bool:
            return two.load.refused > 10

        await eventually(refused)
        for con in greedy:
            con.terminate()
        await sending
        verdict = await two.settled()
        note(verdict, connections_taken=len(greedy), refused=two.load.refused)
        assert verdict.ok, await two.why(verdict)


async def _take_all(server: Server) -> list[asyncpg.Connection]:
    taken = []
    while True:
        try:
            taken.append(await asyncpg.connect(server.dsn(), timeout=20))
        except asyncpg.TooManyConnectionsError:
            return taken


async def test_a_server_that_turns_read_only_is_left(
    cluster, own_server: Server, tracker: TrackerProcess, note
):
    """A demoted server refuses writes; its connections are dropped, and made again once it takes writes."""
    two: Cluster = await cluster(over=own_server, count=2)
    name = two.direct.rpartition("/")[2]
    async with two.running():
        sending = two.sends(at_once=8)
        await two.load.until_accepted(30)
        await own_server.execute("alter system set default_transaction_read_only = on")
        await own_server.execute("select pg_reload_conf()")

        async def refused() -> bool:
            return two.load.refused > 10

        async def let_go() -> bool:
            sql = (
                "select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'"
            )
            return (await own_server.execute(sql, name))[0]["count"] == 0  # none but those that are refused

        await eventually(refused)
        await eventually(let_go)
        await own_server.execute(
            "alter system reset default_transaction_read_only",
            settings={"default_transaction_read_only": "off"},
        )
        await own_server.execute("select pg_reload_conf()")
        await two.load.until_accepted(two.load.promises.accepted + 60)
        two.load.stopped = True
        await sending
        verdict = await two.settled()
        note(verdict, refused=two.load.refused)
        assert verdict.ok, await two.why(verdict)


async def test_a_standby_takes_over(
    cluster, own_server: Server, tracker: TrackerProcess, tmp_path: Path, note
):
    """The primary dies, a synchronous standby is promoted: with both in the address, nobody needs to be told."""
    standby = await asyncio.to_thread(own_server.standby, tmp_path / "standby")
    two: Cluster = await cluster(
        over=own_server,
        count=2,
        dsn=lambda name: (
            f"postgresql://pointsman@127.0.0.1:{own_server.port},127.0.0.1:{standby.port}/{name}"
        ),
    )
    name = two.direct.rpartition("/")[2]
    try:
        await standby.come_up()
        await own_server.execute("alter system set synchronous_standby_names = '*'")
        await own_server.execute("select pg_reload_conf()")

        async def follows() -> bool:
            found = await own_server.execute("select sync_state from pg_stat_replication")
            return [row["sync_state"] for row in found] == ["sync"]

        await eventually(follows)
        async with two.running():
            sending = two.sends(at_once=8)
            await two.load.until_accepted(80)
            await asyncio.to_thread(own_server.end, signal.SIGQUIT)
            await asyncio.to_thread(standby.promote)
            two.direct = standby.dsn(name)
            await two.load.until_accepted(two.load.promises.accepted + 80)
            two.load.stopped = True
            await sending
            verdict = await two.settled()
            note(verdict, refused=two.load.refused)
            assert verdict.ok, await two.why(verdict)
    finally:
        await asyncio.to_thread(standby.stop)


async def test_the_embedded_server_comes_back_by_itself(
    zygote: Zygote, tracker: TrackerProcess, tmp_path: Path, dice: random.Random, note
):
    """kill -9 of the postmaster that a replica started for itself, with all that was promised in it."""
    one = Cluster(zygote, tracker, tmp_path, "", dice, count=1)
    data = tmp_path / "replica-0" / "data"
    async with one.running():
        folder = data_dir.DataFolder(data).socket_folder()
        assert folder is not None
        one.direct = data_dir.dsn(folder)
        sending = one.sends(at_once=6)
        for _ in range(2):
            await one.load.until_accepted(one.load.promises.accepted + 40)
            pid = int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            assert str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGKILL)
        await one.load.until_accepted(one.load.promises.accepted + 40)
        one.load.stopped = True
        await sending
        verdict = await one.settled()
        note(verdict, kills_of_the_server=2, refused=one.load.refused)
        assert verdict.ok, await one.why(verdict)
