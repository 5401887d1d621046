"""The whole way, on a real Postgres, a real loopback tracker and a real mail server."""

from __future__ import annotations

import uuid

import pytest

from house import ADMIN, HELPDESK, SHOP, SOURCES, House, until
from pointsman.testing.fake_forgejo import FakeForgejo

HOOK = "hook-secret-of-the-tests"


def forgejo(fake: FakeForgejo) -> str:
    return (
        SOURCES
        + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{HOOK}"]
[destination.settings]
url = "{fake.url}"
token = "{fake.token}"
repository = "acme/shop"
labels = ["bug"]
[[route]]
match = {{ source = "shop" }}
destination = "my-product"
[[route]]
match = {{ source = "helpdesk" }}
destination = "my-product"
"""
    )


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


async def test_an_alert_becomes_one_issue_and_closes_its_ticket(house: House, tracker: FakeForgejo):
    """NEW opens, twice the same makes one issue, the closed webhook closes before its answer."""
    async with house.replica(forgejo(tracker)):
        first = await house.alert()
        again = await house.alert(digested_event_count=2)
        assert again["ticket"] == first["ticket"] and again["report"] == first["report"]
        link = await house.linked(first["ticket"])
        assert tracker.issues_made() == 1
        tracker.webhook_url, tracker.webhook_secret = f"{house.url}/webhooks/forgejo/my-product", HOOK
        assert await tracker.close_issue(int(link["key"])) == 200
        seen = await house.ticket(first["ticket"])
        assert seen["status"] == "closed" and seen["close_reason"] == "completed"


async def test_a_regression_reopens_ticket_and_issue(house: House, tracker: FakeForgejo):
    async with house.replica(forgejo(tracker)):
        ticket = (await house.alert())["ticket"]
        link = await house.linked(ticket)
        tracker.webhook_url, tracker.webhook_secret = f"{house.url}/webhooks/forgejo/my-product", HOOK
        await tracker.close_issue(int(link["key"]))
        await house.alert("REGRESSED", last_seen="2026-11-20T11:00:00Z")
        await house.status(ticket, "open")

        async def reopened():
            kinds = [effect.kind for effect in tracker.effects]
            return kinds[-2:] == ["state", "comment"] and kinds

        await until(reopened)
        seen = await house.ticket(ticket)
        assert [event["kind"] for event in seen["events"]] == ["opened", "closed", "regressed"]
        assert seen["links"][0]["issue_state"] == "open"


@pytest.mark.parametrize("reason", ["REGRESSED", "UNMUTED"])
async def test_an_alert_for_an_unknown_problem_opens_it(house: House, tracker: FakeForgejo, reason: str):
    async with house.replica(forgejo(tracker)):
        ticket = (await house.alert(reason, unmute_reason="more than 5 events an hour"))["ticket"]
        await house.linked(ticket)
        assert (await house.ticket(ticket))["events"][0]["kind"] == "opened"


async def test_unmuted_comments(house: House, tracker: FakeForgejo):
    async with house.replica(forgejo(tracker)):
        ticket = (await house.alert())["ticket"]
        await house.alert("UNMUTED", unmute_reason="More than 5 events an hour")

        async def commented():
            return [effect for effect in tracker.effects if effect.kind == "comment"]

        await until(commented)
        assert [effect.kind for effect in tracker.effects if effect.kind != "label"][:2] == [
            "issue",
            "comment",
        ]
        assert (await house.ticket(ticket))["status"] == "open"


async def test_the_test_button_makes_no_ticket(house: House, tracker: FakeForgejo):
    async with house.replica(forgejo(tracker)):
        said = await house.alert("TEST", id="497f6eca-6276-4993-bfeb-53cbbbba6f08")
        assert said["ticket"] is None
        assert (await house.call("GET", "/api/v1/tickets", token=ADMIN))["tickets"] == []


async def test_a_ticket_its_comments_in_order_and_the_mail_at_its_end(house: House, tracker: FakeForgejo):
    """Comments wait for their issue; the owner gets exactly one mail for each transition."""
    async with house.replica(forgejo(tracker)):
        async with tracker.down():
            ticket = await house.new_ticket("I can't pay")
            for n in range(5):
                await house.comment(ticket, f"remark number {n}")
        link = await house.linked(ticket)

        async def comments():
            found = [effect for effect in tracker.effects if effect.kind == "comment"]
            return found if len(found) == 5 else None

        await until(comments, 30)
        bodies = [comment.body for comment in tracker.issues[int(link["key"])].comments]
        assert [f"remark number {n}" in body for n, body in enumerate(bodies)] == [True] * 5
        assert not any("ada@customer.example" in body for body in bodies)

        tracker.webhook_url, tracker.webhook_secret = f"{house.url}/webhooks/forgejo/my-product", HOOK
        await tracker.close_issue(int(link["key"]))
        await until(_mails(house, 1))
        mail = house.sink.mails[0]
        assert "ada@customer.example" in mail["To"]
        assert mail.get_body(("plain",)) is not None and mail.get_body(("html",)) is not None
        await tracker.reopen_issue(int(link["key"]))
        await until(_mails(house, 2))
        assert len(house.sink.mails) == 2


def _mails(house: House, count: int):
    async def look():
        return len(house.sink.mails) >= count

    return look


async def test_a_comment_on_a_ticket_without_a_destination_is_kept_and_shown(house: House):
    async with house.replica(SOURCES):
        ticket = await house.new_ticket()
        await house.comment(ticket, "anybody there?")
        seen = await house.ticket(ticket)
        assert seen["links"] == []
        assert [event["kind"] for event in seen["events"]] == ["opened", "commented"]
        assert seen["events"][1]["data"]["body"] == "anybody there?"


async def test_a_ticket_closed_here_closes_its_issue(house: House, tracker: FakeForgejo):
    async with house.replica(forgejo(tracker)):
        ticket = await house.new_ticket()
        link = await house.linked(ticket)
        seen = await house.call("POST", f"/api/v1/tickets/{ticket}/close", token=HELPDESK, status=200)
        assert seen["status"] == "closed"

        async def closed():
            return tracker.issues[int(link["key"])].state == "closed"

        await until(closed)


async def test_a_replayed_webhook_changes_nothing(house: House, tracker: FakeForgejo):
    """The same call with a new delivery id, after the ticket went on, is known by its body."""
    async with house.replica(forgejo(tracker)):
        ticket = await house.new_ticket()
        link = await house.linked(ticket)
        tracker.webhook_url, tracker.webhook_secret = f"{house.url}/webhooks/forgejo/my-product", HOOK
        await tracker.close_issue(int(link["key"]))
        sent = tracker.webhooks[-1]
        await tracker.reopen_issue(int(link["key"]))
        await house.status(ticket, "open")
        for _ in range(3):
            headers = {**sent.headers, "X-Forgejo-Delivery": str(uuid.uuid4())}
            assert await tracker.post_webhook(tracker.webhook_url, sent.body, headers) == 200
        assert (await house.ticket(ticket))["status"] == "open"
        assert len(await _transitions(house, ticket)) == 2


async def _transitions(house: House, ticket: str):
    seen = await house.ticket(ticket)
    return [event for event in seen["events"] if event["kind"] in ("closed", "reopened")]


async def test_a_close_that_no_webhook_told_is_found(house: House, tracker: FakeForgejo, monkeypatch):
    from msgspec.structs import replace

    from pointsman_forgejo import tracker as plugin

    quick = replace(plugin.ForgejoTracker.capabilities, poll_seconds=0.5)
    monkeypatch.setattr(plugin.ForgejoTracker, "capabilities", quick)
    async with house.replica(forgejo(tracker)):
        ticket = (await house.alert())["ticket"]
        link = await house.linked(ticket)
        await tracker.close_issue(int(link["key"]))
        await house.status(ticket, "closed")


async def test_tokens_reach_only_what_is_theirs(house: House, tracker: FakeForgejo):
    async with house.replica(forgejo(tracker)):
        alert = (await house.alert())["ticket"]
        mine = await house.new_ticket()
        await house.call("GET", f"/api/v1/tickets/{mine}", token=HELPDESK, status=200)
        await house.call("GET", f"/api/v1/tickets/{alert}", token=HELPDESK, status=404)
        await house.call("GET", f"/api/v1/tickets/{mine}", token=SHOP, status=403)
        await house.call("GET", "/api/v1/tickets", token=SHOP, status=403)
        await house.call("GET", "/api/v1/tickets", status=401)
        listed = await house.call("GET", "/api/v1/tickets", token=HELPDESK, status=200)
        assert [ticket["id"] for ticket in listed["tickets"]] == [mine]
        every = await house.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
        assert {ticket["id"] for ticket in every["tickets"]} == {mine, alert}


async def test_an_idempotency_key_answers_the_same_and_refuses_another_body(house: House):
    async with house.replica(SOURCES):
        headers = {"Idempotency-Key": "one"}
        body = {"title": "Help"}
        ask = {"token": HELPDESK, "headers": headers}
        first = await house.call("POST", "/api/v1/tickets", json=body, status=201, **ask)
        assert await house.call("POST", "/api/v1/tickets", json=body, status=201, **ask) == first
        said = await house.call("POST", "/api/v1/tickets", json={"title": "Else"}, status=409, **ask)
        assert said["type"] == "urn:pointsman:problem:key-reused"
        other = await house.call("POST", "/api/v1/tickets", json=body, status=201, token=HELPDESK)
        assert other["id"] != first["id"]
