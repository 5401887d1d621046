"""Test the metrics page: correct values, cheap statements, and an answer without the database."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from configuration import SOURCES
from pointsman.bus.signals import AttemptFinished, Signals
from pointsman.delivery.attempt_result import LEASE_LOST
from pointsman.domain.states import DeliveryState
from pointsman.storage import metrics as stored
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.queries import queries
from pointsman.web.metrics import Metrics
from polling import until
from service_fixture import RunningService
from source_examples import alert
from stored_lanes import StoredLanes, insert_finished

HOUR = dt.timedelta(hours=1)
NO_POOL = stored.PoolUsage(0, 0)


@pytest.fixture
async def stage(database: Database) -> StoredLanes:
    """Set up."""
    stage = StoredLanes(database)
    await stage.set_up()
    return stage


async def page(database: Database, metrics: Metrics | None = None) -> str:
    metrics = metrics or Metrics()
    return (await metrics.render(stored.pool_usage(database), lambda: stored.read(database))).decode()


def value(text: str, name: str) -> float | None:
    """Return the value of a series by its name on the page."""
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else None


async def test_the_queue_is_shown_by_destination(stage: StoredLanes):
    pending = {"state": DeliveryState.PENDING, "cls": None}
    await stage.lane(
        "here", {**pending, "outcome_unknown": True, "ago": 2 * HOUR}, {**pending, "ago": HOUR}, state=1
    )
    await stage.lane("here", {**pending, "ago": 3 * HOUR}, state=3, park_reason="orphan")
    await stage.lane("there", {"kind": 1}, {**pending, "ago": HOUR}, park_reason="refused")
    await stage.lane(
        "there", {"state": DeliveryState.DONE}, {"cls": "defect"}, {"cls": "defect"}, state=0, head=4
    )
    await stage.lane(
        "there",
        {"state": DeliveryState.DEAD, "cls": "a stranger's word", "outcome_unknown": True},
        state=0,
        head=2,
    )
    text = await page(stage.database)
    for name, wanted in {
        "pointsman_deliveries_pending": 4,
        'pointsman_deliveries_outcome_unknown{destination="here"}': 1,
        'pointsman_deliveries_outcome_unknown{destination="there"}': 0,
        'pointsman_dead_letters{destination="there",outcome="refused"}': 1,
        'pointsman_dead_letters{destination="there",outcome="defect"}': 2,
        'pointsman_dead_letters{destination="there",outcome="other"}': 1,
        'pointsman_lanes_parked{destination="here"}': 1,
        'pointsman_lanes_parked{destination="there"}': 1,
        'pointsman_oldest_pending_delivery_age_seconds{destination="@mail"}': 0,
        "pointsman_database_up": 1,
    }.items():
        assert value(text, name) == wanted, name
    assert value(text, 'pointsman_oldest_pending_delivery_age_seconds{destination="here"}') == pytest.approx(
        3 * 3600, abs=60
    )
    assert value(text, 'pointsman_oldest_pending_delivery_age_seconds{destination="there"}') == pytest.approx(
        3600, abs=60
    )
    assert "stranger" not in text


async def test_the_state_of_a_destination(stage: StoredLanes):
    await stage.database.execute(
        "update destination_state s set breaker = 2, failures = 7, pause_reason = 'operator', credential = 'k',"
        " blocked_until = now() + interval '90 s' from destination d where d.id = s.destination_id and slug = 'here';"
        "insert into rate_limit (credential, scope, declared_rate, rate, burst, tokens)"
        " values ('k', 'content', 1, 0.5, 20, 20)"
    )
    text = await page(stage.database)
    here = '{destination="here"}'
    assert value(text, f"pointsman_destination_circuit_breaker_state{here}") == 2
    assert value(text, f"pointsman_destination_consecutive_failures{here}") == 7
    assert value(text, f"pointsman_destination_paused{here}") == 1
    assert value(text, f"pointsman_destination_backoff_seconds{here}") == pytest.approx(90, abs=20)
    assert value(text, 'pointsman_destination_circuit_breaker_state{destination="there"}') == 0
    assert value(text, 'pointsman_rate_limit_tokens{destination="here",scope="content"}') == 20
    assert value(
        text, 'pointsman_rate_limit_writes_per_second{destination="here",scope="content"}'
    ) == pytest.approx(0.5, abs=0.1)


async def test_parked_reports_and_verify_writes_mode(stage: StoredLanes):
    database = stage.database
    text = await page(database)
    assert (value(text, "pointsman_reports_parked"), value(text, "pointsman_verify_writes_mode")) == (0, 0)
    await database.execute(
        "insert into report (id, source_id, body, body_sha256, state) values (gen_random_uuid(), 1, '', '', 2);"
        "update installation set verify_writes_until = now() + interval '1 hour'"
    )
    text = await page(database)
    assert (value(text, "pointsman_reports_parked"), value(text, "pointsman_verify_writes_mode")) == (1, 1)


async def test_attempts_tell_the_last_success_and_what_came_too_late():
    metrics, signals = Metrics(), Signals()
    metrics.subscribe(signals)
    for outcome in ("unknown", LEASE_LOST, LEASE_LOST):
        signals.emit(AttemptFinished("here", "create", outcome, 0.1))
    signals.emit(AttemptFinished("there", "create", "found", 0.1))
    text = (await metrics.render(NO_POOL, _unavailable)).decode()
    assert value(text, 'pointsman_lost_lease_results_total{destination="here"}') == 2
    assert value(text, 'pointsman_last_success_timestamp_seconds{destination="here"}') is None
    assert value(text, 'pointsman_last_success_timestamp_seconds{destination="there"}')


async def _unavailable() -> stored.DatabaseMetrics:
    raise DatabaseUnavailable("gone")


async def test_what_is_over_is_shown_no_more(stage: StoredLanes):
    metrics = Metrics()
    lane = await stage.lane("here", {"kind": 1}, park_reason="refused")
    dead = 'pointsman_dead_letters{destination="here",outcome="refused"}'
    assert value(await page(stage.database, metrics), dead) == 1
    await stage.database.execute("update delivery set state = 1 where lane_id = $1", lane)
    metrics._read_at -= 5
    assert value(await page(stage.database, metrics), dead) is None


async def test_the_database_is_asked_once_in_five_seconds(stage: StoredLanes):
    metrics, asked = Metrics(), 0

    async def read() -> stored.DatabaseMetrics:
        nonlocal asked
        asked += 1
        return await stored.read(stage.database)

    for _ in range(20):
        await metrics.render(NO_POOL, read)
    assert asked == 1
    metrics._read_at -= 5
    await metrics.render(NO_POOL, read)
    assert asked == 2


@pytest.mark.parametrize("error", [TimeoutError(), DatabaseUnavailable("gone")])
async def test_without_the_database_the_rest_is_shown(error: Exception):
    metrics = Metrics()
    metrics.reports.labels("shop", "accepted").inc()

    async def read() -> stored.DatabaseMetrics:
        raise error

    text = (await metrics.render(NO_POOL, read)).decode()
    assert value(text, "pointsman_database_up") == 0
    assert value(text, 'pointsman_reports_total{result="accepted",source="shop"}') == 1


async def test_nothing_that_is_done_is_read(stage: StoredLanes):
    """Among 20,000 finished deliveries the statements find the unfinished ones by the partial indexes."""
    await stage.lane("here", {"state": DeliveryState.PENDING}, state=1)
    await stage.lane("there", {"kind": 1}, park_reason="refused")
    async with stage.database.pool.acquire() as con:
        await insert_finished(con, 20_000)
        for name in ("destination_metrics", "dead_letter_metrics", "maintenance_metrics"):
            rows = await con.fetch(f"explain (analyze, costs off, timing off) {queries('metrics')[name]}")
            plan = "\n".join(row[0] for row in rows)
            assert "Seq Scan on lane" not in plan and "Seq Scan on delivery" not in plan, plan
            # nor by an index that holds what is done
            most = max(int(count) for count in re.findall(r"rows=(\d+)", plan.replace("rows=0.", "rows=0 ")))
            assert most < 100, plan


async def test_a_running_replica_measures_itself(service: RunningService, tmp_path: Path):
    there = (
        f'[[destination]]\nslug = "there"\ntracker = "folder"\n[destination.settings]\npath = "{tmp_path}/issues"\n'
        '[[route]]\ndestination = "there"\n'
    )
    async with service.replica(SOURCES + there) as running:
        await service.linked((await service.alert())["ticket"])

        async def beaten() -> str | None:
            text: str = await service.call("GET", "/metrics", status=200)
            return text if value(text, "pointsman_event_loop_lag_seconds_count") else None

        text = await until(beaten)
        assert value(text, "pointsman_database_connections_max") == 10
        assert value(text, "pointsman_intake_queue_length") == 0
        success = value(text, 'pointsman_last_success_timestamp_seconds{destination="there"}')
        assert abs(success - dt.datetime.now(dt.UTC).timestamp()) < 60
        assert value(text, "pointsman_database_up") == 1
        before = series(text)
        for n in range(20):
            await service.alert(id=str(uuid.uuid4()), title=f"number {n}")
        running.services.metrics._read_at -= 5
        assert series(await service.call("GET", "/metrics", status=200)) - before <= MAY_COME
        assert alert()["id"] not in text


MAY_COME: set[str] = set()
"""Series that may appear with more reports."""


def series(text: str) -> set[str]:
    """Return the names of the series of a page, except those of this test's own requests."""
    names: set[Any] = {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    return {name for name in names if not name.startswith("pointsman_http_request")}
