"""The tracker against a loopback server that behaves like GitHub."""

from __future__ import annotations

import datetime as dt
from unittest import mock

import aiohttp
import pytest
from aioresponses import aioresponses

from pointsman.plugin_api import (
    AuthFailed,
    Draft,
    IssueMoved,
    IssueRef,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import find_markers
from pointsman.testing.fake import Fault
from pointsman_github import GitHubTracker
from pointsman_github.settings import GitHubSettings
from pointsman_github.testing import FakeGitHub

# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("POST", status=502, applied=True), UnknownOutcome),
        (Fault("POST", reset=True, applied=True), UnknownOutcome),
        (Fault("POST", status=201, body=b"<html>"), UnknownOutcome),
        (Fault("POST", status=201, body=b"[]", applied=True), UnknownOutcome),
        (Fault("POST", status=401), AuthFailed),
        (Fault("POST", status=404), Misconfigured),
        (Fault("POST", status=410), Misconfigured),
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
    assert github.issues_created() == 1


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
    with pytest.raises(Misconfigured, match="may not see"):
        await tracker.create_issue(helpers.draft())


async def test_an_archived_repository_and_issues_switched_off(tracker, github, helpers):
    github.archived = True
    with pytest.raises(Misconfigured, match="archived"):
        await tracker.create_issue(helpers.draft())
    github.has_issues = False
    for call in (tracker.create_issue(helpers.draft()), tracker.read_issue(helpers.number(1))):
        with pytest.raises(Misconfigured, match="disabled"):
            await call


async def test_a_repository_out_of_sight_is_no_issue_that_is_gone(tracker, github, helpers):
    """GitHub says 404 of both; taken for gone, every ticket of the repository would lose its issue."""
    issue = await tracker.create_issue(helpers.draft())
    github.may_see = False
    calls = (
        tracker.add_comment(issue, "x", helpers.marker()),
        tracker.set_state(issue, "closed", None),
        tracker.update_issue(issue, helpers.draft()),
        tracker.read_issue(issue),
        tracker.find_comment(issue, helpers.marker(), helpers.long_ago),
        tracker.find_issue(helpers.marker(), helpers.long_ago),
        tracker.list_changes(helpers.long_ago),
    )
    for call in calls:
        with pytest.raises(Misconfigured, match="404"):
            await call


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"reset": True}, Unavailable),
        ({"status": 502}, Unavailable),
        ({"status": 401}, AuthFailed),
        ({"status": 429}, RateLimited),
        ({"status": 301, "headers": {"Location": "/repositories/7"}}, Misconfigured),
    ],
)
async def test_whether_it_is_gone_can_not_be_told(tracker, github, helpers, fault, kind):
    tracker._account = await tracker.own_account()
    payload = b'{"message": "Not Found"}'
    github.faults = [
        Fault("/issues/1", status=404, body=payload, times=9),
        Fault("GET /repos/acme/shop", times=9, **fault),
    ]
    for call in (
        tracker.add_comment(helpers.number(1), "x", helpers.marker()),
        tracker.find_comment(helpers.number(1), helpers.marker(), helpers.long_ago),
    ):
        with pytest.raises(kind) as caught:
            await call
        assert type(caught.value) is kind


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
        with pytest.raises(IssueMoved) as caught:
            await call
        assert caught.value.to == f"{github.url}/acme/other/issues/40"
    assert github.issues[1].state == "open"


async def test_a_redirect_to_another_host_is_not_followed(tracker, github, helpers):
    github.faults.append(
        Fault("GET /repos/acme/shop/issues/1", status=301, headers={"Location": "http://evil.example/x"})
    )
    with pytest.raises(IssueMoved) as caught:
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


async def test_a_change_of_state_tells_how_the_issue_stands_afterwards(tracker, github, helpers):
    draft = helpers.draft()
    issue = await tracker.create_issue(draft)
    github.now = lambda: dt.datetime(2030, 5, 1, 12, tzinfo=dt.UTC)
    seen = await tracker.set_state(issue, "closed", "duplicate")
    assert (seen.ref, seen.state, seen.close_reason) == (issue, "closed", "duplicate")
    assert seen.version == github.now()
    assert seen.markers == (draft.marker.text,)
    assert seen.author == await tracker.own_account()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"number": "1"}'])
async def test_an_answer_that_is_no_issue_proves_nothing(tracker, github, helpers, body):
    issue = await tracker.create_issue(helpers.draft())
    github.faults.append(Fault("/issues/1", status=200, body=body, times=9))
    for call in (
        tracker.set_state(issue, "closed", None),
        tracker.update_issue(issue, helpers.draft()),
        tracker.read_issue(issue),
    ):
        with pytest.raises(UnknownOutcome):
            await call


async def test_who_we_are_is_the_author_of_our_issues_and_asked_once(tracker, github, helpers):
    me = await tracker.own_account()
    assert (me.account_id, me.name) == ("1000", github.bot)
    ours = await tracker.create_issue(helpers.draft())
    theirs = await github.open_issue("theirs", by="dev")
    assert (await tracker.read_issue(ours)).author == me
    assert (await tracker.read_issue(helpers.number(theirs))).author.name == "dev"
    assert [seen.author == me for seen in await tracker.list_changes(helpers.long_ago)] == [True, False]
    await tracker.own_account()
    assert [path for _, path in github.requests].count("/user") == 1


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_not_to_know_who_we_are_is_nobody_s_issue_gone(tracker, github, helpers, status):
    github.faults.append(Fault("/user", status=status, body=b'{"message":"no"}'))
    with pytest.raises(Misconfigured):
        await tracker.find_comment(helpers.number(1), helpers.marker(), helpers.long_ago)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"login":"x"}', b'{"id":5}', b'{"id":true,"login":"x"}'])
async def test_an_account_without_name_or_id_is_none(tracker, github, body):
    github.faults.append(Fault("/user", status=200, body=body))
    with pytest.raises(Misconfigured, match="who we are"):
        await tracker.own_account()


async def test_an_update_keeps_the_marker_and_the_labels(make_tracker, github, helpers):
    draft = helpers.draft()
    tracker = make_tracker(labels=("bug",))
    issue = await tracker.create_issue(draft)
    github.issues[1].labels.append("by hand")
    await tracker.update_issue(issue, Draft(title="New", body="Other text.", marker=draft.marker))
    assert (github.issues[1].title, github.issues[1].labels) == ("New", ["bug", "by hand"])
    assert find_markers(github.issues[1].body) == (draft.marker.text,)


# -- an Enterprise Server --------------------------------------------------------------------------------------------------


async def test_an_enterprise_server_has_its_api_below_a_path_and_its_pages_elsewhere(helpers):
    async with FakeGitHub(token="hush", enterprise=True) as server:
        settings = GitHubSettings(
            token=Secret("hush"), repository="acme/shop", url=f"{server.url}/api/v3/", labels=("bug",)
        )
        tracker = GitHubTracker(settings, helpers.client(GitHubTracker.connection(settings)))
        draft = helpers.draft()
        issue = await tracker.create_issue(draft)
        assert issue.url == f"{server.url}/acme/shop/issues/1"
        assert await tracker.find_issue(draft.marker, helpers.long_ago) == [IssueRef("1", "1", issue.url)]
        assert (await tracker.set_state(issue, "closed", None)).ref.url == issue.url
        await server.transfer_issue(1, "acme/other", as_number=9)
        with pytest.raises(IssueMoved) as caught:
            await tracker.read_issue(issue)
        assert caught.value.to == f"{server.url}/acme/other/issues/9"
        assert all(path.startswith("/api/v3/") for _, path in server.requests)
        assert "Enterprise Server 3.19" in (await tracker.check())[0].message


async def test_the_web_site_in_place_of_its_api_is_told(helpers):
    async with FakeGitHub(token="hush", enterprise=True) as server:
        settings = GitHubSettings(token=Secret("hush"), repository="acme/shop", url=server.url)
        tracker = GitHubTracker(settings, helpers.client(GitHubTracker.connection(settings)))
        with pytest.raises(Misconfigured, match="api/v3"):
            await tracker.create_issue(helpers.draft())
        assert "https://HOST/api/v3" in (await tracker.check())[0].remedy


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
        assert "assignee" not in call.kwargs["json"]
