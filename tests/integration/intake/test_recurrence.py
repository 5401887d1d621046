"""A problem that comes back, one below its threshold, one in quiet hours: through the real intake to a tracker."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest

from configuration import SOURCES, route, tracker_destination
from pointsman.app import Running
from pointsman.operations import lookup
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService

WEB = "web-token-of-the-tests"
BEGIN = dt.datetime(2026, 11, 20, 11, tzinfo=dt.UTC)


def config(fake: FakeForgejo, lines: str = "") -> str:
    web = f"""
[[source]]
slug = "web"
kind = "generic"
token = "{WEB}"
settings = {{ title = "title", release = "release" }}
"""
    return SOURCES + web + tracker_destination(fake, "my-product") + route("my-product", lines)


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


class Scene:
    """A problem that is reported repeatedly."""

    def __init__(self, service: RunningService, tracker: FakeForgejo, running: Running) -> None:
        self.service, self.tracker, self.running = service, tracker, running
        self.reports = 0

    async def report(self, reason: str = "NEW") -> str:
        """The same problem once more; its ticket."""
        self.reports += 1
        seen_at = (BEGIN + dt.timedelta(minutes=self.reports)).isoformat()
        created = await self.service.alert(reason, last_seen=seen_at)
        return created["ticket"]

    async def repeat(self, release: str = "") -> str:
        """A problem of another source, which says no more than that it happens; its ticket."""
        self.reports += 1
        body = {"title": "Slow", "release": release, "n": self.reports}
        created = await self.service.call("POST", f"/intake/web/{WEB}", json=body, status=202)
        return created["ticket"]

    async def close(self, ticket: str, reason: str) -> None:
        """A person closes it, and the tracker hears of it."""
        await self.running.services.tracker_updates.set_ticket_state(
            uuid.UUID(ticket), "closed", reason, "operator"
        )
        await self.idle()

    async def idle(self) -> None:
        """Everything is delivered."""

        async def look() -> bool:
            waits = "select count(*) from delivery where state = 0"
            return not await self.running.services.database.fetchval(waits)

        await until(look)

    async def issue(self, ticket: str) -> Any:
        """Its issue at the tracker."""
        return self.tracker.issues[int((await self.service.linked(ticket))["key"])]

    async def events(self, ticket: str) -> list[str]:
        return [event["kind"] for event in (await self.service.ticket(ticket))["events"]]


async def test_what_was_completed_is_reopened(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)) as running:
        scene = Scene(service, tracker, running)
        ticket = await scene.report()
        issue = await scene.issue(ticket)
        await scene.close(ticket, "completed")
        assert issue.state == "closed"
        assert await scene.report("REGRESSED") == ticket
        await scene.idle()
        assert issue.state == "open"
        assert [("thought solved" in comment.body) for comment in issue.comments] == [True]


async def test_what_was_not_planned_stays_closed_and_is_counted(
    service: RunningService, tracker: FakeForgejo
):
    async with service.replica(config(tracker)) as running:
        scene = Scene(service, tracker, running)
        ticket = await scene.report()
        issue = await scene.issue(ticket)
        await scene.close(ticket, "not_planned")
        for reason in ("REGRESSED", "UNMUTED", "REGRESSED"):
            await scene.report(reason)
        await scene.idle()
        assert (issue.state, issue.comments) == ("closed", [])
        seen = await service.ticket(ticket)
        assert (seen["occurrences"], seen["status"]) == (4, "closed")
        assert await scene.events(ticket) == ["opened", "closed", "ignored"]


async def test_a_duplicate_gets_a_comment_and_stays_closed(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)) as running:
        scene = Scene(service, tracker, running)
        ticket = await scene.repeat()
        issue = await scene.issue(ticket)
        await scene.close(ticket, "duplicate")
        for _ in range(3):
            await scene.repeat()
        await scene.idle()
        assert issue.state == "closed"
        [comment] = issue.comments
        assert "closed as a duplicate" in comment.body
        assert "only counted" in comment.body


async def test_a_new_issue_links_to_the_one_before(service: RunningService, tracker: FakeForgejo):
    lines = 'recurrence = [{ then = "new", reason = "completed" }]'
    async with service.replica(config(tracker, lines)) as running:
        scene = Scene(service, tracker, running)
        old = await scene.report()
        first = await scene.issue(old)
        url = (await service.linked(old))["url"]
        await scene.close(old, "completed")
        new = await scene.report("REGRESSED")
        assert new != old
        second = await scene.issue(new)
        await scene.idle()
        assert first.state == "closed"
        assert f"[its issue then]({url})" in second.body
        assert tracker.issues_created() == 2
        assert await scene.report("REGRESSED") == new
        await scene.idle()
        assert tracker.issues_created() == 2
        # a person opens the old one again: it is theirs to do, and the problem goes on with the new one
        await running.services.tracker_updates.set_ticket_state(uuid.UUID(old), "open", None, "operator")
        assert await scene.report("REGRESSED") == new


async def test_the_same_release_is_left_closed_and_the_next_reopens(
    service: RunningService, tracker: FakeForgejo
):
    lines = 'recurrence = [{ then = "ignore", release = "same" }, { then = "reopen", release = "other" }]'
    async with service.replica(config(tracker, lines)) as running:
        scene = Scene(service, tracker, running)
        ticket = await scene.repeat("1.0")
        assert await scene.repeat("1.1") == ticket
        issue = await scene.issue(ticket)
        await scene.close(ticket, "completed")
        await scene.repeat("1.1")
        await scene.idle()
        assert (issue.state, await scene.events(ticket)) == ("closed", ["opened", "closed", "ignored"])
        await scene.repeat("1.2")
        await scene.idle()
        assert issue.state == "open"


async def test_three_in_ten_minutes_make_one_issue_at_the_third(
    service: RunningService, tracker: FakeForgejo
):
    lines = 'match = { occurrences = 3, within = "10m" }'
    async with service.replica(config(tracker, lines)) as running:
        scene = Scene(service, tracker, running)
        database = running.services.database
        ticket = await scene.repeat()
        assert await scene.repeat() == ticket
        assert await database.fetchval("select count(*) from delivery") == 0
        history = await lookup.explain(database, ticket)
        assert history.reasons[1] == "Route 1 would match it: seen 2 of 3 times within 10m."
        for _ in range(3):
            await scene.repeat()
        issue = await scene.issue(ticket)
        await scene.idle()
        assert tracker.issues_created() == 1
        assert "reported **3** times" in issue.body
        assert await scene.events(ticket) == ["opened", "threshold_reached"]


async def test_in_quiet_hours_the_issue_waits_for_their_end(service: RunningService, tracker: FakeForgejo):
    now = dt.datetime.now(dt.UTC)
    start, end = (f"{now + dt.timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    lines = f'quiet_hours = {{ from = "{start}", to = "{end}" }}'
    async with service.replica(config(tracker, lines)) as running:
        scene = Scene(service, tracker, running)
        database = running.services.database
        ticket = await scene.report()
        person = await service.new_ticket()
        await service.linked(person)
        wait = await database.fetchval(
            "select due_at - now() from lane where ticket_id = $1::text::uuid", ticket
        )
        assert dt.timedelta(minutes=118) < wait <= dt.timedelta(hours=2)
        assert tracker.issues_created() == 1, "people are not kept waiting"
        await database.execute("update lane set due_at = now() where state = 1")
        await scene.issue(ticket)
