"""The folder tracker: the contract over ``files.Folder``."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from pointsman.plugin_api import (
    ApiClient,
    CloseReason,
    CommentRef,
    Draft,
    Finding,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    NotFound,
    PluginError,
    PluginSettings,
    State,
    Tracker,
    TrackerCapabilities,
)
from pointsman_folder import wire
from pointsman_folder.disk import CLOSED, as_plugin_error
from pointsman_folder.files import Entry, Folder, Issue

OVERLAP = dt.timedelta(seconds=2)
"""Some file systems store times to the second or two only."""


class FolderSettings(PluginSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one destination."""

    path: Annotated[str, msgspec.Meta(description="The folder of the issue files; made if it is missing")]

    def __post_init__(self) -> None:
        """Refuse a path that can't be used."""
        if not self.path.strip() or "\0" in self.path:
            raise ValueError("path must name a folder, such as /srv/issues")


class FolderTracker(Tracker[FolderSettings]):
    """A folder whose Markdown files are the issues. People close an issue by its status line or by moving its file."""

    kind: ClassVar[str] = "folder"
    title: ClassVar[str] = "Folder of Markdown files"
    api_version: ClassVar[int] = 1
    Settings = FolderSettings
    capabilities = TrackerCapabilities(
        find=True,
        list_changes=True,
        read_issue=True,
        update_issue=True,
        check=True,
        close_reasons=True,
        settle_seconds=(0,),
        poll_seconds=2,
    )

    def __init__(self, settings: FolderSettings, client: ApiClient) -> None:
        super().__init__(settings, client)
        self.folder = Folder(Path(settings.path.strip()).expanduser().resolve())

    # -- writing -----------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create a file with the next number; if a file has the marker already, return that issue."""

        def make() -> bytes:
            return wire.new_issue(
                draft.title, draft.body, draft.marker.text, draft.labels, dt.datetime.now(dt.UTC)
            )

        return self._ref(await asyncio.to_thread(self.folder.create, draft.marker.text, draft.title, make))

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a section at the end of the file, unless one has the marker already."""

        def edit(data: bytes, head: wire.Head, _: Entry) -> bytes:
            if marker.text in wire.comment_markers(data, head):
                return data
            return wire.new_comment(data, head, body, marker.text, dt.datetime.now(dt.UTC))

        changed = await asyncio.to_thread(self.folder.change, _number(issue), edit)
        return CommentRef(marker.text, self._ref(changed).url)

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState | None:
        """Write another status and reason line; a file in ``closed/`` is moved back when its issue is reopened."""

        def edit(data: bytes, head: wire.Head, place: Entry) -> bytes:
            if state == "open":
                return wire.new_state(data, head, state, None) if wire.says_closed(head) else data
            if wire.read_state(head, in_closed=place.in_closed)[0] == "closed":
                return data
            return wire.new_state(data, head, state, reason)

        changed = await asyncio.to_thread(self.folder.change, _number(issue), edit, move_back=state == "open")
        return self._seen(changed)

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body. The file keeps its name, its comments and the rest of its front matter."""

        def edit(data: bytes, head: wire.Head, _: Entry) -> bytes:
            return wire.new_text(data, head, draft.title, draft.body, dt.datetime.now(dt.UTC))

        await asyncio.to_thread(self.folder.change, _number(issue), edit)

    # -- reading -----------------------------------------------------------------------------------------------

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the present state of the file."""
        return self._seen(await asyncio.to_thread(self.folder.issue, _number(issue)))

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return the files whose marker line contains this marker, lowest number first."""
        del since  # the marker says enough, and a person may have changed the file's times
        issues = await asyncio.to_thread(self.folder.issues)
        return tuple(self._ref(issue) for issue in issues if issue.marker == marker.text)

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return the comment sections of the file that contain this marker."""
        del since
        issue_file, head, data = await asyncio.to_thread(self.folder.read, _number(issue))
        markers = wire.comment_markers(data, head)
        return tuple(CommentRef(text, self._ref(issue_file).url) for text in markers if text == marker.text)

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the issues whose files were changed or moved since then. A deleted file can't be seen here."""
        since_ns = int((since - OVERLAP).timestamp() * 1e9)
        issues = await asyncio.to_thread(self.folder.issues, since_ns)
        return tuple(self._seen(issue) for issue in issues)

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:  # noqa: ARG002
        """Check that the folder exists and is writable."""
        try:
            return await asyncio.to_thread(self._check)
        except OSError as error:
            message = as_plugin_error(error, self.folder.root).message
            return (_error(message, "let Pointsman's user enter every folder on the way"),)

    # -- inside ------------------------------------------------------------------------------------------------

    def _ref(self, issue: Issue) -> IssueRef:
        entry = issue.entry
        place = self.folder.root / CLOSED / entry.name if entry.in_closed else self.folder.root / entry.name
        return IssueRef(remote_id=str(entry.number), key=str(entry.number), url=place.as_uri())

    def _seen(self, issue: Issue) -> IssueState:
        now_ns = int(dt.datetime.now(dt.UTC).timestamp() * 1e9)
        changed_us = issue.entry.stamp.changed_ns(now_ns) // 1000
        return IssueState(
            ref=self._ref(issue),
            state=issue.state,
            close_reason=issue.reason,
            version=dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=changed_us),
            markers=(issue.marker,) if issue.marker else (),
        )

    def _check(self) -> Sequence[Finding]:
        root = self.folder.root
        if not root.exists():
            parent = next(place for place in root.parents if place.exists())
            if os.access(parent, os.W_OK | os.X_OK):
                return (Finding(level="ok", message=f"{root} is not there yet and will be made"),)
            return (
                _error(
                    f"{root} is not there and {parent} is not writable", f"make {root} writable for Pointsman"
                ),
            )
        if not root.is_dir():
            return (_error(f"{root} is not a folder", "name a folder in path"),)
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            return (
                _error(
                    f"{root} is not readable and writable", "give Pointsman's user rw and x on the folder"
                ),
            )
        try:
            count = len(self.folder.issues())
        except PluginError as error:
            return (_error(error.message, "mend the folder"),)
        findings = [Finding(level="ok", message=f"{root} is writable and has {count} issues")]
        closed = root / CLOSED
        if closed.is_symlink() or (closed.exists() and not closed.is_dir()):
            findings.append(
                Finding(
                    level="warning",
                    message=f"{closed} is not a folder of its own",
                    impact="files in there are not seen",
                    remedy="make it a real folder, not a symlink",
                )
            )
        elif closed.is_dir() and not os.access(closed, os.R_OK | os.W_OK | os.X_OK):
            findings.append(
                _error(f"{closed} is not readable and writable", "give Pointsman's user rw and x on it")
            )
        return tuple(findings)


def _error(message: str, remedy: str) -> Finding:
    return Finding(level="error", message=message, impact="no issue can be written", remedy=remedy)


def _number(issue: IssueRef) -> int:
    text = issue.remote_id
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise NotFound(f"{text[:40]!r} is not the number of a file")
    return int(text)
