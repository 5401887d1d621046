"""Deliveries per second: one replica or worker sends waiting deliveries to a tracker on the same machine.

The time runs from the first call at the tracker until nothing is left in the database, so that the start of the process does
not count and marking deliveries as done does.
"""

from __future__ import annotations

import time

import asyncpg
from environment import BASE, Child, Environment, until
from full import full_database
from scale import Figures, Scale

PEERS = {
    "bare": ("bare_queue.py", "select not exists (select from job where state < 2)"),
    "pgqueuer": (
        "pgqueuer_peer.py",
        "select not exists (select from pgqueuer where status in ('queued', 'picked'))",
    ),
    "procrastinate": (
        "procrastinate_peer.py",
        "select not exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
    ),
}
CONTESTANTS = ("pointsman", "full", *PEERS)

_OURS_DONE = """
select not exists (select from lane l join destination d on d.id = l.destination_id
                   where d.slug = 'board' and l.state in (1, 2))
"""
_GO = """
update destination_state set pause_reason = null
where destination_id = (select id from destination where slug = 'board')
"""


async def measure(environment: Environment, scale: Scale, contestant: str) -> Figures:
    """Measure one round of a contestant."""
    if contestant == "full":
        return await _ours(environment, scale, await full_database(environment, scale), fresh=False)
    if contestant == "pointsman":
        async with environment.database(BASE) as dsn:
            return await _ours(environment, scale, dsn, fresh=True)
    file, done = PEERS[contestant]
    async with environment.database() as dsn:
        await environment.fill(file, scale.waiting, dsn)
        await environment.settle()
        await environment.tracker.get("reset")
        async with environment.peer(file, "work", dsn=dsn) as child:
            await child.read_line()
            return await _until_done(environment, child, dsn, scale.waiting, done)


async def _ours(environment: Environment, scale: Scale, dsn: str, *, fresh: bool) -> Figures:
    await environment.configure(dsn, paused=True)
    async with environment.service(dsn) as child:
        accepted = (await environment.load(child.url, "--count", str(scale.waiting)))["accepted"]
        assert accepted == scale.waiting, f"only {accepted} were accepted: {child.log_end()}"
        con = await asyncpg.connect(dsn)
        if fresh:
            await con.execute("vacuum analyze")
        await environment.settle()
        await environment.tracker.get("reset")
        used = child.cpu_seconds()
        await con.execute(_GO)
        await con.execute("select pg_notify('pointsman_work', 'bench')")
        await con.close()
        figures = await _until_done(environment, child, dsn, scale.waiting, _OURS_DONE)
        share = (child.cpu_seconds() - used) / (scale.waiting / figures["per_second"]) * 100
        return {**figures, "core_percent": share, "peak_mib": child.peak_mib()}


async def _until_done(environment: Environment, child: Child, dsn: str, count: int, done: str) -> Figures:
    con = await asyncpg.connect(dsn)
    calls = {"count": 0, "first": 0, "last": 0}

    async def called() -> bool:
        calls.update(await environment.tracker.get("calls"))
        if child.ended:
            raise RuntimeError(f"the process ended: {child.log_end()}")
        return calls["count"] >= count

    async def nothing_left() -> bool:
        return bool(await con.fetchval(done))

    await until(called, every=0.1)
    await until(nothing_left, every=0.01)
    seconds = (time.monotonic_ns() - calls["first"]) / 1e9
    await con.close()
    calls.update(await environment.tracker.get("calls"))
    assert calls["count"] == count, f"{calls['count']} calls for {count} jobs"
    return {
        "per_second": count / seconds,
        "per_second_to_last_call": (count - 1) / max((calls["last"] - calls["first"]) / 1e9, 1e-6),
    }
