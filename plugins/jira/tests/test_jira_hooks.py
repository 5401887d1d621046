"""The webhook on Jira's side: made once, mended, or described for a person."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from pointsman.plugin_api import Draft, Marker, Secret
from pointsman.testing.fake import Fault
from pointsman_jira import webhook_registration

URL = "https://pm.example/webhooks/jira/ops"
SECRET = Secret("hush-hush-hush")
MARKER = Marker("pm1-0190c2a4-0000-7000-8000-000000000001-1a2b3c4d")
DRAFT = Draft(title="Checkout fails", body="It **broke**.", marker=MARKER)


async def ensure(tracker, url=URL, secret=SECRET):
    return await tracker.ensure_webhook(url, secret)


async def test_an_administrator_gets_one_webhook(jira, tracker):
    jira.admin = True
    created = await ensure(tracker)
    assert (created.level, "was made" in created.message) == ("ok", True)
    assert (await ensure(tracker)).message == "the webhook is there"
    [hook] = jira.hooks.values()
    assert hook == {
        "name": "Pointsman OPS",
        "url": URL,
        "events": [
            "jira:issue_created",
            "jira:issue_updated",
            "jira:issue_deleted",
            "comment_created",
            "comment_updated",
            "comment_deleted",
        ],
        "filters": {"issue-related-events-section": 'project = "OPS"'},
        "excludeBody": False,
        "enabled": True,
        "secret": "hush-hush-hush",
    }


async def test_other_webhooks_are_left_alone(jira, tracker):
    jira.admin = True
    other = {"name": "CI", "url": "https://ci.example/", "events": ["jira:issue_created"]}
    jira.hooks = {4: dict(other)}
    await ensure(tracker)
    assert jira.hooks[4] == other
    assert len(jira.hooks) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"events": ["jira:issue_created"]}, "it lacked events"),
        ({"filters": {"issue-related-events-section": "project = WEB"}}, "it had another filter"),
        ({"excludeBody": True}, "it sent no bodies"),
        ({"enabled": False}, "it was switched off"),
    ],
)
async def test_a_webhook_that_was_changed_is_mended(jira, tracker, changes, says):
    jira.admin = True
    await ensure(tracker)
    before = dict(jira.hooks[1])
    jira.hooks[1] |= changes
    matching = await ensure(tracker)
    assert (matching.level, matching.message) == ("ok", f"the webhook was mended: {says}")
    assert jira.hooks == {1: before}


async def test_a_webhook_made_by_hand_keeps_its_name_and_its_fitting_filter(jira, tracker):
    jira.admin = True
    for jql in ("", "project = OPS"):
        by_hand = {"name": "Ours", "url": URL, "events": list(webhook_registration.EVENTS), "enabled": True}
        jira.hooks = {7: by_hand | {"filters": {"issue-related-events-section": jql}}}
        matching = await ensure(tracker)
        assert "it had no secret" in matching.message
        assert jira.hooks[7]["name"] == "Ours"
        assert jira.hooks[7]["filters"] == {"issue-related-events-section": jql}
        assert jira.hooks[7]["secret"] == "hush-hush-hush"


async def test_the_secret_is_written_again_since_nobody_can_read_it(jira, tracker):
    jira.admin = True
    await ensure(tracker)
    await ensure(tracker, secret=Secret("another-secret"))
    assert jira.hooks[1]["secret"] == "another-secret"


async def test_webhooks_that_are_too_many_are_named(jira, tracker):
    jira.admin = True
    await ensure(tracker)
    jira.hooks[9] = dict(jira.hooks[1])
    matching = await ensure(tracker)
    assert (matching.level, "delete all but number 1: 9" in matching.remedy) == ("warning", True)
    assert set(jira.hooks) == {1, 9}


@pytest.mark.parametrize(
    "fault",
    [
        None,  # the usual case: the account is no administrator
        Fault(status=401),
        Fault(status=404),
        Fault(status=405),
        Fault(status=500),
        Fault(status=302, headers={"Location": "https://login.example/"}),
        Fault(status=200, body=b"<html>"),
        Fault(status=200, body=b"{}"),
        Fault(status=200, body=b'[{"url": "%s"}]' % URL.encode()),
        Fault(reset=True, times=9),  # a GET is repeated by the client
    ],
)
async def test_where_it_cannot_be_done_a_person_is_told_everything(jira, tracker, fault):
    if fault:
        jira.admin = True
        jira.faults.append(fault)
    matching = await ensure(tracker)
    assert matching.level == "warning"
    assert "every ten minutes" in matching.impact
    for word in ("System > WebHooks", URL, "secret", "project = OPS", *webhook_registration.EVENTS):
        assert word in matching.remedy
    assert "hush" not in repr(matching)
    assert jira.hooks == {}


async def test_a_lost_answer_makes_no_second_webhook(jira, tracker):
    jira.admin = True
    jira.faults.append(Fault(match="POST", reset=True, applied=True))
    assert (await ensure(tracker)).level == "warning"
    assert (await ensure(tracker)).level == "ok"
    assert len(jira.hooks) == 1


async def test_what_jira_would_not_call_is_said_without_asking(jira, tracker, make_tracker):
    jira.admin = True
    assert "https addresses only" in (await ensure(tracker, "http://pm.example/w")).message
    assert "no webhook secret" in (await ensure(tracker, secret=Secret(""))).message
    data_center = make_tracker(deployment="data-center", email="")
    assert "Data Center" in (await ensure(data_center, "http://pm.corp/w")).message
    assert jira.requests == []


async def test_the_webhook_that_was_made_is_understood(jira, tracker):
    jira.admin = True
    await ensure(tracker)
    await jira.open_issue("By hand")  # nobody answers at that address, and the call is noted all the same
    sent = jira.webhooks[-1]
    headers = {name.lower(): value for name, value in sent.headers.items()}
    assert tracker.verify_webhook(headers, sent.body, [SECRET.reveal().encode()])
    assert tracker.read_webhook(headers, sent.body).state == "open"


# -- webhooks of the double ------------------------------------------------------------------------------------------


@pytest.fixture
async def receiver(jira):
    """A server that takes webhooks, and what it got."""
    got = []

    async def take(request):
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    jira.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    jira.webhook_secret = "hush"
    yield got
    await runner.cleanup()


async def test_the_doubles_webhooks_are_read_as_jiras(jira, tracker, receiver):
    ref = await tracker.create_issue(DRAFT)
    assert await jira.close_issue(ref.key, "Won't Do") == 200
    assert await jira.reopen_issue(ref.key) == 200
    assert await jira.comment(ref.key, "Hello") == 200
    assert await jira.move_issue(ref.key, "WEB") == 200
    news = []
    for headers, body in receiver:
        assert tracker.verify_webhook(headers, body, [b"hush"])
        assert not tracker.verify_webhook(headers, body, [b"else"])
        assert tracker.webhook_id(headers, body)
        news.append(tracker.read_webhook(headers, body))
    closed, opened, comment, gone = news
    assert (closed.ref, closed.state, closed.close_reason) == (ref, "closed", "not_planned")
    assert (closed.actor.account_id, closed.markers) == ("dev", (MARKER.text,))
    assert (opened.state, opened.close_reason) == ("open", None)
    assert opened.version >= closed.version
    assert comment.reason == "event comment_created"
    assert (gone.ref.remote_id, gone.moved_to) == (ref.remote_id, "WEB-1")
    assert isinstance(json.loads(receiver[0][1])["issue"]["fields"]["description"], str)


async def test_the_double_echoes_our_own_calls_and_repeats_itself(jira, tracker, receiver):
    jira.echo = True
    ref = await tracker.create_issue(DRAFT)
    await tracker.set_state(ref, "closed", None)
    await jira.webhooks_sent()
    assert [call.event for call in jira.webhooks] == ["jira:issue_created", "jira:issue_updated"]
    first = jira.webhooks[0]
    assert await jira.replay(first) == 200
    (headers, body), *_, (second, repeated) = receiver
    assert body == repeated
    assert headers["x-atlassian-webhook-identifier"] == second["x-atlassian-webhook-identifier"]
