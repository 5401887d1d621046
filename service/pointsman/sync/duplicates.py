"""Find the issues that carry the same marker, and choose the one to keep."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from pointsman.domain.states import TicketStatus
from pointsman.plugin_api import Actor, IssueMoved, IssueRef, IssueState, Marker, NotFound
from pointsman.plugin_host.account import fetch_account
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.validate import validated


class MarkedIssue(msgspec.Struct, frozen=True):
    """One of several issues with the same marker; ``state`` is None where the tracker can't read an issue."""

    ref: IssueRef
    state: IssueState | None = None

    @property
    def is_closed(self) -> bool:
        """Return whether the issue is known to be closed."""
        return self.state is not None and self.state.state == "closed"


class MarkedIssues(msgspec.Struct, frozen=True):
    """The existing issues with a marker, oldest first, and the ids of those that were deleted or moved away."""

    existing: list[MarkedIssue]
    removed: frozenset[str]


def choose(issues: Sequence[MarkedIssue], status: TicketStatus | None) -> MarkedIssue:
    """Return the issue to keep: the oldest one whose state is that of the ticket, since people may have closed one."""
    matching = [
        issue for issue in issues if status is None or issue.is_closed == (status is TicketStatus.CLOSED)
    ]
    return (matching or list(issues))[0]


async def find_marked_issues(
    destination: LiveDestination, marker: Marker, since: dt.datetime, observed: Sequence[IssueRef]
) -> MarkedIssues:
    """Return the issues of our account that carry a marker.

    They are searched for, and those that were ``observed`` before are read one by one, since a tracker's search can lag.
    """
    tracker = destination.require_tracker()
    account = await fetch_account(destination)
    listed: dict[str, IssueRef] = {}
    if tracker.capabilities.find:
        refs = [validated(ref, IssueRef) for ref in await tracker.find_issue(marker, since)]
        listed = {ref.remote_id: ref for ref in refs}
    existing: list[MarkedIssue] = []
    removed: set[str] = set()
    for ref in [*listed.values(), *(ref for ref in observed if ref.remote_id not in listed)]:
        is_listed = ref.remote_id in listed
        if not tracker.capabilities.read_issue:
            if is_listed:
                existing.append(MarkedIssue(ref))
            continue
        try:
            state = validated(await tracker.read_issue(ref), IssueState)
        except (NotFound, IssueMoved):
            removed.add(ref.remote_id)
        else:
            if is_listed or _is_ours(state, account, marker):
                existing.append(MarkedIssue(ref, state))
    if all(_has_number(issue) for issue in existing):
        existing.sort(key=_number)
    return MarkedIssues(existing, frozenset(removed))


def _is_ours(issue: IssueState, account: Actor | None, marker: Marker) -> bool:
    by_us = account is not None and issue.author is not None and issue.author.account_id == account.account_id
    return by_us and marker.text in issue.markers


def _has_number(issue: MarkedIssue) -> bool:
    return issue.ref.remote_id.isascii() and issue.ref.remote_id.isdigit()


def _number(issue: MarkedIssue) -> int:
    """Return the id as a number: trackers number issues in the order of their creation."""
    return int(issue.ref.remote_id)
