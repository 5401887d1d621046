"""Deliveries a second: so many wait, one replica or worker brings them to a tracker on the same machine.

The time runs from the first call that the tracker got until the database says that nothing is left, so that starting
costs nobody anything, and marking done is part of it.
"""

from __future__ import annotations

import time

import asyncpg
from full import full_database
from ground import BASE, Child, Ground, until
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


async def measure(ground: Ground, scale: Scale, contestant: str) -> Figures:
    """One round of one contestant."""
    if contestant == "full":
        return await _ours(ground, scale, await full_database(ground, scale), fresh=False)
    if contestant == "pointsman":
        async with ground.database(BASE) as dsn:
            return await _ours(ground, scale, dsn, fresh=True)
    file, done = PEERS[contestant]
    async with ground.database() as dsn:
        await ground.fill(file, scale.waiting, dsn)
        await ground.settle()
        await ground.tracker.get("reset")
        async with ground.peer(file, "work", dsn=dsn) as child:
            await child.said()
            return await _until_done(ground, child, dsn, scale.waiting, done)


async def _ours(ground: Ground, scale: Scale, dsn: str, *, fresh: bool) -> Figures:
    await ground.configure(dsn, paused=True)
    async with ground.service(dsn) as child:
        taken = (await ground.load(child.url, "--count", str(scale.waiting)))["taken"]
        assert taken == scale.waiting, f"only {taken} were taken: {child.last_words()}"
        con = await asyncpg.connect(dsn)
        if fresh:
            await con.execute("vacuum analyze")
        await ground.settle()
        await ground.tracker.get("reset")
        used = child.cpu_seconds()
        await con.execute(_GO)
        await con.execute("select pg_notify('pointsman_work', 'bench')")
        await con.close()
        figures = await _until_done(ground, child, dsn, scale.waiting, _OURS_DONE)
        share = (child.cpu_seconds() - used) / (scale.waiting / figures["per_second"]) * 100
        return {**figures, "core_percent": share, "peak_mib": child.peak_mib()}


async def _until_done(ground: Ground, child: Child, dsn: str, count: int, done: str) -> Figures:
    con = await asyncpg.connect(dsn)
    calls = {"count": 0, "first": 0, "last": 0}

    async def called() -> bool:
        calls.update(await ground.tracker.get("calls"))
        if child.ended:
            raise RuntimeError(f"it ended: {child.last_words()}")
        return calls["count"] >= count

    async def nothing_left() -> bool:
        return bool(await con.fetchval(done))

    await until(called, every=0.1)
    await until(nothing_left, every=0.01)
    seconds = (time.monotonic_ns() - calls["first"]) / 1e9
    await con.close()
    calls.update(await ground.tracker.get("calls"))
    assert calls["count"] == count, f"{calls['count']} calls for {count} jobs"
    return {
        "per_second": count / seconds,
        "per_second_to_last_call": (count - 1) / max((calls["last"] - calls["first"]) / 1e9, 1e-6),
    }
