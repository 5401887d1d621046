"""Everything a tracker may answer, before or after it did what it was asked, or without: each answer ends in its class."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import asyncpg
import cells
import pytest
from cells import Cell
from harness import LONG, Cluster, TrackerProcess, Zygote, eventually
from server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

AT_ONCE = 160
KINDS = {"create": 1, "find issue": 1, "comment": 2, "find comment": 2, "close": 3}


def test_every_two_values_meet(dice: random.Random):
    """The short form leaves nothing out but combinations of three."""
    chosen = cells.pairwise(dice)
    pairs = {pair for cell in chosen for pair in cells._pairs(cell)}
    assert pairs == {pair for cell in cells.every() for pair in cells._pairs(cell)}
    assert len(chosen) < 200 < len(cells.every())


async def test_every_answer_ends_in_its_class(
    zygote: Zygote, server: Server, tmp_path: Path, seed: int, dice: random.Random, note
):
    """Each cell has a repository of its own; none ends as a fault of the plugin, none makes anything twice."""
    chosen = cells.every() if LONG else cells.pairwise(dice)
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for number, some in enumerate(cells.in_chunks(chosen, AT_ONCE)):
        folder = tmp_path / f"part-{number}"
        tracker = TrackerProcess(folder / "tracker", len(some), seed)
        try:
            name = await server.database()
            one = Cluster(zygote, tracker, folder, server.dsn(name), dice, count=1, QUICK_POLL_SECONDS="3600")
            async with one.running():
                wrong += await _judge(one, tracker, some, seen)
        finally:
            tracker.close()
    note(cells=len(chosen), **dict(seen))
    assert not wrong, "\n".join(wrong)


async def _judge(one: Cluster, tracker: TrackerProcess, some: list[Cell], seen: Counter[str]) -> list[str]:
    """Let each cell happen at its place; what is wrong with them."""
    con = await asyncpg.connect(one.direct)
    try:
        at = dict(zip(tracker.places, some, strict=True))

        async def polled() -> bool:
            # the first question for changes would take the fault that is meant for a find
            sql = "select count(*) from destination_state where polled_to is not null"
            return await con.fetchval(sql) >= len(at)

        await eventually(polled)
        orders = await _tell(one, tracker, at)

        async def done() -> bool:
            left = await con.fetchval(
                "select count(*) from delivery d join lane l on l.id = d.lane_id"
                " join destination x on x.id = l.destination_id where d.state = 0 and x.slug = any ($1)",
                [place for place, cell in at.items() if cell.ends() == "done"],
            )
            return left == 0

        await eventually(done, 120)
        await eventually(lambda: _faults_taken(tracker, at), 60)
        return await _compare(one, con, at, orders, seen)
    finally:
        await con.close()


async def _tell(one: Cluster, tracker: TrackerProcess, at: dict[str, Cell]) -> dict[str, int]:
    """Order the faults and say what makes the calls that meet them; the order number of each place."""
    orders: dict[str, int] = {}

    async def order(place: str, cell: Cell) -> None:
        faults = [cells.fault(cell)]
        if cell.call.startswith("find"):
            lost = {"match": "POST /api/v1/repos/acme/shop/issues", "reset": True, "applied": True}
            faults.insert(0, lost)
        await tracker.order(place=place, faults=faults)

    async def create(place: str, cell: Cell) -> str:
        if KINDS[cell.call] == 1:
            await order(place, cell)
        orders[place], ticket = await one.load.ticket(place)
        return ticket

    tickets = dict(zip(at, await asyncio.gather(*(create(*item) for item in at.items())), strict=True))

    async def issues_made() -> bool:
        made = {effect.place for effect in one.happened() if effect.kind == "issue"}
        return made >= {place for place, cell in at.items() if KINDS[cell.call] > 1}

    await eventually(issues_made)

    async def go_on(place: str, cell: Cell) -> None:
        if KINDS[cell.call] > 1:
            await order(place, cell)
            what = "closed" if cell.call == "close" else "note 1"
            await one.load.on(place, orders[place], tickets[place], what)

    await asyncio.gather(*(go_on(*item) for item in at.items()))
    return orders


async def _faults_taken(tracker: TrackerProcess, at: dict[str, Cell]) -> bool:
    state = await tracker.state()
    return not any(state[place]["faults_left"] for place in at)


async def _compare(
    one: Cluster, con: asyncpg.Connection, at: dict[str, Cell], orders: dict[str, int], seen: Counter[str]
) -> list[str]:
    """What does not stand in the table."""
    wrong = []
    rows = await con.fetch(
        "select x.slug, d.kind, d.state, l.state as lane,"
        " array(select a.outcome from attempt a where a.lane_id = d.lane_id and a.seq = d.seq"
        "       order by a.started_at, a.ended_at) as outcomes"
        " from delivery d join lane l on l.id = d.lane_id join destination x on x.id = l.destination_id"
    )
    verdict = await one.verdict()
    for row in rows:
        cell, outcomes = at[row["slug"]], list(row["outcomes"])
        if "defect" in outcomes:
            wrong.append(f"{cell}: a defect: {outcomes}")
        if row["kind"] != KINDS[cell.call]:
            continue
        told = outcomes[1:] if cell.call.startswith("find") else outcomes
        if not told or told[0] not in cell.expected():
            wrong.append(f"{cell}: {outcomes} instead of {cell.expected()}")
            continue
        seen[told[0]] += 1
        end = {0: "waits", 1: "done", 2: "dead"}[row["state"]]
        end = "parked" if end == "waits" and row["lane"] == 3 else end
        # who waits for an operator may have been let through meanwhile, since the tracker is well again
        if end != cell.ends() and not (end == "done" and cell.ends() == "waits"):
            wrong.append(f"{cell}: {end} instead of {cell.ends()}: {outcomes}")
    wrong += verdict.duplicates + verdict.misordered
    ended_well = {orders[place] for place, cell in at.items() if cell.ends() == "done"}
    wrong += [lost for lost in verdict.lost if int(lost.split()[1].rstrip(":")) in ended_well]
    return wrong
