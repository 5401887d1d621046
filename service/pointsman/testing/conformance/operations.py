"""The operations of the contract: their preparation, their effects, and the check of their results."""

# ruff: noqa: D102 - the methods mean what Call says

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.plugin_api import (
    Actor,
    CommentRef,
    Draft,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    State,
    Tracker,
    UnknownOutcome,
)
from pointsman.plugin_host.validate import validated
from pointsman.testing.conformance.harness import Harness, new_draft, new_marker
from pointsman.testing.conformance.spec import IssueSnapshot, TrackerCase, TrackerDouble


def search_start() -> dt.datetime:
    """Return the time from which the core searches."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)


@dataclass(slots=True)
class Subject:
    """The issue and the texts of one operation."""

    draft: Draft = field(default_factory=new_draft)
    edited: Draft = field(default_factory=lambda: new_draft("Checkout is slow", "It is slow now."))
    comment: Marker = field(default_factory=new_marker)
    since: dt.datetime = field(default_factory=search_start)
    ref: IssueRef | None = None
    comment_ref: CommentRef | None = None

    @property
    def issue(self) -> IssueRef:
        """Return the issue of the operation."""
        assert self.ref is not None
        return self.ref


class Operation:
    """One method of the contract."""

    name = ""
    needs = ""
    """The capability that has to be declared."""
    writes = False
    creates = False
    idempotent = True
    """Whether the core may repeat it without verification."""
    about_issue = True
    """Whether it is about one issue: then NotFound says that this issue is gone."""

    def not_applicable(self, case: TrackerCase) -> str:
        """Return why the tracker does not have this operation, empty if it has."""
        if self.needs and not getattr(case.tracker.capabilities, self.needs):
            return f"not declared: {self.needs}"
        return ""

    async def prepare(self, harness: Harness) -> Subject:
        """Prepare the double; here, create an issue of ours."""
        subject = Subject()
        subject.ref = await harness.tracker().create_issue(subject.draft)
        return subject

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        """Run the operation."""
        raise NotImplementedError

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        """Return how often the operation took effect."""
        del double, subject
        return 0

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        """Return what is wrong with the result, empty if it is correct."""
        raise NotImplementedError

    async def search(self, tracker: Tracker, subject: Subject) -> Sequence[Any]:
        """Search for the result, as the core does before it repeats the operation."""
        raise NotImplementedError


async def issue_at_double(double: TrackerDouble, subject: Subject) -> IssueSnapshot:
    """Return the subject's issue at the double."""
    return next(issue for issue in await double.issues() if issue.remote_id == subject.issue.remote_id)


def why_rejected(value: Any, kind: type) -> str:
    """Return why the core would not accept a value as one of this kind, empty if it would."""
    try:
        validated(value, kind)
    except UnknownOutcome as error:
        return error.message
    return ""


class Create(Operation):
    """Create an issue."""

    name, writes, creates, idempotent = "create", True, True, False
    about_issue = False

    async def prepare(self, harness: Harness) -> Subject:
        del harness
        return Subject()

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.create_issue(subject.draft)

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        del subject
        return len(await double.issues())

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del subject
        existing = [issue.remote_id for issue in await double.issues()]
        return why_rejected(value, IssueRef) or (
            ""
            if [value.remote_id] == existing
            else f"gave back issue {value.remote_id!r}, there is {existing!r}"
        )

    async def search(self, tracker: Tracker, subject: Subject) -> Sequence[IssueRef]:
        return await tracker.find_issue(subject.draft.marker, subject.since)


class Comment(Operation):
    """Add a comment."""

    name, writes, idempotent = "comment", True, False

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.add_comment(subject.issue, "It happened again.", subject.comment)

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        return len((await issue_at_double(double, subject)).comments)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double, subject
        return why_rejected(value, CommentRef)

    async def search(self, tracker: Tracker, subject: Subject) -> Sequence[CommentRef]:
        return await tracker.find_comment(subject.issue, subject.comment, subject.since)


class Close(Operation):
    """Close an open issue."""

    name, writes = "close", True
    to: State = "closed"

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.set_state(subject.issue, self.to, "completed" if self.to == "closed" else None)

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        return int((await issue_at_double(double, subject)).state == self.to)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        if value is None:
            return ""
        return why_rejected(value, IssueState) or _other_issue(value, subject, self.to)


class Reopen(Close):
    """Reopen a closed issue."""

    name = "reopen"
    to: State = "open"

    async def prepare(self, harness: Harness) -> Subject:
        subject = await super().prepare(harness)
        await harness.double.close(subject.issue.remote_id)
        return subject


class Update(Operation):
    """Replace title and text."""

    name, needs, writes = "update", "update_issue", True

    async def prepare(self, harness: Harness) -> Subject:
        subject = await super().prepare(harness)
        edited = subject.edited
        subject.edited = Draft(title=edited.title, body=edited.body, marker=subject.draft.marker)
        return subject

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.update_issue(subject.issue, subject.edited)

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        return int((await issue_at_double(double, subject)).title == subject.edited.title)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double, subject
        return "" if value is None else f"gave back {type(value).__name__}, the contract says None"


class FindIssue(Operation):
    """Find an issue by its marker."""

    name, needs, creates, idempotent = "find_issue", "find", True, False
    about_issue = False

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.find_issue(subject.draft.marker, subject.since)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        ids = [getattr(ref, "remote_id", ref) for ref in value]
        wanted = [subject.issue.remote_id]
        return "" if ids == wanted else f"says the issues with the marker are {ids!r}, they are {wanted!r}"


class FindComment(Operation):
    """Find a comment by its marker."""

    name, needs, idempotent = "find_comment", "find", False

    async def prepare(self, harness: Harness) -> Subject:
        subject = await super().prepare(harness)
        subject.comment_ref = await harness.tracker().add_comment(
            subject.issue, "Once more.", subject.comment
        )
        return subject

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.find_comment(subject.issue, subject.comment, subject.since)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        assert subject.comment_ref is not None
        ids = [getattr(ref, "remote_id", ref) for ref in value]
        wanted = [subject.comment_ref.remote_id]
        return "" if ids == wanted else f"says the comments with the marker are {ids!r}, they are {wanted!r}"


class Read(Operation):
    """Read an issue."""

    name, needs = "read", "read_issue"

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.read_issue(subject.issue)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        return why_rejected(value, IssueState) or _other_issue(value, subject, "open")


class ListChanges(Operation):
    """List changes."""

    name, needs = "list_changes", "list_changes"
    about_issue = False

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.list_changes(subject.since)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        rejected = [
            change
            for change in value
            if why_rejected(change, IssueState) and why_rejected(change, IssueRemoved)
        ]
        if rejected:
            return f"gave back {rejected[0]!r}, which is neither IssueState nor IssueRemoved"
        listed = [change.ref.remote_id for change in value]
        return (
            ""
            if subject.issue.remote_id in listed
            else f"left out issue {subject.issue.remote_id}: {listed!r}"
        )


class OwnAccount(Operation):
    """Read the account of the credential."""

    name, needs = "own_account", "own_account"
    about_issue = False

    async def prepare(self, harness: Harness) -> Subject:
        del harness
        return Subject()

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        del subject
        return await tracker.own_account()

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double, subject
        return why_rejected(value, Actor) or (
            "" if value.account_id else "gave back an account without an id"
        )


def _other_issue(value: IssueState, subject: Subject, state: State) -> str:
    if value.ref.remote_id != subject.issue.remote_id:
        return f"speaks of issue {value.ref.remote_id!r} and not of {subject.issue.remote_id!r}"
    return "" if value.state == state else f"says the issue is {value.state}, it is {state}"


OPERATIONS: dict[str, Operation] = {
    call.name: call
    for call in (
        Create(),
        Comment(),
        Close(),
        Reopen(),
        Update(),
        FindIssue(),
        FindComment(),
        Read(),
        ListChanges(),
        OwnAccount(),
    )
}
