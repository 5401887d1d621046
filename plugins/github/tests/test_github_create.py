"""Creating issues: markers, labels, assignees, and what is noted where something was left out."""

from __future__ import annotations

import pytest

from pointsman.plugin_api import IssueRef, Refused
from pointsman.plugin_api.helpers import find_markers
from pointsman.testing.fake import Fault
from pointsman_github import wire


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


async def test_without_the_right_to_push_they_are_dropped_and_so_it_says(make_tracker, github, helpers):
    github.may_push = False
    ref = await make_tracker(labels=("bug",), assignees=("nobody", "dev")).create_issue(helpers.draft())
    assert (github.issues[1].labels, github.issues[1].assignees) == ([], [])
    assignees, labels = ref.notes
    assert assignees.startswith("not assigned to nobody, dev: GitHub dropped that silently")
    assert labels.startswith("not labeled bug: GitHub dropped that silently")
    assert "Write" in labels


async def test_where_all_went_well_there_is_nothing_to_note(make_tracker, github, helpers):
    github.assignable.add("dev")
    ref = await make_tracker(labels=("Bug",), assignees=("DEV",)).create_issue(helpers.draft())
    assert ref.notes == ()


async def test_a_refused_assignee_does_not_lose_the_issue(make_tracker, github, helpers):
    ref = await make_tracker(labels=("bug",), assignees=("nobody",)).create_issue(helpers.draft())
    assert github.issues_created() == 1
    assert (github.issues[1].labels, github.issues[1].assignees) == (["bug"], [])
    assert ref.notes == ("not assigned to nobody: GitHub refused that (Validation Failed)",)


async def test_who_can_be_assigned_is_assigned_all_the_same(make_tracker, github, helpers):
    github.assignable |= {"dev", "ops"}
    await make_tracker(assignees=("dev", "nobody", "ops")).create_issue(helpers.draft())
    assert github.issues[1].assignees == ["dev", "ops"]


async def test_after_a_second_refusal_nobody_is_assigned(make_tracker, github, helpers):
    ref = await make_tracker(assignees=("one", "two", "three")).create_issue(helpers.draft())
    assert github.issues[1].assignees == []
    assert len([path for _, path in github.requests if path.endswith("/issues")]) == 3
    assert "one, two, three" in ref.notes[0]


async def test_refused_labels_are_left_out_and_noted(make_tracker, github, helpers):
    body = b'{"message":"Validation Failed","errors":[{"resource":"Label","field":"labels","code":"invalid","value":"bug"}]}'
    github.faults.append(Fault("POST", status=422, body=body))
    ref = await make_tracker(labels=("bug", "new")).create_issue(helpers.draft())
    assert github.issues[1].labels == ["new"]
    assert ref.notes == ("not labeled bug: GitHub refused that (Validation Failed)",)


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
    assert find_markers(github.issues[1].body) == (draft.marker.text,)
