"""The fake behaves like GitHub, and its webhooks are what the tracker reads."""

from __future__ import annotations

import time

import jsonschema
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from pointsman.plugin_api import Actor, Connection, IgnoredWebhook, IssueRemoved, IssueState, Secret
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
        assert isinstance(seen, IssueState)
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
    assert all(isinstance(news, IssueRemoved) for news in gone)
    assert [news.moved_to for news in gone] == ["", f"{github.url}/acme/other/issues/9"]


async def test_other_news_is_sent_too_and_ignored_by_the_tracker(tracker, github, receiver):
    number = await github.open_issue("x", send=False)
    assert await github.ping() == 202
    await github.comment(number, "hello")
    await github.edit_issue(number, title="y")
    assert [headers["x-github-event"] for headers, _ in receiver] == ["ping", "issue_comment", "issues"]
    assert all(isinstance(tracker.read_webhook(*call), IgnoredWebhook) for call in receiver)


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
    assert github.issues_created() == 0
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


# -- who looks after it ----------------------------------------------------------------------------------------------------


async def test_traps_of_webhooks(tracker, github):
    path, ask = "/repos/acme/shop/hooks", tracker.client.request
    created = (await ask("POST", path, json={"config": {"url": "https://x.example", "secret": "s"}})).json()
    # a form and pushes, unless told otherwise; the secret is not told
    assert (created["config"]["content_type"], created["events"]) == ("form", ["push"])
    assert created["config"]["secret"] == "********"
    repeated = await ask("POST", path, json={"config": {"url": "https://x.example"}})
    assert (repeated.status, "already exists" in repeated.text()) == (422, True)
    # a configuration without its secret loses it
    config = {"url": "https://x.example", "content_type": "json"}
    changed = (await ask("PATCH", f"{path}/{created['id']}", json={"config": config})).json()
    assert "secret" not in changed["config"]
    assert (await ask("PATCH", f"{path}/999", json={"active": True})).status == 404
    assert (await ask("POST", path, json={"config": {}})).status == 422
    github.may_administer = False
    assert (await ask("GET", path)).status == 404


async def test_a_webhook_that_was_made_is_called_and_remembers_the_answer(tracker, github, receiver):
    where, github.webhook_url, github.webhook_secret = github.webhook_url, "", ""
    await tracker.ensure_webhook(where, Secret("from the API"))
    await github.open_issue("x")
    assert GitHubTracker.verify_webhook(*receiver[0], [b"from the API"])
    [hook] = github.hooks.values()
    assert (hook.last_response["code"], hook.last_response["status"]) == (202, "active")
    github.webhook_url = hook.config["url"] = "http://127.0.0.1:9/closed"
    await github.open_issue("y")
    assert hook.last_response["status"] == "invalid"


def signed(pem, **changed):
    now = int(time.time())
    claims = {"iat": now - 60, "exp": now + 540, "iss": "1234", **changed}
    return jwt.encode(claims, pem, algorithm="RS256")


async def test_an_app_is_known_by_its_key_alone(make_app_tracker, github, app_pem, helpers):
    make_app_tracker()
    ask = helpers.client(Connection(base_url=github.url)).request
    now = int(time.time())

    async def status(token, path="/app"):
        return (await ask("GET", path, headers={"Authorization": f"Bearer {token}"})).status

    assert await status(signed(app_pem)) == 200
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for wrong in (
        signed(other),
        signed(app_pem, iss="9"),
        signed(app_pem, exp=now + 900),
        signed(app_pem, exp=now - 1),
        signed(app_pem, iat=now + 90),
        jwt.encode({"iss": "1234"}, app_pem, algorithm="RS256"),
        signed(app_pem)[:-3],
        "",
        "x.y.z",
        github.token,
    ):
        assert await status(wrong) == 401
    # the App itself is no account and opens no issues
    assert await status(signed(app_pem), "/user") == 401
    assert await status(signed(app_pem), "/repos/acme/shop") == 401


async def test_a_token_of_an_app_ends(make_app_tracker, github, helpers):
    tracker = make_app_tracker(app={"token_seconds": 3600})
    await tracker.create_issue(helpers.draft())
    [token] = github.app_tokens
    ask = helpers.client(Connection(base_url=github.url)).request
    headers = {"Authorization": f"Bearer {token}"}
    assert (await ask("GET", "/repos/acme/shop", headers=headers)).status == 200
    assert (await ask("GET", "/user", headers=headers)).status == 403
    github.app_tokens[token] = github.now()
    assert (await ask("GET", "/repos/acme/shop", headers=headers)).status == 401


async def test_webhooks_and_tokens_look_as_github_describes(api_document, make_app_tracker, github, helpers):
    tracker = make_app_tracker(app={"permissions": {"issues": "write", "repository_hooks": "write"}})
    await tracker.ensure_webhook("https://x.example", Secret("s"))
    [hook] = (await tracker._api.request("GET", "/repos/acme/shop/hooks")).json()
    answer = await tracker._app._send("POST", "/app/installations/77/access_tokens", tracker._app._jwt())
    for item, key, left_out in (
        (hook, "hook", {"last_response"}),
        (answer.json(), "installation-token", set()),
    ):
        schema = api_document["components"]["schemas"][key]
        assert set(schema["required"]) <= item.keys() <= schema["properties"].keys()
        chosen = {name: schema["properties"][name] for name in item if name not in left_out}
        jsonschema.validate(item, {"properties": chosen, "components": api_document["components"]})
