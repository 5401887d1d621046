"""The calls of the contract, each with what comes before it, what it changes, and what it rightly gives back."""

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
    """When the core begins to look."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)


@dataclass(slots=True)
class Subject:
    """What a call is about."""

    draft: Draft = field(default_factory=new_draft)
    edited: Draft = field(default_factory=lambda: new_draft("Checkout is slow", "It is slow now."))
    comment: Marker = field(default_factory=new_marker)
    since: dt.datetime = field(default_factory=search_start)
    ref: IssueRef | None = None
    comment_ref: CommentRef | None = None

    @property
    def issue(self) -> IssueRef:
        """The issue that the call is about."""
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
    """Whether doing it twice is the same as once, as the core takes it."""
    about_issue = True
    """Whether it is about one issue: then NotFound says that this issue is gone."""

    def not_applicable(self, case: TrackerCase) -> str:
        """Why the call is not there on this tracker, empty if it is."""
        if self.needs and not getattr(case.tracker.capabilities, self.needs):
            return f"not declared: {self.needs}"
        return ""

    async def prepare(self, harness: Harness) -> Subject:
        """What has to be there before: here, an issue of ours."""
        subject = Subject()
        subject.ref = await harness.tracker().create_issue(subject.draft)
        return subject

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        """The call itself."""
        raise NotImplementedError

    async def count_effects(self, double: TrackerDouble, subject: Subject) -> int:
        """How often the call took effect."""
        del double, subject
        return 0

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        """What is wrong with what the call gave back, empty if it is right."""
        raise NotImplementedError

    async def search(self, tracker: Tracker, subject: Subject) -> Sequence[Any]:
        """The core's look for what may have been made, before it is made again."""
        raise NotImplementedError


async def issue_at_double(double: TrackerDouble, subject: Subject) -> IssueSnapshot:
    """The subject's issue as it stands at the double."""
    return next(one for one in await double.issues() if one.remote_id == subject.issue.remote_id)


def why_rejected(value: Any, kind: type) -> str:
    """Why the core would not take a value for one of this kind, empty if it would."""
    try:
        validated(value, kind)
    except UnknownOutcome as error:
        return error.message
    return ""


class Create(Operation):
    """A new issue."""

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
        there = [one.remote_id for one in await double.issues()]
        return why_rejected(value, IssueRef) or (
            "" if [value.remote_id] == there else f"gave back issue {value.remote_id!r}, there is {there!r}"
        )

    async def search(self, tracker: Tracker, subject: Subject) -> Sequence[IssueRef]:
        return await tracker.find_issue(subject.draft.marker, subject.since)


class Comment(Operation):
    """A new comment."""

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
    """Another title and text."""

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
        found = [getattr(one, "remote_id", one) for one in value]
        wanted = [subject.issue.remote_id]
        return (
            "" if found == wanted else f"says the issues with the marker are {found!r}, they are {wanted!r}"
        )


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
        found = [getattr(one, "remote_id", one) for one in value]
        wanted = [subject.comment_ref.remote_id]
        return (
            "" if found == wanted else f"says the comments with the marker are {found!r}, they are {wanted!r}"
        )


class Read(Operation):
    """How an issue stands."""

    name, needs = "read", "read_issue"

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.read_issue(subject.issue)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        return why_rejected(value, IssueState) or _other_issue(value, subject, "open")


class ListChanges(Operation):
    """What changed."""

    name, needs = "list_changes", "list_changes"
    about_issue = False

    async def run(self, tracker: Tracker, subject: Subject) -> Any:
        return await tracker.list_changes(subject.since)

    async def find_error(self, value: Any, double: TrackerDouble, subject: Subject) -> str:
        del double
        odd = [one for one in value if why_rejected(one, IssueState) and why_rejected(one, IssueRemoved)]
        if odd:
            return f"gave back {odd[0]!r}, which is neither IssueState nor IssueRemoved"
        there = [one.ref.remote_id for one in value]
        return (
            "" if subject.issue.remote_id in there else f"left out issue {subject.issue.remote_id}: {there!r}"
        )


class OwnAccount(Operation):
    """The account behind the credential."""

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
