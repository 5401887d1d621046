"""The fake behaves like the server it stands for, and its webhooks are what the tracker reads."""

from __future__ import annotations

import pytest
from aiohttp import web

from pointsman.plugin_api import Actor, IgnoredWebhook, IssueRemoved, IssueState, Secret
from pointsman_forgejo import ForgejoTracker, wire

SECRET = "webhook-secret"


@pytest.fixture
async def receiver(forgejo, aiohttp_server):
    """A receiver of webhooks: what it got, as (headers in lower case, body)."""
    got = []

    async def receive(request: web.Request) -> web.Response:
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/hook", receive)
    server = await aiohttp_server(app)
    forgejo.webhook_url, forgejo.webhook_secret = str(server.make_url("/hook")), SECRET
    return got


async def test_people_send_signed_webhooks_that_the_tracker_reads(tracker, forgejo, receiver, helpers):
    draft = helpers.draft()
    await tracker.create_issue(draft)
    assert await forgejo.close_issue(1, by="dev") == 202
    assert await forgejo.reopen_issue(1) == 202
    states = []
    for headers, body in receiver:
        assert ForgejoTracker.verify_webhook(headers, body, [SECRET.encode()])
        assert not ForgejoTracker.verify_webhook(headers, body + b" ", [SECRET.encode()])
        seen = tracker.read_webhook(headers, body)
        assert isinstance(seen, IssueState)
        assert seen.markers == (draft.marker.text,)
        assert isinstance(seen.actor, Actor)
        assert seen.actor.name == "dev"
        states.append(seen.state)
    assert states == ["closed", "open"]


async def test_other_news_is_sent_too_and_ignored_by_the_tracker(tracker, forgejo, receiver):
    number = await forgejo.open_issue("x", send=False)
    await forgejo.comment(number, "hello")
    await forgejo.edit_issue(number, title="y")
    assert [headers["x-forgejo-event"] for headers, _ in receiver] == ["issue_comment", "issues"]
    assert all(isinstance(tracker.read_webhook(*call), IgnoredWebhook) for call in receiver)


async def test_sending_can_be_left_out_and_a_silent_receiver_is_no_error(forgejo, receiver):
    number = await forgejo.open_issue("x", send=False)
    assert await forgejo.close_issue(number, send=False) is None
    assert receiver == []
    forgejo.webhook_url = "http://127.0.0.1:9/closed"
    assert await forgejo.reopen_issue(number) is None
    assert forgejo.webhooks[-1].status is None


async def test_without_a_secret_the_signature_headers_are_empty(forgejo, receiver):
    forgejo.webhook_secret = ""
    await forgejo.open_issue("x")
    headers, body = receiver[0]
    assert headers["x-forgejo-signature"] == ""
    assert headers["x-hub-signature-256"] == "sha256="
    assert not ForgejoTracker.verify_webhook(headers, body, [b"", SECRET.encode()])


async def test_a_replay_has_a_new_id(forgejo, receiver):
    await forgejo.open_issue("x")
    await forgejo.replay(forgejo.webhooks[0])
    ids = [ForgejoTracker.webhook_id(*call) for call in receiver]
    assert None not in ids
    assert len(set(ids)) == 2
    assert receiver[0][1] == receiver[1][1]


async def test_gitea_sends_no_headers_of_forgejo_and_tells_of_deletion(tracker, forgejo, receiver):
    forgejo.brand = "gitea"
    number = await forgejo.open_issue("x")
    assert await forgejo.delete_issue_aloud(number) == 202
    assert all("x-forgejo-event" not in headers for headers, _ in receiver)
    assert all(ForgejoTracker.verify_webhook(*call, [SECRET.encode()]) for call in receiver)
    assert ForgejoTracker.webhook_id(*receiver[0]) is not None
    gone = tracker.read_webhook(*receiver[1])
    assert isinstance(gone, IssueRemoved)
    assert gone.ref.key == "1"


async def test_any_of_several_secrets_verifies_while_one_is_changed(forgejo, receiver):
    await forgejo.open_issue("x")
    assert ForgejoTracker.verify_webhook(*receiver[0], [b"new", SECRET.encode()])
    assert ForgejoTracker.verify_webhook(*receiver[0], [SECRET.encode(), b"new"])
    assert not ForgejoTracker.verify_webhook(*receiver[0], [b"new", b"newer"])


async def test_traps_of_webhooks_made_by_the_api(tracker, forgejo):
    forgejo.may_admin = True
    client, path = tracker.client, "/repos/acme/shop/hooks"
    plain = {"type": "gitea", "config": {"url": "https://pointsman.example/x", "content_type": "json"}}
    created = (await client.request("POST", path, json=plain)).json()
    # off unless asked for, and no events mean push
    assert (created["active"], created["events"]) == (False, ["push"])
    # the secret is never told
    assert "secret" not in created["config"]
    # a second one of the same address is made without a word
    repeated = (
        await client.request("POST", path, json={**plain, "events": ["issues"], "active": True})
    ).json()
    assert len(forgejo.hooks) == 2
    # one word turns on five events
    assert len(repeated["events"]) == 5
    # an edit without events loses them, and keeps the old secret
    edited = await client.request("PATCH", f"{path}/{repeated['id']}", json={"config": {"secret": "new"}})
    assert edited.json()["events"] == ["push"]
    assert forgejo.hooks[repeated["id"]].secret == ""
    for bad in ({**plain, "type": "x"}, {**plain, "config": {}}, {"type": "gitea", "config": {"url": "x"}}):
        assert (await client.request("POST", path, json=bad)).status == 422
    forgejo.brand = "gitea"
    assert (await client.request("POST", path, json={**plain, "type": "forgejo"})).status == 422
    assert (await client.request("PATCH", f"{path}/1", json={})).status == 404


async def test_our_own_calls_send_webhooks_where_wanted(make_tracker, forgejo, receiver, helpers):
    forgejo.members.add("dev")
    tracker = make_tracker(labels=("bug",), assignees=("dev",))
    issue = await tracker.create_issue(helpers.draft())
    await forgejo.webhooks_sent()
    assert receiver == []
    forgejo.echo = True
    await tracker.create_issue(helpers.draft())
    await forgejo.webhooks_sent()
    # one create is three calls, and who was assigned is told before there is an issue
    assert [webhook.action for webhook in forgejo.webhooks] == ["assigned", "opened", "label_updated"]
    assert [type(tracker.read_webhook(*call)) for call in receiver] == [
        IgnoredWebhook,
        IssueState,
        IgnoredWebhook,
    ]
    await tracker.add_comment(issue, "x", helpers.marker())
    await tracker.set_state(issue, "closed", None)
    await forgejo.webhooks_sent()
    sent = sorted(webhook.action for webhook in forgejo.webhooks)
    assert sent == ["assigned", "closed", "created", "label_updated", "opened"]
    assert all(webhook.status == 202 for webhook in forgejo.webhooks)


async def test_traps_of_the_real_server(tracker, forgejo, helpers):
    client = tracker.client
    issue = await tracker.create_issue(helpers.draft(title="needle"))
    path = "/repos/acme/shop/issues"
    # a typo in the state reopens, and the answer is 201
    await tracker.set_state(issue, "closed", None)
    answer = await client.request("PATCH", f"{path}/1", json={"state": "clsoed"})
    assert (answer.status, answer.json()["state"]) == (201, "open")
    # labels by name are refused, unknown ids are dropped
    assert (await client.request("POST", path, json={"title": "x", "labels": ["bug"]})).status == 422
    assert (await client.request("POST", path, json={"title": "x", "labels": [77]})).json()["labels"] == []
    # a title is cut at bytes
    long = (await client.request("POST", path, json={"title": "ä" * 200})).json()["title"]
    assert len(long.encode()) == 254
    # a keyword asks an index that lags, none asks the database
    assert (await client.request("GET", path, params={"q": "needle"})).json() == []
    assert len((await client.request("GET", path, params={"q": ""})).json()) == 3
    forgejo.indexed.add(1)
    assert len((await client.request("GET", path, params={"q": "needle"})).json()) == 1
    # a filter by labels that do not exist is none
    assert len((await client.request("GET", path, params={"labels": "nope"})).json()) == 3
    assert (await client.request("POST", path, json={})).status == 422
    assert (await client.request("GET", path, params={"since": "yesterday"})).status == 422


async def test_the_fake_answers_as_the_server_describes(api_document, tracker, forgejo, helpers):
    await tracker.create_issue(helpers.draft())
    raw = (await tracker.client.request("GET", "/repos/acme/shop/issues/1")).json()
    assert raw.keys() <= api_document["definitions"]["Issue"]["properties"].keys()
    await tracker.add_comment(helpers.number(1), "x", helpers.marker())
    comments = (await tracker.client.request("GET", "/repos/acme/shop/issues/1/comments")).json()
    assert comments[0].keys() <= api_document["definitions"]["Comment"]["properties"].keys()
    assert wire.author_id(raw) == wire.author_id(comments[0])
    forgejo.may_admin = True
    await tracker.ensure_webhook("https://pointsman.example/x", Secret("x"))
    [hook] = (await tracker.client.request("GET", "/repos/acme/shop/hooks")).json()
    assert hook.keys() <= api_document["definitions"]["Hook"]["properties"].keys()
    repository = (await tracker.client.request("GET", "/repos/acme/shop")).json()
    assert repository.keys() <= api_document["definitions"]["Repository"]["properties"].keys()
    forgejo.hidden.add(1)
    assert await tracker.list_changes(helpers.long_ago) == []
