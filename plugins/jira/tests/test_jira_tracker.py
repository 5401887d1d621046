"""The tracker against a Jira on loopback: the whole contract, and what goes wrong."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from pointsman.plugin_api import (
    AuthFailed,
    Blocked,
    CommentRef,
    Conflict,
    Draft,
    IssueMoved,
    IssueRef,
    IssueState,
    Marker,
    Misconfigured,
    NotFound,
    RateLimited,
    Unavailable,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_jira import adf
from pointsman_jira.testing import FakeJira, JiraTransition

MARKER = Marker("pm1-0190c2a4-0000-7000-8000-000000000001-1a2b3c4d")
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def draft(**changes):
    received = {"title": "Checkout fails", "body": "It **broke**.", "marker": MARKER, **changes}
    return Draft(**received)


def ago(minutes):
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)


async def test_an_issue_carries_its_marker_twice(jira, make_tracker):
    tracker = make_tracker(labels=("from pointsman",))
    ref = await tracker.create_issue(draft(labels=("shop",)))
    [created] = jira.issues.values()
    assert ref == IssueRef(created.id, "OPS-1", f"{jira.url}/browse/OPS-1")
    assert created.labels == ["from_pointsman", "shop", MARKER.text]
    assert created.properties == {"pointsman": {"marker": MARKER.text}}
    assert created.issue_type == "Bug"
    assert created.description == adf.document("It **broke**.")
    assert [(effect.kind, effect.marker) for effect in jira.effects] == [("issue", MARKER.text)]


async def test_calls_go_to_the_api_address_and_links_to_the_site(make_tracker):
    async with FakeJira(prefix="/ex/jira/1234") as scoped:
        tracker = make_tracker(url="https://acme.atlassian.net", api_url=f"{scoped.url}/ex/jira/1234")
        ref = await tracker.create_issue(draft())
        assert ref.url == "https://acme.atlassian.net/browse/OPS-1"
        assert scoped.issues_created() == 1


async def test_long_texts_are_cut_to_fit(jira, tracker):
    await tracker.create_issue(draft(title="x\n" * 300, body="word " * 20000))
    [created] = jira.issues.values()
    assert 250 < len(created.summary) <= 255
    assert "Cut here" in json.dumps(created.description)


async def test_a_refused_format_is_tried_once_more_as_plain_text(jira, tracker):
    jira.refuse_rich = True
    ref = await tracker.create_issue(draft())
    assert jira.issues_created() == 1
    assert jira.issues[ref.remote_id].description == adf.plain_document("It **broke**.")
    await tracker.add_comment(ref, "# Head", MARKER)
    await tracker.update_issue(ref, draft(body="- new"))
    assert jira.issues[ref.remote_id].description == adf.plain_document("- new")
    posts = [path for method, path in jira.requests if method == "POST" and path.endswith("/issue")]
    assert len(posts) == 2


async def test_other_refusals_are_not_repeated(jira, tracker):
    jira.required_fields = {"customfield_1"}
    with pytest.raises(Misconfigured, match="customfield_1 is required"):
        await tracker.create_issue(draft())
    assert len(jira.requests) == 1


async def test_the_marker_is_never_dropped_silently(jira, tracker):
    jira.off_screen = {"labels"}
    with pytest.raises(Misconfigured, match="create screen"):
        await tracker.create_issue(draft())
    assert jira.issues_created() == 0
    assert len(jira.requests) == 1


@pytest.mark.parametrize("changes", [{"issue_type": "Nope"}, {"project_key": "NOPE"}])
async def test_a_wrong_setting_pauses_and_does_not_kill(make_tracker, changes):
    with pytest.raises(Misconfigured):
        await make_tracker(**changes).create_issue(draft())


async def test_comments_are_found_by_their_property(jira, tracker):
    ref = await tracker.create_issue(draft())
    comment = await tracker.add_comment(ref, "Again.", MARKER)
    assert comment.url == f"{jira.url}/browse/OPS-1?focusedCommentId={comment.remote_id}"
    await tracker.add_comment(ref, "Another.", Marker("pm1-other-1"))
    assert await tracker.find_comment(ref, MARKER, ago(1)) == [comment]
    assert await tracker.find_comment(ref, Marker("pm1-none-1"), ago(1)) == []
    jira.show_comment_properties = False
    assert await tracker.find_comment(ref, MARKER, ago(1)) == [comment]


async def test_a_comment_of_somebody_else_is_not_ours(jira, tracker):
    ref = await tracker.create_issue(draft())
    await tracker.add_comment(ref, "Again.", MARKER)
    jira.issues[ref.remote_id].comments[0].author = "somebody"
    assert await tracker.find_comment(ref, MARKER, ago(1)) == []


async def test_comments_are_read_page_by_page(jira, tracker):
    jira.page_max = 2
    ref = await tracker.create_issue(draft())
    created = await tracker.add_comment(ref, "Again.", MARKER)
    for number in range(5):
        await jira.comment("OPS-1", f"Noise {number}")
    assert await tracker.find_comment(ref, MARKER, ago(1)) == [created]


async def test_old_comments_are_not_read(jira, tracker):
    jira.page_max = 1
    ref = await tracker.create_issue(draft())
    for _ in range(5):
        await tracker.add_comment(ref, "Again.", MARKER)
    for comment in jira.issues[ref.remote_id].comments[:4]:
        comment.created -= 86400
    before = len(jira.requests)
    assert len(await tracker.find_comment(ref, MARKER, ago(1))) == 1
    assert len(jira.requests) - before <= 3  # who we are, the one that counts, the first that is too old


async def test_an_empty_comment_says_so(jira, tracker):
    ref = await tracker.create_issue(draft())
    await tracker.add_comment(ref, " \n", MARKER)
    assert [effect.detail.strip() for effect in jira.effects if effect.kind == "comment"] == ["(empty)"]


@pytest.mark.parametrize(
    ("reason", "status", "close_reason"),
    [
        (None, "Done", "completed"),
        ("completed", "Done", "completed"),
        ("not_planned", "Won't Do", "not_planned"),
    ],
)
async def test_close_and_reopen(jira, tracker, reason, status, close_reason):
    ref = await tracker.create_issue(draft())
    current = await tracker.set_state(ref, "closed", reason)
    assert jira.issues[ref.remote_id].status == status
    seen = await tracker.read_issue(ref)
    assert current == seen
    assert (seen.state, seen.close_reason, seen.markers) == ("closed", close_reason, (MARKER.text,))
    await tracker.set_state(ref, "open", None)
    assert jira.issues[ref.remote_id].status == "To Do"
    assert (await tracker.read_issue(ref)).state == "open"


async def test_an_issue_in_the_state_already_is_left_alone(jira, tracker):
    ref = await tracker.create_issue(draft())
    await tracker.set_state(ref, "open", None)
    await tracker.set_state(ref, "closed", None)
    await tracker.set_state(ref, "closed", "duplicate")
    assert [effect.kind for effect in jira.effects] == ["issue", "state"]
    jira.issues[ref.remote_id].status = "In Progress"
    await tracker.set_state(ref, "open", None)
    assert jira.issues[ref.remote_id].status == "In Progress"


async def test_a_required_resolution_is_given(jira, tracker):
    allowed = [{"id": "1", "name": "Done"}, {"id": "2", "name": "Won't Do"}]
    fields = {"resolution": {"required": True, "hasDefaultValue": False, "allowedValues": allowed}}
    jira.transitions = [JiraTransition("5", "Resolve", "Done", fields)]
    ref = await tracker.create_issue(draft())
    await tracker.set_state(ref, "closed", "not_planned")
    assert jira.issues[ref.remote_id].resolution == "Won't Do"
    assert (await tracker.read_issue(ref)).close_reason == "not_planned"


async def test_a_configured_status_is_preferred(jira, make_tracker):
    tracker = make_tracker(closed_status="Won't do", open_status="In progress")
    ref = await tracker.create_issue(draft())
    await tracker.set_state(ref, "closed", "completed")
    assert jira.issues[ref.remote_id].status == "Won't Do"
    await tracker.set_state(ref, "open", None)
    assert jira.issues[ref.remote_id].status == "In Progress"


async def test_without_a_usable_transition_the_operator_is_told(jira, tracker):
    ref = await tracker.create_issue(draft())
    jira.transitions = [JiraTransition("21", "Start", "In Progress")]
    with pytest.raises(Blocked, match=r"Start \(to In Progress\)"):
        await tracker.set_state(ref, "closed", None)
    jira.transitions = []
    with pytest.raises(Blocked, match="Transition issues"):
        await tracker.set_state(ref, "closed", None)


async def test_a_transition_that_is_done_stays_done_when_the_issue_cannot_be_read(jira, tracker):
    ref = await tracker.create_issue(draft())
    assert (await tracker.set_state(ref, "open", None)).state == "open"
    read = f"GET /rest/api/3/issue/{ref.remote_id}"
    jira.faults += [Fault(match=f"{read}/transitions", applied=True), Fault(match=read, applied=True)]
    jira.faults.append(Fault(match=read, status=500))
    assert await tracker.set_state(ref, "closed", None) is None
    assert jira.issues[ref.remote_id].status == "Done"


async def test_a_change_at_the_same_time_is_a_conflict(jira, tracker):
    ref = await tracker.create_issue(draft())
    jira.faults.append(Fault(match="POST /rest/api/3/issue/", status=409))
    with pytest.raises(Conflict):
        await tracker.set_state(ref, "closed", None)


async def test_title_and_body_can_be_replaced(jira, tracker):
    ref = await tracker.create_issue(draft())
    await tracker.update_issue(ref, draft(title="Other", body="Text"))
    created = jira.issues[ref.remote_id]
    assert (created.summary, created.description) == ("Other", adf.document("Text"))
    assert created.labels == [MARKER.text]


async def test_a_lost_answer_is_found_once_the_index_knows(jira, tracker):
    jira.index_lag_seconds = 3600
    jira.faults.append(Fault(match="POST /rest/api/3/issue", reset=True, applied=True))
    with pytest.raises(UnknownOutcome):
        await tracker.create_issue(draft())
    assert await tracker.find_issue(MARKER, ago(1)) == []
    jira.reindex()
    [ref] = await tracker.find_issue(MARKER, ago(1))
    assert ref.key == "OPS-1"
    assert tracker.capabilities.settle_seconds == (15, 60, 300)


async def test_the_index_learns_by_the_clock(jira, tracker):
    now = [1000.0]
    jira.clock = lambda: now[0]
    jira.index_lag_seconds = 60
    await tracker.create_issue(draft())
    assert await tracker.find_issue(MARKER, LONG_AGO) == []
    now[0] += 61
    assert len(await tracker.find_issue(MARKER, LONG_AGO)) == 1


async def test_a_clone_of_our_issue_is_not_ours(jira, tracker):
    ref = await tracker.create_issue(draft())
    await jira.open_issue("CLONE - Checkout fails", labels=(MARKER.text,))
    await jira.open_issue("Elsewhere", labels=(MARKER.text,), project="WEB")
    assert await tracker.find_issue(MARKER, LONG_AGO) == [ref]
    me = await tracker.own_account()
    assert {item.ref.key: item.author == me for item in await tracker.list_changes(ago(1))} == {
        "OPS-1": True,
        "OPS-2": False,
    }


async def test_changes_are_listed_page_by_page(jira, tracker):
    jira.page_max = 2
    for number in range(5):
        await jira.open_issue(f"Issue {number}")
    await jira.close_issue("OPS-3", "Duplicate")
    jira.issues[next(iter(jira.issues))].updated -= 7200
    seen = await tracker.list_changes(ago(10))
    assert [item.ref.key for item in seen if isinstance(item, IssueState)] == [
        "OPS-2",
        "OPS-3",
        "OPS-4",
        "OPS-5",
    ]
    assert {item.ref.key: item.close_reason for item in seen}["OPS-3"] == "duplicate"
    assert seen[0].version.tzinfo is not None
    assert await tracker.list_changes(ago(-60)) == ()


async def test_an_issue_in_another_project_has_moved(jira, tracker):
    ref = await tracker.create_issue(draft())
    await jira.move_issue("OPS-1", "WEB")
    with pytest.raises(IssueMoved) as caught:
        await tracker.read_issue(ref)
    assert caught.value.to == "WEB-1"
    with pytest.raises(IssueMoved):
        await tracker.set_state(ref, "closed", None)


async def test_gone_is_said_only_where_the_project_is_still_there(jira, tracker):
    ref = await tracker.create_issue(draft())
    await jira.delete_issue("OPS-1")
    for doing in (
        lambda: tracker.read_issue(ref),
        lambda: tracker.add_comment(ref, "x", MARKER),
        lambda: tracker.set_state(ref, "closed", None),
        lambda: tracker.update_issue(ref, draft()),
    ):
        with pytest.raises(NotFound):
            await doing()
    jira.projects.clear()
    with pytest.raises(Misconfigured, match="can't see the project OPS"):
        await tracker.read_issue(ref)


async def test_a_wrong_token_is_an_auth_failure_everywhere(jira, make_tracker):
    jira.api_token = "renewed"
    tracker = make_tracker()
    jira.api_token = "renewed again"
    ref = IssueRef("10001", "OPS-1")
    for doing in (
        lambda: tracker.create_issue(draft()),
        lambda: tracker.read_issue(ref),
        lambda: tracker.find_issue(MARKER, LONG_AGO),
        lambda: tracker.set_state(ref, "closed", None),
    ):
        with pytest.raises(AuthFailed):
            await doing()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (
            Fault(status=429, headers={"Retry-After": "3", "RateLimit-Reason": "jira-burst-based"}),
            RateLimited,
        ),
        (Fault(status=403), Misconfigured),
        (Fault(status=404), Misconfigured),
        (Fault(status=500), UnknownOutcome),
        (Fault(status=201, body=b"<html>"), UnknownOutcome),
        (Fault(status=201, body=b"{}"), UnknownOutcome),
        (Fault(status=302, headers={"Location": "https://elsewhere.test/"}), IssueMoved),
        (Fault(reset=True), UnknownOutcome),
    ],
)
async def test_what_goes_wrong_with_a_create(jira, tracker, fault, kind):
    jira.faults.append(fault)
    with pytest.raises(kind):
        await tracker.create_issue(draft())


async def test_a_site_that_is_down_got_nothing(jira, tracker):
    async with jira.down():
        with pytest.raises(Unavailable):
            await tracker.create_issue(draft())


async def test_an_old_search_is_the_operators_to_mend(jira, tracker):
    jira.faults.append(Fault(match="search/jql", status=410))
    with pytest.raises(Misconfigured):
        await tracker.find_issue(MARKER, LONG_AGO)


def test_the_plugin_registers_itself():
    import pointsman_jira

    matching = []
    pointsman_jira.pointsman_register_trackers(matching.append)
    assert [kind.kind for kind in matching] == ["jira"]


async def test_a_comment_made_twice_can_be_taken_away_once(jira, make_tracker):
    tracker = make_tracker()
    issue = await tracker.create_issue(draft())
    marker = Marker("pm1-0190c2a4-0000-7000-8000-000000000002-1a2b3c4d")
    first, second = [await tracker.add_comment(issue, "twice", marker) for _ in range(2)]
    await tracker.delete_comment(issue, second)
    assert await tracker.find_comment(issue, marker, LONG_AGO) == [first]
    for gone in (second, CommentRef("../../project/OPS")):
        with pytest.raises(NotFound):
            await tracker.delete_comment(issue, gone)
    assert "%2F" in jira.requests[-2][1] or "%2F" in jira.requests[-1][1]
