"""The tracker against a loopback server that behaves like GitHub."""

from __future__ import annotations

import datetime as dt
import re
from unittest import mock

import aiohttp
import jsonschema
import pytest
from aioresponses import aioresponses

from pointsman.plugin_api import (
    AuthFailed,
    Draft,
    IssueRef,
    Misconfigured,
    Moved,
    NotFound,
    RateLimited,
    Refused,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_github import GitHubTracker, checks, pointsman_register_trackers, wire
from pointsman_github.settings import GitHubSettings

# -- settings ------------------------------------------------------------------------------------------------------


def test_the_plugin_registers_its_tracker():
    register = mock.Mock()
    pointsman_register_trackers(register)
    register.assert_called_once_with(GitHubTracker)
    assert (GitHubTracker.kind, GitHubTracker.api_version) == ("github", 1)
    assert GitHubTracker.capabilities.settle_seconds == (20.0, 60.0)
    assert GitHubTracker.capabilities.close_reasons


@pytest.mark.parametrize(
    ("changed", "base"),
    [
        ({}, "https://api.github.com"),
        ({"url": "https://api.github.com/"}, "https://api.github.com"),
        ({"url": "https://github.example/api/v3/"}, "https://github.example/api/v3"),
    ],
)
def test_what_goes_along_with_every_call(changed, base):
    settings = GitHubSettings(token=Secret("abc\n"), repository="acme/shop", **changed)
    connection = GitHubTracker.connection(settings)
    assert connection.base_url == base
    assert {name: value.reveal() for name, value in connection.headers.items()} == {
        "Authorization": "Bearer abc",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "pointsman",
    }
    assert "abc" not in repr(connection)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"url": "github.example"}, "https://HOST/api/v3"),
        ({"url": "https://github.com"}, "https://api.github.com"),
        ({"url": "https://me:pw@github.example"}, "into `token`"),
        ({"repository": "shop"}, "acme/shop"),
        ({"repository": "https://github.com/acme/shop"}, "without a host"),
        ({"repository": "acme/.."}, "acme/shop"),
        ({"repository": "acme/shop/"}, "acme/shop"),
        ({"token": Secret("")}, "token is empty"),
        ({"token": Secret("Bearer abc")}, "copy it anew"),
        ({"labels": ("x" * 51,)}, "50 characters"),
        ({"assignees": ("dev", " ")}, "leave it out"),
    ],
)
def test_settings_that_can_not_work_say_the_cure(changed, cure):
    values = {"token": Secret("hush"), "repository": "acme/shop", **changed}
    with pytest.raises(ValueError, match=re.escape(cure)) as caught:
        GitHubSettings(**values)
    assert "hush" not in str(caught.value)


# -- creating ------------------------------------------------------------------------------------------------------


async def test_an_issue_is_created_with_its_marker_and_found_by_it(tracker, github, helpers):
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    assert ref == IssueRef("1", "1", f"{github.url}/acme/shop/issues/1")
    assert [(effect.kind, effect.key, effect.marker) for effect in github.effects] == [
        ("issue", "1", draft.marker.text)
    ]
    assert await tracker.find_issue(draft.marker, helpers.long_ago) == [ref]
    assert await tracker.find_issue(helpers.marker(), helpers.long_ago) == []


async def test_labels_go_by_name(make_tracker, github, helpers):
    github.assignable.add("dev")
    await make_tracker(labels=("bug",), assignees=("dev",)).create_issue(helpers.draft(labels=("Bug", "new")))
    assert (github.issues[1].labels, github.issues[1].assignees) == (["bug", "new"], ["dev"])


async def test_without_the_right_to_push_they_are_dropped(make_tracker, github, helpers):
    github.may_push = False
    await make_tracker(labels=("bug",), assignees=("nobody",)).create_issue(helpers.draft())
    assert (github.issues[1].labels, github.issues[1].assignees) == ([], [])


async def test_a_refused_assignee_does_not_lose_the_issue(make_tracker, github, helpers):
    await make_tracker(labels=("bug",), assignees=("nobody",)).create_issue(helpers.draft())
    assert github.issues_made() == 1
    assert (github.issues[1].labels, github.issues[1].assignees) == (["bug"], [])


async def test_a_refusal_of_anything_else_is_not_tried_again(make_tracker, github, helpers):
    body = b'{"message":"Validation Failed","errors":[{"field":"title","code":"custom","message":"title is too long"}]}'
    github.faults.append(Fault("POST", status=422, body=body, times=9))
    with pytest.raises(Refused) as caught:
        await make_tracker(assignees=("nobody",)).create_issue(helpers.draft())
    assert caught.value.fields == {"title": "title is too long"}
    assert len(github.requests) == 1


async def test_long_texts_are_taken(tracker, github, helpers):
    draft = helpers.draft(title="x" * 999, body="y" * 99_999)
    issue = await tracker.create_issue(draft)
    await tracker.add_comment(issue, "z" * 99_999, helpers.marker())
    assert len(github.issues[1].body) == wire.BODY_CHARACTERS - 65
    assert wire.markers_in(github.issues[1].body) == (draft.marker.text,)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("POST", status=502, applied=True), UnknownOutcome),
        (Fault("POST", reset=True, applied=True), UnknownOutcome),
        (Fault("POST", status=201, body=b"<html>"), UnknownOutcome),
        (Fault("POST", status=201, body=b"[]", applied=True), UnknownOutcome),
        (Fault("POST", status=401), AuthFailed),
        (Fault("POST", status=404), NotFound),
        (Fault("POST", status=410), NotFound),
        (Fault("POST", status=403), Misconfigured),
    ],
)
async def test_an_error_is_named_for_what_it_proves(tracker, github, helpers, fault, kind):
    github.faults.append(fault)
    with pytest.raises(kind) as caught:
        await tracker.create_issue(helpers.draft())
    assert type(caught.value) is kind
    assert len(github.requests) == 1


async def test_both_limits_of_github(tracker, github, helpers):
    github.content_left = 1
    await tracker.create_issue(helpers.draft())
    with pytest.raises(RateLimited) as caught:
        await tracker.create_issue(helpers.draft())
    assert (caught.value.retry_after, caught.value.scope) == (60.0, "content")
    github.secondary_retry_after = 90
    with pytest.raises(RateLimited) as caught:
        await tracker.create_issue(helpers.draft())
    assert (caught.value.retry_after, caught.value.scope) == (90.0, "content")
    github.calls_left = 0
    with pytest.raises(RateLimited) as caught:
        await tracker.read_issue(helpers.number(1))
    assert caught.value.scope == "all"
    assert 1700 < caught.value.retry_after < 1900
    assert github.issues_made() == 1


async def test_a_server_that_is_down_was_not_told_anything(tracker, github, helpers):
    async with github.down():
        with pytest.raises(Unavailable):
            await tracker.create_issue(helpers.draft())


async def test_a_wrong_token_a_hidden_repository_and_a_missing_right(make_tracker, tracker, github, helpers):
    with pytest.raises(AuthFailed):
        await make_tracker(token=Secret("wrong")).create_issue(helpers.draft())
    github.may_write_issues = False
    with pytest.raises(Misconfigured, match="issues=write"):
        await tracker.create_issue(helpers.draft())
    github.may_see = False
    with pytest.raises(NotFound):
        await tracker.create_issue(helpers.draft())


async def test_an_archived_repository_and_issues_switched_off(tracker, github, helpers):
    github.archived = True
    with pytest.raises(Misconfigured, match="archived"):
        await tracker.create_issue(helpers.draft())
    github.has_issues = False
    with pytest.raises(NotFound, match="disabled"):
        await tracker.create_issue(helpers.draft())


async def test_a_renamed_repository_names_the_cure(tracker, github, helpers):
    ref = await tracker.create_issue(helpers.draft())
    github.rename_repository("acme/store")
    for call in (
        tracker.create_issue(helpers.draft()),
        tracker.read_issue(ref),
        tracker.set_state(ref, "closed", None),
    ):
        with pytest.raises(Misconfigured, match="set `repository`"):
            await call


async def test_a_transferred_issue_says_where_it_is(tracker, github, helpers):
    ref = await tracker.create_issue(helpers.draft())
    await github.transfer_issue(1, "acme/other", as_number=40)
    for call in (
        tracker.read_issue(ref),
        tracker.set_state(ref, "closed", None),
        tracker.add_comment(ref, "x", helpers.marker()),
    ):
        with pytest.raises(Moved) as caught:
            await call
        assert caught.value.to == f"{github.url}/acme/other/issues/40"
    assert github.issues[1].state == "open"


async def test_a_redirect_to_a_stranger_is_not_followed(tracker, github, helpers):
    github.faults.append(
        Fault("GET /repos/acme/shop/issues/1", status=301, headers={"Location": "http://evil.example/x"})
    )
    with pytest.raises(Moved) as caught:
        await tracker.read_issue(helpers.number(1))
    assert caught.value.to == "http://evil.example/x"
    assert [path for _, path in github.requests] == ["/repos/acme/shop/issues/1", "/repos/acme/shop"]


async def test_where_a_redirect_leads_can_not_be_told(tracker, github, helpers):
    github.faults.append(Fault("GET /repos/acme/shop/issues/1", status=301, headers={"Location": github.url}))
    github.faults.append(Fault("GET /repos/acme/shop", reset=True, times=9))
    with pytest.raises(Unavailable):
        await tracker.read_issue(helpers.number(1))


async def test_a_deleted_issue(tracker, github, helpers):
    ref = await tracker.create_issue(helpers.draft())
    await github.delete_issue(1)
    with pytest.raises(NotFound):
        await tracker.read_issue(ref)
    with pytest.raises(NotFound):
        await tracker.add_comment(ref, "x", helpers.marker())
    with pytest.raises(NotFound):
        await tracker.find_comment(ref, helpers.marker(), helpers.long_ago)


async def test_what_is_no_issue_of_ours(tracker, github, helpers):
    number = await github.open_issue("a pull request", is_pull=True)
    with pytest.raises(NotFound):
        await tracker.read_issue(helpers.number(number))
    asked = len(github.requests)
    with pytest.raises(NotFound):
        await tracker.read_issue(IssueRef("../1", "x"))
    assert len(github.requests) == asked


# -- comments and states ---------------------------------------------------------------------------------------------


async def test_a_comment_is_added_and_found_on_any_page(tracker, github, helpers):
    issue = await tracker.create_issue(helpers.draft())
    github.page_max = 2
    marker = helpers.marker()
    for _ in range(3):
        await tracker.add_comment(issue, "x", helpers.marker())
    ref = await tracker.add_comment(issue, "It happened again.", marker)
    await github.comment(1, f"<!-- pointsman: {marker.text} -->", by="dev")
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [ref]
    assert await tracker.find_comment(issue, helpers.marker(), helpers.long_ago) == []


async def test_a_locked_issue_refuses_comments(tracker, github, helpers):
    issue = await tracker.create_issue(helpers.draft())
    github.issues[1].locked, github.may_push = True, False
    with pytest.raises(Refused, match="locked"):
        await tracker.add_comment(issue, "x", helpers.marker())


async def test_closing_and_reopening_take_effect_once_with_their_reason(tracker, github, helpers):
    issue = await tracker.create_issue(helpers.draft())
    await tracker.set_state(issue, "closed", "not_planned")
    await tracker.set_state(issue, "closed", "completed")
    seen = await tracker.read_issue(issue)
    assert (seen.state, seen.close_reason) == ("closed", "not_planned")
    await tracker.set_state(issue, "open", None)
    await tracker.set_state(issue, "open", None)
    seen = await tracker.read_issue(issue)
    assert (seen.state, seen.close_reason) == ("open", None)
    assert [effect.detail for effect in github.effects if effect.kind == "state"] == ["closed", "open"]


async def test_an_update_keeps_the_marker_and_the_labels(make_tracker, github, helpers):
    draft = helpers.draft()
    tracker = make_tracker(labels=("bug",))
    issue = await tracker.create_issue(draft)
    github.issues[1].labels.append("by hand")
    await tracker.update_issue(issue, Draft(title="New", body="Other text.", marker=draft.marker))
    assert (github.issues[1].title, github.issues[1].labels) == ("New", ["bug", "by hand"])
    assert wire.markers_in(github.issues[1].body) == (draft.marker.text,)


# -- finding -------------------------------------------------------------------------------------------------------


async def test_only_our_own_account_counts_and_no_pull_request(tracker, github, helpers):
    marker = helpers.marker()
    body = f"<!-- pointsman: {marker.text} -->"
    await github.open_issue("copied", body, by="dev")
    await github.open_issue("a pull request", body, by=github.bot, is_pull=True)
    assert await tracker.find_issue(marker, helpers.long_ago) == []


async def test_all_issues_with_the_marker_are_found_oldest_first_in_any_state_on_any_page(
    tracker, github, helpers
):
    draft = helpers.draft()
    github.page_max = 3
    first = await tracker.create_issue(draft)
    for _ in range(7):
        await tracker.create_issue(helpers.draft())
    second = await tracker.create_issue(draft)
    await github.close_issue(1)
    assert await tracker.find_issue(draft.marker, helpers.long_ago) == [first, second]


async def test_looking_ends_at_the_first_issue_that_is_too_old(tracker, github, helpers):
    github.page_max = 2
    github.now = lambda: dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    for _ in range(10):
        await tracker.create_issue(helpers.draft())
    github.now = lambda: dt.datetime(2026, 5, 2, 12, 0, 0, 900000, tzinfo=dt.UTC)
    for number in range(1, 10):
        await github.comment(number, "old, and changed just now")
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    asked = len(github.requests)
    assert await tracker.find_issue(draft.marker, github.now()) == [ref]
    assert len(github.requests) == asked + 2  # the account, one page
    path = github.requests[-1][1]
    for part in ("state=all", "creator=pointsman-bot", "sort=created", "direction=desc", "per_page=100"):
        assert part in path


async def test_half_a_list_proves_nothing(tracker, github, helpers):
    github.page_max = 1
    for _ in range(21):
        await tracker.create_issue(helpers.draft())
    with pytest.raises(UnknownOutcome, match="pages"):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)


async def test_changes_are_listed_in_their_order_over_pages_without_pull_requests(tracker, github, helpers):
    moments = iter(dt.datetime(2026, 5, 1, 12, minute, tzinfo=dt.UTC) for minute in range(60))
    github.now = lambda: next(moments)
    for _ in range(7):
        await github.open_issue("an issue", is_pull=False)
    await github.open_issue("a pull request", is_pull=True)
    await github.close_issue(2, "duplicate")
    github.now = lambda: dt.datetime(2026, 5, 1, 13, tzinfo=dt.UTC)
    github.page_max = 3
    changes = await tracker.list_changes(dt.datetime(2026, 5, 1, 12, 1, tzinfo=dt.UTC))
    assert [seen.ref.key for seen in changes] == ["3", "4", "5", "6", "7", "2"]
    assert (changes[-1].state, changes[-1].close_reason) == ("closed", "duplicate")


async def test_many_changes_in_one_second_are_all_listed(tracker, github, helpers):
    github.now = lambda: dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    for _ in range(8):
        await github.open_issue("an issue")
    github.now = lambda: dt.datetime(2026, 5, 2, tzinfo=dt.UTC)
    await github.open_issue("later")
    github.page_max = 3
    assert len(await tracker.list_changes(helpers.long_ago)) == 9


async def test_an_issue_that_changes_while_the_pages_are_read_hides_no_other(tracker, github, helpers):
    moments = iter(dt.datetime(2026, 5, 1, 12, minute, tzinfo=dt.UTC) for minute in range(60))
    github.now = lambda: next(moments)
    for _ in range(6):
        await github.open_issue("an issue")
    github.page_max = 2
    request = tracker.client.request

    async def request_while_people_work(method, path, **more):
        answer = await request(method, path, **more)
        if github.issues[1].state == "open":
            await github.close_issue(1)
        return answer

    with mock.patch.object(tracker.client, "request", request_while_people_work):
        changes = await tracker.list_changes(helpers.long_ago)
    assert sorted(seen.ref.key for seen in changes) == ["1", "2", "3", "4", "5", "6"]
    assert changes[-1].ref.key == "1"
    assert changes[-1].state == "closed"


# -- check ---------------------------------------------------------------------------------------------------------


async def test_a_destination_that_is_well(tracker, github):
    assert {finding.level for finding in await tracker.check()} == {"ok"}
    assert all(method == "GET" for method, _ in github.requests)


@pytest.mark.parametrize(
    ("changed", "level", "what"),
    [
        ({"has_issues": False}, "error", "switched off"),
        ({"archived": True}, "error", "archived"),
        ({"may_push": False}, "warning", "may not push"),
        ({"may_see": False}, "error", "404"),
        ({"token": "another"}, "error", "401"),
        ({"calls_left": 0}, "error", "rate limit"),
        ({"token_headers": {"X-OAuth-Scopes": "gist"}}, "error", "public_repo"),
        (
            {"token_headers": {"GitHub-Authentication-Token-Expiration": "2020-02-06 17:23:12 UTC"}},
            "warning",
            "2020-02-06",
        ),
    ],
)
async def test_what_stands_in_the_way_is_found(make_tracker, github, changed, level, what):
    for name, value in changed.items():
        setattr(github, name, value)
    bad = [finding for finding in await make_tracker().check() if finding.level == level]
    assert any(what in finding.what for finding in bad)
    assert all(finding.breaks and finding.mend for finding in bad)


async def test_a_renamed_repository_is_found_by_the_check(tracker, github):
    github.rename_repository("acme/store")
    assert any("another name" in finding.mend for finding in await tracker.check())


@pytest.mark.parametrize(
    "text", ["2027-02-06 17:23:12 UTC", "2027-02-06 18:23:12 +0100", "2027-02-06T17:23:12Z"]
)
def test_the_end_of_a_token_in_its_forms(text):
    assert checks.expiry(text) == dt.datetime(2027, 2, 6, 17, 23, 12, tzinfo=dt.UTC)
    assert checks.expiry("never") is None


# -- against GitHub's own description --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("", "post", lambda draft: wire.issue_body(draft, ["bug"], ["dev"])),
        ("/{issue_number}", "patch", wire.edit_body),
        ("/{issue_number}", "patch", lambda _: wire.state_body("closed", "duplicate")),
        ("/{issue_number}", "patch", lambda _: wire.state_body("open", None)),
        ("/{issue_number}/comments", "post", lambda draft: wire.comment_body("x", draft.marker)),
    ],
)
def test_requests_are_what_github_describes(api_document, helpers, path, method, body):
    operation = api_document["paths"]["/repos/{owner}/{repo}/issues" + path][method]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    closed = {**schema, "components": api_document.get("components", {}), "additionalProperties": False}
    jsonschema.validate(body(helpers.draft()), closed)


# -- single calls ------------------------------------------------------------------------------------------------------


class Answered(aiohttp.ClientResponse):
    """aioresponses does not know the argument that aiohttp 3.14 wants."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"stream_writer": mock.Mock(), **kwargs})


async def test_a_call_to_an_enterprise_server(helpers):
    settings = GitHubSettings(
        token=Secret("hush"), repository="acme/shop", url="https://github.example/api/v3"
    )
    tracker = GitHubTracker(settings, helpers.client(GitHubTracker.connection(settings)))
    with aioresponses() as calls:
        address = "https://github.example/api/v3/repos/acme/shop/issues"
        calls.post(address, status=201, payload={"number": 5}, response_class=Answered)
        assert await tracker.create_issue(helpers.draft()) == IssueRef("5", "5")
        [[call]] = calls.requests.values()
        assert call.kwargs["headers"]["Authorization"] == "Bearer hush"
        assert call.kwargs["allow_redirects"] is False
