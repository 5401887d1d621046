"""The fake behaves like GitHub, and its webhooks are what the tracker reads."""

from __future__ import annotations

import jsonschema
import pytest
from aiohttp import web

from pointsman.plugin_api import Actor, Ignored, IssueGone, IssueSeen
from pointsman_github import GitHubTracker

SECRET = "webhook-secret"


@pytest.fixture
async def receiver(github, aiohttp_server):
    """A receiver of webhooks: what it got, as (headers in lower case, body)."""
    got = []

    async def receive(request: web.Request) -> web.Response:
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/hook", receive)
    server = await aiohttp_server(app)
    github.webhook_url, github.webhook_secret = str(server.make_url("/hook")), SECRET
    return got


async def test_people_send_signed_webhooks_that_the_tracker_reads(tracker, github, receiver, helpers):
    draft = helpers.draft()
    await tracker.create_issue(draft)
    assert await github.close_issue(1, "not_planned", by="dev") == 202
    assert await github.reopen_issue(1) == 202
    states = []
    for headers, body in receiver:
        assert GitHubTracker.verify_webhook(headers, body, [SECRET.encode()])
        assert not GitHubTracker.verify_webhook(headers, body + b" ", [SECRET.encode()])
        seen = tracker.read_webhook(headers, body)
        assert isinstance(seen, IssueSeen)
        assert seen.markers == (draft.marker.text,)
        assert isinstance(seen.actor, Actor)
        assert seen.actor.name == "dev"
        states.append((seen.state, seen.close_reason))
    assert states == [("closed", "not_planned"), ("open", None)]


async def test_deletion_and_transfer_are_told(tracker, github, receiver):
    first, second = await github.open_issue("x", send=False), await github.open_issue("y", send=False)
    await github.delete_issue(first)
    await github.transfer_issue(second, "acme/other", as_number=9)
    gone = [tracker.read_webhook(*call) for call in receiver]
    assert all(isinstance(news, IssueGone) for news in gone)
    assert [news.to for news in gone] == ["", f"{github.url}/acme/other/issues/9"]


async def test_other_news_is_sent_too_and_ignored_by_the_tracker(tracker, github, receiver):
    number = await github.open_issue("x", send=False)
    assert await github.ping() == 202
    await github.comment(number, "hello")
    await github.edit_issue(number, title="y")
    assert [headers["x-github-event"] for headers, _ in receiver] == ["ping", "issue_comment", "issues"]
    assert all(isinstance(tracker.read_webhook(*call), Ignored) for call in receiver)


async def test_sending_can_be_left_out_and_a_silent_receiver_is_no_error(github, receiver):
    number = await github.open_issue("x", send=False)
    assert await github.close_issue(number, send=False) is None
    assert receiver == []
    github.webhook_url = "http://127.0.0.1:9/closed"
    assert await github.reopen_issue(number) is None
    assert github.webhooks[-1].status is None


async def test_without_a_secret_there_is_no_signature(github, receiver):
    github.webhook_secret = ""
    await github.open_issue("x")
    headers, body = receiver[0]
    assert not [name for name in headers if "signature" in name]
    assert not GitHubTracker.verify_webhook(headers, body, [b"", SECRET.encode()])


async def test_a_redelivery_has_the_same_id(github, receiver):
    await github.open_issue("x")
    await github.redeliver(github.webhooks[0])
    first, second = receiver
    assert (
        GitHubTracker.webhook_id(*first) == GitHubTracker.webhook_id(*second) == github.webhooks[0].delivery
    )
    assert first[1] == second[1]


async def test_our_own_calls_send_webhooks_where_wanted(make_tracker, github, receiver, helpers):
    tracker = make_tracker(labels=("bug",), assignees=(github.bot,))
    issue = await tracker.create_issue(helpers.draft())
    await github.webhooks_sent()
    assert receiver == []
    github.echo = True
    await tracker.create_issue(helpers.draft())
    await tracker.add_comment(issue, "x", helpers.marker())
    await tracker.set_state(issue, "closed", None)
    await github.webhooks_sent()
    assert sorted(webhook.action for webhook in github.webhooks) == [
        "assigned",
        "closed",
        "created",
        "labeled",
        "opened",
    ]
    assert all(webhook.status == 202 for webhook in github.webhooks)


async def test_traps_of_the_real_service(tracker, github, helpers):
    path = "/repos/acme/shop/issues"
    ask = tracker.client.request
    await github.open_issue("a pull request", is_pull=True)
    # pull requests stand in the list, closed issues only where asked for
    assert "pull_request" in (await ask("GET", path)).json()[0]
    number = await github.open_issue("x")
    await github.close_issue(number)
    assert len((await ask("GET", path)).json()) == 1
    assert len((await ask("GET", path, params={"state": "all"})).json()) == 2
    # a reason counts only where the state changes
    answer = await ask("PATCH", f"{path}/{number}", json={"state": "closed", "state_reason": "duplicate"})
    assert (answer.status, answer.json()["state_reason"]) == (200, "completed")
    # refusals
    assert (await ask("POST", path, json={})).status == 422
    assert (await ask("POST", path, json={"title": "x" * 257})).status == 422
    assert (await ask("POST", path, json={"title": "x", "body": "x" * 65537})).status == 422
    assert (await ask("POST", f"{path}/{number}/comments", json={"body": "x" * 65537})).status == 422
    assert (await ask("POST", path, json={"title": "x", "assignees": ["nobody"]})).status == 422
    assert (await ask("POST", path)).status == 400
    assert (await ask("GET", path, headers={"X-GitHub-Api-Version": "2020-01-01"})).status == 400
    assert (await ask("GET", path, headers={"User-Agent": ""})).status == 403
    assert github.issues_made() == 0
    # a list that lags
    github.hidden.add(number)
    assert [seen.ref.key for seen in await tracker.list_changes(helpers.long_ago)] == []


async def test_the_fake_answers_as_github_describes(api_document, make_tracker, github, helpers):
    tracker = make_tracker(labels=("bug",))
    issue = await tracker.create_issue(helpers.draft())
    await tracker.add_comment(issue, "x", helpers.marker())
    for path, key in (("/issues/1", "issue"), ("/issues/1/comments", "issue-comment")):
        raw = (await tracker.client.request("GET", f"/repos/acme/shop{path}")).json()
        schema = api_document["components"]["schemas"][key]
        properties = schema["properties"].keys()
        for item in raw if isinstance(raw, list) else [raw]:
            assert item.keys() <= properties
            # accounts are shortened, and "nullable" of OpenAPI 3.0 is no JSON Schema
            short = ("user", "assignee", "assignees")
            named = {name: value for name, value in item.items() if name not in short and value is not None}
            chosen = {name: schema["properties"][name] for name in named}
            described = {"properties": chosen, "components": api_document["components"]}
            jsonschema.validate(named, described)
