"""Synchronization with a real Bugsink by its API: event details, missed alerts, feedback. Old versions use the kind Slack."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from configuration import SHOP, WEBHOOK_SECRET
from pointsman import app
from pointsman.operations import diagnostics
from pointsman.storage import sources as store
from pointsman.storage.db import Database
from pointsman.sync.source_backfill import SourceBackfill
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from real import bugsink as real
from service_fixture import RunningService

VERSIONS = real.versions()

pytestmark = pytest.mark.real


def _config(tracker: FakeForgejo, bugsink: real.Bugsink, settings: str) -> str:
    return f"""
[[source]]
slug = "shop"
kind = "bugsink"
token = "{SHOP}"
[source.settings]
url = "{bugsink.url}"
token = "{bugsink.token}"
poll_seconds = 5
{settings}
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{WEBHOOK_SECRET}"]
[destination.settings]
url = "{tracker.url}"
token = "{tracker.token}"
repository = "acme/shop"
[[route]]
destination = "my-product"
"""


class Scenario:
    """A Bugsink, a tracker, and a replica that is restarted at the same address."""

    def __init__(
        self,
        service: RunningService,
        tracker: FakeForgejo,
        bugsink: real.Bugsink,
        step: Callable[[str], None],
    ):
        self.service, self.tracker, self.bugsink, self.step = service, tracker, bugsink, step
        self.version = tuple(int(part) for part in bugsink.version.split("."))

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        con = await asyncpg.connect(self.service.settings.database_url.reveal())
        try:
            return await con.fetch(sql, *args)
        finally:
            await con.close()

    async def reports(self, action: str, count: int = 1, timeout_seconds: float = 20.0) -> Any:
        async def look() -> list[Any] | None:
            sql = "select ticket_id, headers, body from report where action = $1 order by id"
            rows = await self.rows(sql, action)
            return rows if len(rows) >= count else None

        rows = await until(look, timeout_seconds)
        assert len(rows) == count
        return rows[-1]

    async def issue(self, number: int, state: str, comments: int) -> str:
        async def look() -> bool:
            issue = self.tracker.issues.get(number)
            return issue is not None and issue.state == state and len(issue.comments) == comments

        await until(look, 20)
        return self.tracker.issues[number].comments[-1].body if comments else self.tracker.issues[number].body

    async def backfill_last_hour(self, running: app.Running) -> None:
        """Backfill the last hour again: nothing of it is new."""
        services = running.services
        now = dt.datetime.now(dt.UTC)
        poll = store.SourcePoll(now, None, now - dt.timedelta(hours=1))
        backfill = SourceBackfill(
            services.database, services.config, services.preparer, services.intake, grace=dt.timedelta()
        )
        assert await backfill.backfill(services.config.current.sources["shop"], poll) == 0

    async def problem(self) -> str:
        (row,) = await self.rows(
            "select data ->> 'problem_id' as id from event where n = 1 order by at limit 1"
        )
        return row["id"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_ways_with_a_real_bugsink(service: RunningService, tmp_path: Path, step, version: str):
    """Alerts, alerts that were missed while no replica ran, and the feedback to Bugsink."""
    await real.installed(version)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service.settings = msgspec.structs.replace(service.settings, port=port)
    intake = f"http://127.0.0.1:{port}/intake/shop/{SHOP}"
    old = tuple(int(part) for part in version.split(".")) < (2, 5, 1)
    kind = "slack" if old else "custom"
    async with (
        FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as tracker,
        real.running(version, intake, tmp_path / "bugsink", kind=kind) as bugsink,
    ):
        tracker.webhook_url = f"http://127.0.0.1:{port}/webhooks/forgejo/my-product"
        tracker.webhook_secret = WEBHOOK_SECRET
        step(f"Bugsink {version} is up, with a messaging service of the kind {kind} added in its form")
        scenario = Scenario(service, tracker, bugsink, step)
        settings = "" if scenario.version >= (2, 4, 0) else 'resolve = "no"\ncomment = false'
        async with service.replica(_config(tracker, bugsink, settings)):
            await _alerts(scenario)
            if scenario.version >= (2, 4, 0):
                await _closes(scenario)
            await _mutes(scenario)
        await _away(scenario, muted=scenario.version >= (2, 2, 1))


async def _alerts(scenario: Scenario) -> None:
    bugsink, step = scenario.bugsink, scenario.step
    printed = await bugsink.send_error("empty-basket", "shop@2.3.0")
    step(f"sentry-sdk reports {printed}")
    await scenario.reports("opened")
    body = await scenario.issue(1, "open", 0)
    for fact in (
        "in average_price_cents",
        'sum(basket["prices_cents"])',
        "production",
        "shop@2.3.0",
        "shop-1",
    ):
        assert fact in body, body
    assert "prices_cents': []" not in body
    step("NEW makes issue 1, with stack trace, environment, release and server, and no local variables")
    await bugsink.send_error("empty-basket", "shop@2.3.0")
    await bugsink.press_test(bugsink.service)
    await scenario.reports("test")
    await scenario.reports("opened")
    assert scenario.tracker.issues_created() == 1
    step("the same exception again brings nothing; the Test button's alert makes no ticket")
    await _doctor(scenario)


async def _doctor(scenario: Scenario) -> None:
    """Run the doctor: it reports findings and changes nothing."""
    settings = msgspec.structs.replace(scenario.service.settings, public_url=scenario.service.url)
    async with Database.open(settings.database_url.reveal(), size=2) as database:
        findings = await diagnostics.doctor(settings, database, "shop")
    for finding in findings:
        scenario.step(f"doctor: {finding.level}: {finding.message}")
    whole = scenario.version >= (2, 6, 2)
    assert [finding.message for finding in findings if finding.level == "error"] == []
    assert any("DENY_NON_GLOBAL" in finding.remedy for finding in findings)
    assert any("2.6.2 or newer" in finding.message for finding in findings) == whole
    assert any("/intake/shop/TOKEN" in finding.message for finding in findings)
    assert not any(SHOP in finding.message for finding in findings)
    issue = await scenario.bugsink.api("GET", f"issues/{await scenario.problem()}/")
    assert not issue["is_resolved"]


async def _closes(scenario: Scenario) -> None:
    bugsink, step, tracker = scenario.bugsink, scenario.step, scenario.tracker
    problem = await scenario.problem()

    async def resolved(wanted: bool) -> None:
        async def look() -> bool:
            return (await bugsink.api("GET", f"issues/{problem}/"))["is_resolved"] is wanted

        await until(look, 20)

    if scenario.version >= (2, 6, 2):
        history = await bugsink.api("GET", f"issue-history/?issue={problem}")
        (comment,) = [
            entry["comment"] for entry in history["results"] if entry["kind"] == "manual_annotation"
        ]
        assert f"{tracker.url}/acme/shop/issues/1" in comment
        step(f"a comment is in Bugsink: {comment.partition(chr(10))[0]}")
    assert await tracker.close_issue(1) == 200
    await resolved(True)
    step("issue 1 is closed; is_resolved: true in Bugsink")
    assert await tracker.reopen_issue(1) == 200
    await resolved(False)
    step("issue 1 is reopened; is_resolved: false in Bugsink")
    # Forgejo's times are whole seconds, and a webhook with the same bytes as an earlier one counts as its repetition
    await asyncio.sleep(1.1)
    assert await tracker.close_issue(1) == 200
    await resolved(True)
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    await scenario.reports("regressed")
    comment = await scenario.issue(1, "open", 1)
    assert "come back" in comment and "shop@2.3.1" in comment, comment
    step("closed again, and the exception comes back: REGRESSED reopens issue 1, with a comment")


async def _mutes(scenario: Scenario) -> None:
    if scenario.version < (2, 2, 1):
        return
    bugsink, step = scenario.bugsink, scenario.step
    problem = await scenario.problem()
    comments = len(scenario.tracker.issues[1].comments)
    body = {"period_name": "hour", "nr_of_periods": 1, "gte_threshold": 2}
    assert (await bugsink.api("POST", f"issues/{problem}/mute-until/", body))["is_muted"]
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    await scenario.reports("unmuted")
    comment = await scenario.issue(1, "open", comments + 1)
    assert "More than 2 events per 1 hour" in comment, comment
    step("muted, and unmuted by volume: UNMUTED, a comment with the reason")
    body = {"period_name": "minute", "nr_of_periods": 1}
    assert (await bugsink.api("POST", f"issues/{problem}/mute-for/", body))["is_muted"]
    step("muted for a minute; and Pointsman is stopped")


async def _away(scenario: Scenario, *, muted: bool) -> None:
    """Miss alerts while no replica runs, then find them. The mute of a minute ends after that."""
    bugsink, step, service = scenario.bugsink, scenario.step, scenario.service
    started_at = time.monotonic()
    await bugsink.send_error("unknown-code", "shop@2.3.1")
    failure = await until(lambda: bugsink.failure(bugsink.service), 20)
    step(f"a new exception; Bugsink notes {failure['last_failure_error_type']}, and does not try again")
    assert scenario.tracker.issues_created() == 1
    async with service.replica() as running:
        step("Pointsman is back")
        await scenario.reports("opened", 2, timeout_seconds=60)
        body = await scenario.issue(2, "open", 0)
        assert "KeyError" in scenario.tracker.issues[2].title and "in discount_percent" in body, body
        step("found by the backfill: issue 2, with its stack trace")
        if not muted:
            return
        comments = len(scenario.tracker.issues[1].comments)
        await asyncio.sleep(max(0.0, 61.5 - (time.monotonic() - started_at)))
        await bugsink.send_error("empty-basket", "shop@2.3.1")
        await scenario.reports("unmuted", 2)
        comment = await scenario.issue(1, "open", comments + 1)
        assert "mute" in comment, comment
        step("the minute is over and it happens again: UNMUTED, a comment")
        await scenario.backfill_last_hour(running)
        assert scenario.tracker.issues_created() == 2
        assert len(scenario.tracker.issues[1].comments) == comments + 1
        step("backfilled the last hour again: everything is known, no duplicate")
