"""Tests of text: whatever words come from outside, the issue is made, found, and its title is one line."""

from __future__ import annotations

import pytest

from pointsman.testing.conformance.case_runner import Trial
from pointsman.testing.conformance.harness import Stage, new_draft, new_marker
from pointsman.testing.conformance.hostile_texts import TEXTS
from pointsman.testing.conformance.operations import Scene, issue_there

_every_text = pytest.mark.parametrize("text", TEXTS)


class TextTests:
    """Texts of strangers, as titles, bodies and comments."""

    @_every_text
    def test_a_title_stays_one_line(self, pointsman_trial: Trial, text: str) -> None:
        """Any title makes an issue, on one line within the tracker's limit, and its marker is found."""

        async def play(stage: Stage) -> None:
            scene = await _made(stage, Scene(draft=new_draft(title=TEXTS[text])))
            title = (await issue_there(stage.double, scene)).title
            assert len(title.splitlines()) <= 1, f"the title {title[:300]!r} is not one line"
            limit = stage.case.title_limit
            assert len(title) <= limit, f"the title has {len(title)} characters, the limit is {limit}"

        pointsman_trial.run(play)

    @_every_text
    def test_a_body_hides_no_marker(self, pointsman_trial: Trial, text: str) -> None:
        """Any body makes an issue, cut if it must be, and its marker is found: it is not lost with the cut, in an
        open code fence or in a comment.
        """

        async def play(stage: Stage) -> None:
            await _made(stage, Scene(draft=new_draft(body=TEXTS[text])))

        pointsman_trial.run(play)

    @_every_text
    def test_a_comment_hides_no_marker(self, pointsman_trial: Trial, text: str) -> None:
        """Any comment is added, and its marker is found."""

        async def play(stage: Stage) -> None:
            scene = await _made(stage, Scene())
            tracker, marker = stage.tracker(), new_marker()
            await tracker.add_comment(scene.issue, TEXTS[text], marker)
            assert len((await issue_there(stage.double, scene)).comments) == 1
            if stage.case.tracker.capabilities.find:
                found = await tracker.find_comment(scene.issue, marker, scene.since)
                assert len(found) == 1, f"the comment's marker is found {len(found)} times"

        pointsman_trial.run(play)


async def _made(stage: Stage, scene: Scene) -> Scene:
    """The scene's issue, made and found."""
    tracker = stage.tracker()
    scene.ref = await tracker.create_issue(scene.draft)
    assert len(await stage.double.issues()) == 1
    if stage.case.tracker.capabilities.find:
        found = await tracker.find_issue(scene.draft.marker, scene.since)
        assert [one.remote_id for one in found] == [scene.issue.remote_id], "its marker is not found"
    return scene
