"""Tests of a good day: issues are made, found, commented, closed, reopened, edited and read."""

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
from pointsman.testing.conformance.case_runner import Trial
from pointsman.testing.conformance.harness import Stage, new_draft, new_marker
from pointsman.testing.conformance.operations import Scene, five_minutes_ago, issue_there, unfit


async def made(stage: Stage, **more: str) -> tuple[Tracker, Scene]:
    """A tracker, and an issue it made."""
    tracker = stage.tracker()
    scene = Scene(draft=new_draft(**more))
    scene.ref = await tracker.create_issue(scene.draft)
    return tracker, scene


class BehaviourTests:
    """What a person on the tracker sees, and what the tracker tells."""

    def test_a_create_makes_one_issue(self, pointsman_trial: Trial) -> None:
        """One open issue with the draft's title, and a reference that the core takes."""

        async def play(stage: Stage) -> None:
            _, scene = await made(stage)
            there = await stage.double.issues()
            assert [one.remote_id for one in there] == [scene.issue.remote_id]
            assert there[0].title == scene.draft.title
            assert there[0].state == "open"
            assert not unfit(scene.issue, IssueRef), unfit(scene.issue, IssueRef)
            assert scene.issue.key, "people need a key to speak of the issue"

        pointsman_trial.run(play)

    def test_issues_are_found_by_their_marker(self, pointsman_trial: Trial) -> None:
        """Each of two issues is found by its own marker, closed or open; an unknown marker finds none."""
        pointsman_trial.declared("find")

        async def play(stage: Stage) -> None:
            tracker, first = await made(stage)
            second = Scene()
            second.ref = await tracker.create_issue(second.draft)
            await stage.double.close(second.issue.remote_id)
            for scene in (first, second):
                found = await stage.tracker().find_issue(scene.draft.marker, scene.since)
                assert [one.remote_id for one in found] == [scene.issue.remote_id]
                assert not unfit(found[0], IssueRef), unfit(found[0], IssueRef)
            assert list(await tracker.find_issue(new_marker(), first.since)) == []

        pointsman_trial.run(play)

    def test_a_copy_is_not_ours(self, pointsman_trial: Trial) -> None:
        """An issue that somebody else made with the same text does not count: people quote and clone issues."""
        pointsman_trial.declared("find")
        pointsman_trial.shown("copy")

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            copied = await stage.double.copy(scene.issue.remote_id)
            assert copied != scene.issue.remote_id, "the double's copy is the issue itself"
            found = await tracker.find_issue(scene.draft.marker, scene.since)
            assert [one.remote_id for one in found] == [scene.issue.remote_id]

        pointsman_trial.run(play)

    def test_a_quoted_marker_does_not_count(self, pointsman_trial: Trial) -> None:
        """Our own issue that quotes another one of ours is found by its own marker and not by the quoted one."""
        pointsman_trial.declared("find")

        async def play(stage: Stage) -> None:
            tracker, first = await made(stage)
            text = (await issue_there(stage.double, first)).text
            second = Scene(draft=new_draft(body=f"See:\n\n{text}\n\n{first.draft.marker.text}"))
            second.ref = await tracker.create_issue(second.draft)
            await tracker.add_comment(second.issue, text, new_marker())
            for scene in (first, second):
                found = await tracker.find_issue(scene.draft.marker, scene.since)
                assert [one.remote_id for one in found] == [scene.issue.remote_id]

        pointsman_trial.run(play)

    def test_comments_are_added_and_found(self, pointsman_trial: Trial) -> None:
        """Two comments are there in order, and each is found on its issue by its own marker."""

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            markers = [new_marker(), new_marker()]
            refs = [await tracker.add_comment(scene.issue, "Once more.", one) for one in markers]
            assert len((await issue_there(stage.double, scene)).comments) == 2
            assert refs[0].remote_id != refs[1].remote_id
            assert not unfit(refs[0], CommentRef), unfit(refs[0], CommentRef)
            if stage.case.tracker.capabilities.find:
                for marker, ref in zip(markers, refs, strict=True):
                    found = await tracker.find_comment(scene.issue, marker, scene.since)
                    assert [one.remote_id for one in found] == [ref.remote_id]
                assert list(await tracker.find_comment(scene.issue, new_marker(), scene.since)) == []

        pointsman_trial.run(play)

    @pytest.mark.parametrize("state", ["closed", "open"])
    def test_a_state_is_set_once(self, pointsman_trial: Trial, state: State) -> None:
        """Closing and reopening work, and a second time changes nothing: the core repeats them without a look."""

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            if state == "open":
                await stage.double.close(scene.issue.remote_id)
            reason: CloseReason | None = "completed" if state == "closed" else None
            told = await tracker.set_state(scene.issue, state, reason)
            once = await issue_there(stage.double, scene)
            assert once.state == state
            if told is not None:
                assert not unfit(told, IssueState), unfit(told, IssueState)
                assert (told.ref.remote_id, told.state) == (scene.issue.remote_id, state)
            await stage.tracker().set_state(scene.issue, state, reason)
            twice = await issue_there(stage.double, scene)
            assert twice.state == state, f"done twice, the issue is {twice.state}"
            assert twice.version == once.version, "done twice, it changed the issue again"

        pointsman_trial.run(play)

    @pytest.mark.parametrize("reason", ["completed", "not_planned", "duplicate", None])
    def test_reasons_are_kept_or_left_out(self, pointsman_trial: Trial, reason: CloseReason | None) -> None:
        """An issue closes for any reason and for none; where reasons are declared, they can be read again."""

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            await tracker.set_state(scene.issue, "closed", reason)
            assert (await issue_there(stage.double, scene)).state == "closed"
            told = (
                stage.case.tracker.capabilities.close_reasons and stage.case.tracker.capabilities.read_issue
            )
            if told and reason == "not_planned":
                assert (await tracker.read_issue(scene.issue)).close_reason == reason

        pointsman_trial.run(play)

    def test_what_a_person_does_is_read(self, pointsman_trial: Trial) -> None:
        """A person closes and reopens the issue, and reading tells it."""
        pointsman_trial.declared("read_issue")

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            for act, state in ((stage.double.close, "closed"), (stage.double.reopen, "open")):
                await act(scene.issue.remote_id)
                seen = await tracker.read_issue(scene.issue)
                assert not unfit(seen, IssueState), unfit(seen, IssueState)
                assert (seen.ref.remote_id, seen.state) == (scene.issue.remote_id, state)
                assert seen.version is None or seen.version.tzinfo is not None, "the version has no zone"

        pointsman_trial.run(play)

    def test_changes_are_listed(self, pointsman_trial: Trial) -> None:
        """An issue that a person closed is among the changes, as it stands now, once; what changed before is not."""
        pointsman_trial.declared("list_changes")

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            await stage.double.close(scene.issue.remote_id)
            news = await tracker.list_changes(five_minutes_ago())
            mine = [one for one in news if one.ref.remote_id == scene.issue.remote_id]
            assert len(mine) == 1, f"the issue is listed {len(mine)} times"
            assert not unfit(mine[0], IssueState), unfit(mine[0], IssueState)
            assert isinstance(mine[0], IssueState)
            assert mine[0].state == "closed"
            later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
            assert list(await tracker.list_changes(later)) == [], "what changed before is listed too"

        pointsman_trial.run(play)

    def test_an_update_keeps_the_rest(self, pointsman_trial: Trial) -> None:
        """Title and text are replaced; state and comments stay, and the issue is still found by its marker."""
        pointsman_trial.declared("update_issue")

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            await tracker.add_comment(scene.issue, "Once more.", scene.comment)
            await stage.double.close(scene.issue.remote_id)
            edited = Draft(title="Checkout is slow", body="It is slow.", marker=scene.draft.marker)
            await tracker.update_issue(scene.issue, edited)
            there = await issue_there(stage.double, scene)
            assert there.title == edited.title
            assert there.state == "closed"
            assert len(there.comments) == 1
            if stage.case.tracker.capabilities.find:
                found = await tracker.find_issue(scene.draft.marker, scene.since)
                assert [one.remote_id for one in found] == [scene.issue.remote_id]

        pointsman_trial.run(play)

    def test_our_account_wrote_our_issues(self, pointsman_trial: Trial) -> None:
        """The account behind the credential is the author of what it made, named alike, and not of a copy."""
        pointsman_trial.declared("own_account")
        pointsman_trial.declared("read_issue")

        async def play(stage: Stage) -> None:
            tracker, scene = await made(stage)
            me = await tracker.own_account()
            seen = await tracker.read_issue(scene.issue)
            assert seen.author is not None, "read_issue names no author"
            assert seen.author.account_id == me.account_id
            if stage.case.shows("copy"):
                copied = await stage.double.copy(scene.issue.remote_id)
                other = await tracker.read_issue(IssueRef(copied, copied))
                assert other.author is None or other.author.account_id != me.account_id

        pointsman_trial.run(play)

    @pytest.mark.parametrize("call", ["read", "comment", "close", "reopen"])
    def test_a_missing_issue_is_not_found(self, pointsman_trial: Trial, call: str) -> None:
        """What is not there any more raises NotFound (or IssueMoved): the core then leaves the issue alone."""
        if call == "read":
            pointsman_trial.declared("read_issue")

        async def play(stage: Stage) -> None:
            tracker = stage.tracker()
            gone = IssueRef(stage.case.missing_id, stage.case.missing_id)
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

        pointsman_trial.run(play)
