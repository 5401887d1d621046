"""Finding at Forgejo what was made: by markers, and as changes since a moment."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from pointsman.plugin_api import IssueRef, Misconfigured, UnknownOutcome
from pointsman_forgejo import tracker as module
from pointsman_forgejo import wire


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


async def test_half_a_list_proves_nothing(tracker, forgejo, helpers, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PAGES", 20)
    forgejo.page_max = 1
    for _ in range(21):
        await tracker.create_issue(helpers.draft())
    with pytest.raises(UnknownOutcome, match="pages"):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)
    with pytest.raises(UnknownOutcome, match="pages"):
        await tracker.list_changes(helpers.long_ago)


async def test_the_list_is_left_at_what_was_made_before(tracker, forgejo, helpers):
    """Old issues that changed since are many after a release, and none of them can be the one looked for."""
    moments = itertools.count()
    began = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
    forgejo.now = lambda: began + dt.timedelta(minutes=next(moments))
    forgejo.page_max = 2
    for _ in range(10):
        await tracker.create_issue(helpers.draft())
    since = forgejo.now()
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    await tracker.create_issue(helpers.draft())
    for number in range(1, 11):
        await forgejo.close_issue(number)
    forgejo.requests.clear()
    assert await tracker.find_issue(draft.marker, since) == [ref]
    assert sum("/issues?" in path for _, path in forgejo.requests) == 2


async def test_a_server_that_orders_otherwise_is_read_to_the_end(tracker, forgejo, helpers):
    moments = itertools.count()
    began = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
    forgejo.now = lambda: began + dt.timedelta(minutes=next(moments))
    forgejo.page_max = 2
    for _ in range(5):
        await tracker.create_issue(helpers.draft())
    since = forgejo.now()
    draft = helpers.draft()
    ref = await tracker.create_issue(draft)
    for number in range(1, 6):
        await forgejo.close_issue(number)
    forgejo.newest_first = False
    assert await tracker.find_issue(draft.marker, since) == [ref]


@pytest.mark.parametrize(
    ("numbers", "falls"),
    [
        ([5, 4, 1], [False, True, True]),
        ([5, 4, 5, 4, 3], [False, True, True, True, True]),
        ([5, 5], [False, False]),
        ([5, 4, 6, 3], [False, True, False, False]),
        ([1, 2], [False, False]),
        ([5, None, 4], [False, False, False]),
    ],
)
def test_the_order_of_a_list_is_seen_in_it(numbers, falls):
    order = wire.DescendingNumbers()
    refs = [None if number is None else IssueRef(str(number), str(number), "") for number in numbers]
    assert [order.holds_with(ref) for ref in refs] == falls


async def test_a_token_that_may_not_read_its_account_says_so(tracker, forgejo, helpers):
    forgejo.scopes.discard("user")
    with pytest.raises(Misconfigured, match="read:user"):
        await tracker.find_issue(helpers.marker(), helpers.long_ago)


async def test_our_account_is_asked_for_once_unless_it_was_renamed(tracker, forgejo, helpers):
    await tracker.find_issue(helpers.marker(), helpers.long_ago)
    await tracker.find_issue(helpers.marker(), helpers.long_ago)
    assert sum("/user" in path for _, path in forgejo.requests) == 1
    forgejo.known_users, forgejo.members, forgejo.bot = {"robot"}, {"robot"}, "robot"
    with pytest.raises(Misconfigured, match="user does not exist"):
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
