"""Finding our own work again, and what others changed."""

from __future__ import annotations

import datetime as dt
from unittest import mock

import pytest

from pointsman.plugin_api import CommentRef, Misconfigured, NotFound, UnknownOutcome
from pointsman_github import tracker as module


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


async def test_half_a_list_proves_nothing(tracker, github, helpers, monkeypatch):
    monkeypatch.setattr(module, "_FIND_PAGES", 20)
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


async def test_a_comment_made_twice_can_be_taken_away_once(tracker, github, helpers):
    issue = await tracker.create_issue(helpers.draft())
    marker = helpers.marker()
    first, second = [await tracker.add_comment(issue, "twice", marker) for _ in range(2)]
    await tracker.delete_comment(issue, second)
    assert await tracker.find_comment(issue, marker, helpers.long_ago) == [first]
    assert [effect.kind for effect in github.effects] == ["issue", "comment", "comment", "delete"]
    for gone in (second, CommentRef("../../hooks/1")):
        with pytest.raises(NotFound):
            await tracker.delete_comment(issue, gone)


async def test_a_comment_that_may_not_be_deleted_stays(tracker, github, helpers):
    issue = await tracker.create_issue(helpers.draft())
    await github.comment(1, "by a person")
    [comment] = github.issues[1].comments
    github.may_push = False
    with pytest.raises(Misconfigured):
        await tracker.delete_comment(issue, CommentRef(str(comment.id)))
    assert github.issues[1].comments == [comment]
