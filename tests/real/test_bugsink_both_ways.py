"""A real Bugsink, asked and told by its API: details, lost alerts, and the loop closed. Its old versions by the kind Slack."""

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


def _config(tracker: FakeForgejo, bugsink: real.Bugsink, told: str) -> str:
    return f"""
[[source]]
slug = "shop"
kind = "bugsink"
token = "{SHOP}"
[source.settings]
url = "{bugsink.url}"
token = "{bugsink.token}"
poll_seconds = 5
{told}
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


class Story:
    """One Bugsink, one tracker, and a replica that comes and goes at one address."""

    def __init__(
        self, service: RunningService, tracker: FakeForgejo, bugsink: real.Bugsink, step: Callable[[str], None]
    ):
        self.service, self.tracker, self.bugsink, self.step = service, tracker, bugsink, step
        self.version = tuple(int(part) for part in bugsink.version.split("."))

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        con = await asyncpg.connect(self.service.settings.database_url.reveal())
        try:
            return await con.fetch(sql, *args)
        finally:
            await con.close()

    async def reports(self, action: str, count: int = 1, patience: float = 20.0) -> Any:
        async def look() -> list[Any] | None:
            sql = "select ticket_id, headers, body from report where action = $1 order by id"
            found = await self.rows(sql, action)
            return found if len(found) >= count else None

        found = await until(look, patience)
        assert len(found) == count
        return found[-1]

    async def issue(self, number: int, state: str, comments: int) -> str:
        async def look() -> bool:
            one = self.tracker.issues.get(number)
            return one is not None and one.state == state and len(one.comments) == comments

        await until(look, 20)
        return self.tracker.issues[number].comments[-1].body if comments else self.tracker.issues[number].body

    async def ask_about_everything(self, running: app.Running) -> None:
        """Ask Bugsink about the last hour: nothing of it is news."""
        services = running.services
        now = dt.datetime.now(dt.UTC)
        turn = store.Turn(now, None, now - dt.timedelta(hours=1))
        pull = SourceBackfill(services.database, services.config, services.preparer, services.intake, grace=dt.timedelta())
        assert await pull.ask(services.config.current.sources["shop"], turn) == 0

    async def problem(self) -> str:
        (row,) = await self.rows("select data ->> 'problem_id' as id from event where n = 1 order by at limit 1")
        return row["id"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_ways_with_a_real_bugsink(service: RunningService, tmp_path: Path, step, version: str):
    """Everything an alert does, what is lost while we are away, and what Bugsink is told in return."""
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
        story = Story(service, tracker, bugsink, step)
        told = "" if story.version >= (2, 4, 0) else 'resolve = "no"\ncomment = false'
        async with service.replica(_config(tracker, bugsink, told)):
            await _alerts(story)
            if story.version >= (2, 4, 0):
                await _closes(story)
            await _mutes(story)
        await _away(story, muted=story.version >= (2, 2, 1))


async def _alerts(story: Story) -> None:
    bugsink, step = story.bugsink, story.step
    said = await bugsink.send_error("empty-basket", "shop@2.3.0")
    step(f"sentry-sdk reports {said}")
    await story.reports("opened")
    body = await story.issue(1, "open", 0)
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
    await story.reports("test")
    await story.reports("opened")
    assert story.tracker.issues_made() == 1
    step("the same exception again brings nothing; the Test button's alert makes no ticket")
    await _doctor(story)


async def _doctor(story: Story) -> None:
    """What an administrator is told; nothing of it changes anything."""
    here = msgspec.structs.replace(story.service.settings, public_url=story.service.url)
    async with Database.open(here.database_url.reveal(), size=2) as database:
        found = await diagnostics.doctor(here, database, "shop")
    for one in found:
        story.step(f"doctor: {one.level}: {one.message}")
    whole = story.version >= (2, 6, 2)
    assert [one.message for one in found if one.level == "error"] == []
    assert any("DENY_NON_GLOBAL" in one.remedy for one in found)
    assert any("2.6.2 or newer" in one.message for one in found) == whole
    assert any("/intake/shop/TOKEN" in one.message for one in found)
    assert not any(SHOP in one.message for one in found)
    issue = await story.bugsink.api("GET", f"issues/{await story.problem()}/")
    assert not issue["is_resolved"]


async def _closes(story: Story) -> None:
    bugsink, step, tracker = story.bugsink, story.step, story.tracker
    problem = await story.problem()

    async def resolved(wanted: bool) -> None:
        async def look() -> bool:
            return (await bugsink.api("GET", f"issues/{problem}/"))["is_resolved"] is wanted

        await until(look, 20)

    if story.version >= (2, 6, 2):
        history = await bugsink.api("GET", f"issue-history/?issue={problem}")
        (comment,) = [one["comment"] for one in history["results"] if one["kind"] == "manual_annotation"]
        assert f"{tracker.url}/acme/shop/issues/1" in comment
        step(f"a comment stands in Bugsink: {comment.partition(chr(10))[0]}")
    assert await tracker.close_issue(1) == 200
    await resolved(True)
    step("issue 1 is closed; is_resolved: true in Bugsink")
    assert await tracker.reopen_issue(1) == 200
    await resolved(False)
    step("issue 1 is reopened; is_resolved: false in Bugsink")
    # Forgejo's times are whole seconds, and a webhook with the bytes of an earlier one is taken for its repeat
    await asyncio.sleep(1.1)
    assert await tracker.close_issue(1) == 200
    await resolved(True)
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    await story.reports("regressed")
    comment = await story.issue(1, "open", 1)
    assert "come back" in comment and "shop@2.3.1" in comment, comment
    step("closed again, and the exception comes back: REGRESSED reopens issue 1, with a comment")


async def _mutes(story: Story) -> None:
    if story.version < (2, 2, 1):
        return
    bugsink, step = story.bugsink, story.step
    problem = await story.problem()
    comments = len(story.tracker.issues[1].comments)
    body = {"period_name": "hour", "nr_of_periods": 1, "gte_threshold": 2}
    assert (await bugsink.api("POST", f"issues/{problem}/mute-until/", body))["is_muted"]
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    await story.reports("unmuted")
    comment = await story.issue(1, "open", comments + 1)
    assert "More than 2 events per 1 hour" in comment, comment
    step("muted, and unmuted by volume: UNMUTED, a comment with the reason")
    body = {"period_name": "minute", "nr_of_periods": 1}
    assert (await bugsink.api("POST", f"issues/{problem}/mute-for/", body))["is_muted"]
    step("muted for a minute; and Pointsman is stopped")


async def _away(story: Story, *, muted: bool) -> None:
    """Alerts while nobody hears them; then they are found. The mute of a minute ends after that."""
    bugsink, step, service = story.bugsink, story.step, story.service
    began = time.monotonic()
    await bugsink.send_error("unknown-code", "shop@2.3.1")
    failure = await until(lambda: bugsink.failure(bugsink.service), 20)
    step(f"a new exception; Bugsink notes {failure['last_failure_error_type']}, and does not try again")
    assert story.tracker.issues_made() == 1
    async with service.replica() as running:
        step("Pointsman is back")
        await story.reports("opened", 2, patience=60)
        body = await story.issue(2, "open", 0)
        assert "KeyError" in story.tracker.issues[2].title and "in discount_percent" in body, body
        step("found by asking: issue 2, with its stack trace")
        if not muted:
            return
        comments = len(story.tracker.issues[1].comments)
        await asyncio.sleep(max(0.0, 61.5 - (time.monotonic() - began)))
        await bugsink.send_error("empty-basket", "shop@2.3.1")
        await story.reports("unmuted", 2)
        comment = await story.issue(1, "open", comments + 1)
        assert "mute" in comment, comment
        step("the minute is over and it happens again: UNMUTED, a comment")
        await story.ask_about_everything(running)
        assert story.tracker.issues_made() == 2
        assert len(story.tracker.issues[1].comments) == comments + 1
        step("asked again about everything: all is known, nothing happens twice")
