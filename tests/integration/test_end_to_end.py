"""End to end on a real Postgres, a loopback tracker and a real mail server."""

from __future__ import annotations

import uuid

import pytest

from configuration import ADMIN, HELPDESK, SHOP, SOURCES, WEBHOOK_SECRET, route, tracker_destination
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService


def config(fake: FakeForgejo) -> str:
    return (
        SOURCES
        + tracker_destination(
            fake,
            "my-product",
            more=f'webhook_secrets = ["{WEBHOOK_SECRET}"]',
            settings='labels = ["bug"]',
        )
        + route("my-product", 'match = { source = "shop" }')
        + route("my-product", 'match = { source = "helpdesk" }')
    )


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


async def test_an_alert_becomes_one_issue_and_closes_its_ticket(
    service: RunningService, tracker: FakeForgejo
):
    """NEW opens a ticket, a repeat creates no second issue, and the webhook closes the ticket before it is answered."""
    async with service.replica(config(tracker)):
        first = await service.alert()
        second = await service.alert(digested_event_count=2)
        assert second["ticket"] == first["ticket"] and second["report"] == first["report"]
        link = await service.linked(first["ticket"])
        assert tracker.issues_created() == 1
        tracker.webhook_url, tracker.webhook_secret = (
            f"{service.url}/webhooks/forgejo/my-product",
            WEBHOOK_SECRET,
        )
        assert await tracker.close_issue(int(link["key"])) == 200
        seen = await service.ticket(first["ticket"])
        assert seen["status"] == "closed" and seen["close_reason"] == "completed"


async def test_a_regression_reopens_ticket_and_issue(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)):
        ticket = (await service.alert())["ticket"]
        link = await service.linked(ticket)
        tracker.webhook_url, tracker.webhook_secret = (
            f"{service.url}/webhooks/forgejo/my-product",
            WEBHOOK_SECRET,
        )
        await tracker.close_issue(int(link["key"]))
        await service.alert("REGRESSED", last_seen="2026-11-20T11:00:00Z")
        await service.status(ticket, "open")

        async def reopened():
            kinds = [effect.kind for effect in tracker.effects]
            return kinds[-2:] == ["state", "comment"] and kinds

        await until(reopened)
        seen = await service.ticket(ticket)
        assert [event["kind"] for event in seen["events"]] == ["opened", "closed", "regressed"]
        assert seen["links"][0]["issue_state"] == "open"


@pytest.mark.parametrize("reason", ["REGRESSED", "UNMUTED"])
async def test_an_alert_for_an_unknown_problem_opens_it(
    service: RunningService, tracker: FakeForgejo, reason: str
):
    async with service.replica(config(tracker)):
        ticket = (await service.alert(reason, unmute_reason="more than 5 events an hour"))["ticket"]
        await service.linked(ticket)
        assert (await service.ticket(ticket))["events"][0]["kind"] == "opened"


async def test_unmuted_comments(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)):
        ticket = (await service.alert())["ticket"]
        await service.alert("UNMUTED", unmute_reason="More than 5 events an hour")

        async def commented():
            return [effect for effect in tracker.effects if effect.kind == "comment"]

        await until(commented)
        assert [effect.kind for effect in tracker.effects if effect.kind != "label"][:2] == [
            "issue",
            "comment",
        ]
        assert (await service.ticket(ticket))["status"] == "open"


async def test_the_test_button_makes_no_ticket(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)):
        response = await service.alert("TEST", id="497f6eca-6276-4993-bfeb-53cbbbba6f08")
        assert response["ticket"] is None
        assert (await service.call("GET", "/api/v1/tickets", token=ADMIN))["tickets"] == []


async def test_a_ticket_its_comments_in_order_and_the_mail_at_its_end(
    service: RunningService, tracker: FakeForgejo
):
    """Comments wait for their issue; the reporter gets exactly one e-mail for each transition."""
    async with service.replica(config(tracker)):
        async with tracker.down():
            ticket = await service.new_ticket("I can't pay")
            for n in range(5):
                await service.comment(ticket, f"remark number {n}")
        link = await service.linked(ticket)

        async def comments():
            effects = [effect for effect in tracker.effects if effect.kind == "comment"]
            return effects if len(effects) == 5 else None

        await until(comments, 30)
        bodies = [comment.body for comment in tracker.issues[int(link["key"])].comments]
        assert [f"remark number {n}" in body for n, body in enumerate(bodies)] == [True] * 5
        assert not any("ada@customer.example" in body for body in bodies)

        tracker.webhook_url, tracker.webhook_secret = (
            f"{service.url}/webhooks/forgejo/my-product",
            WEBHOOK_SECRET,
        )
        await tracker.close_issue(int(link["key"]))
        await until(_mails(service, 1))
        mail = service.sink.mails[0]
        assert "ada@customer.example" in mail["To"]
        assert mail.get_body(("plain",)) is not None and mail.get_body(("html",)) is not None
        await tracker.reopen_issue(int(link["key"]))
        await until(_mails(service, 2))
        assert len(service.sink.mails) == 2


def _mails(service: RunningService, count: int):
    async def look():
        return len(service.sink.mails) >= count

    return look


async def test_a_comment_on_a_ticket_without_a_destination_is_kept_and_shown(service: RunningService):
    async with service.replica(SOURCES):
        ticket = await service.new_ticket()
        await service.comment(ticket, "anybody there?")
        seen = await service.ticket(ticket)
        assert seen["links"] == []
        assert [event["kind"] for event in seen["events"]] == ["opened", "commented"]
        assert seen["events"][1]["data"]["body"] == "anybody there?"


async def test_a_ticket_closed_here_closes_its_issue(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        link = await service.linked(ticket)
        seen = await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=HELPDESK, status=200)
        assert seen["status"] == "closed"

        async def closed():
            return tracker.issues[int(link["key"])].state == "closed"

        await until(closed)


async def test_a_replayed_webhook_changes_nothing(service: RunningService, tracker: FakeForgejo):
    """The same call with a new delivery id is recognized by its body after the ticket has changed."""
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        link = await service.linked(ticket)
        tracker.webhook_url, tracker.webhook_secret = (
            f"{service.url}/webhooks/forgejo/my-product",
            WEBHOOK_SECRET,
        )
        await tracker.close_issue(int(link["key"]))
        sent = tracker.webhooks[-1]
        await tracker.reopen_issue(int(link["key"]))
        await service.status(ticket, "open")
        for _ in range(3):
            headers = {**sent.headers, "X-Forgejo-Delivery": str(uuid.uuid4())}
            assert await tracker.post_webhook(tracker.webhook_url, sent.body, headers) == 200
        assert (await service.ticket(ticket))["status"] == "open"
        assert len(await _transitions(service, ticket)) == 2


async def _transitions(service: RunningService, ticket: str):
    seen = await service.ticket(ticket)
    return [event for event in seen["events"] if event["kind"] in ("closed", "reopened")]


async def test_a_close_without_a_webhook_is_found_by_polling(
    service: RunningService, tracker: FakeForgejo, monkeypatch
):
    from msgspec.structs import replace

    from pointsman_forgejo import tracker as plugin

    quick = replace(plugin.ForgejoTracker.capabilities, poll_seconds=0.5)
    monkeypatch.setattr(plugin.ForgejoTracker, "capabilities", quick)
    async with service.replica(config(tracker)):
        ticket = (await service.alert())["ticket"]
        link = await service.linked(ticket)
        await tracker.close_issue(int(link["key"]))
        await service.status(ticket, "closed")


async def test_tokens_reach_only_what_is_theirs(service: RunningService, tracker: FakeForgejo):
    async with service.replica(config(tracker)):
        alert = (await service.alert())["ticket"]
        mine = await service.new_ticket()
        await service.call("GET", f"/api/v1/tickets/{mine}", token=HELPDESK, status=200)
        await service.call("GET", f"/api/v1/tickets/{alert}", token=HELPDESK, status=404)
        await service.call("GET", f"/api/v1/tickets/{mine}", token=SHOP, status=403)
        await service.call("GET", "/api/v1/tickets", token=SHOP, status=403)
        await service.call("GET", "/api/v1/tickets", status=401)
        listed = await service.call("GET", "/api/v1/tickets", token=HELPDESK, status=200)
        assert [ticket["id"] for ticket in listed["tickets"]] == [mine]
        every = await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
        assert {ticket["id"] for ticket in every["tickets"]} == {mine, alert}


async def test_an_idempotency_key_answers_the_same_and_refuses_another_body(service: RunningService):
    async with service.replica(SOURCES):
        headers = {"Idempotency-Key": "one"}
        body = {"title": "Help"}
        ask = {"token": HELPDESK, "headers": headers}
        first = await service.call("POST", "/api/v1/tickets", json=body, status=201, **ask)
        assert await service.call("POST", "/api/v1/tickets", json=body, status=201, **ask) == first
        response = await service.call("POST", "/api/v1/tickets", json={"title": "Else"}, status=409, **ask)
        assert response["type"] == "urn:pointsman:problem:key-reused"
        other = await service.call("POST", "/api/v1/tickets", json=body, status=201, token=HELPDESK)
        assert other["id"] != first["id"]
