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
from pointsman.testing.conformance.harness import Stage, new_draft, new_marker
from pointsman.testing.conformance.spec import IssueThere, TrackerCase, TrackerDouble


def five_minutes_ago() -> dt.datetime:
    """When the core begins to look."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)


@dataclass(slots=True)
class Scene:
    """What a call is about."""

    draft: Draft = field(default_factory=new_draft)
    edited: Draft = field(default_factory=lambda: new_draft("Checkout is slow", "It is slow now."))
    comment: Marker = field(default_factory=new_marker)
    since: dt.datetime = field(default_factory=five_minutes_ago)
    ref: IssueRef | None = None
    comment_ref: CommentRef | None = None

    @property
    def issue(self) -> IssueRef:
        """The issue that the call is about."""
        assert self.ref is not None
        return self.ref


class Call:
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

    def lacks(self, case: TrackerCase) -> str:
        """Why the call is not there on this tracker, empty if it is."""
        if self.needs and not getattr(case.tracker.capabilities, self.needs):
            return f"not declared: {self.needs}"
        return ""

    async def prepare(self, stage: Stage) -> Scene:
        """What has to be there before: here, an issue of ours."""
        scene = Scene()
        scene.ref = await stage.tracker().create_issue(scene.draft)
        return scene

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        """The call itself."""
        raise NotImplementedError

    async def effects(self, double: TrackerDouble, scene: Scene) -> int:
        """How often the call took effect."""
        del double, scene
        return 0

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        """What is wrong with what the call gave back, empty if it is right."""
        raise NotImplementedError

    async def look(self, tracker: Tracker, scene: Scene) -> Sequence[Any]:
        """The core's look for what may have been made, before it is made again."""
        raise NotImplementedError


async def issue_there(double: TrackerDouble, scene: Scene) -> IssueThere:
    """The scene's issue as it stands at the double."""
    return next(one for one in await double.issues() if one.remote_id == scene.issue.remote_id)


def unfit(value: Any, kind: type) -> str:
    """Why the core would not take a value for one of this kind, empty if it would."""
    try:
        validated(value, kind)
    except UnknownOutcome as error:
        return error.message
    return ""


class Create(Call):
    """A new issue."""

    name, writes, creates, idempotent = "create", True, True, False
    about_issue = False

    async def prepare(self, stage: Stage) -> Scene:
        del stage
        return Scene()

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.create_issue(scene.draft)

    async def effects(self, double: TrackerDouble, scene: Scene) -> int:
        del scene
        return len(await double.issues())

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del scene
        there = [one.remote_id for one in await double.issues()]
        return unfit(value, IssueRef) or (
            "" if [value.remote_id] == there else f"gave back issue {value.remote_id!r}, there is {there!r}"
        )

    async def look(self, tracker: Tracker, scene: Scene) -> Sequence[IssueRef]:
        return await tracker.find_issue(scene.draft.marker, scene.since)


class Comment(Call):
    """A new comment."""

    name, writes, idempotent = "comment", True, False

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.add_comment(scene.issue, "It happened again.", scene.comment)

    async def effects(self, double: TrackerDouble, scene: Scene) -> int:
        return len((await issue_there(double, scene)).comments)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double, scene
        return unfit(value, CommentRef)

    async def look(self, tracker: Tracker, scene: Scene) -> Sequence[CommentRef]:
        return await tracker.find_comment(scene.issue, scene.comment, scene.since)


class Close(Call):
    """Close an open issue."""

    name, writes = "close", True
    to: State = "closed"

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.set_state(scene.issue, self.to, "completed" if self.to == "closed" else None)

    async def effects(self, double: TrackerDouble, scene: Scene) -> int:
        return int((await issue_there(double, scene)).state == self.to)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double
        if value is None:
            return ""
        return unfit(value, IssueState) or _other_issue(value, scene, self.to)


class Reopen(Close):
    """Reopen a closed issue."""

    name = "reopen"
    to: State = "open"

    async def prepare(self, stage: Stage) -> Scene:
        scene = await super().prepare(stage)
        await stage.double.close(scene.issue.remote_id)
        return scene


class Update(Call):
    """Another title and text."""

    name, needs, writes = "update", "update_issue", True

    async def prepare(self, stage: Stage) -> Scene:
        scene = await super().prepare(stage)
        edited = scene.edited
        scene.edited = Draft(title=edited.title, body=edited.body, marker=scene.draft.marker)
        return scene

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.update_issue(scene.issue, scene.edited)

    async def effects(self, double: TrackerDouble, scene: Scene) -> int:
        return int((await issue_there(double, scene)).title == scene.edited.title)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double, scene
        return "" if value is None else f"gave back {type(value).__name__}, the contract says None"


class FindIssue(Call):
    """Find an issue by its marker."""

    name, needs, creates, idempotent = "find_issue", "find", True, False
    about_issue = False

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.find_issue(scene.draft.marker, scene.since)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double
        found = [getattr(one, "remote_id", one) for one in value]
        wanted = [scene.issue.remote_id]
        return (
            "" if found == wanted else f"says the issues with the marker are {found!r}, they are {wanted!r}"
        )


class FindComment(Call):
    """Find a comment by its marker."""

    name, needs, idempotent = "find_comment", "find", False

    async def prepare(self, stage: Stage) -> Scene:
        scene = await super().prepare(stage)
        scene.comment_ref = await stage.tracker().add_comment(scene.issue, "Once more.", scene.comment)
        return scene

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.find_comment(scene.issue, scene.comment, scene.since)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double
        assert scene.comment_ref is not None
        found = [getattr(one, "remote_id", one) for one in value]
        wanted = [scene.comment_ref.remote_id]
        return (
            "" if found == wanted else f"says the comments with the marker are {found!r}, they are {wanted!r}"
        )


class Read(Call):
    """How an issue stands."""

    name, needs = "read", "read_issue"

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.read_issue(scene.issue)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double
        return unfit(value, IssueState) or _other_issue(value, scene, "open")


class ListChanges(Call):
    """What changed."""

    name, needs = "list_changes", "list_changes"
    about_issue = False

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        return await tracker.list_changes(scene.since)

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double
        odd = [one for one in value if unfit(one, IssueState) and unfit(one, IssueRemoved)]
        if odd:
            return f"gave back {odd[0]!r}, which is neither IssueState nor IssueRemoved"
        there = [one.ref.remote_id for one in value]
        return "" if scene.issue.remote_id in there else f"left out issue {scene.issue.remote_id}: {there!r}"


class WhoAmI(Call):
    """The account behind the credential."""

    name, needs = "own_account", "own_account"
    about_issue = False

    async def prepare(self, stage: Stage) -> Scene:
        del stage
        return Scene()

    async def run(self, tracker: Tracker, scene: Scene) -> Any:
        del scene
        return await tracker.own_account()

    async def wrong(self, value: Any, double: TrackerDouble, scene: Scene) -> str:
        del double, scene
        return unfit(value, Actor) or ("" if value.account_id else "gave back an account without an id")


def _other_issue(value: IssueState, scene: Scene, state: State) -> str:
    if value.ref.remote_id != scene.issue.remote_id:
        return f"speaks of issue {value.ref.remote_id!r} and not of {scene.issue.remote_id!r}"
    return "" if value.state == state else f"says the issue is {value.state}, it is {state}"


CALLS: dict[str, Call] = {
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
        WhoAmI(),
    )
}
