"""``ensure_webhook``: one webhook, and a working one."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from pointsman.plugin_api import (
    AuthFailed,
    IgnoredWebhook,
    IssueState,
    RateLimited,
    Refused,
    Secret,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_forgejo import ForgejoTracker, webhook_registration
from pointsman_forgejo.testing import ForgejoHook

URL = "https://pointsman.example/webhooks/forgejo/shop"
SECRET = Secret("webhook-secret")


@pytest.fixture(autouse=True)
def admin(forgejo):
    forgejo.may_admin = True


def sent(forgejo, method: str) -> int:
    return sum(item == method for item, _ in forgejo.requests)


@pytest.mark.parametrize("brand", ["forgejo", "gitea"])
async def test_a_webhook_is_made_that_works_on_both_servers(tracker, forgejo, brand):
    forgejo.brand = brand
    finding = await tracker.ensure_webhook(URL, SECRET)
    [hook] = forgejo.hooks.values()
    assert finding.level == "ok"
    assert finding.message == f"webhook {hook.id} is made"
    assert hook.active
    assert (hook.url, hook.secret, hook.content_type, hook.type) == (URL, "webhook-secret", "json", "gitea")
    assert hook.events == {"issues", "issue_comment"}
    assert hook.branch_filter == "*"


async def test_a_second_run_changes_nothing_and_says_what_it_can_not_know(tracker, forgejo):
    await tracker.ensure_webhook(URL, SECRET)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert len(forgejo.hooks) == 1
    assert sent(forgejo, "POST") == 1
    assert sent(forgejo, "PATCH") == 0
    assert finding.level == "ok"
    assert "neither tells nor changes" in finding.remedy


async def test_two_runs_at_once_make_one(tracker, forgejo):
    await asyncio.gather(*(tracker.ensure_webhook(URL, SECRET) for _ in range(5)))
    assert len(forgejo.hooks) == 1


async def test_ours_is_found_on_any_page_among_those_of_others(tracker, forgejo):
    forgejo.page_max = 2
    for number in range(1, 8):
        forgejo.hooks[number] = ForgejoHook(number, f"https://other.example/{number}")
    forgejo.hooks[8] = ForgejoHook(8, URL)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert "webhook 8 is there" in finding.message
    assert len(forgejo.hooks) == 8


async def test_a_webhook_to_another_destination_is_not_ours(tracker, forgejo):
    forgejo.hooks[1] = ForgejoHook(1, URL + "-2", active=False)
    await tracker.ensure_webhook(URL, SECRET)
    assert len(forgejo.hooks) == 2
    assert not forgejo.hooks[1].active


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"active": False}, "it is inactive"),
        ({"events": {"push"}}, "it does not send issues and issue_comment"),
        ({"events": {"issues"}}, "it does not send issue_comment"),
        ({"content_type": "form"}, "its content type is form and not json"),
    ],
)
async def test_what_is_broken_is_mended_and_nothing_else_is_lost(tracker, forgejo, changed, fault):
    values = {"secret": "old", "branch_filter": "main", "authorization": "Bearer of-a-proxy", **changed}
    forgejo.hooks[4] = ForgejoHook(4, URL, **values)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "ok"
    assert finding.message == f"webhook 4 is mended: {fault}"
    [hook] = forgejo.hooks.values()
    assert hook.active
    assert hook.events == {"issues", "issue_comment"}
    assert hook.content_type == "json"
    assert (hook.branch_filter, hook.authorization) == ("main", "Bearer of-a-proxy")
    # the server keeps the old secret without a word, so the finding says what a person has to do
    assert hook.secret == "old"
    assert "delete webhook 4" in finding.remedy
    assert sent(forgejo, "POST") == 0


async def test_more_events_than_needed_are_left_alone(tracker, forgejo):
    forgejo.hooks[4] = ForgejoHook(4, URL, events={"issues", "issue_comment", "push"})
    await tracker.ensure_webhook(URL, SECRET)
    assert "push" in forgejo.hooks[4].events


async def test_several_webhooks_to_one_address_are_left_to_a_person(tracker, forgejo):
    forgejo.hooks = {4: ForgejoHook(4, URL), 9: ForgejoHook(9, URL)}
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "warning"
    assert "4, 9" in finding.message
    assert "delete all but one" in finding.remedy
    assert len(forgejo.hooks) == 2


async def test_a_webhook_that_sends_chat_messages_is_left_to_a_person(tracker, forgejo):
    forgejo.hooks[4] = ForgejoHook(4, URL, type="slack")
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "warning"
    assert "slack" in finding.message
    assert len(forgejo.hooks) == 1


async def test_a_webhook_that_stays_broken_is_told(tracker, forgejo):
    reported = {
        "id": 7,
        "url": URL,
        "active": False,
        "events": ["push"],
        "content_type": "json",
        "type": "gitea",
    }
    forgejo.faults.append(Fault("POST", status=201, body=json.dumps(reported).encode()))
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "warning"
    assert "webhook 7 is made, and still it is inactive" in finding.message


async def test_without_a_secret_no_webhook_is_made(tracker, forgejo):
    finding = await tracker.ensure_webhook(URL, Secret(""))
    assert finding.level == "error"
    assert "401" in finding.impact
    assert forgejo.requests == []


# -- rights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "cures"),
    [
        ({"may_admin": False}, ["administrator of acme/shop", "write:repository", URL, "application/json"]),
        ({"scopes": {"user", "issue"}}, ["the scope write:repository", URL]),
        ({"read_only": {"repository"}}, ["the scope write:repository", URL]),
        ({"webhooks_enabled": False}, ["DISABLE_WEBHOOKS"]),
        ({"repository": "acme/hidden"}, ["administrator of acme/shop", URL]),
    ],
)
async def test_a_right_that_is_missing_becomes_what_a_person_has_to_do(tracker, forgejo, changed, cures):
    for name, value in changed.items():
        setattr(forgejo, name, value)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "warning"
    assert finding.impact
    assert all(cure in finding.remedy for cure in cures)
    assert forgejo.hooks == {}
    assert "webhook-secret" not in repr(finding)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("hooks", status=401), AuthFailed),
        (Fault("hooks", status=429), RateLimited),
        (Fault("GET", status=500), UnknownOutcome),
        (Fault("POST", status=422, body=b'{"message":"Invalid url"}'), Refused),
        (Fault("POST", status=201, body=b"[]"), UnknownOutcome),
        (Fault("POST", status=201, body=b'{"id":"x"}'), UnknownOutcome),
        (Fault("POST", status=201, body=b"<html>"), UnknownOutcome),
    ],
)
async def test_other_trouble_is_raised(tracker, forgejo, fault, kind):
    forgejo.faults.append(fault)
    with pytest.raises(kind):
        await tracker.ensure_webhook(URL, SECRET)


async def test_a_lost_answer_does_not_make_a_second_webhook(tracker, forgejo):
    forgejo.faults.append(Fault("POST", reset=True, applied=True))
    with pytest.raises(UnknownOutcome):
        await tracker.ensure_webhook(URL, SECRET)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "ok"
    assert len(forgejo.hooks) == 1


# -- addresses that the server does not call -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8000/x", "127.0.0.1"),
        ("http://[::1]/x", "::1"),
        ("https://10.2.3.4/x", "10.2.3.4"),
        ("https://192.168.1.5/x", "192.168.1.5"),
        ("https://169.254.1.1/x", "169.254.1.1"),
        ("https://[fd00::1]/x", "fd00::1"),
        ("http://localhost/x", "localhost"),
        ("http://pointsman:8000/x", "pointsman"),
        ("https://pointsman.LAN/x", "pointsman.lan"),
        ("https://pointsman.tools.svc/x", "pointsman.tools.svc"),
        ("https://pointsman.internal/x", "pointsman.internal"),
    ],
)
async def test_an_address_that_is_not_public_names_the_switch_of_the_server(tracker, url, host):
    trap = webhook_registration.delivery_obstacle(url)
    assert host in trap
    assert "ALLOWED_HOST_LIST" in trap
    finding = await tracker.ensure_webhook(url, SECRET)
    assert finding.level == "warning"
    assert "ALLOWED_HOST_LIST" in finding.remedy
    assert "loopback" in finding.impact


@pytest.mark.parametrize("url", [URL, "https://1.1.1.1/x", "https://[2606:4700::1111]/x"])
def test_a_public_address_has_nothing_in_its_way(url):
    assert webhook_registration.delivery_obstacle(url) == ""


# -- what it sends ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def receiver(aiohttp_server):
    """An address of ours, and what it got, as (headers in lower case, body)."""
    got = []

    async def receive(request: web.Request) -> web.Response:
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/webhooks/forgejo/shop", receive)
    server = await aiohttp_server(app)
    return str(server.make_url("/webhooks/forgejo/shop")), got


async def test_the_webhook_made_sends_what_the_tracker_reads(tracker, forgejo, receiver):
    url, got = receiver
    await tracker.ensure_webhook(url, SECRET)
    number = await forgejo.open_issue("x")
    await forgejo.close_issue(number)
    await forgejo.comment(number, "hello")
    await forgejo.press_test(next(iter(forgejo.hooks)))
    news = [tracker.read_webhook(*call) for call in got]
    assert all(ForgejoTracker.verify_webhook(*call, [b"webhook-secret"]) for call in got)
    assert [type(item) for item in news] == [IssueState, IssueState, IgnoredWebhook, IgnoredWebhook]
    assert [item.state for item in news[:2]] == ["open", "closed"]


async def test_a_webhook_set_to_form_is_signed_and_refused_all_the_same(tracker, forgejo, receiver):
    url, got = receiver
    forgejo.hooks[4] = ForgejoHook(4, url, "webhook-secret", "form")
    await forgejo.open_issue("x")
    [(headers, body)] = got
    assert body.startswith(b"payload=")
    assert not ForgejoTracker.verify_webhook(headers, body, [b"webhook-secret"])
    await tracker.ensure_webhook(url, SECRET)
    await forgejo.open_issue("y")
    assert ForgejoTracker.verify_webhook(*got[-1], [b"webhook-secret"])


@pytest.mark.parametrize("raw", [{}, {"id": True}, {"id": "1"}])
def test_what_is_no_webhook_is_none(raw):
    assert webhook_registration.read_webhook(raw) is None


def test_a_webhook_without_the_old_config_is_read_too():
    raw = {
        "id": 1,
        "url": URL,
        "content_type": "json",
        "events": ["issues", 5],
        "active": True,
        "config": None,
    }
    hook = webhook_registration.read_webhook(raw)
    assert hook is not None
    assert (hook.url, hook.content_type, hook.events) == (URL, "json", {"issues"})
