"""What `pointsman doctor` is told: what was looked at, what breaks otherwise, and how to mend it."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import Secret
from pointsman.testing.fake import Fault
from pointsman_github import checks
from pointsman_github.testing import GitHubHook


@pytest.fixture
def webhook(github):
    """The repository's webhook to Pointsman."""
    config = {
        "url": "https://pointsman.example/webhooks/github/shop",
        "content_type": "json",
        "secret": "s",
        "insecure_ssl": "0",
    }
    github.hooks[1] = GitHubHook(1, config, ["issues", "issue_comment"])


async def test_a_destination_that_is_well(make_tracker, github, webhook):
    findings = await make_tracker(assignees=(github.bot,)).check()
    assert {finding.level for finding in findings} == {"ok"}
    payload = "\n".join(finding.message for finding in findings)
    for part in (
        "signed in as pointsman-bot",
        "acme/shop is visible",
        "labels and assignees",
        "issues can be read",
        "pointsman-bot can be assigned",
        "of 5000 requests are left",
        "is in order",
    ):
        assert part in payload
    assert all(method == "GET" for method, _ in github.requests)


async def test_a_repository_that_everybody_may_read_is_said_to_be_public(tracker, github, webhook):
    [item] = [finding for finding in await tracker.check() if finding.public]
    assert (item.level, item.message) == ("ok", "repository acme/shop is visible to everybody")
    github.private = True
    matching = await tracker.check()
    assert not any(finding.public for finding in matching)
    assert "repository acme/shop is visible" in [finding.message for finding in matching]


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({"has_issues": False}, "error", "switched off"),
        ({"archived": True}, "error", "archived"),
        ({"may_push": False}, "warning", "may not push"),
        ({"may_see": False}, "error", "404"),
        ({"token": "another"}, "error", "401"),
        ({"calls_left": 0}, "error", "rate limit"),
        ({"calls_left": 400}, "warning", "of 5000 requests are left until"),
        ({"token_headers": {"X-OAuth-Scopes": "gist"}}, "error", "public_repo"),
        ({"token_headers": {"X-OAuth-Scopes": ""}}, "error", "public_repo"),
        (
            {"token_headers": {"GitHub-Authentication-Token-Expiration": "2020-02-06 17:23:12 UTC"}},
            "warning",
            "2020-02-06",
        ),
    ],
)
async def test_what_stands_in_the_way_is_found(make_tracker, github, webhook, changed, level, message):
    for name, value in changed.items():
        setattr(github, name, value)
    bad = [finding for finding in await make_tracker().check() if finding.level != "ok"]
    assert any(message in finding.message and finding.level == level for finding in bad)
    assert all(finding.impact and finding.remedy for finding in bad)


@pytest.mark.parametrize(("days", "level"), [(13, "warning"), (15, "ok")])
async def test_a_token_is_renewed_two_weeks_before_its_end(tracker, github, webhook, days, level):
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    github.token_headers = {"GitHub-Authentication-Token-Expiration": f"{end:%Y-%m-%d %H:%M:%S} UTC"}
    [matching] = [finding for finding in await tracker.check() if f"{end:%Y-%m-%d}" in finding.message]
    assert matching.level == level
    if level == "warning":
        assert f"{github.url}/settings/personal-access-tokens" in matching.remedy


@pytest.mark.parametrize("scopes", ["repo", "public_repo, gist", "admin:org, repo"])
async def test_scopes_that_suffice(tracker, github, webhook, scopes):
    github.token_headers = {"X-OAuth-Scopes": scopes}
    assert {finding.level for finding in await tracker.check()} == {"ok"}


async def test_without_triage_issues_of_others_can_not_be_closed(tracker, github, webhook):
    github.may_push = False
    [bad] = [finding for finding in await tracker.check() if finding.level != "ok"]
    assert "issues of others" not in bad.impact
    github.may_triage = False
    [bad] = [finding for finding in await tracker.check() if finding.level != "ok"]
    assert "issues of others can't be closed" in bad.impact


async def test_who_can_not_be_assigned_is_named(make_tracker, github, webhook):
    github.assignable = {"dev"}
    findings = await make_tracker(assignees=("dev", "nobody", "no/body")).check()
    bad = [finding for finding in findings if finding.level != "ok"]
    assert [finding.message.partition(" ")[0] for finding in bad] == ["nobody", "no/body"]
    assert all("`assignees`" in finding.remedy for finding in bad)


async def test_an_odd_answer_about_somebody_does_not_end_the_check(make_tracker, github, webhook):
    github.faults.append(Fault("/assignees/", status=500, body=b'{"message":"Server Error"}'))
    findings = await make_tracker(assignees=("dev",)).check()
    assert any(finding.level == "warning" and "Server Error" in finding.message for finding in findings)
    assert findings[-1].message.endswith("it was not called yet")


async def test_a_renamed_repository_is_told(tracker, github):
    github.rename_repository("acme/store")
    assert any("another name" in finding.remedy for finding in await tracker.check())


async def test_a_token_that_belongs_to_no_account_is_told(tracker, github):
    github.faults.append(
        Fault("/user", status=403, body=b'{"message":"Resource not accessible by integration"}')
    )
    [finding] = await tracker.check()
    assert finding.level == "error"
    assert "App's id and key" in finding.remedy


async def test_a_server_without_a_limit_tells_none(tracker, github, webhook):
    github._limit_headers = dict
    findings = await tracker.check()
    assert {finding.level for finding in findings} == {"ok"}
    assert not any("requests are left" in finding.message for finding in findings)


async def test_a_server_that_is_down(tracker, github):
    async with github.down():
        [finding] = await tracker.check()
    assert (finding.level, "is up" in finding.remedy) == ("error", True)


async def test_the_check_finds_a_token_that_was_changed_meanwhile(make_tracker, github):
    tracker = make_tracker()
    await tracker.own_account()
    github.token = "another"
    assert [finding.level for finding in await tracker.check()] == ["error"]


async def test_no_finding_shows_the_token(make_tracker, github):
    tracker = make_tracker(token=Secret("hush-hush-hush"))
    assert "hush-hush-hush" not in repr(await tracker.check())


@pytest.mark.parametrize(
    "text", ["2027-02-06 17:23:12 UTC", "2027-02-06 18:23:12 +0100", "2027-02-06T17:23:12Z"]
)
def test_the_end_of_a_token_in_its_forms(text):
    assert checks.expiry(text) == dt.datetime(2027, 2, 6, 17, 23, 12, tzinfo=dt.UTC)
    assert checks.expiry("never") is None


async def test_where_our_address_is_known_only_that_webhook_is_ours(tracker, github, webhook):
    url = "https://pointsman.example/webhooks/github/shop-2"
    *_, matching = await tracker.check(url)
    assert (matching.level, matching.message) == (
        "warning",
        "no webhook of the repository leads to Pointsman",
    )
    github.hooks[1].config["url"] = url
    *_, matching = await tracker.check(url)
    assert matching.level == "ok" and matching.message.startswith(
        "webhook 1 to pointsman.example is in order"
    )
