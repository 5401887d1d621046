"""Signing in as a GitHub App, whose tokens last an hour."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from unittest import mock

import jwt
import pytest

from pointsman.plugin_api import (
    Actor,
    AuthFailed,
    Conflict,
    Misconfigured,
    RateLimited,
    Unavailable,
)
from pointsman.testing.fake import Fault
from pointsman_github import app as app_module

TOKENS = "POST /app/installations"


def asked_for_tokens(github):
    return sum(path.endswith("/access_tokens") for _, path in github.requests)


@pytest.fixture
def clock():
    """The clock that the plugin measures a token's life with."""
    now = [1000.0]
    with mock.patch.object(app_module, "_clock", autospec=True) as read:
        read.side_effect = lambda: now[0]
        yield now


async def test_an_app_opens_comments_closes_and_finds_as_its_bot(make_app_tracker, github, helpers):
    tracker = make_app_tracker()
    draft, marker = helpers.draft(), helpers.marker()
    issue = await tracker.create_issue(draft)
    comment = await tracker.add_comment(issue, "It happened again.", marker)
    assert (await tracker.set_state(issue, "closed", None)).author.name == "pointsman[bot]"
    me = await tracker.own_account()
    assert me == Actor(me.account_id, "pointsman[bot]")
    assert me.account_id.isdigit()
    copied = f"<!-- pointsman: {draft.marker.text} -->"
    for other in ("dev", github.bot):
        await github.open_issue("a copy", copied, by=other)
    assert await tracker.find_issue(draft.marker, helpers.long_ago) == [issue]
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [comment]
    assert any("creator=pointsman%5Bbot%5D" in path for _, path in github.requests)
    assert not any(path == "/user" for _, path in github.requests)
    assert asked_for_tokens(github) == 1


async def test_what_the_app_says_of_itself_is_what_github_asks_for(make_app_tracker, app_pem):
    """https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app"""
    tracker = make_app_tracker()
    with mock.patch.object(app_module.time, "time", return_value=1_800_000_000.5):
        token = tracker._app._jwt()
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {"iat": 1_800_000_000 - 60, "exp": 1_800_000_000 + 540, "iss": "1234"}


@pytest.mark.parametrize("characters", [40, 520, 4000])
async def test_a_token_may_be_of_any_length(make_app_tracker, github, helpers, characters):
    tracker = make_app_tracker(app={"token_characters": characters})
    await tracker.create_issue(helpers.draft())
    assert [len(token) for token in github.app_tokens] == [characters]


async def test_a_token_is_renewed_five_minutes_before_its_end(make_app_tracker, github, helpers, clock):
    tracker = make_app_tracker()
    await tracker.create_issue(helpers.draft())
    clock[0] += 3600 - 300 - 5
    await tracker.create_issue(helpers.draft())
    assert asked_for_tokens(github) == 1
    clock[0] += 10
    await tracker.create_issue(helpers.draft())
    assert asked_for_tokens(github) == 2


async def test_the_life_of_a_token_is_measured_by_github_s_clock(make_app_tracker, github, helpers, clock):
    """A clock that is off by an hour here neither renews at every request nor uses what ended long ago."""
    tracker = make_app_tracker()
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=5)
    answer = {"token": "ghs_later", "expires_at": (ahead + dt.timedelta(hours=1)).isoformat()}
    github.faults.append(
        Fault(
            TOKENS,
            status=201,
            body=json.dumps(answer).encode(),
            headers={"Date": ahead.strftime("%a, %d %b %Y %H:%M:%S GMT")},
        )
    )
    github.app_tokens["ghs_later"] = ahead
    await tracker.create_issue(helpers.draft())
    assert tracker._app._ends_at - clock[0] == pytest.approx(3600, abs=2)


async def test_many_requests_at_once_renew_once(make_app_tracker, github, helpers):
    tracker = make_app_tracker()
    github.faults.append(Fault(TOKENS, hang_seconds=0.2))
    await asyncio.gather(*(tracker.create_issue(helpers.draft()) for _ in range(10)))
    assert github.issues_created() == 10
    assert asked_for_tokens(github) == 1
    for token in github.app_tokens:
        github.app_tokens[token] = github.now()
    await asyncio.gather(*(tracker.create_issue(helpers.draft()) for _ in range(10)))
    assert github.issues_created() == 20
    assert asked_for_tokens(github) == 2


async def test_a_refused_token_is_renewed_and_the_request_sent_again(make_app_tracker, github, helpers):
    tracker = make_app_tracker()
    await tracker.create_issue(helpers.draft())
    github.app_tokens.clear()
    await tracker.create_issue(helpers.draft())
    assert github.issues_created() == 2
    assert asked_for_tokens(github) == 2


async def test_a_second_refusal_is_the_end_of_it(make_app_tracker, github, helpers):
    tracker = make_app_tracker()
    github.faults.append(Fault("/issues", status=401, body=b'{"message":"Bad credentials"}', times=9))
    with pytest.raises(AuthFailed, match="Bad credentials"):
        await tracker.create_issue(helpers.draft())
    posted = [path for method, path in github.requests if path.endswith("/issues")]
    assert (len(posted), asked_for_tokens(github)) == (2, 2)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ({"status": 401, "body": b'{"message":"Integration not found"}'}, AuthFailed, "`app_id`"),
        ({"status": 404, "body": b'{"message":"Not Found"}'}, Misconfigured, "`installation_id`"),
        (
            {"status": 403, "body": b'{"message":"This installation has been suspended"}'},
            Misconfigured,
            "suspended",
        ),
        ({"status": 422, "body": b'{"message":"Validation Failed"}'}, Misconfigured, "Validation"),
        ({"status": 400, "body": b'{"message":"Problems parsing JSON"}'}, Misconfigured, "parsing"),
        ({"status": 409, "body": b'{"message":"Conflict"}'}, Conflict, "Conflict"),
        ({"status": 301, "headers": {"Location": "/elsewhere"}}, Misconfigured, "301"),
        ({"status": 429, "headers": {"Retry-After": "7"}}, RateLimited, "429"),
        (
            {"status": 403, "body": b'{"message":"You have exceeded a secondary rate limit"}'},
            RateLimited,
            "secondary",
        ),
        ({"status": 408}, Unavailable, "408"),
        ({"status": 502}, Unavailable, "502"),
        ({"reset": True, "times": 9}, Unavailable, "token"),
        ({"status": 201, "body": b"<html>"}, Unavailable, "not GitHub's API"),
        ({"status": 201, "body": b'"ghs_secret"'}, Unavailable, "not GitHub's API"),
        ({"status": 201, "body": b'{"expires_at":"2030-01-01T00:00:00Z"}'}, Unavailable, "without a token"),
        ({"status": 201, "body": b'{"token":"ghs_secret two"}'}, Unavailable, "without a token"),
    ],
)
async def test_without_a_token_nothing_was_sent_and_no_outcome_is_unknown(
    make_app_tracker, github, helpers, fault, kind, message
):
    github.faults.append(Fault(TOKENS, **fault))
    with pytest.raises(kind, match=message) as caught:
        await make_app_tracker().create_issue(helpers.draft())
    assert type(caught.value) is kind
    assert "ghs_secret" not in caught.value.message + caught.value.excerpt
    assert github.issues_created() == 0
    assert not any(path.endswith("/issues") for _, path in github.requests)


async def test_a_wrong_key_id_or_installation_is_named(make_app_tracker, github, helpers):
    for app, kind, texts in (
        ({"app_id": "9"}, AuthFailed, "`app_id`"),
        ({"installation_id": "9"}, Misconfigured, "`installation_id`"),
        ({"suspended": True}, Misconfigured, "suspended"),
    ):
        with pytest.raises(kind, match=texts):
            await make_app_tracker(app=app).create_issue(helpers.draft())


async def test_a_clock_that_is_off_is_named(make_app_tracker, github, helpers):
    github.faults.append(
        Fault(TOKENS, status=401, body=b'{"message":"no"}', headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    )
    with pytest.raises(AuthFailed, match=r"the clock here is \+\d+ s off"):
        await make_app_tracker().create_issue(helpers.draft())


@pytest.mark.parametrize("fault", [{"status": 502}, {"status": 429}, {"reset": True}])
async def test_a_token_serves_to_its_end_where_there_is_no_new_one(
    make_app_tracker, github, helpers, clock, fault
):
    tracker = make_app_tracker()
    await tracker.create_issue(helpers.draft())
    clock[0] += 3600 - 200
    github.faults.append(Fault(TOKENS, times=99, **fault))
    await tracker.create_issue(helpers.draft())
    asked = asked_for_tokens(github)
    await tracker.create_issue(helpers.draft())
    assert asked_for_tokens(github) == asked
    assert github.issues_created() == 3
    clock[0] += 175
    with pytest.raises((Unavailable, RateLimited)):
        await tracker.create_issue(helpers.draft())


async def test_a_renewal_that_is_given_up_leaves_the_lock(make_app_tracker, github, helpers):
    tracker = make_app_tracker()
    github.faults.append(Fault(TOKENS, hang_seconds=5))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await tracker.create_issue(helpers.draft())
    await tracker.create_issue(helpers.draft())
    assert github.issues_created() == 1


@pytest.mark.parametrize("body", [b"{}", b'{"slug": 5}', b'{"slug": ""}'])
async def test_an_app_without_a_name(make_app_tracker, github, body):
    github.faults.append(Fault("GET /app", status=200, body=body))
    with pytest.raises(Misconfigured, match="does not name the App"):
        await make_app_tracker().own_account()


async def test_the_check_of_an_app(make_app_tracker, github):
    findings = await make_app_tracker().check()
    assert {finding.level for finding in findings} == {"ok"}
    assert any("pointsman[bot]" in finding.message for finding in findings)
    findings = await make_app_tracker(app={"permissions": {"issues": "read"}}).check()
    [bad] = [finding for finding in findings if finding.level == "error"]
    assert "'read'" in bad.message
    assert "403" in bad.impact
    findings = await make_app_tracker(
        app={"permissions": {"issues": "write", "repository_hooks": "write"}}
    ).check()
    [webhook] = [finding for finding in findings if "no webhook" in finding.message]
    assert (webhook.level, "App's own webhook" in webhook.message) == ("ok", True)


async def test_a_check_with_a_wrong_key_says_where_keys_are(make_app_tracker):
    [finding] = await make_app_tracker(app={"app_id": "9"}).check()
    assert (finding.level, finding.remedy) == ("error", "see the App's page for its id and keys")


async def test_nothing_shows_the_key_or_the_token(make_app_tracker, github, helpers, app_pem):
    tracker = make_app_tracker()
    await tracker.create_issue(helpers.draft())
    [token] = github.app_tokens
    shown = repr(tracker.settings) + repr(tracker._app) + repr(vars(tracker))
    assert token not in shown
    assert app_pem[40:80] not in shown
