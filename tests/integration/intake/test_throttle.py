"""Throttling and an outage, end to end: the tracker gets one issue for many problems, and one comment for many updates."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

import pytest

from configuration import ADMIN, SHOP, SOURCES, route, tracker_destination
from fake_bugsink import FakeBugsink
from pointsman.storage.db import Database
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService, count_pending


def config(fake: FakeForgejo, allowed: int) -> str:
    token = f'token = "{SHOP}"'
    sources = SOURCES.replace(token, f"{token}\nlimits = {{ new_tickets_per_minute = {allowed} }}")
    return sources + tracker_destination(fake, "my-product") + route("my-product")


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


async def problem(service: RunningService, n: int, reason: str = "NEW", **more: object) -> str:
    response = await service.alert(reason, id=f"problem-{n}", title=f"KeyError: 'basket {n}'", **more)
    return response["ticket"]


async def test_too_many_problems_become_one_issue_that_lists_them(
    service: RunningService, tracker: FakeForgejo
):
    async with service.replica(config(tracker, allowed=3)) as replica:
        tickets = await asyncio.gather(*(problem(service, n) for n in range(12)))
        assert len(set(tickets)) == 12

        async def four_issues() -> bool:
            return tracker.issues_created() >= 4

        await until(four_issues)
        [parent] = [
            ticket
            for ticket in (await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200))["tickets"]
            if ticket["title"].startswith("Too many")
        ]
        link = await service.linked(parent["id"])
        throttled = [ticket for ticket in tickets if not (await service.ticket(ticket))["links"]]
        assert len(throttled) == 9
        body = tracker.issues[int(link["key"])].body
        assert "More than 3 new problems" in body
        assert "/console/tickets/" in body

        # the comment waits for the end of the minute, which takes too long for a test
        await problem(service, 99)
        await replica.services.database.execute("update lane set due_at = now() where state = 1")

        async def is_listed() -> bool:
            texts = [body, *(comment.body for comment in tracker.issues[int(link["key"])].comments)]
            return any("basket 99" in text for text in texts) and all(
                any(f"basket {tickets.index(comment)}" in text for text in texts) for comment in throttled
            )

        await until(is_listed)
        assert tracker.issues_created() == 4

        # the throttle is over: what is reported again has its own issue
        await replica.services.database.execute(
            "update ticket_rate_window set started_at = started_at - interval '5 minutes'"
        )
        await problem(service, tickets.index(throttled[0]), "REGRESSED", last_seen="2026-11-20T11:00:00Z")
        link = await service.linked(throttled[0])
        assert parent["id"] in tracker.issues[int(link["key"])].body
        seen = await service.ticket(throttled[0])
        assert [event["kind"] for event in seen["events"]] == ["opened", "released"]


@pytest.mark.parametrize(("resolve", "resolved_count"), [("resolve-next", 4), ("no", 0)])
async def test_what_is_closed_with_its_summary_is_resolved_at_its_source(
    service: RunningService, tracker: FakeForgejo, resolve: str, resolved_count: int
):
    async with FakeBugsink() as bugsink:
        settings = f"""[source.settings]
url = "{bugsink.url}"
token = "{bugsink.token}"
poll_seconds = 3600
resolve = "{resolve}"
[[source]]
slug = "helpdesk\""""
        text = config(tracker, allowed=2).replace('[[source]]\nslug = "helpdesk"', settings)
        async with service.replica(text) as replica:
            bugsink.intake_url = f"{service.url}/intake/shop/{SHOP}"
            errors = [await bugsink.error(value=f"'basket {n}'") for n in range(6)]
            seen = (await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200))["tickets"]
            [parent] = [ticket["id"] for ticket in seen if ticket["title"].startswith("Too many")]
            issue = tracker.issues[int((await service.linked(parent))["key"])]
            await replica.services.tracker_updates.set_ticket_state(
                uuid.UUID(parent), "closed", "completed", "Ada"
            )
            database = replica.services.database

            async def idle() -> bool:
                # a comment that came to stand before the closing waits for the end of the minute
                await database.execute("update lane set due_at = now() where state = 1")
                return not await database.fetchval(
                    "select count(*) from delivery where state = 0 and kind = 3"
                )

            await until(idle)
            assert issue.state == "closed"
            assert [ticket.is_resolved for ticket in errors] == [False] * 2 + [resolved_count > 0] * 4
            assert {ticket.how for ticket in errors[2:]} == {resolve if resolved_count else ""}
            assert [ticket.kind for ticket in bugsink.effects].count("state") == resolved_count
            sql = "select count(*) from delivery d join event e on e.n = d.event_n join lane l on l.id = d.lane_id"
            sql += " and l.ticket_id = e.ticket_id join destination x on x.id = l.destination_id"
            sql += " where x.slug = '@source:shop' and d.kind = 3 and e.kind = 'closed' and e.data ->> 'throttle' = $1"
            assert await database.fetchval(sql, parent) == resolved_count


async def test_after_an_outage_the_tracker_gets_one_comment(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker, allowed=60)) as replica:
        ticket = await problem(service, 1)
        link = await service.linked(ticket)
        database = replica.services.database
        await database.execute("update destination_state set pause_reason = 'operator'")
        begin = dt.datetime(2026, 11, 20, 11, tzinfo=dt.UTC)
        for n in range(20):
            seen_at = (begin + dt.timedelta(minutes=n)).isoformat()
            await problem(service, 1, "REGRESSED", last_seen=seen_at)
        await database.execute("update destination_state set pause_reason = null")

        async def idle() -> bool:
            return not await database.fetchval("select count(*) from delivery where state = 0")

        await until(idle)
        [comment] = tracker.issues[int(link["key"])].comments
        assert "and 19 more like it since" in comment.body
        assert len((await service.ticket(ticket))["events"]) == 21


SERVICES = """
[[source]]
slug = "services"
kind = "generic"
token = "services-token-of-the-tests"
settings = { title = "error", dedupe = "id" }
"""


async def test_five_thousand_alerts_of_forty_errors_are_forty_issues(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    """As fast as they can be sent, and with the limits as they come: below the throttle's limit, each error has its issue."""
    numbers = iter(range(5_000))
    async with service.replica(SERVICES + config(tracker, allowed=60)):

        async def sender() -> None:
            for n in numbers:
                body = {"id": n, "error": f"KeyError: 'basket {n % 40}'"}
                await service.call(
                    "POST", "/intake/services/services-token-of-the-tests", json=body, status=202
                )

        async with asyncio.TaskGroup() as senders:
            for _ in range(64):
                senders.create_task(sender())

        async def all_delivered() -> bool:
            return await count_pending(database) == 0

        await until(all_delivered, 60.0)
    assert tracker.issues_created() == 40
    assert not any(issue.comments for issue in tracker.issues.values())
    assert await database.fetchval("select sum(occurrences) from ticket") == 5_000
