"""The connection that listens probes itself, since it can be dead without an error."""

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
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "PROBE_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(notifications, "PROBE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(notifications, "MAX_RECONNECT_SECONDS", 0.3)


async def test_a_connection_that_was_cut_in_silence(server: Server, dice: random.Random):
    """The connection discards all bytes: the listener misses its own probe, reconnects, and receives again."""
    dsn = server.dsn(await server.database())
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    async with (
        Proxy("127.0.0.1", server.port, dice) as proxy,
        Database.open(
            dsn, size=2, listen_dsn=f"postgresql://{USER}@127.0.0.1:{proxy.port}/{dsn.rpartition('/')[2]}"
        ) as listening_database,
        Database.open(dsn, size=2) as other_database,
    ):
        listener, notifier = Listener(listening_database), Listener(other_database)
        listener.on_wake = wake
        async with listener.running(), notifier.running():
            for _ in range(3):
                connections, before = proxy.connections, woken

                async def received(before: int = before) -> bool:
                    notifier.notify()
                    return woken > before

                await eventually(received)
                assert proxy.freeze_all()

                async def reconnected(connections: int = connections) -> bool:
                    return proxy.connections > max(connections, 1)

                await eventually(reconnected)
            before = woken
            await eventually(lambda: received(before))


async def test_a_server_that_takes_no_writes_is_not_listened_to(server: Server):
    """No replica can notify at a demoted server, so a successful probe there proves nothing."""
    name = await server.database()
    wake_ups: list[str] = []

    async def count_listeners() -> int:
        sql = "select count(*) from pg_stat_activity where datname = $1 and query like '%probe%'"
        return (await server.execute(sql, name))[0]["count"]

    async def listening() -> bool:
        return await count_listeners() == 1

    async def gone() -> bool:
        return await count_listeners() == 0

    async with Database.open(server.dsn(name), size=1) as database:
        listener = Listener(database)
        listener.on_wake = lambda: wake_ups.append("woken")
        async with listener.running():
            await eventually(listening)
            await server.execute(f"alter database {name} set default_transaction_read_only = on")
            # an open session keeps its setting, unlike in a real demotion
            await server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and query like '%probe%'",
                name,
            )
            await eventually(gone)
            times = len(wake_ups)
            await server.execute(f"alter database {name} reset default_transaction_read_only")
            await eventually(listening)
            assert len(wake_ups) > times


async def test_behind_a_pooler_nothing_listens(server: Server):
    """Without a direct DSN there is no connection to listen on, and no error."""
    name = await server.database()
    async with Database.open(server.dsn(name), size=1, pooled=True) as database:
        listener = Listener(database)
        async with listener.running():
            listener.notify()
            await asyncio.sleep(0)
            sql = "select count(*) from pg_stat_activity where datname = $1 and query like '%notify%'"
            assert (await server.execute(sql, name))[0]["count"] == 0
