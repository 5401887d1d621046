"""The repository's webhook: made once, mended where it is not in order, and otherwise left alone."""

from __future__ import annotations

import datetime as dt

import pytest
from aiohttp import web

from pointsman.plugin_api import Misconfigured, RateLimited, Secret, Unavailable, UnknownOutcome
from pointsman.testing.fake import Fault
from pointsman_github import webhook_registration
from pointsman_github.testing import GitHubHook

URL = "https://pointsman.example/webhooks/github/shop"
SECRET = Secret("webhook-secret")


def ours(github, **changed):
    """A webhook to us that a person made; gives it."""
    config = {"url": URL, "content_type": "json", "secret": "webhook-secret", "insecure_ssl": "0"}
    github._ids += 1
    hook = GitHubHook(github._ids, {**config, **changed.pop("config", {})}, ["issues", "issue_comment"])
    for name, value in changed.items():
        setattr(hook, name, value)
    github.hooks[hook.id] = hook
    return hook


def changes(github):
    return [(method, path) for method, path in github.requests if method != "GET"]


async def test_a_webhook_is_made_as_github_has_to_have_it(tracker, github):
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "ok"
    [hook] = github.hooks.values()
    assert (hook.active, hook.events) == (True, ["issues", "issue_comment"])
    assert hook.config == {
        "url": URL,
        "content_type": "json",
        "secret": "webhook-secret",
        "insecure_ssl": "0",
    }
    assert "webhook-secret" not in repr(finding)


async def test_a_webhook_in_order_is_left_alone_and_its_secret_is_said_to_be_unknown(tracker, github):
    await tracker.ensure_webhook(URL, SECRET)
    finding = await tracker.ensure_webhook(URL, Secret("another"))
    assert len(changes(github)) == 1
    assert finding.level == "ok"
    assert "secret can't be read back" in finding.message


@pytest.mark.parametrize(
    ("changed", "defect"),
    [
        ({"active": False}, "switched off"),
        ({"events": ["issues"]}, "leaves out the events issue_comment"),
        ({"events": ["push"]}, "leaves out the events issues, issue_comment"),
        ({"config": {"content_type": "form"}}, "content type"),
        ({"config": {"secret": ""}}, "no secret"),
    ],
)
async def test_a_webhook_that_is_not_in_order_is_mended(tracker, github, changed, defect):
    hook = ours(github, **changed)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "ok"
    assert defect in finding.message
    assert "secret was set anew" in finding.message
    assert list(github.hooks) == [hook.id]
    assert webhook_registration.defects(github._hook(hook)) == []
    assert hook.config["secret"] == "webhook-secret"
    before = len(changes(github))
    await tracker.ensure_webhook(URL, SECRET)
    assert len(changes(github)) == before


async def test_what_people_added_stays(tracker, github):
    hook = ours(github, events=["push", "issues"], config={"insecure_ssl": "1"})
    await tracker.ensure_webhook(URL, SECRET)
    assert hook.events == ["issue_comment", "issues", "push"]
    assert hook.config["insecure_ssl"] == "1"
    everything = ours(github, events=["*"], active=False, config={"url": URL + "2"})
    await tracker.ensure_webhook(URL + "2", SECRET)
    assert (everything.events, everything.active) == (["*"], True)


async def test_ours_is_found_among_many_on_any_page_and_there_is_never_a_second_one(tracker, github):
    github.page_max = 2
    for number in range(5):
        ours(github, config={"url": f"https://ci.example/{number}"})
    hook = ours(github, active=False)
    ours(github, config={"url": URL + "/other"}, active=False)
    await tracker.ensure_webhook(URL, SECRET)
    assert changes(github) == [("PATCH", f"/repos/acme/shop/hooks/{hook.id}")]
    assert hook.active


async def test_of_two_the_one_that_is_switched_on_counts(tracker, github):
    ours(github, active=False)
    on = ours(github)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert f"webhook {on.id} " in finding.message
    assert changes(github) == []


async def test_somebody_else_was_quicker(tracker, github):
    ours(github, active=False)
    github.faults.append(Fault("GET /repos/acme/shop/hooks", status=200, body=b"[]"))
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert (finding.level, len(github.hooks)) == ("ok", 1)
    assert [method for method, _ in changes(github)] == ["POST", "PATCH"]


async def test_after_an_answer_that_was_lost_it_is_found_and_not_made_again(tracker, github):
    github.faults.append(Fault("POST", reset=True, applied=True))
    with pytest.raises(UnknownOutcome):
        await tracker.ensure_webhook(URL, SECRET)
    assert (await tracker.ensure_webhook(URL, SECRET)).level == "ok"
    assert len(github.hooks) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/hooks", status=404, body=b'{"message":"Not Found"}'),
        Fault("/hooks", status=403, body=b'{"message":"Resource not accessible by personal access token"}'),
        Fault("POST", status=403, body=b'{"message":"Resource not accessible by personal access token"}'),
        Fault("POST", status=404, body=b'{"message":"Not Found"}'),
    ],
)
async def test_without_the_right_a_person_is_told_exactly_what_to_do(tracker, github, fault):
    github.faults.append(fault)
    finding = await tracker.ensure_webhook(URL, SECRET)
    assert finding.level == "warning"
    assert "Not Found" in finding.message or "not accessible" in finding.message
    for part in (
        "Webhooks: read and write",
        f"{github.url}/acme/shop/settings/hooks",
        f"Payload URL {URL};",
        "application/json",
        "webhook_secrets",
        "Issues and Issue comments",
        "Active",
    ):
        assert part in finding.remedy
    assert "webhook-secret" not in repr(finding)
    assert github.hooks == {}


async def test_the_role_is_what_counts(tracker, github):
    github.may_administer = False
    assert (await tracker.ensure_webhook(URL, SECRET)).level == "warning"


async def test_an_address_that_github_refuses_is_told_in_its_words(tracker, github):
    body = b'{"message":"Validation Failed","errors":[{"resource":"Hook","code":"custom","message":"url is not reachable over the public Internet (localhost)"}]}'
    github.faults.append(Fault("POST", status=422, body=body))
    finding = await tracker.ensure_webhook("http://localhost/webhooks/github/x", SECRET)
    assert finding.level == "error"
    assert "public Internet" in finding.message
    assert "POINTSMAN_PUBLIC_URL" in finding.remedy


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("/hooks", status=429), RateLimited),
        (Fault("/hooks", status=403, headers={"X-RateLimit-Remaining": "0"}), RateLimited),
        (Fault("/hooks", status=502), UnknownOutcome),
        (Fault("/hooks", status=422, body=b'{"message":"no"}'), Misconfigured),
        (Fault("POST", status=201, body=b"[]"), UnknownOutcome),
        (Fault("POST", status=201, body=b"<html>"), UnknownOutcome),
    ],
)
async def test_other_errors_are_raised(tracker, github, fault, kind):
    github.faults.append(fault)
    with pytest.raises(kind):
        await tracker.ensure_webhook(URL, SECRET)


async def test_a_change_that_does_not_stick_is_no_success(tracker, github):
    hook = ours(github, active=False)
    github.faults.append(Fault("PATCH", status=200, body=b'{"id": 1, "active": false}'))
    with pytest.raises(UnknownOutcome, match="switched off"):
        await tracker.ensure_webhook(URL, SECRET)
    assert not hook.active


async def test_a_server_that_is_down(tracker, github):
    async with github.down():
        with pytest.raises(Unavailable):
            await tracker.ensure_webhook(URL, SECRET)


async def test_an_app_makes_its_webhook_too(make_app_tracker, github):
    assert (await make_app_tracker().ensure_webhook(URL, SECRET)).level == "warning"
    permissions = {"issues": "write", "repository_hooks": "write"}
    assert (
        await make_app_tracker(app={"permissions": permissions}).ensure_webhook(URL, SECRET)
    ).level == "ok"


# -- in the check ----------------------------------------------------------------------------------------------------------


async def test_without_a_webhook_the_check_says_what_it_costs(tracker, github):
    ours(github, config={"url": "https://ci.example/hook"})
    [finding] = [finding for finding in await tracker.check() if finding.level != "ok"]
    assert finding.level == "warning"
    assert "no webhook" in finding.message
    assert "every 10 minutes" in finding.impact
    assert "--ensure-webhook" in finding.remedy


@pytest.mark.parametrize(
    ("changed", "level", "text"),
    [
        ({}, "ok", "was not called yet"),
        ({"last_response": {"code": 202, "status": "active", "message": "OK"}}, "ok", "last call arrived"),
        ({"last_response": None}, "ok", "in order"),
        (
            {"last_response": {"code": 401, "status": "invalid", "message": "no"}},
            "warning",
            "the same secret",
        ),
        ({"last_response": {"code": 404, "status": "invalid", "message": "no"}}, "warning", "slug"),
        ({"last_response": {"code": 502, "status": "invalid", "message": "no"}}, "warning", "certificate"),
        ({"active": False}, "warning", "switched off"),
        ({"config": {"content_type": "form"}}, "warning", "content type"),
        ({"events": ["push"]}, "warning", "issues, issue_comment"),
        ({"config": {"secret": ""}}, "warning", "no secret"),
    ],
)
async def test_the_check_tells_how_the_webhook_stands(tracker, github, changed, level, text):
    hook = ours(github, **changed)
    [finding] = [finding for finding in await tracker.check() if "pointsman.example" in finding.message]
    assert finding.level == level
    assert text in finding.message + finding.remedy
    if level != "ok":
        assert finding.impact
        assert f"/acme/shop/settings/hooks/{hook.id}" in finding.remedy


async def test_webhooks_that_may_not_be_seen_are_not_spoken_of(tracker, github):
    github.may_administer = False
    assert not any("webhook" in finding.message for finding in await tracker.check())


# -- calls that failed -------------------------------------------------------------------------------------------------


@pytest.fixture
async def lost_calls(tracker, github, helpers, aiohttp_server):
    """Two calls arrived, three failed; our end answers again."""
    answers = [500, 200, 503, 200, 502]
    heard = []

    async def hear(request):
        heard.append(request.headers["X-GitHub-Delivery"])
        return web.Response(status=answers.pop(0) if answers else 200)

    app = web.Application()
    app.router.add_post("/webhooks/github/shop", hear)
    server = await aiohttp_server(app)
    url = str(server.make_url("/webhooks/github/shop"))
    await tracker.ensure_webhook(url, SECRET)
    for _ in range(5):
        await github.open_issue("an issue")
    return url, heard


async def test_failed_calls_are_repeated_and_no_other(tracker, github, helpers, lost_calls):
    url, heard = lost_calls
    failed = [heard[0], heard[2], heard[4]]
    github.page_max = 2
    assert await tracker.redeliver_webhooks(url, helpers.long_ago) == 3
    await github.webhooks_sent()
    assert heard[5:] == failed
    assert await tracker.redeliver_webhooks(url, helpers.long_ago) == 0, "they have arrived"


async def test_a_call_that_always_fails_is_given_up(tracker, github, helpers, lost_calls):
    url, _heard = lost_calls
    github.webhook_url = f"{url}/nowhere"
    asked = []
    for _ in range(4):
        asked.append(await tracker.redeliver_webhooks(url, helpers.long_ago))
        await github.webhooks_sent()
    assert asked == [3, 3, 0, 0]


async def test_only_calls_since_then_count(tracker, github, helpers, lost_calls):
    url, _ = lost_calls
    for call in github.webhooks[:4]:
        call.at -= dt.timedelta(hours=1)
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)
    assert await tracker.redeliver_webhooks(url, since) == 1


async def test_where_nothing_can_be_asked_nothing_is(tracker, github, helpers, lost_calls):
    url, _ = lost_calls
    assert (
        await tracker.redeliver_webhooks("https://elsewhere.example/webhooks/github/shop", helpers.long_ago)
        == 0
    )
    [hook] = github.hooks.values()
    hook.active = False
    assert await tracker.redeliver_webhooks(url, helpers.long_ago) == 0
    hook.active, github.may_administer = True, False
    assert await tracker.redeliver_webhooks(url, helpers.long_ago) == 0


async def test_trouble_while_asking_is_told(tracker, github, helpers, lost_calls):
    url, _ = lost_calls
    github.faults = [Fault("/deliveries", status=500)]
    with pytest.raises(UnknownOutcome):
        await tracker.redeliver_webhooks(url, helpers.long_ago)
