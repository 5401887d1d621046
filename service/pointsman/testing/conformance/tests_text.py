"""Tests of texts: for any text the issue is created and found, and its title is one line."""

from __future__ import annotations

import pytest

from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.harness import Harness, new_draft, new_marker
from pointsman.testing.conformance.hostile_texts import TEXTS
from pointsman.testing.conformance.operations import Subject, issue_at_double

_every_text = pytest.mark.parametrize("text", TEXTS)


class TextTests:
    """Untrusted texts as titles, bodies and comments."""

    @_every_text
    def test_a_title_stays_one_line(self, pointsman_runner: CaseRunner, text: str) -> None:
        """Any title makes an issue, on one line within the tracker's limit, and its marker is found."""

        async def scenario(harness: Harness) -> None:
            subject = await _create_issue(harness, Subject(draft=new_draft(title=TEXTS[text])))
            title = (await issue_at_double(harness.double, subject)).title
            assert len(title.splitlines()) <= 1, f"the title {title[:300]!r} is not one line"
            limit = harness.case.title_limit
            assert len(title) <= limit, f"the title has {len(title)} characters, the limit is {limit}"

        pointsman_runner.run(scenario)

    @_every_text
    def test_a_body_hides_no_marker(self, pointsman_runner: CaseRunner, text: str) -> None:
        """Any body makes an issue, cut if it must be, and its marker is found: it is not lost with the cut, in an
        open code fence or in a comment.
        """

        async def scenario(harness: Harness) -> None:
            await _create_issue(harness, Subject(draft=new_draft(body=TEXTS[text])))

        pointsman_runner.run(scenario)

    @_every_text
    def test_a_comment_hides_no_marker(self, pointsman_runner: CaseRunner, text: str) -> None:
        """Any comment is added, and its marker is found."""

        async def scenario(harness: Harness) -> None:
            subject = await _create_issue(harness, Subject())
            tracker, marker = harness.tracker(), new_marker()
            await tracker.add_comment(subject.issue, TEXTS[text], marker)
            assert len((await issue_at_double(harness.double, subject)).comments) == 1
            if harness.case.tracker.capabilities.find:
                comments = await tracker.find_comment(subject.issue, marker, subject.since)
                assert len(comments) == 1, f"the comment's marker is found {len(comments)} times"

        pointsman_runner.run(scenario)


async def _create_issue(harness: Harness, subject: Subject) -> Subject:
    """Create the subject's issue, find it, and return the subject."""
    tracker = harness.tracker()
    subject.ref = await tracker.create_issue(subject.draft)
    assert len(await harness.double.issues()) == 1
    if harness.case.tracker.capabilities.find:
        refs = await tracker.find_issue(subject.draft.marker, subject.since)
        assert [ref.remote_id for ref in refs] == [subject.issue.remote_id], "its marker is not found"
    return subject
