"""Tests without faults: issues are created, found, commented on, closed, reopened, edited and read."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import (
    CloseReason,
    CommentRef,
    Draft,
    IssueMoved,
    IssueRef,
    IssueState,
    NotFound,
    State,
    Tracker,
)
from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.harness import Harness, new_draft, new_marker
from pointsman.testing.conformance.operations import Subject, issue_at_double, search_start, why_rejected


async def create_issue(harness: Harness, **more: str) -> tuple[Tracker, Subject]:
    """Return a tracker and an issue that it created."""
    tracker = harness.tracker()
    subject = Subject(draft=new_draft(**more))
    subject.ref = await tracker.create_issue(subject.draft)
    return tracker, subject


class BehaviourTests:
    """What a person on the tracker sees, and what the tracker returns."""

    def test_a_create_makes_one_issue(self, pointsman_runner: CaseRunner) -> None:
        """One open issue with the draft's title, and a reference that the core takes."""

        async def scenario(harness: Harness) -> None:
            _, subject = await create_issue(harness)
            issues = await harness.double.issues()
            assert [issue.remote_id for issue in issues] == [subject.issue.remote_id]
            assert issues[0].title == subject.draft.title
            assert issues[0].state == "open"
            assert not why_rejected(subject.issue, IssueRef), why_rejected(subject.issue, IssueRef)
            assert subject.issue.key, "people need a key to speak of the issue"

        pointsman_runner.run(scenario)

    def test_issues_are_found_by_their_marker(self, pointsman_runner: CaseRunner) -> None:
        """Each of two issues is found by its own marker, closed or open; an unknown marker finds none."""
        pointsman_runner.require_capability("find")

        async def scenario(harness: Harness) -> None:
            tracker, first = await create_issue(harness)
            second = Subject()
            second.ref = await tracker.create_issue(second.draft)
            await harness.double.close(second.issue.remote_id)
            for subject in (first, second):
                refs = await harness.tracker().find_issue(subject.draft.marker, subject.since)
                assert [ref.remote_id for ref in refs] == [subject.issue.remote_id]
                assert not why_rejected(refs[0], IssueRef), why_rejected(refs[0], IssueRef)
            assert list(await tracker.find_issue(new_marker(), first.since)) == []

        pointsman_runner.run(scenario)

    def test_a_copy_is_not_ours(self, pointsman_runner: CaseRunner) -> None:
        """An issue that somebody else made with the same text does not count: people quote and clone issues."""
        pointsman_runner.require_capability("find")
        pointsman_runner.require_double("copy")

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            copied = await harness.double.copy(subject.issue.remote_id)
            assert copied != subject.issue.remote_id, "the double's copy is the issue itself"
            refs = await tracker.find_issue(subject.draft.marker, subject.since)
            assert [ref.remote_id for ref in refs] == [subject.issue.remote_id]

        pointsman_runner.run(scenario)

    def test_a_quoted_marker_does_not_count(self, pointsman_runner: CaseRunner) -> None:
        """Our own issue that quotes another one of ours is found by its own marker and not by the quoted one."""
        pointsman_runner.require_capability("find")

        async def scenario(harness: Harness) -> None:
            tracker, first = await create_issue(harness)
            text = (await issue_at_double(harness.double, first)).text
            second = Subject(draft=new_draft(body=f"See:\n\n{text}\n\n{first.draft.marker.text}"))
            second.ref = await tracker.create_issue(second.draft)
            await tracker.add_comment(second.issue, text, new_marker())
            for subject in (first, second):
                refs = await tracker.find_issue(subject.draft.marker, subject.since)
                assert [ref.remote_id for ref in refs] == [subject.issue.remote_id]

        pointsman_runner.run(scenario)

    def test_comments_are_added_and_found(self, pointsman_runner: CaseRunner) -> None:
        """Two comments are there in order, and each is found on its issue by its own marker."""

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            markers = [new_marker(), new_marker()]
            refs = [await tracker.add_comment(subject.issue, "Once more.", comment) for comment in markers]
            assert len((await issue_at_double(harness.double, subject)).comments) == 2
            assert refs[0].remote_id != refs[1].remote_id
            assert not why_rejected(refs[0], CommentRef), why_rejected(refs[0], CommentRef)
            if harness.case.tracker.capabilities.find:
                for marker, ref in zip(markers, refs, strict=True):
                    matches = await tracker.find_comment(subject.issue, marker, subject.since)
                    assert [comment.remote_id for comment in matches] == [ref.remote_id]
                assert list(await tracker.find_comment(subject.issue, new_marker(), subject.since)) == []

        pointsman_runner.run(scenario)

    @pytest.mark.parametrize("state", ["closed", "open"])
    def test_a_state_is_set_once(self, pointsman_runner: CaseRunner, state: State) -> None:
        """Closing and reopening work, and a second time changes nothing: the core repeats them without a look."""

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            if state == "open":
                await harness.double.close(subject.issue.remote_id)
            reason: CloseReason | None = "completed" if state == "closed" else None
            returned = await tracker.set_state(subject.issue, state, reason)
            once = await issue_at_double(harness.double, subject)
            assert once.state == state
            if returned is not None:
                assert not why_rejected(returned, IssueState), why_rejected(returned, IssueState)
                assert (returned.ref.remote_id, returned.state) == (subject.issue.remote_id, state)
            await harness.tracker().set_state(subject.issue, state, reason)
            twice = await issue_at_double(harness.double, subject)
            assert twice.state == state, f"done twice, the issue is {twice.state}"
            assert twice.version == once.version, "done twice, it changed the issue again"

        pointsman_runner.run(scenario)

    @pytest.mark.parametrize("reason", ["completed", "not_planned", "duplicate", None])
    def test_reasons_are_kept_or_left_out(
        self, pointsman_runner: CaseRunner, reason: CloseReason | None
    ) -> None:
        """An issue closes for any reason and for none; where reasons are declared, they can be read again."""

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            await tracker.set_state(subject.issue, "closed", reason)
            assert (await issue_at_double(harness.double, subject)).state == "closed"
            readable = (
                harness.case.tracker.capabilities.close_reasons
                and harness.case.tracker.capabilities.read_issue
            )
            if readable and reason == "not_planned":
                assert (await tracker.read_issue(subject.issue)).close_reason == reason

        pointsman_runner.run(scenario)

    def test_what_a_person_does_is_read(self, pointsman_runner: CaseRunner) -> None:
        """A person closes and reopens the issue, and reading tells it."""
        pointsman_runner.require_capability("read_issue")

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            for act, state in ((harness.double.close, "closed"), (harness.double.reopen, "open")):
                await act(subject.issue.remote_id)
                seen = await tracker.read_issue(subject.issue)
                assert not why_rejected(seen, IssueState), why_rejected(seen, IssueState)
                assert (seen.ref.remote_id, seen.state) == (subject.issue.remote_id, state)
                assert seen.version is None or seen.version.tzinfo is not None, "the version has no zone"

        pointsman_runner.run(scenario)

    def test_changes_are_listed(self, pointsman_runner: CaseRunner) -> None:
        """An issue that a person closed is among the changes, as it stands now, once; what changed before is not."""
        pointsman_runner.require_capability("list_changes")

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            await harness.double.close(subject.issue.remote_id)
            changes = await tracker.list_changes(search_start())
            mine = [change for change in changes if change.ref.remote_id == subject.issue.remote_id]
            assert len(mine) == 1, f"the issue is listed {len(mine)} times"
            assert not why_rejected(mine[0], IssueState), why_rejected(mine[0], IssueState)
            assert isinstance(mine[0], IssueState)
            assert mine[0].state == "closed"
            later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
            assert list(await tracker.list_changes(later)) == [], "what changed before is listed too"

        pointsman_runner.run(scenario)

    def test_an_update_keeps_the_rest(self, pointsman_runner: CaseRunner) -> None:
        """Title and text are replaced; state and comments stay, and the issue is still found by its marker."""
        pointsman_runner.require_capability("update_issue")

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            await tracker.add_comment(subject.issue, "Once more.", subject.comment)
            await harness.double.close(subject.issue.remote_id)
            edited = Draft(title="Checkout is slow", body="It is slow.", marker=subject.draft.marker)
            await tracker.update_issue(subject.issue, edited)
            there = await issue_at_double(harness.double, subject)
            assert there.title == edited.title
            assert there.state == "closed"
            assert len(there.comments) == 1
            if harness.case.tracker.capabilities.find:
                refs = await tracker.find_issue(subject.draft.marker, subject.since)
                assert [ref.remote_id for ref in refs] == [subject.issue.remote_id]

        pointsman_runner.run(scenario)

    def test_our_account_wrote_our_issues(self, pointsman_runner: CaseRunner) -> None:
        """The account behind the credential is the author of what it made, named alike, and not of a copy."""
        pointsman_runner.require_capability("own_account")
        pointsman_runner.require_capability("read_issue")

        async def scenario(harness: Harness) -> None:
            tracker, subject = await create_issue(harness)
            me = await tracker.own_account()
            seen = await tracker.read_issue(subject.issue)
            assert seen.author is not None, "read_issue names no author"
            assert seen.author.account_id == me.account_id
            if harness.case.double_supports("copy"):
                copied = await harness.double.copy(subject.issue.remote_id)
                other = await tracker.read_issue(IssueRef(copied, copied))
                assert other.author is None or other.author.account_id != me.account_id

        pointsman_runner.run(scenario)

    @pytest.mark.parametrize("call", ["read", "comment", "close", "reopen"])
    def test_a_missing_issue_is_not_found(self, pointsman_runner: CaseRunner, call: str) -> None:
        """What is not there any more raises NotFound (or IssueMoved): the core then leaves the issue alone."""
        if call == "read":
            pointsman_runner.require_capability("read_issue")

        async def scenario(harness: Harness) -> None:
            tracker = harness.tracker()
            gone = IssueRef(harness.case.missing_id, harness.case.missing_id)
            try:
                match call:
                    case "read":
                        await tracker.read_issue(gone)
                    case "comment":
                        await tracker.add_comment(gone, "Once more.", new_marker())
                    case _:
                        await tracker.set_state(gone, "closed" if call == "close" else "open", None)
            except (NotFound, IssueMoved):
                return
            raise AssertionError("it raised nothing, and the issue is not there")

        pointsman_runner.run(scenario)
