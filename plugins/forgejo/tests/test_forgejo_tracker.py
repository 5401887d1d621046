"""The tracker against a loopback server that behaves like Forgejo."""

from __future__ import annotations

import datetime as dt
import re
from unittest import mock

import aiohttp
import pytest
from aioresponses import aioresponses

from pointsman.plugin_api import (
    Actor,
    CommentRef,
    Draft,
    IssueRef,
    Misconfigured,
    NotFound,
    Refused,
    Secret,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import find_markers
from pointsman.testing.fake import Fault
from pointsman_forgejo import ForgejoTracker, pointsman_register_trackers
from pointsman_forgejo.tracker import ForgejoSettings

# -- settings ------------------------------------------------------------------------------------------------------


def test_the_plugin_registers_its_tracker():
    register = mock.Mock()
    pointsman_register_trackers(register)
    register.assert_called_once_with(ForgejoTracker)
    assert (ForgejoTracker.kind, ForgejoTracker.api_version) == ("forgejo", 1)
    assert ForgejoTracker.capabilities.settle_seconds == (30.0,)
    assert not ForgejoTracker.capabilities.close_reasons


@pytest.mark.parametrize(
    "url",
    [
        "https://forge.example",
        "https://forge.example/",
        "https://forge.example/api/v1",
        "https://forge.example/api/v1/",
    ],
)
def test_the_address_is_taken_in_any_form(url):
    connection = ForgejoTracker.connection(
        ForgejoSettings(url=url, token=Secret("abc\n"), repository="acme/shop")
    )
    assert connection.base_url == "https://forge.example/api/v1"
    assert connection.headers["Authorization"] == Secret("token abc")
    assert connection.headers["Accept-Language"] == Secret("en-US")
    assert "abc" not in repr(connection)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"url": "forge.example"}, "https://codeberg.org"),
        ({"url": "ftp://forge.example"}, "https://codeberg.org"),
        ({"url": "https://me:pw@forge.example"}, "into `token`"),
        ({"url": "https://forge.example/?a=b"}, "nothing after the path"),
        ({"repository": "shop"}, "acme/shop"),
        ({"repository": "https://forge.example/acme/shop"}, "without a host"),
        ({"repository": "acme/.."}, "acme/shop"),
        ({"repository": "acme/shop\n"}, "acme/shop"),
        ({"token": Secret(" \n")}, "token is empty"),
        ({"token": Secret("token abc")}, "copy it anew"),
        ({"labels": ("ok", "")}, "label ''"),
        ({"assignees": ("",)}, "leave it out"),
    ],
)
def test_settings_that_can_not_work_say_the_cure(changed, cure):
    values = {"url": "https://forge.example", "token": Secret("hush"), "repository": "acme/shop", **changed}
    with pytest.raises(ValueError, match=re.escape(cure)) as caught:
        ForgejoSettings(**values)
    assert "hush" not in str(caught.value)


# -- creating ------------------------------------------------------------------------------------------------------


async def test_an_issue_is_created_with_its_marker_and_found_by_it(tracker, forgejo, helpers):
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    assert ref == IssueRef("1", "1", f"{forgejo.url}/acme/shop/issues/1")
    assert forgejo.issues[1].author == "pointsman-bot"
    assert [(effect.kind, effect.key, effect.marker) for effect in forgejo.effects] == [
        ("issue", "1", draft.marker.text)
    ]
    assert await tracker.find_issue(draft.marker, helpers.long_ago) == [ref]
    assert await tracker.find_issue(helpers.marker(), helpers.long_ago) == []


@pytest.mark.parametrize("login", ["nobody", "dev"])
async def test_a_refused_assignee_does_not_lose_the_issue_nor_the_others(
    make_tracker, forgejo, helpers, login
):
    forgejo.members.add("ann")
    ref = await make_tracker(assignees=("Ann", login)).create_issue(helpers.draft())
    assert forgejo.issues_created() == 1
    assert forgejo.issues[1].assignees == ["ann"]
    [note] = ref.notes
    assert note.startswith(f"not assigned to {login}: ")
    assert ("does not exist" if login == "nobody" else "access to repo") in note


@pytest.mark.parametrize(
    "fault", [Fault("/assignees", status=403), Fault("/assignees", body=b"{}", status=200)]
)
async def test_where_nobody_says_who_can_be_assigned_nobody_is(make_tracker, forgejo, helpers, fault):
    forgejo.members.add("ann")
    forgejo.faults.append(fault)
    ref = await make_tracker(assignees=("ann", "nobody")).create_issue(helpers.draft())
    assert forgejo.issues[1].assignees == []
    assert [note.partition(":")[0] for note in ref.notes] == ["not assigned to ann", "not assigned to nobody"]


async def test_an_assignee_refused_in_spite_of_the_list_does_not_lose_the_issue(
    make_tracker, forgejo, helpers
):
    forgejo.members.add("ann")
    refusal = b'{"message":"no"}'
    forgejo.faults += [Fault("POST", status=422, body=refusal), Fault("POST", status=422, body=refusal)]
    ref = await make_tracker(assignees=("ann", "nobody")).create_issue(helpers.draft())
    assert forgejo.issues_created() == 1
    assert set(ref.notes) == {"not assigned to ann: no", "not assigned to nobody: no"}


async def test_a_422_about_something_else_is_raised(make_tracker, forgejo, helpers):
    forgejo.members.add("ann")
    forgejo.faults.append(Fault("POST", status=422, body=b'{"message":"[Title]: Required"}', times=9))
    with pytest.raises(Refused, match="Title"):
        await make_tracker(assignees=("ann",)).create_issue(helpers.draft())
    assert forgejo.issues_created() == 0


async def test_a_member_is_assigned(make_tracker, forgejo, helpers):
    forgejo.members.add("dev")
    ref = await make_tracker(assignees=("dev",)).create_issue(helpers.draft())
    assert forgejo.issues[1].assignees == ["dev"]
    assert ref.notes == ()


async def test_assignees_that_were_dropped_without_a_word_are_told(make_tracker, forgejo, helpers):
    forgejo.may_write = False
    ref = await make_tracker(assignees=("nobody", "pointsman-bot")).create_issue(helpers.draft())
    assert forgejo.issues[1].assignees == []
    assert ref.notes == (
        "the server dropped the assignees nobody, pointsman-bot: the account may not write to acme/shop",
    )


async def test_a_long_title_is_cut_by_us_and_not_by_the_server(tracker, forgejo, helpers):
    ref = await tracker.create_issue(helpers.draft(title="ü" * 300))
    assert forgejo.issues[1].title == "ü" * 126 + "…"
    assert ref.notes == ("the title was longer than 255 bytes and is cut",)


async def test_a_title_that_the_server_cuts_all_the_same_is_told(tracker, forgejo, helpers):
    forgejo.title_bytes = 100
    ref = await tracker.create_issue(helpers.draft(title="x" * 101))
    assert ref.notes == ("the server cut the title",)
    assert (await tracker.create_issue(helpers.draft(title=" x  " * 9))).notes == ()


# -- comments and states ---------------------------------------------------------------------------------------------


async def test_a_comment_is_added_and_found(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    marker = helpers.marker()
    ref = await tracker.add_comment(issue, "It happened again.", marker)
    assert ref.url.endswith(f"#issuecomment-{ref.remote_id}")
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [ref]
    assert await tracker.find_comment(issue, helpers.marker(), helpers.long_ago) == []
    await forgejo.comment(1, f"<!-- pointsman: {marker.text} -->", by="dev")
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [ref]


async def test_a_comment_on_a_deleted_or_locked_issue(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.issues[1].locked, forgejo.may_write = True, False
    with pytest.raises(Refused, match="locked"):
        await tracker.add_comment(issue, "x", helpers.marker())
    forgejo.delete_issue(1)
    with pytest.raises(NotFound):
        await tracker.add_comment(issue, "x", helpers.marker())
    with pytest.raises(NotFound):
        await tracker.find_comment(issue, helpers.marker(), helpers.long_ago)


async def test_closing_and_reopening_take_effect_once(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    for state in ("closed", "closed", "open", "open"):
        seen = await tracker.set_state(issue, state, "not_planned" if state == "closed" else None)
        assert seen == await tracker.read_issue(issue)
        assert seen.state == state
    assert [effect.detail for effect in forgejo.effects if effect.kind == "state"] == ["closed", "open"]


async def test_the_answer_to_a_close_tells_the_version_and_a_late_webhook_is_older(tracker, forgejo, helpers):
    moments = iter(dt.datetime(2026, 5, 1, 12, minute, tzinfo=dt.UTC) for minute in range(10))
    forgejo.now = lambda: next(moments)
    issue = await tracker.create_issue(helpers.draft())
    seen = await tracker.set_state(issue, "closed", None)
    assert seen.version == dt.datetime(2026, 5, 1, 12, 1, tzinfo=dt.UTC)
    repeated = await tracker.set_state(issue, "closed", None)
    assert repeated.version == seen.version


async def test_the_author_of_an_issue_is_named_as_we_are(tracker, forgejo, helpers):
    me = await tracker.own_account()
    assert me == Actor(me.account_id, "pointsman-bot")
    issue = await tracker.create_issue(helpers.draft())
    assert (await tracker.read_issue(issue)).author == me
    assert (await tracker.set_state(issue, "closed", None)).author == me
    theirs = await forgejo.open_issue("x")
    assert (await tracker.read_issue(helpers.number(theirs))).author.name == "dev"


@pytest.mark.parametrize(
    "body", [b"{}", b'{"number":0}', b'{"number":2,"state":"closed"}', b"[]", b"", b"<html>"]
)
async def test_a_change_answered_by_something_else_may_not_have_happened(tracker, forgejo, helpers, body):
    issue = await tracker.create_issue(helpers.draft())
    for change in (tracker.set_state(issue, "closed", None), tracker.update_issue(issue, helpers.draft())):
        forgejo.faults.append(Fault("PATCH", status=201, body=body))
        with pytest.raises(UnknownOutcome):
            await change
    forgejo.faults.append(Fault("GET", status=200, body=body))
    with pytest.raises(UnknownOutcome):
        await tracker.read_issue(issue)


async def test_a_close_that_leaves_the_issue_open_is_no_close(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.faults.append(Fault("PATCH", status=201, body=b'{"number":1,"state":"open"}'))
    with pytest.raises(UnknownOutcome, match="says the issue is open"):
        await tracker.set_state(issue, "closed", None)


async def test_a_pull_request_is_never_closed_by_mistake(tracker, forgejo, helpers):
    number = await forgejo.open_issue("a pull request", is_pull=True)
    with pytest.raises(NotFound):
        await tracker.read_issue(helpers.number(number))


async def test_an_issue_with_open_dependencies_can_not_be_closed(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.blocked.add(1)
    with pytest.raises(Refused, match="dependencies"):
        await tracker.set_state(issue, "closed", None)


async def test_an_update_keeps_the_marker(tracker, forgejo, helpers):
    draft = helpers.draft()
    issue = await tracker.create_issue(draft)
    await tracker.update_issue(issue, Draft(title="New", body="Other text.", marker=draft.marker))
    assert forgejo.issues[1].title == "New"
    assert find_markers(forgejo.issues[1].body) == (draft.marker.text,)


# -- single calls ------------------------------------------------------------------------------------------------------


class Answered(aiohttp.ClientResponse):
    """aioresponses does not know the argument that aiohttp 3.14 wants."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"stream_writer": mock.Mock(), **kwargs})


async def test_the_credential_goes_along_and_204_is_no_issue(helpers):
    settings = ForgejoSettings(url="https://forge.example", token=Secret("hush"), repository="acme/shop")
    tracker = ForgejoTracker(settings, helpers.client(ForgejoTracker.connection(settings)))
    with aioresponses() as calls:
        address = "https://forge.example/api/v1/repos/acme/shop/issues"
        calls.post(address, status=201, payload={"number": 5}, response_class=Answered)
        calls.post(address, status=204, body=b"", response_class=Answered)
        assert await tracker.create_issue(helpers.draft()) == IssueRef("5", "5")
        with pytest.raises(UnknownOutcome):
            await tracker.create_issue(helpers.draft())
        [call, _] = next(iter(calls.requests.values()))
        assert call.kwargs["headers"]["Authorization"] == "token hush"
        assert call.kwargs["allow_redirects"] is False


async def test_a_comment_made_twice_can_be_taken_away_once(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    marker = helpers.marker()
    first, second = [await tracker.add_comment(issue, "twice", marker) for _ in range(2)]
    await tracker.delete_comment(issue, second)
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [first]
    for gone in (second, CommentRef("../../hooks/1")):
        with pytest.raises(NotFound):
            await tracker.delete_comment(issue, gone)
    await forgejo.comment(1, "by a person")
    with pytest.raises(Misconfigured):
        await tracker.delete_comment(issue, CommentRef(str(forgejo.issues[1].comments[-1].id)))
