"""The one connection that listens proves itself: it can be dead without anybody telling."""

from __future__ import annotations

import asyncio
import random

import pytest
from harness import eventually
from proxy import Proxy
from server import USER, Server

from pointsman.storage import notifications
from pointsman.storage.db import Database
from pointsman.storage.notifications import Listener

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "PROBE_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(notifications, "PROBE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(notifications, "MAX_RECONNECT_SECONDS", 0.3)


async def test_a_connection_that_was_cut_in_silence(server: Server, dice: random.Random):
    """It swallows everything and never ends. The listener hears nothing of itself, connects anew, and hears again."""
    dsn = server.dsn(await server.database())
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    async with (
        Proxy("127.0.0.1", server.port, dice) as proxy,
        Database.open(
            dsn, size=2, listen_dsn=f"postgresql://{USER}@127.0.0.1:{proxy.port}/{dsn.rpartition('/')[2]}"
        ) as ours,
        Database.open(dsn, size=2) as theirs,
    ):
        hears, speaks = Listener(ours), Listener(theirs)
        hears.on_wake = wake
        async with hears.running(), speaks.running():
            for _ in range(3):
                connections, before = proxy.connections, woken

                async def heard(before: int = before) -> bool:
                    speaks.notify()
                    return woken > before

                await eventually(heard)
                assert proxy.freeze_all()

                async def anew(connections: int = connections) -> bool:
                    return proxy.connections > max(connections, 1)

                await eventually(anew)
            before = woken
            await eventually(lambda: heard(before))


async def test_a_server_that_takes_no_writes_is_not_listened_to(server: Server):
    """Nobody speaks at a demoted server, so hearing oneself there proves nothing."""
    name = await server.database()
    said: list[str] = []

    async def ears() -> int:
        sql = "select count(*) from pg_stat_activity where datname = $1 and query like '%probe%'"
        return (await server.execute(sql, name))[0]["count"]

    async def listening() -> bool:
        return await ears() == 1

    async def gone() -> bool:
        return await ears() == 0

    async with Database.open(server.dsn(name), size=1) as database:
        one = Listener(database)
        one.on_wake = lambda: said.append("woken")
        async with one.running():
            await eventually(listening)
            await server.execute(f"alter database {name} set default_transaction_read_only = on")
            # a session that is there keeps its own setting, as it does not in a real demotion
            await server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and query like '%probe%'",
                name,
            )
            await eventually(gone)
            times = len(said)
            await server.execute(f"alter database {name} reset default_transaction_read_only")
            await eventually(listening)
            assert len(said) > times


async def test_behind_a_pooler_nobody_listens(server: Server):
    """Without an address past it there is nothing to listen at, and no error either."""
    name = await server.database()
    async with Database.open(server.dsn(name), size=1, pooled=True) as database:
        one = Listener(database)
        async with one.running():
            one.notify()
            await asyncio.sleep(0)
            sql = "select count(*) from pg_stat_activity where datname = $1 and query like '%notify%'"
            assert (await server.execute(sql, name))[0]["count"] == 0
