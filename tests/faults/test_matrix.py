"""Every response of a tracker, with the effect before it, after it or without one, gets its outcome."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import asyncpg
import cells
import pytest
from cells import Cell
from harness import LONG, Cluster, eventually
from processes import ForkServer, TrackerProcess
from server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

AT_ONCE = 160
KINDS = {"create": 1, "find issue": 1, "comment": 2, "find comment": 2, "close": 3}


def test_every_two_values_meet(dice: random.Random):
    """The short form omits only combinations of three values."""
    chosen = cells.pairwise(dice)
    pairs = {pair for cell in chosen for pair in cells._pairs(cell)}
    assert pairs == {pair for cell in cells.every() for pair in cells._pairs(cell)}
    assert len(chosen) < 200 < len(cells.every())


async def test_every_answer_ends_in_its_class(
    fork_server: ForkServer, server: Server, tmp_path: Path, seed: int, dice: random.Random, note
):
    """Each cell has its own destination; no cell ends as a defect of the plugin or with a duplicate."""
    chosen = cells.every() if LONG else cells.pairwise(dice)
    seen: Counter[str] = Counter()
    violations: list[str] = []
    for number, chunk in enumerate(cells.in_chunks(chosen, AT_ONCE)):
        folder = tmp_path / f"part-{number}"
        tracker = TrackerProcess(folder / "tracker", len(chunk), seed)
        try:
            name = await server.database()
            cluster = Cluster(
                fork_server, tracker, folder, server.dsn(name), dice, count=1, QUICK_POLL_SECONDS="3600"
            )
            async with cluster.running():
                violations += await _judge(cluster, tracker, chunk, seen)
        finally:
            tracker.close()
    note(cells=len(chosen), **dict(seen))
    assert not violations, "\n".join(violations)


async def _judge(
    cluster: Cluster, tracker: TrackerProcess, chunk: list[Cell], seen: Counter[str]
) -> list[str]:
    """Run each cell at its destination and return the violations."""
    con = await asyncpg.connect(cluster.direct)
    try:
        at = dict(zip(tracker.destinations, chunk, strict=True))

        async def polled() -> bool:
            # the first poll for changes would take the fault that is meant for a search
            sql = "select count(*) from destination_state where polled_to is not null"
            return await con.fetchval(sql) >= len(at)

        await eventually(polled)
        orders = await _send_reports(cluster, tracker, at)

        async def done() -> bool:
            left = await con.fetchval(
                "select count(*) from delivery d join lane l on l.id = d.lane_id"
                " join destination x on x.id = l.destination_id where d.state = 0 and x.slug = any ($1)",
                [destination for destination, cell in at.items() if cell.ends() == "done"],
            )
            return left == 0

        await eventually(done, 120)
        await eventually(lambda: _faults_taken(tracker, at), 60)
        return await _compare(cluster, con, at, orders, seen)
    finally:
        await con.close()


async def _send_reports(cluster: Cluster, tracker: TrackerProcess, at: dict[str, Cell]) -> dict[str, int]:
    """Configure the faults, send the reports that cause the calls, and return the order number of each destination."""
    orders: dict[str, int] = {}

    async def configure(destination: str, cell: Cell) -> None:
        faults = [cells.fault(cell)]
        if cell.call.startswith("find"):
            lost = {"match": "POST /api/v1/repos/acme/shop/issues", "reset": True, "applied": True}
            faults.insert(0, lost)
        await tracker.configure(destination=destination, faults=faults)

    async def create(destination: str, cell: Cell) -> str:
        if KINDS[cell.call] == 1:
            await configure(destination, cell)
        orders[destination], ticket = await cluster.load.ticket(destination)
        return ticket

    tickets = dict(zip(at, await asyncio.gather(*(create(*item) for item in at.items())), strict=True))

    async def issues_made() -> bool:
        created = {effect.destination for effect in cluster.effects() if effect.kind == "issue"}
        return created >= {destination for destination, cell in at.items() if KINDS[cell.call] > 1}

    await eventually(issues_made)

    async def update(destination: str, cell: Cell) -> None:
        if KINDS[cell.call] > 1:
            await configure(destination, cell)
            change = "closed" if cell.call == "close" else "note 1"
            await cluster.load.update(destination, orders[destination], tickets[destination], change)

    await asyncio.gather(*(update(*item) for item in at.items()))
    return orders


async def _faults_taken(tracker: TrackerProcess, at: dict[str, Cell]) -> bool:
    state = await tracker.state()
    return not any(state[destination]["faults_left"] for destination in at)


async def _compare(
    cluster: Cluster, con: asyncpg.Connection, at: dict[str, Cell], orders: dict[str, int], seen: Counter[str]
) -> list[str]:
    """Return the differences from the expected outcomes."""
    violations = []
    rows = await con.fetch(
        "select x.slug, d.kind, d.state, l.state as lane,"
        " array(select a.outcome from attempt a where a.lane_id = d.lane_id and a.seq = d.seq"
        "       order by a.started_at, a.ended_at) as outcomes"
        " from delivery d join lane l on l.id = d.lane_id join destination x on x.id = l.destination_id"
    )
    verdict = await cluster.verdict()
    for row in rows:
        cell, outcomes = at[row["slug"]], list(row["outcomes"])
        if "defect" in outcomes:
            violations.append(f"{cell}: a defect: {outcomes}")
        if row["kind"] != KINDS[cell.call]:
            continue
        relevant = outcomes[1:] if cell.call.startswith("find") else outcomes
        if not relevant or relevant[0] not in cell.expected():
            violations.append(f"{cell}: {outcomes} instead of {cell.expected()}")
            continue
        seen[relevant[0]] += 1
        end = {0: "waits", 1: "done", 2: "dead"}[row["state"]]
        end = "parked" if end == "waits" and row["lane"] == 3 else end
        # a delivery that waits for an operator may be done meanwhile, since the tracker has no faults any more
        if end != cell.ends() and not (end == "done" and cell.ends() == "waits"):
            violations.append(f"{cell}: {end} instead of {cell.ends()}: {outcomes}")
    violations += verdict.duplicates + verdict.misordered
    delivered = {orders[destination] for destination, cell in at.items() if cell.ends() == "done"}
    violations += [lost for lost in verdict.lost if int(lost.split()[1].rstrip(":")) in delivered]
    return violations
