"""What `pointsman doctor` shows, and the webhook it sets up."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import Secret, Unavailable
from pointsman.testing.fake import Fault
from pointsman_gitlab.doctor import project_findings, token_findings
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.testing import GitLabHook

URL = "https://pointsman.example.com/webhooks/gitlab/shop"
SIGNING = "whsec_" + "A" * 43 + "="


async def levels(tracker) -> list[tuple[str, str]]:
    return [(item.level, item.message) for item in await tracker.check() if item.level != "ok"]


async def test_a_healthy_place_has_no_findings_but_good_ones(gitlab, make_tracker):
    tracker = make_tracker(assignees=("ada",))
    await tracker.ensure_webhook(URL, Secret("hook secret"))
    matching = await tracker.check()
    assert {item.level for item in matching} == {"ok"}
    assert [item.message for item in matching] == [
        "signed in as pointsman",
        "the project acme/shop has issues",
        f"webhook 1 leads to {URL}",
    ]


@pytest.mark.parametrize(
    ("visibility", "confidential", "public"),
    [
        ("public", False, True),
        ("public", True, False),
        ("internal", False, False),
        ("private", False, False),
    ],
)
async def test_issues_that_everybody_may_read_are_said_to_be_public(
    gitlab, make_tracker, visibility, confidential, public
):
    gitlab.visibility = visibility
    matching = [item for item in await make_tracker(confidential=confidential).check() if item.public]
    payload = [(item.level, item.message) for item in matching]
    assert payload == ([("ok", "the issues of acme/shop are visible to everybody")] if public else [])


def test_a_public_project_may_keep_its_issues_to_members():
    settings = GitLabSettings(token=Secret("t"), project="acme/shop")
    for access, public in (("enabled", True), ("private", False), (None, True)):
        raw = {"id": 7, "visibility": "public", "issues_access_level": access}
        assert any(item.public for item in project_findings(raw, settings)) is public


async def test_what_is_wrong_is_said(gitlab, make_tracker):
    gitlab.archived, gitlab.issues_enabled, gitlab.role = True, False, 10
    gitlab.expires_at = (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=3)).isoformat()
    payload = await levels(make_tracker(assignees=("ada", "nobody")))
    assert [level for level, _ in payload] == ["warning", "error", "error", "warning", "warning", "warning"]
    text = "\n".join(subject for _, subject in payload)
    for word in ("token ends", "archived", "switched off", "Guest", "nobody", "no webhook"):
        assert word in text


async def test_a_token_that_may_only_read_is_said(gitlab, tracker):
    gitlab.scopes = ["read_api"]
    assert ("error", "the token has the scopes read_api and not api") in await levels(tracker)


@pytest.mark.parametrize(
    "token", [None, [], {}, {"scopes": "api", "expires_at": "soon"}, {"scopes": ["api"]}]
)
def test_a_token_that_says_nothing_is_no_finding(token):
    assert token_findings(token, dt.date(2026, 1, 1)) == []


async def test_a_wrong_token_ends_the_check(gitlab, make_tracker):
    [item] = await make_tracker(token=Secret("wrong")).check()
    assert item.level == "error"
    assert "new token" in item.remedy


async def test_a_wrong_address_is_said(gitlab, make_tracker):
    gitlab.faults.append(Fault(match="/user", status=200, body=b"{}"))
    assert ("error", "this is not GitLab's API: check `url`") in await levels(make_tracker())
    payload = await levels(make_tracker(project="acme/other"))
    assert "hidden from the account" in payload[0][1]


async def test_a_server_that_is_away_is_said(gitlab, tracker):
    async with gitlab.down():
        [item] = await tracker.check()
    assert item.level == "error"


async def test_webhooks_that_hide_are_no_trouble(gitlab, tracker):
    gitlab.may_admin = False
    matching = (await tracker.check())[-1]
    assert (matching.level, "Settings, Webhooks" in matching.remedy) == ("ok", True)


async def test_a_webhook_that_lacks_something_is_said(gitlab, tracker):
    gitlab.hooks[1] = GitLabHook(1, URL, flags={"issues_events": True})
    [(level, subject)] = await levels(tracker)
    assert level == "warning"
    assert "does not send confidential_issues_events" in subject


# -- ensure_webhook ------------------------------------------------------------------------------------------------


async def test_a_webhook_is_made_once(gitlab, tracker):
    for payload in ("webhook 1 is made", "webhook 1 is there, with this secret"):
        matching = await tracker.ensure_webhook(URL, Secret("hook secret"))
        assert (matching.level, matching.message) == ("ok", payload)
    [hook] = gitlab.hooks.values()
    assert (hook.url, hook.token, hook.signing_token) == (URL, "hook secret", "")
    assert hook.flags == {
        "push_events": False,
        "issues_events": True,
        "confidential_issues_events": True,
        "enable_ssl_verification": True,
    }


async def test_another_secret_is_written(gitlab, tracker):
    await tracker.ensure_webhook(URL, Secret("old"))
    await tracker.ensure_webhook(URL, Secret("new"))
    assert [hook.token for hook in gitlab.hooks.values()] == ["new"]


async def test_a_signing_token_is_set_as_one(gitlab, tracker):
    assert (await tracker.ensure_webhook(URL, Secret(SIGNING))).level == "ok"
    assert (gitlab.hooks[1].token, gitlab.hooks[1].signing_token) == ("", SIGNING)


async def test_an_older_gitlab_does_not_sign(gitlab, tracker):
    gitlab.signs = False
    matching = await tracker.ensure_webhook(URL, Secret(SIGNING))
    assert matching.level == "warning"
    assert "does not sign yet" in matching.message


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short"])
async def test_a_secret_that_is_none_is_refused(gitlab, tracker, secret):
    assert (await tracker.ensure_webhook(URL, Secret(secret))).level == "error"
    assert gitlab.hooks == {}


async def test_a_webhook_is_mended(gitlab, tracker):
    gitlab.hooks[5] = GitLabHook(5, URL, flags={"issues_events": False, "push_events": True})
    gitlab.hooks[6] = GitLabHook(6, "https://elsewhere.example.com", flags={})
    assert (await tracker.ensure_webhook(URL, Secret("s"))).level == "ok"
    assert gitlab.hooks[5].flags["issues_events"] and not gitlab.hooks[5].flags["push_events"]
    assert gitlab.hooks[6].flags == {}


async def test_two_webhooks_are_one_too_many(gitlab, tracker):
    for number in (5, 6):
        gitlab.hooks[number] = GitLabHook(number, URL)
    matching = await tracker.ensure_webhook(URL, Secret("s"))
    assert matching.level == "warning"
    assert "5, 6" in matching.message


async def test_without_the_right_a_person_is_told_what_to_do(gitlab, tracker):
    gitlab.may_admin = False
    matching = await tracker.ensure_webhook(URL, Secret("s"))
    assert matching.level == "warning"
    assert "Maintainer" in matching.remedy and URL in matching.remedy


async def test_a_private_address_is_refused_by_gitlab(gitlab, tracker):
    gitlab.faults.append(Fault(match="POST", status=422, body=b'{"error": "Invalid url given"}'))
    matching = await tracker.ensure_webhook("http://127.0.0.1/x", Secret("s"))
    assert "Outbound requests" in matching.remedy


async def test_other_trouble_is_raised(gitlab, tracker):
    async with gitlab.down():
        with pytest.raises(Unavailable):
            await tracker.ensure_webhook(URL, Secret("s"))


async def test_where_our_address_is_known_only_that_webhook_is_ours(tracker):
    await tracker.ensure_webhook(URL, Secret("hook secret"))
    *_, matching = await tracker.check(f"{URL}-2")
    assert (matching.level, matching.message) == ("warning", "no webhook of the project leads to Pointsman")
    assert f"{URL}-2" in matching.remedy
    await tracker.ensure_webhook(f"{URL}-2", Secret("hook secret"))
    *_, matching = await tracker.check(f"{URL}-2")
    assert (matching.level, matching.message) == ("ok", f"webhook 2 leads to {URL}-2")
