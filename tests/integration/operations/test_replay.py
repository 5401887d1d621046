"""List deliveries and replay those that were given up, by filter."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from pointsman.cli.main import main
from pointsman.domain.states import DeliveryState
from pointsman.errors import PointsmanError
from pointsman.operations.deliveries import ReplayCount, list_deliveries, replay_matching
from pointsman.storage.db import Database
from pointsman.storage.queries import queries
from stored_lanes import HOUR, StoredLanes, insert_finished

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def stage(database: Database) -> StoredLanes:
    """Insert a source and two destinations."""
    stage = StoredLanes(database)
    await stage.set_up()
    return stage


async def _replay(database: Database, **changed: Any) -> list[ReplayCount]:
    conditions: dict[str, Any] = {
        "destination": "here",
        "outcome": "refused",
        "since": 2 * HOUR,
        "until": None,
    }
    return await replay_matching(database, **{**conditions, "dry_run": False, **changed})


def _count(kind: str, count: int = 1, *, outcome_unknown: bool = False) -> ReplayCount:
    return ReplayCount(outcome="refused", kind=kind, outcome_unknown=outcome_unknown, count=count)


async def _crowd(stage: StoredLanes) -> dict[str, int]:
    """Insert three lanes that match the filter, and lanes that differ from it in one condition each."""
    return {
        "create": await stage.lane(
            "here",
            {"kind": 1, "outcome_unknown": True},
            {"state": DeliveryState.PENDING},
            park_reason="refused",
        ),
        "comment": await stage.lane(
            "here",
            {"kind": 1, "state": DeliveryState.DONE},
            {"kind": 2},
            {"kind": 2, "state": DeliveryState.DONE},
            state=0,
            head=4,
        ),
        "close": await stage.lane(
            "here", {"kind": 1, "state": DeliveryState.DONE}, {"kind": 3}, state=0, head=3
        ),
        "elsewhere": await stage.lane("there", {"kind": 1}, park_reason="refused"),
        "other class": await stage.lane("here", {"kind": 1, "cls": "defect"}, park_reason="defect"),
        "too old": await stage.lane(
            "here", {"kind": 1, "ago": 3 * HOUR}, park_reason="refused", ago=3 * HOUR
        ),
        "pending": await stage.lane("here", {"kind": 1, "state": DeliveryState.PENDING}, state=1),
        "orphan": await stage.lane("here", {"kind": 2, "state": DeliveryState.PENDING}, park_reason="orphan"),
    }


async def test_a_dry_run_counts_by_class_and_kind_and_changes_nothing(stage: StoredLanes):
    await _crowd(stage)
    before = await stage.everything()
    assert await _replay(stage.database, dry_run=True) == [
        _count("create", outcome_unknown=True),
        _count("comment"),
        _count("close"),
    ]
    assert await stage.everything() == before


async def test_what_fits_runs_again_and_nothing_else(stage: StoredLanes):
    """Markers and unknown outcomes are kept, attempts and expiry start again; passed deliveries move to their lane's end."""
    ids = await _crowd(stage)
    database = stage.database
    markers = {
        row["lane_id"]: row["marker"]
        for row in await database.fetch("select * from delivery where state = 2")
    }
    before = {row["id"]: tuple(row) for row in await database.fetch("select * from lane")}
    assert sum(row.count for row in await _replay(database)) == 3
    for name, seq, outcome_unknown in (("create", 1, True), ("comment", 4, False), ("close", 3, False)):
        row = await stage.delivery(ids[name], markers[ids[name]])
        assert (row["state"], row["seq"], row["attempts"], row["outcome_unknown"]) == (
            DeliveryState.PENDING,
            seq,
            0,
            outcome_unknown,
        ), name
        assert row["expires_at"] > row["created_at"] + dt.timedelta(days=2)
        assert await database.fetchval("select state from lane where id = $1", ids[name]) == 1
    after = {row["id"]: tuple(row) for row in await database.fetch("select * from lane")}
    for name in ("elsewhere", "other class", "too old", "pending", "orphan"):
        assert after[ids[name]] == before[ids[name]], name
    assert await _replay(database) == [], "what runs is no longer stopped"
    [entry] = await database.fetch("select actor, action, object, detail from audit")
    assert (entry["actor"], entry["action"], entry["object"]) == ("operator", "replay", "here")
    assert json.loads(entry["detail"])["count"] == 3


async def test_an_issue_that_was_gone_for_many_runs_again_by_the_reason_of_its_lane(stage: StoredLanes):
    ids = await _crowd(stage)
    assert [row.kind for row in await _replay(stage.database, outcome="orphan")] == ["comment"]
    assert await stage.database.fetchval("select state from lane where id = $1", ids["orphan"]) == 1


async def test_the_time_is_when_it_stopped_and_both_ends_count(stage: StoredLanes):
    for hours in (1, 2, 3, 4):
        await stage.lane("here", {"kind": 1, "ago": hours * HOUR}, park_reason="refused")
    between = {"since": 3.5 * HOUR, "until": 1.5 * HOUR}
    assert (await _replay(stage.database, dry_run=True, **between))[0].count == 2
    now = dt.datetime.now(dt.UTC)
    exact = {"since": now - 3.5 * HOUR, "until": now - 1.5 * HOUR}
    assert (await _replay(stage.database, **exact))[0].count == 2
    assert (await _replay(stage.database, since=None, until=0 * HOUR))[0].count == 2


async def test_more_than_a_batch_runs_in_batches_and_in_order(
    stage: StoredLanes, monkeypatch: pytest.MonkeyPatch
):
    """Replayed comments of one lane keep their order."""
    from pointsman.storage import replay

    monkeypatch.setattr(replay, "BATCH_ROWS", 2)
    done = {"kind": 1, "state": DeliveryState.DONE}
    lane = await stage.lane("here", done, *({"kind": 2} for _ in range(7)), state=0, head=9)
    dead = await stage.database.fetch("select marker from delivery where state = 2 order by seq")
    assert (await _replay(stage.database))[0].count == 7
    now = await stage.database.fetch(
        "select marker from delivery where lane_id = $1 and state = 0 order by seq", lane
    )
    assert now == dead


async def test_an_unknown_destination_is_reported(stage: StoredLanes):
    with pytest.raises(PointsmanError, match="no destination nothere"):
        await _replay(stage.database, destination="nothere")


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ({"state": "dead"}, {"create", "comment", "close", "elsewhere", "other class", "too old"}),
        ({"state": "dead", "kind": "create", "destination": "here"}, {"create", "other class", "too old"}),
        ({"outcome": "defect"}, {"other class"}),
        ({"outcome": "orphan"}, {"orphan"}),
        ({"state": "parked", "outcome": "orphan"}, {"orphan"}),
        ({"unknown_outcome": True}, {"create"}),
        ({"state": "dead", "older_than": 2 * HOUR}, {"too old"}),
        ({"state": "parked"}, {"create", "elsewhere", "other class", "too old", "orphan"}),
    ],
)
async def test_deliveries_are_filtered_by_all_that_is_given(
    stage: StoredLanes, conditions: dict[str, Any], names: set[str]
):
    ids = await _crowd(stage)
    deliveries = await list_deliveries(stage.database, **conditions)
    lanes = {int(row.delivery.partition("/")[0]) for row in deliveries}
    assert lanes == {ids[name] for name in names}


async def test_deliveries_of_one_ticket(stage: StoredLanes):
    ids = await _crowd(stage)
    ticket = await stage.database.fetchval("select ticket_id from lane where id = $1", ids["comment"])
    deliveries = await list_deliveries(stage.database, ticket_id=ticket)
    assert [row.delivery for row in deliveries] == [f"{ids['comment']}/{seq}" for seq in (3, 2, 1)]


async def test_the_dead_and_the_pending_are_found_without_reading_what_is_done(stage: StoredLanes):
    database = stage.database
    await stage.lane("here", {"kind": 1}, park_reason="refused")
    async with database.pool.acquire() as con:
        await insert_finished(con, 20_000)
        asked = queries("explain")["find_deliveries"]
        null = {
            3: "null::uuid",
            4: "false",
            5: "null::text",
            6: "null::smallint",
            8: "null::interval",
            9: "50",
        }
        for values in (
            {1: "2::smallint", 2: "null::text", 7: "false"},
            {1: "0::smallint", 2: "'here'", 7: "false"},
            {1: "null::smallint", 2: "null::text", 7: "true"},
        ):
            await _reads_no(con, "delivery", asked, {**null, **values})
        values = {1: "2", 2: "'refused'", 3: "null", 4: "now()", 5: "0", 6: "0", 7: "500"}
        await _reads_no(con, "delivery", queries("replay")["stopped_deliveries"], values)


async def _reads_no(con: Any, table: str, statement: str, values: dict[int, str]) -> None:
    for number in sorted(values, reverse=True):
        statement = statement.replace(f"${number}", values[number])
    plan = "\n".join(row[0] for row in await con.fetch(f"explain {statement}"))
    assert f"Seq Scan on {table}" not in plan, plan


async def test_the_sql_of_the_operations_page_does_what_it_says(stage: StoredLanes):
    """Move rows out of the default partition."""
    database = stage.database
    [moving] = re.findall(
        r"```sql\n(.*?)```", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.DOTALL
    )
    async with database.pool.acquire() as con:
        today = await con.fetchval("select 'report_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        await con.execute(f"drop table {today}")
        await con.execute(
            "insert into report (id, source_id, body, body_sha256) values (gen_random_uuid(), 1, '', '')"
        )
        assert await con.fetchval("select count(*) from report_default") == 1
        await con.execute(moving)
        assert await con.fetchval("select count(*) from report_default") == 0
        assert await con.fetchval(f"select count(*) from {today}") == 1


# -- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command against the test's database."""
    for name in [name for name in os.environ if name.startswith(("POINTSMAN", "DATABASE_URL", "FORGEJO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_DATABASE_URL", dsn)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    return lambda *arguments: CliRunner().invoke(main, ["replay", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--destination", "here"),
        ("--destination", "here", "--outcome", "refused"),
        ("--destination", "here", "--since", "2h"),
        ("--outcome", "refused", "--since", "2h"),
        ("--destination", "here", "--outcome", "refused", "--since", "2h", "--assume-not-applied"),
        ("1/1", "--dry-run"),
        ("1/1", "--destination", "here"),
    ],
)
def test_never_all_by_default(run, arguments: tuple[str, ...]):
    """Require a destination, an outcome and a time together, or one delivery."""
    done = run(*arguments)
    assert done.exit_code == 1 and done.stderr.startswith("pointsman: "), done.output


@pytest.mark.parametrize("time", ["yesterday", "2", "5y", "2026-13-01"])
def test_an_invalid_time_is_reported(run, time: str):
    done = run("--destination", "here", "--outcome", "refused", "--since", time)
    assert done.exit_code == 2 and "is no time" in done.stderr


def test_the_command_counts_and_then_runs(run, dsn: str):
    async def put_up() -> None:
        async with Database.open(dsn, size=1) as database:
            stage = StoredLanes(database)
            await stage.set_up()
            await _crowd(stage)

    async def dead() -> int:
        con = await asyncpg.connect(dsn)
        count: int = await con.fetchval("select count(*) from delivery where state = 2")
        await con.close()
        return count

    asyncio.run(put_up())
    which = ["--destination", "here", "--outcome", "refused", "--since", "2020-01-01"]
    output = run(*which, "--dry-run").output
    assert "would be replayed" in output and asyncio.run(dead()) == 6
    as_json = json.loads(run(*which, "--until", "2h", "--json").output)
    assert as_json == [{"outcome": "refused", "kind": "create", "outcome_unknown": False, "count": 1}]
    assert asyncio.run(dead()) == 5
    output = run(*which).output
    assert output.endswith("are replayed\n") and "close" in output
    assert asyncio.run(dead()) == 2
    assert "no delivery matches" in run(*which).output
