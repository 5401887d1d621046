"""``check``: what stands in the way, what breaks by it, and the cure."""

from __future__ import annotations

import json

import pytest

from pointsman.plugin_api import Response, Secret
from pointsman.testing.fake import Fault
from pointsman_forgejo import checks
from pointsman_forgejo.settings import ForgejoSettings
from pointsman_forgejo.testing import ForgejoHook

URL = "https://pointsman.example/webhooks/forgejo/shop"


@pytest.fixture
def well(forgejo):
    """A destination at which nothing is amiss."""
    forgejo.labels = {1: "bug"}
    forgejo.members.add("ann")
    forgejo.may_admin = True
    forgejo.hooks[3] = ForgejoHook(3, URL)
    return forgejo


def get(status, body=b"{}"):
    return Response(method="GET", path="/x", status=status, headers={}, body=body)


async def test_a_destination_that_is_well(make_tracker, well):
    findings = await make_tracker(labels=("bug",), assignees=("Ann",)).check()
    assert {finding.level for finding in findings} == {"ok"}
    assert [finding.message for finding in findings] == [
        "Forgejo 15.0.3+gitea-1.22.0",
        "signed in as pointsman-bot",
        "repository acme/shop is visible to everybody",
        "issues can be read",
        "the token may write issues",
        "all labels exist",
        "all assignees can be assigned",
        "webhook 3 is active and sends issues",
    ]


async def test_a_repository_that_everybody_may_read_is_said_to_be_public(make_tracker, well):
    [item] = [finding for finding in await make_tracker().check() if finding.public]
    assert (item.level, item.message) == ("ok", "repository acme/shop is visible to everybody")
    well.private = True
    matching = await make_tracker().check()
    assert not any(finding.public for finding in matching)
    assert "repository acme/shop is visible" in [finding.message for finding in matching]


@pytest.mark.parametrize(
    ("visibility", "public"),
    [
        ({"private": False}, True),
        ({"private": False, "internal": False, "owner": {"visibility": "public"}}, True),
        ({"private": False, "owner": {"visibility": ""}}, True),
        ({"private": False, "owner": {"visibility": "limited"}}, False),
        ({"private": False, "internal": True, "owner": None}, False),
        ({"private": True, "owner": {"visibility": "public"}}, False),
        ({}, False),
    ],
)
def test_an_owner_who_hides_hides_the_repository(visibility, public):
    settings = ForgejoSettings(url="https://forgejo.example.com", token=Secret("t"), repository="acme/shop")
    first, *_ = checks.repository(get(200, json.dumps(visibility).encode()), settings)
    assert first.public is public


async def test_looking_changes_nothing(make_tracker, well):
    await make_tracker(labels=("bug", "not there"), assignees=("ann",)).check()
    assert well.effects == []
    assert well.issues == {}
    writes = [(method, path) for method, path in well.requests if method != "GET"]
    assert writes == [("PATCH", "/api/v1/repos/acme/shop/issues/0")]


@pytest.mark.parametrize(
    ("changed", "level", "message", "mend"),
    [
        ({"has_issues": False}, "error", "switched off", "Units"),
        ({"archived": True}, "error", "archived", "archive"),
        ({"may_write": False}, "warning", "may not write", "collaborator"),
        ({"scopes": {"repository", "issue"}}, "error", "[read:user]", "the scope read:user"),
        ({"scopes": {"user", "issue"}}, "error", "[read:repository]", "the scope read:repository"),
        ({"scopes": {"user", "repository"}}, "error", "[read:issue]", "the scope read:issue"),
        ({"read_only": {"issue"}}, "error", "[write:issue]", "the scope write:issue"),
        (
            {"read_only": {"issue"}, "brand": "gitea"},
            "error",
            "required=[write:issue]",
            "the scope write:issue",
        ),
        ({"token": "another"}, "error", "401", "new token"),
        ({"repository": "acme/other"}, "error", "404", "spelling"),
        ({"labels": {}}, "warning", "do not exist yet: bug", "make them"),
        (
            {"labels": {}, "scopes": {"user", "repository"}},
            "warning",
            "read the labels",
            "the scope read:issue",
        ),
        ({"members": {"pointsman-bot"}}, "warning", "can't be assigned: ann", "collaborator"),
        ({"hooks": {}}, "warning", "no webhook", "application/json"),
        (
            {"hooks": {3: ForgejoHook(3, "https://other.example/")}},
            "warning",
            "no webhook",
            "application/json",
        ),
        ({"hooks": {3: ForgejoHook(3, URL, active=False)}}, "warning", "inactive", "Webhooks"),
        ({"hooks": {3: ForgejoHook(3, URL, events={"push"})}}, "warning", "does not send issues", "Webhooks"),
        (
            {"hooks": {3: ForgejoHook(3, URL, content_type="form")}},
            "warning",
            "form and not json",
            "Webhooks",
        ),
        (
            {"hooks": {3: ForgejoHook(3, "http://10.0.0.9/webhooks/forgejo/shop")}},
            "warning",
            "not public",
            "ALLOWED_HOST_LIST",
        ),
    ],
)
async def test_what_stands_in_the_way_is_found(make_tracker, well, changed, level, message, mend):
    for name, value in changed.items():
        setattr(well, name, value)
    findings = await make_tracker(labels=("bug",), assignees=("ann",)).check()
    matching = [finding for finding in findings if finding.level == level and message in finding.message]
    assert matching
    assert any(mend in finding.remedy for finding in matching)
    assert all(finding.impact and finding.remedy for finding in findings if finding.level != "ok")


async def test_a_webhook_that_sends_no_comments_is_well(make_tracker, well):
    well.hooks[3].events = {"issues"}
    assert {finding.level for finding in await make_tracker().check()} == {"ok"}


@pytest.mark.parametrize("changed", [{"may_admin": False}, {"webhooks_enabled": False}])
async def test_a_right_that_is_better_not_given_is_no_fault(make_tracker, well, changed):
    for name, value in changed.items():
        setattr(well, name, value)
    *remaining, webhook = await make_tracker().check()
    assert {finding.level for finding in [*remaining, webhook]} == {"ok"}
    assert "was not looked at" in webhook.message
    assert "application/json" in webhook.remedy


async def test_labels_that_are_not_made_say_the_switch(make_tracker, well):
    findings = await make_tracker(labels=("urgent",), create_labels=False).check()
    [finding] = [finding for finding in findings if "urgent" in finding.message]
    assert finding.impact == "issues are opened without them"
    assert "create_labels" in finding.remedy


async def test_a_check_looks_anew_each_time(make_tracker, well):
    tracker = make_tracker(labels=("bug",))
    await tracker.check()
    well.labels = {}
    well.token = "another"
    assert "401" in (await tracker.check())[-1].message
    well.token = "forgejo-token"
    assert any("do not exist yet: bug" in finding.message for finding in await tracker.check())


async def test_a_server_that_is_down_is_told_once(make_tracker, forgejo):
    async with forgejo.down():
        assert [finding.level for finding in await make_tracker().check()] == ["error"]


async def test_a_wrong_token_ends_it(make_tracker, well):
    findings = await make_tracker(token=Secret("wrong")).check()
    assert [finding.level for finding in findings] == ["ok", "error"]
    assert "new token" in findings[-1].remedy


@pytest.mark.parametrize(
    "fault", [Fault("/user", status=500), Fault("/assignees", status=500), Fault("/hooks", status=500)]
)
async def test_one_question_without_an_answer_does_not_hide_the_others(make_tracker, well, fault):
    findings = await make_tracker(labels=("bug",), assignees=("ann",)).check()
    well.faults.append(fault)
    troubled = await make_tracker(labels=("bug",), assignees=("ann",)).check()
    assert len(troubled) == len(findings)
    assert sum(finding.level != "ok" for finding in troubled) == 1


@pytest.mark.parametrize(
    ("body", "level", "message"),
    [
        (b'{"version":"15.0.3+gitea-1.22.0"}', "ok", "Forgejo 15.0.3+gitea-1.22.0"),
        (b'{"version":"7.0.4+gitea-1.21.11"}', "ok", "Forgejo 7.0.4+gitea-1.21.11"),
        (b'{"version":"1.24.2"}', "ok", "Gitea 1.24.2"),
        (b'{"version":"1.25.0+dev-12-gabcdef"}', "ok", "Gitea 1.25.0+dev-12-gabcdef"),
        (b'{"version":"new"}', "warning", "none of Forgejo or Gitea"),
        (b"{}", "warning", "tells no version"),
        (b"<html>sign in</html>", "warning", "tells no version"),
        (b'{"version":7}', "warning", "tells no version"),
    ],
)
def test_forgejo_and_gitea_are_told_apart(body, level, message):
    finding = checks.version(get(200, body))
    assert finding.level == level
    assert message in finding.message


def test_a_server_that_does_not_tell_its_version_says_why():
    assert "404" in checks.version(get(404)).message


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"id":-1,"login":"x"}'])
def test_an_account_that_is_none_is_found(body):
    assert checks.account(get(200, body)).level == "error"


@pytest.mark.parametrize("body", [b"[]", b"<html>", b"null"])
def test_an_answer_that_is_no_repository_is_found(make_tracker, body):
    [finding] = checks.repository(get(200, body), make_tracker().settings)
    assert finding.level == "error"
    assert "is no repository" in finding.message


def test_a_token_for_public_repositories_only_is_told(make_tracker):
    payload = b'{"message":"token scope is limited to public repos"}'
    [finding] = checks.repository(get(403, payload), make_tracker().settings)
    assert "limited to public repos" in finding.message
    assert "not limited" in finding.remedy
    writing = checks.writing(get(403, payload))
    assert writing is not None
    assert "limited to public repositories" in writing.remedy


@pytest.mark.parametrize("status", [201, 423, 500])
def test_what_says_nothing_about_the_token_is_left_out(status):
    assert checks.writing(get(status)) is None


def test_who_can_be_assigned_is_not_guessed(make_tracker):
    for answer in (get(200, b"{}"), get(403, b'{"message":"no"}')):
        finding = checks.assignees(answer, make_tracker(assignees=("ann",)).settings)
        assert finding.level == "warning"
        assert "read:repository" in finding.remedy


async def test_where_our_address_is_known_only_that_webhook_is_ours(make_tracker, well):
    tracker = make_tracker()
    *_, matching = await tracker.check(f"{URL}-2")
    assert (matching.level, matching.message) == ("warning", "acme/shop has no webhook to Pointsman")
    assert f"{URL}-2" in matching.remedy
    well.hooks[4] = ForgejoHook(4, f"{URL}-2")
    *_, matching = await tracker.check(f"{URL}-2")
    assert (matching.level, matching.message) == ("ok", "webhook 4 is active and sends issues")
