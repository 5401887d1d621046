"""Present a source as a tracker whose issues are the source's problems.

Feedback to a source uses a lane like any other delivery: it is stored, ordered and retried, and an unknown outcome is
verified before it is sent again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar

from pointsman.plugin_api import (
    ApiClient,
    CloseReason,
    CommentRef,
    Draft,
    IssueRef,
    Marker,
    PluginSettings,
    Problem,
    Refused,
    Source,
    State,
    Tracker,
    TrackerCapabilities,
)


class SourceAsTracker(Tracker):
    """Adapter that delivers comments and state changes to a source."""

    kind: ClassVar[str] = "source"
    title: ClassVar[str] = "a source"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    capabilities = TrackerCapabilities(
        find=True, close_reasons=True, settle_seconds=(5.0,), request_timeout_seconds=15.0
    )

    def __init__(self, source: Source, client: ApiClient) -> None:
        super().__init__(source.settings, client)
        self.source = source

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Refuse: only the source itself creates problems."""
        del draft
        raise Refused("a source takes no issues")

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Comment on a problem."""
        return await self.source.add_comment(_problem(issue), body, marker)

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Find a comment of ours on a problem."""
        if not self.source.capabilities.find:
            return ()  # a comment may be posted twice
        return await self.source.find_comment(_problem(issue), marker, since)

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> None:
        """Report that the issue of a problem was closed or reopened."""
        await self.source.set_state(_problem(issue), state, reason)


def _problem(issue: IssueRef) -> Problem:
    return Problem(id=issue.key, url=issue.url)
