"""From an exception in a real Bugsink to an issue and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from configuration import ADMIN, SHOP, SOURCES, WEBHOOK_SECRET
from pointsman.cli.demo import samples
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from real import bugsink as real
from service_fixture import RunningService

VERSIONS = real.versions((2, 5, 1))  # the first with the kind Custom

pytestmark = pytest.mark.real


@contextlib.asynccontextmanager
async def running(version: str, url: str, folder: Path, step: Callable[[str], None]):
    await real.installed(version)
    step(f"Bugsink {version} is installed")
    async with real.running(version, url, folder) as bugsink:
        step(f"Bugsink {version} is up, with a messaging service of kind custom added in its form")
        yield bugsink


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_whole_way_with_a_real_bugsink(service: RunningService, tmp_path: Path, step, version: str):
    """An exception becomes one issue; closed, resolved and come back, it is open again; nothing else happens."""
    async with (
        FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as tracker,
        service.replica(_config(tracker)),
    ):
        tracker.webhook_url, tracker.webhook_secret = (
            f"{service.url}/webhooks/forgejo/my-product",
            WEBHOOK_SECRET,
        )
        intake = f"{service.url}/intake/shop/{SHOP}"
        async with running(version, intake, tmp_path / "bugsink", step) as bugsink:
            await _run_scenario(service, tracker, bugsink, step)


def _config(tracker: FakeForgejo) -> str:
    return (
        SOURCES
        + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{WEBHOOK_SECRET}"]
[destination.settings]
url = "{tracker.url}"
token = "{tracker.token}"
repository = "acme/shop"
[[route]]
match = {{ source = "shop" }}
destination = "my-product"
"""
    )


async def _run_scenario(service: RunningService, tracker: FakeForgejo, bugsink: real.Bugsink, step) -> None:
    printed = await bugsink.send_error("empty-basket", "shop@2.3.0")
    step(f"sentry-sdk reports {printed}")
    assert printed == "ZeroDivisionError: division by zero"
    (new,) = await reports(service, 1)
    assert new["action"] == "opened"
    issue, ticket = new["body"]["id"], new["ticket"]
    step(f"alert NEW for {new['body']['friendly_id']} makes ticket {ticket}")
    link = await service.linked(ticket)
    number = int(link["key"])
    assert (
        tracker.issues_created() == 1
        and tracker.issues[number].title == "ZeroDivisionError: division by zero"
    )
    shown = tracker.issues[number].body
    facts = ["/basket/average", "SHOP-1", bugsink.url]
    if "events_at" in new["body"]:  # since 2.6.2
        facts.append("shop@2.3.0")
    for fact in facts:
        assert fact in shown, shown
    step(f"issue {number} at the tracker: {tracker.issues[number].title}")

    await bugsink.send_error("empty-basket", "shop@2.3.0")
    await bugsink.counted(issue, 2)
    # an alert of the second event would be queued before the alert of the button
    await bugsink.press_test(bugsink.service)
    _, test = await reports(service, 2)
    assert test["action"] == "test" and test["ticket"] is None
    step("the same exception again brings no alert; the Test button's alert makes no ticket")

    assert await tracker.close_issue(number) == 200
    seen = await service.ticket(ticket)
    assert (seen["status"], seen["close_reason"]) == ("closed", "completed")
    step("the issue is closed, the signed webhook closes the ticket")
    assert (await bugsink.api("POST", f"issues/{issue}/resolve/"))["is_resolved"]
    step("the issue is resolved in Bugsink")

    await bugsink.send_error("empty-basket", "shop@2.3.1")
    back = (await reports(service, 3))[2]
    assert (back["action"], back["ticket"]) == ("regressed", ticket)
    await service.status(ticket, "open")
    await until(_state(tracker, number, "open", comments=1))
    step("the exception comes back: alert REGRESSED, ticket and issue are open again, with a comment")

    body = {"period_name": "hour", "nr_of_periods": 1, "gte_threshold": 2}
    assert (await bugsink.api("POST", f"issues/{issue}/mute-until/", body))["is_muted"]
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    unmuted = (await reports(service, 4))[3]
    assert (unmuted["action"], unmuted["ticket"]) == ("unmuted", ticket)
    await until(_state(tracker, number, "open", comments=2))
    assert unmuted["body"]["unmute_reason"] in tracker.issues[number].comments[1].body
    step(f"muted, and unmuted by volume: alert UNMUTED, a comment: {unmuted['body']['unmute_reason']}")

    seen = await service.ticket(ticket)
    assert [event["kind"] for event in seen["events"]] == ["opened", "closed", "regressed", "unmuted"]
    listed = await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
    assert [listed_ticket["id"] for listed_ticket in listed["tickets"]] == [ticket]
    assert tracker.issues_created() == 1
    assert await bugsink.failure(bugsink.service) == {}
    step("one ticket, one issue; Bugsink notes no failure")

    by_password = await bugsink.add_service(f"http://bugsink:{SHOP}@{service.url[7:]}/intake/shop")
    await bugsink.press_test(by_password)
    assert (await reports(service, 5))[4]["action"] == "test"
    step("the token as the password of Basic authentication is taken")
    for case, kind, url, status in (
        ("a wrong token", "custom", f"{service.url}/intake/shop/a-wrong-token", 401),
        ("another address", "custom", f"{service.url}/alerts/shop/{SHOP}", 404),
        ("another kind of service", "discord", f"{service.url}/intake/shop/{SHOP}", 422),
    ):
        alert_service = await bugsink.add_service(url, kind)
        await bugsink.press_test(alert_service)
        failure = await until(lambda number=alert_service: bugsink.failure(number))
        assert failure["last_failure_status_code"] == status, failure
        step(f"{case}: Bugsink notes {failure['last_failure_error_message'].partition(' for url')[0]}")
    assert await bugsink.failure(by_password) == {}
    await reports(service, 5)


async def reports(service: RunningService, count: int) -> list[dict[str, Any]]:
    """Wait for a number of reports and return all reports in order of arrival."""

    async def look() -> list[dict[str, Any]] | None:
        rows = await con.fetch("select action, ticket_id, body from report order by id")
        stored = [
            {
                "action": row["action"],
                "ticket": str(row["ticket_id"] or "") or None,
                "body": json.loads(row["body"]),
            }
            for row in rows
        ]
        return stored if len(stored) >= count else None

    con = await asyncpg.connect(service.settings.database_url.reveal())
    try:
        stored = await until(look, 20)
    finally:
        await con.close()
    assert len(stored) == count
    return stored


def _state(tracker: FakeForgejo, number: int, state: str, *, comments: int):
    async def look() -> bool:
        issue = tracker.issues[number]
        return issue.state == state and len(issue.comments) == comments

    return look


# -- samples ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def recorder() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a server that records the bodies it receives."""
    bodies: list[bytes] = []

    async def keep(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", keep)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", bodies
    finally:
        await runner.cleanup()


async def test_the_samples_are_what_bugsink_posts(tmp_path: Path, step):
    """Keys, types and constants of the samples are those of real alerts; BUGSINK_RECORD=1 records them again."""
    async with recorder() as (url, bodies), running("2.6.2", url, tmp_path / "bugsink", step) as bugsink:

        async def alerted(count: int) -> bytes:
            async def look() -> bool:
                return len(bodies) >= count

            await until(look, 20)
            return bodies[count - 1].replace(bugsink.url.encode(), b"https://bugsink.example.com")

        await bugsink.send_error("empty-basket", "shop@2.3.0")
        posted = {"new": await alerted(1)}
        issue = json.loads(posted["new"])["id"]
        await bugsink.api("POST", f"issues/{issue}/resolve/")
        await bugsink.send_error("empty-basket", "shop@2.3.0")
        posted["regressed"] = await alerted(2)
        step("recorded NEW and REGRESSED")
    if os.environ.get("BUGSINK_RECORD"):
        for name, body in posted.items():
            path = Path(samples.__file__).with_name(f"bugsink-{name}.json")
            await asyncio.to_thread(path.write_bytes, body)
    changing = {"id", "first_seen", "last_seen", "url"}
    for name in ("new", "regressed"):
        ours, theirs = samples.bugsink(name), json.loads(posted[name])
        assert list(ours) == list(theirs)
        assert {key: ours[key] for key in ours if key not in changing} == {
            key: theirs[key] for key in theirs if key not in changing
        }
        assert ours["url"] == f"https://bugsink.example.com/issues/issue/{ours['id']}/event/last/"
    assert samples.bugsink("new")["id"] == samples.bugsink("regressed")["id"]
