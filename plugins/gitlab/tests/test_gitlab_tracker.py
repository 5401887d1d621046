"""The tracker against a GitLab on loopback."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import (
    Actor,
    AuthFailed,
    Blocked,
    CommentRef,
    IssueMoved,
    IssueRemoved,
    IssueState,
    Misconfigured,
    NotFound,
    RateLimited,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_gitlab.testing import PERSON

# -- writing -------------------------------------------------------------------------------------------------------


async def test_an_issue_is_made_with_all_that_is_set(gitlab, make_tracker, helpers):
    tracker = make_tracker(labels=("bug",), assignees=("Ada",), confidential=True)
    ref = await tracker.create_issue(helpers.draft(labels=("shop", "a,b")))
    issue = gitlab.issues[1]
    assert (ref.remote_id, ref.key, ref.url) == ("1", "#1", f"{gitlab.url}/acme/shop/-/issues/1")
    assert (issue.labels, issue.assignees, issue.confidential) == (["bug", "shop"], ["ada"], True)
    assert [note for note in ref.notes if "a,b" not in note] == []


async def test_a_project_may_be_named_by_its_number(gitlab, make_tracker, helpers):
    await make_tracker(project="42").create_issue(helpers.draft())
    assert gitlab.issues_created() == 1


async def test_what_gitlab_drops_is_noted(gitlab, make_tracker, helpers):
    gitlab.role = 10
    tracker = make_tracker(labels=("bug",), assignees=("ada", "nobody"))
    ref = await tracker.create_issue(helpers.draft())
    assert len(ref.notes) == 3
    assert ref.notes[0] == "not assigned to nobody: GitLab knows no such user"
    assert "labels bug" in ref.notes[1] and "ada" in ref.notes[2]


async def test_a_second_assignee_needs_a_licence(gitlab, make_tracker, helpers):
    gitlab.members.add("bob")
    tracker = make_tracker(assignees=("ada", "bob"))
    [note] = (await tracker.create_issue(helpers.draft())).notes
    assert "bob" in note and "ada" not in note
    gitlab.licensed = True
    assert (await tracker.create_issue(helpers.draft())).notes == ()


async def test_usernames_are_looked_up_once(gitlab, make_tracker, helpers):
    tracker = make_tracker(assignees=("ada",))
    for _ in range(2):
        await tracker.create_issue(helpers.draft())
    assert sum("/users?" in path for _, path in gitlab.requests) == 1


async def test_a_look_up_that_went_astray_made_nothing(gitlab, make_tracker, helpers):
    """Nothing was sent whose outcome could be unknown."""
    gitlab.faults.append(Fault(match="/users", status=500, times=2))
    with pytest.raises(Unavailable):
        await make_tracker(assignees=("ada",)).create_issue(helpers.draft())


@pytest.mark.parametrize(
    "text", ["/close\n/label ~x", "```\n/close", "~~~\n/close\n~~~", "````\n/close\n````"]
)
async def test_untrusted_text_gives_no_quick_actions(gitlab, tracker, helpers, text):
    ref = await tracker.create_issue(helpers.draft(body=text))
    await tracker.add_comment(ref, text, helpers.marker())
    issue = gitlab.issues[1]
    assert (issue.state, issue.labels, issue.title) == ("opened", [], "Checkout fails")
    assert "/close" in issue.description
    assert len(issue.notes) == 1


async def test_the_double_obeys_quick_actions(gitlab):
    issue = gitlab.add_issue("t", "a\n/close\nb\n```\n/label x\n```", PERSON)
    assert (issue.state, issue.labels, issue.description) == ("closed", [], "a\nb\n```\n/label x\n```")
    assert gitlab.add_note(issue, "/reopen", PERSON) is None


async def test_a_note_that_vanished_has_an_unknown_outcome(gitlab, tracker, helpers):
    """A 202 with a summary of commands instead of a note."""
    ref = await tracker.create_issue(helpers.draft())
    gitlab.faults.append(Fault(match="/notes", status=202, body=b'{"commands_changes": {}, "summary": []}'))
    with pytest.raises(UnknownOutcome):
        await tracker.add_comment(ref, "more", helpers.marker())


async def test_closing_and_reopening(gitlab, tracker, helpers):
    ref = await tracker.create_issue(helpers.draft())
    closed = await tracker.set_state(ref, "closed", "completed")
    repeated = await tracker.set_state(ref, "closed", None)
    assert (closed.state, closed.version) == ("closed", repeated.version)
    assert (await tracker.set_state(ref, "open", None)).state == "open"
    assert [effect.detail for effect in gitlab.effects if effect.kind == "state"] == ["closed", "opened"]


async def test_a_limit_is_told(gitlab, tracker, helpers):
    gitlab.faults.append(Fault(match="POST", status=429, body=b"Retry later\n", headers={"Retry-After": "9"}))
    with pytest.raises(RateLimited) as caught:
        await tracker.create_issue(helpers.draft())
    assert caught.value.retry_after == 9


# -- finding and reading ---------------------------------------------------------------------------------------------


async def test_only_what_our_account_wrote_is_found(gitlab, tracker, helpers):
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    gitlab.add_issue("copy", gitlab.issues[1].description, PERSON)
    assert [item.remote_id for item in await tracker.find_issue(draft.marker, helpers.long_ago)] == ["1"]
    marker = helpers.marker()
    created = await tracker.add_comment(ref, "once", marker)
    note = gitlab.issues[1].notes[0]
    gitlab.add_note(gitlab.issues[1], note.body, PERSON)
    gitlab.add_note(gitlab.issues[1], note.body, "pointsman", system=True)
    assert await tracker.find_comment(ref, marker, helpers.long_ago) == [created]


async def test_a_confidential_issue_is_found(gitlab, make_tracker, helpers):
    tracker, draft = make_tracker(confidential=True), helpers.draft()
    await tracker.create_issue(draft)
    assert len(await tracker.find_issue(draft.marker, helpers.long_ago)) == 1


async def test_all_pages_are_looked_through(gitlab, tracker, helpers):
    first = helpers.draft()
    ref = await tracker.create_issue(first)
    for number in range(250):
        gitlab.add_issue(f"other {number}", "text", "pointsman")
    last = helpers.draft()
    await tracker.create_issue(last)
    for draft, iid in ((first, "1"), (last, "252")):
        assert [item.remote_id for item in await tracker.find_issue(draft.marker, helpers.long_ago)] == [iid]
    assert len(await tracker.list_changes(helpers.long_ago)) == 252
    marker = helpers.marker()
    await tracker.add_comment(ref, "once", marker)
    for number in range(150):
        gitlab.add_note(gitlab.issues[1], f"other {number}", PERSON)
    assert len(await tracker.find_comment(ref, marker, helpers.long_ago)) == 1


async def test_notes_before_the_time_are_not_read(gitlab, tracker, helpers):
    ref = await tracker.create_issue(helpers.draft())
    for number in range(150):
        note = gitlab.add_note(gitlab.issues[1], f"old {number}", PERSON)
        note.created_at = helpers.long_ago
    before = len(gitlab.requests)
    assert await tracker.find_comment(ref, helpers.marker(), dt.datetime.now(dt.UTC)) == []
    assert sum("/notes" in path for _, path in gitlab.requests[before:]) == 1


async def test_a_list_without_page_headers_ends_with_an_empty_page(gitlab, tracker, helpers):
    body = b'[{"iid": 3, "state": "opened"}]'
    gitlab.faults += [
        Fault(match="/issues", status=200, body=body),
        Fault(match="/issues", status=200, body=b"[]"),
    ]
    assert [item.ref.remote_id for item in await tracker.list_changes(helpers.long_ago)] == ["3"]


async def test_changes_are_listed_moves_among_them(gitlab, tracker, helpers):
    for _ in range(3):
        await tracker.create_issue(helpers.draft())
    await gitlab.close_issue(2)
    await gitlab.move_issue(3)
    news = {item.ref.remote_id: item for item in await tracker.list_changes(helpers.long_ago)}
    assert isinstance(news["1"], IssueState) and news["1"].state == "open"
    assert isinstance(news["2"], IssueState) and news["2"].state == "closed"
    assert isinstance(news["3"], IssueRemoved) and "4711" in news["3"].moved_to


async def test_a_moved_issue_says_where_it_went(gitlab, tracker, helpers):
    ref = await tracker.create_issue(helpers.draft())
    await gitlab.move_issue(1)
    for act in (tracker.read_issue(ref), tracker.set_state(ref, "open", None)):
        with pytest.raises(IssueMoved, match="another project") as caught:
            await act
        assert "4711" in caught.value.to


async def test_what_hides_from_us_is_not_there(gitlab, tracker, helpers):
    """A confidential issue, say, once the account has lost its role: GitLab tells no difference."""
    ref = await tracker.create_issue(helpers.draft())
    gitlab.hidden.add(1)
    with pytest.raises(NotFound):
        await tracker.read_issue(ref)
    with pytest.raises(NotFound):
        await tracker.read_issue(type(ref)("../1", "#1"))


async def test_issues_that_are_switched_off_are_not_gone(gitlab, tracker, helpers):
    ref = await tracker.create_issue(helpers.draft())
    gitlab.issues_enabled = False
    for act in (tracker.add_comment(ref, "more", helpers.marker()), tracker.set_state(ref, "closed", None)):
        with pytest.raises(Misconfigured, match="switched off"):
            await act


async def test_a_404_that_can_not_be_explained_waits(gitlab, tracker, helpers):
    gitlab.faults.append(Fault(match="GET /api/v4/projects/acme/shop", status=404, body=b"{}"))
    gitlab.faults.append(Fault(match="GET /api/v4/projects/acme/shop", status=502, times=2))
    with pytest.raises(Unavailable):
        await tracker.read_issue(helpers.number(1))


async def test_a_project_that_hides_or_was_renamed(gitlab, make_tracker, helpers):
    with pytest.raises(Misconfigured, match="hidden from the account"):
        await make_tracker(project="acme/other").create_issue(helpers.draft())
    with pytest.raises(Misconfigured, match="hidden from the account"):
        await make_tracker(project="acme/other").read_issue(helpers.number(1))
    gitlab.former_names.add("acme/till")
    with pytest.raises(Misconfigured, match=r"another name now .*projects/42"):
        await make_tracker(project="acme/till").create_issue(helpers.draft())


async def test_who_we_are(gitlab, make_tracker):
    assert await make_tracker().own_account() == Actor("7", "pointsman")
    with pytest.raises(AuthFailed):
        await make_tracker(token=Secret("wrong")).own_account()
    gitlab.faults.append(Fault(match="/user", status=200, body=b"{}"))
    with pytest.raises(Misconfigured):
        await make_tracker().own_account()


async def test_a_person_closes_and_the_webhook_is_read(gitlab, tracker, helpers):
    """Both kinds of proof, over the double's own calls."""
    await tracker.create_issue(helpers.draft())
    for secret in ("plain secret", "whsec_" + "A" * 43 + "="):
        headers, body = gitlab.call(gitlab.issues[1], "reopen", secret)
        reported = {name.lower(): value for name, value in headers.items()}
        assert tracker.verify_webhook(reported, body, [b"other", secret.encode()])
        assert not tracker.verify_webhook(reported, body, [b"other"])
        assert isinstance(tracker.read_webhook(reported, body), IssueState)
        assert tracker.webhook_id(reported, body) == reported["idempotency-key"]
    gitlab.has_idempotency_keys = False
    headers, body = gitlab.call(gitlab.issues[1], "reopen", "")
    received = tracker.webhook_id({name.lower(): value for name, value in headers.items()}, body)
    assert received is not None and received.startswith(headers["X-Gitlab-Event-UUID"])


async def test_a_comment_made_twice_can_be_taken_away_once(gitlab, make_tracker, helpers):
    tracker = make_tracker()
    issue = await tracker.create_issue(helpers.draft())
    marker = helpers.draft().marker
    first, second = [await tracker.add_comment(issue, "twice", marker) for _ in range(2)]
    await tracker.delete_comment(issue, second)
    assert await tracker.find_comment(issue, marker, gitlab.now() - dt.timedelta(hours=1)) == [first]
    for gone in (second, CommentRef("../../hooks/1")):
        with pytest.raises(NotFound):
            await tracker.delete_comment(issue, gone)
    note = gitlab.add_note(gitlab.issues[1], "by a person", PERSON)
    with pytest.raises(Blocked):
        await tracker.delete_comment(issue, CommentRef(str(note.id)))
