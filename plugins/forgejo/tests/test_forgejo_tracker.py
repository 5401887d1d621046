"""The tracker against a loopback server that behaves like Forgejo."""

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
    NotFound,
    RateLimited,
    Refused,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_forgejo import ForgejoTracker, pointsman_register_trackers, wire
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


async def test_labels_are_looked_up_in_repository_and_organization_and_made_where_missing(
    make_tracker, forgejo, helpers
):
    forgejo.labels = {1: "bug", **{number: f"other {number}" for number in range(10, 90)}}
    forgejo.org_labels = {2: "customer"}
    forgejo.page_max = 30
    tracker = make_tracker(labels=("Bug", "customer"))
    await tracker.create_issue(helpers.draft(labels=("new", "BUG", "x" * 60)))
    names = {**forgejo.labels, **forgejo.org_labels}
    assert [names[number] for number in forgejo.issues[1].labels] == ["bug", "customer", "new"]
    assert sum(effect.kind == "label" for effect in forgejo.effects) == 1
    asked = len(forgejo.requests)
    await tracker.create_issue(helpers.draft(labels=("new",)))
    assert len(forgejo.requests) == asked + 1
    assert len(forgejo.issues[2].labels) == 3


async def test_a_label_that_was_deleted_meanwhile_is_made_again_for_the_next_issue(
    make_tracker, forgejo, helpers
):
    tracker = make_tracker(labels=("bug",))
    await tracker.create_issue(helpers.draft())
    forgejo.issues.clear()
    forgejo.labels.clear()
    await tracker.create_issue(helpers.draft())
    await tracker.create_issue(helpers.draft())
    assert [len(issue.labels) for issue in forgejo.issues.values()] == [0, 1]


@pytest.mark.parametrize(
    "fault", [Fault("/labels", status=500, times=9), Fault("/labels", reset=True, times=9)]
)
async def test_an_issue_is_made_without_labels_that_can_not_be_had(make_tracker, forgejo, helpers, fault):
    forgejo.faults.append(fault)
    await make_tracker(labels=("bug", "urgent")).create_issue(helpers.draft())
    assert forgejo.issues[1].labels == []


async def test_without_the_right_to_write_the_issue_goes_without_labels(make_tracker, forgejo, helpers):
    forgejo.may_write = False
    await make_tracker(labels=("bug",), assignees=("pointsman-bot",)).create_issue(helpers.draft())
    assert (forgejo.issues[1].labels, forgejo.issues[1].assignees) == ([], [])


async def test_what_stops_the_issue_as_well_is_raised_while_looking_for_labels(
    make_tracker, forgejo, helpers
):
    forgejo.faults.append(Fault("/labels", status=429, headers={"Retry-After": "5"}))
    with pytest.raises(RateLimited):
        await make_tracker(labels=("bug",)).create_issue(helpers.draft())
    assert forgejo.issues_made() == 0


@pytest.mark.parametrize("login", ["nobody", "dev"])
async def test_a_refused_assignee_does_not_lose_the_issue(make_tracker, forgejo, helpers, login):
    await make_tracker(assignees=(login,)).create_issue(helpers.draft())
    assert forgejo.issues_made() == 1
    assert forgejo.issues[1].assignees == []


async def test_a_member_is_assigned(make_tracker, forgejo, helpers):
    forgejo.members.add("dev")
    await make_tracker(assignees=("dev",)).create_issue(helpers.draft())
    assert forgejo.issues[1].assignees == ["dev"]


async def test_a_long_title_is_cut_by_us_and_not_by_the_server(tracker, forgejo, helpers):
    await tracker.create_issue(helpers.draft(title="ü" * 300))
    assert forgejo.issues[1].title == "ü" * 126 + "…"


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("POST", status=500, applied=True), UnknownOutcome),
        (Fault("POST", status=412, applied=True), UnknownOutcome),
        (Fault("POST", reset=True, applied=True), UnknownOutcome),
        (Fault("POST", status=200, body=b"<html>log in</html>"), UnknownOutcome),
        (Fault("POST", status=201, body=b"{}", applied=True), UnknownOutcome),
        (Fault("POST", status=429), RateLimited),
        (Fault("POST", status=401), AuthFailed),
        (Fault("POST", status=422), Refused),
    ],
)
async def test_an_error_is_named_for_what_it_proves(tracker, forgejo, helpers, fault, kind):
    forgejo.faults.append(fault)
    with pytest.raises(kind) as caught:
        await tracker.create_issue(helpers.draft())
    assert type(caught.value) is kind
    assert sum(method == "POST" for method, _ in forgejo.requests) == 1


async def test_a_server_that_is_down_was_not_told_anything(tracker, forgejo, helpers):
    async with forgejo.down():
        with pytest.raises(Unavailable):
            await tracker.create_issue(helpers.draft())


async def test_a_wrong_token(make_tracker, helpers):
    with pytest.raises(AuthFailed):
        await make_tracker(token=Secret("wrong")).create_issue(helpers.draft())


async def test_an_archived_repository(tracker, forgejo, helpers):
    forgejo.archived = True
    with pytest.raises(Misconfigured, match="archived"):
        await tracker.create_issue(helpers.draft())


async def test_issues_switched_off_and_a_wrong_name_look_alike(tracker, make_tracker, forgejo, helpers):
    with pytest.raises(NotFound):
        await make_tracker(repository="acme/other").create_issue(helpers.draft())
    forgejo.has_issues = False
    with pytest.raises(NotFound):
        await tracker.create_issue(helpers.draft())


async def test_a_renamed_repository_names_the_cure(tracker, forgejo, helpers):
    ref = await tracker.create_issue(helpers.draft())
    forgejo.rename_repository("acme/store")
    for call in (tracker.create_issue(helpers.draft()), tracker.read_issue(ref)):
        with pytest.raises(Misconfigured, match="acme/store"):
            await call


async def test_what_is_no_number_never_reaches_the_server(tracker, forgejo):
    with pytest.raises(NotFound):
        await tracker.read_issue(IssueRef("1/../2", "x"))
    assert forgejo.requests == []


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
        await tracker.set_state(issue, state, "not_planned" if state == "closed" else None)
        assert (await tracker.read_issue(issue)).state == state
    assert [effect.detail for effect in forgejo.effects if effect.kind == "state"] == ["closed", "open"]


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
    assert wire.markers_in(forgejo.issues[1].body) == (draft.marker.text,)


# -- finding -------------------------------------------------------------------------------------------------------


async def test_only_our_own_account_counts(tracker, forgejo, helpers):
    marker = helpers.marker()
    await forgejo.open_issue("copied", f"<!-- pointsman: {marker.text} -->", by="dev")
    assert await tracker.find_issue(marker, helpers.long_ago) == []


async def test_all_issues_with_the_marker_are_found_oldest_first_in_any_state_on_any_page(
    tracker, forgejo, helpers
):
    draft = helpers.draft()
    forgejo.page_max = 3
    first = await tracker.create_issue(draft)
    for _ in range(7):
        await tracker.create_issue(helpers.draft())
    second = await tracker.create_issue(draft)
    await forgejo.close_issue(1)
    await forgejo.open_issue(
        "a pull request", f"<!-- pointsman: {draft.marker.text} -->", by=forgejo.bot, is_pull=True
    )
    assert await tracker.find_issue(draft.marker, helpers.long_ago) == [first, second]


async def test_the_search_index_is_never_asked(tracker, forgejo, helpers):
    await tracker.find_issue(helpers.marker(), helpers.long_ago)
    path = forgejo.requests[-1][1]
    assert "q=" not in path
    for part in ("state=all", "type=issues", "created_by=pointsman-bot", "since=2020-01-01T00:00:00Z"):
        assert part in path.replace("%3A", ":")


async def test_since_is_rounded_down_to_what_the_server_tells(tracker, forgejo, helpers):
    forgejo.now = lambda: dt.datetime(2026, 5, 1, 12, 0, 0, 900000, tzinfo=dt.UTC)
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    assert await tracker.find_issue(draft.marker, forgejo.now()) == [ref]
    assert await tracker.find_issue(draft.marker, forgejo.now() + dt.timedelta(seconds=1)) == []


async def test_half_a_list_proves_nothing(tracker, forgejo, helpers):
    forgejo.page_max = 1
    for _ in range(21):
        await tracker.create_issue(helpers.draft())
    with pytest.raises(UnknownOutcome, match="pages"):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)


async def test_a_token_that_may_not_read_its_account_says_so(tracker, forgejo, helpers):
    forgejo.scopes.discard("user")
    with pytest.raises(Misconfigured, match="read:user"):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)


async def test_our_account_is_asked_for_once_unless_it_was_renamed(tracker, forgejo, helpers):
    await tracker.find_issue(helpers.marker(), helpers.long_ago)
    await tracker.find_issue(helpers.marker(), helpers.long_ago)
    assert sum("/user" in path for _, path in forgejo.requests) == 1
    forgejo.known_users, forgejo.members, forgejo.bot = {"robot"}, {"robot"}, "robot"
    with pytest.raises(NotFound):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)
    assert await tracker.find_issue(helpers.marker(), helpers.long_ago) == []


async def test_changes_are_listed_in_their_order_without_pull_requests(tracker, forgejo, helpers):
    moments = iter(dt.datetime(2026, 5, 1, 12, minute, tzinfo=dt.UTC) for minute in range(10))
    forgejo.now = lambda: next(moments)
    for _ in range(3):
        await forgejo.open_issue("an issue")
    await forgejo.open_issue("a pull request", is_pull=True)
    await forgejo.close_issue(1)
    changes = await tracker.list_changes(dt.datetime(2026, 5, 1, 12, 1, tzinfo=dt.UTC))
    assert [(seen.ref.key, seen.state) for seen in changes] == [("2", "open"), ("3", "open"), ("1", "closed")]
    assert [seen.version.minute for seen in changes] == [1, 2, 4]


# -- check ---------------------------------------------------------------------------------------------------------


async def test_a_destination_that_is_well(make_tracker, forgejo):
    forgejo.labels = {1: "bug"}
    findings = await make_tracker(labels=("bug",)).check()
    assert {finding.level for finding in findings} == {"ok"}
    assert all(method == "GET" for method, _ in forgejo.requests)


@pytest.mark.parametrize(
    ("changed", "level", "what"),
    [
        ({"has_issues": False}, "error", "switched off"),
        ({"archived": True}, "error", "archived"),
        ({"may_write": False}, "warning", "may not write"),
        ({"scopes": {"repository", "issue"}}, "error", "scope"),
        ({"scopes": {"user", "issue"}}, "error", "scope"),
        ({"scopes": {"user", "repository"}}, "error", "scope"),
        ({"token": "another"}, "error", "401"),
        ({"repository": "acme/other"}, "error", "404"),
    ],
)
async def test_what_stands_in_the_way_is_found(make_tracker, forgejo, changed, level, what):
    for name, value in changed.items():
        setattr(forgejo, name, value)
    findings = await make_tracker().check()
    bad = [finding for finding in findings if finding.level == level]
    assert any(what in finding.what for finding in bad)
    assert all(finding.breaks and finding.mend for finding in bad)


async def test_missing_labels_and_a_server_that_is_down(make_tracker, forgejo):
    findings = await make_tracker(labels=("bug",)).check()
    assert any("do not exist yet: bug" in finding.what for finding in findings)
    async with forgejo.down():
        assert [finding.level for finding in await make_tracker().check()] == ["error"]


# -- against the server's own description ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "body"),
    [
        ("CreateIssueOption", lambda draft: wire.issue_body(draft, [1, 2], ["dev"])),
        ("EditIssueOption", wire.edit_body),
        ("EditIssueOption", lambda _: wire.state_body("closed")),
        ("CreateIssueCommentOption", lambda draft: wire.comment_body("x", draft.marker)),
    ],
)
def test_requests_are_what_the_server_describes(api_document, helpers, definition, body):
    schema = {**api_document["definitions"][definition], "definitions": api_document["definitions"]}
    jsonschema.validate(body(helpers.draft()), {**schema, "additionalProperties": False})


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
