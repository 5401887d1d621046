"""Compare every linked issue with its ticket, and let tickets follow their issues; run by operators."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from pointsman.config.settings import Settings
from pointsman.domain.states import DestinationKind, TicketStatus
from pointsman.errors import PointsmanError
from pointsman.plugin_api import (
    AuthFailed,
    IssueMoved,
    IssueRef,
    IssueRemoved,
    IssueState,
    Misconfigured,
    NotFound,
    RateLimited,
    State,
    Unavailable,
)
from pointsman.plugin_host.account import fetch_account
from pointsman.plugin_host.bootstrap import open_reloader
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.validate import validated
from pointsman.storage import reconcile as store
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.reconcile import LinkedIssue
from pointsman.sync.tracker_updates import TrackerUpdates

_PAGE_SIZE = 100
_ALL_FAIL_ALIKE = (AuthFailed, Misconfigured, RateLimited, Unavailable)

Result = Literal["differs", "applied", "pending", "dead", "unchanged", "failed", "stopped"]
"""The result for one issue.

``differs``: only compared. ``applied``: the ticket follows the issue. ``pending``: a delivery is about to change the issue.
``dead``: the delivery that should have changed it is a dead letter. ``unchanged``: the issue changed meanwhile. ``failed``: it
could not be read. ``stopped``: neither will the others of this destination be.
"""

_TEXTS: dict[Result, str] = {
    "differs": "",
    "applied": "applied",
    "pending": "a delivery is about to change the issue",
    "dead": "the delivery that should have changed the issue is dead",
    "unchanged": "left alone",
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """An issue whose state differs from its ticket, or that could not be compared."""

    destination: str
    ticket: uuid.UUID | None
    issue: str
    ticket_state: State | None
    issue_state: str
    result: Result
    note: str = ""

    def __str__(self) -> str:
        if self.ticket_state is None:
            return f"{self.destination} {self.issue} {self.result}: {self.note}".replace("  ", " ")
        states = (
            f"{self.destination} {self.issue} is {self.issue_state},"
            f" ticket {self.ticket} is {self.ticket_state}"
        )
        return ": ".join(part for part in (states, _TEXTS[self.result], self.note) if part)

    @property
    def is_drift(self) -> bool:
        """Return whether the difference will not go away by itself."""
        return self.result in ("differs", "dead", "unchanged")


class Summary(msgspec.Struct):
    """The totals of a run."""

    checked: int = 0
    drift: int = 0
    applied: int = 0
    pending: int = 0
    failed: int = 0

    def __str__(self) -> str:
        parts = [f"{self.checked} issues compared", f"{self.applied + self.drift} differ"]
        if self.applied:
            parts.append(f"{self.applied} applied")
        if self.pending:
            parts.append(f"{self.pending} wait for a delivery of ours")
        if self.failed:
            parts.append(f"{self.failed} could not be compared")
        return ", ".join(parts)

    def add(self, difference: Difference) -> None:
        """Count a difference."""
        self.drift += difference.is_drift
        self.applied += difference.result == "applied"
        self.pending += difference.result == "pending"
        self.failed += difference.result in ("failed", "stopped")


async def reconcile(
    settings: Settings, database: Database, slug: str | None, *, dry_run: bool, summary: Summary
) -> AsyncIterator[Difference]:
    """Compare every active link of a destination, or of all, with what its tracker says, and add to ``summary``.

    Without ``dry_run`` tickets follow their issues, as after a webhook.
    """
    async with open_reloader(settings, database) as reloader:
        updates = TrackerUpdates(database, reloader)
        trackers = [
            destination
            for destination in reloader.current.destinations.values()
            if destination.kind == DestinationKind.TRACKER and not destination.retired
        ]
        chosen = [destination for destination in trackers if slug in (None, destination.slug)]
        if not chosen:
            reason = f"there is no destination {slug}" if slug else "there are no destinations"
            raise PointsmanError(f"{reason}: see `pointsman destinations`")
        for destination in chosen:
            async for difference in _reconcile_destination(
                database, updates, destination, dry_run=dry_run, summary=summary
            ):
                summary.add(difference)
                yield difference


async def _reconcile_destination(
    database: Database,
    updates: TrackerUpdates,
    destination: LiveDestination,
    *,
    dry_run: bool,
    summary: Summary,
) -> AsyncIterator[Difference]:
    await fetch_account(destination)
    lane_id = 0
    while page := await store.list_links(database, destination.id, lane_id, _PAGE_SIZE):
        for linked in page:
            lane_id = linked.lane_id
            if destination.tracker is not None and not destination.capabilities.read_issue:
                yield _failure(destination, None, "stopped", "its plugin can't read an issue")
                return
            try:
                asked_at = await store.current_time(database)
                difference = await _compare(updates, destination, linked, asked_at, dry_run=dry_run)
            except Exception as error:  # noqa: BLE001 - plugin code
                failure = str(Failure.from_error(error))
                if isinstance(error, _ALL_FAIL_ALIKE) or destination.tracker is None:
                    note = f"stopped after {summary.checked}: {failure}"
                    yield _failure(destination, None, "stopped", note)
                    return
                yield _failure(destination, linked, "failed", failure)
                continue
            summary.checked += 1
            if difference is not None:
                yield difference


async def _compare(
    updates: TrackerUpdates,
    destination: LiveDestination,
    linked: LinkedIssue,
    asked_at: dt.datetime,
    *,
    dry_run: bool,
) -> Difference | None:
    """Return how one issue differs from its ticket, None if it does not."""
    ticket_state: State = "closed" if linked.status == TicketStatus.CLOSED else "open"
    event, issue_state = await _read(destination, linked)
    if issue_state == ticket_state:
        return None
    result: Result = "differs"
    note = ""
    if isinstance(event, IssueState) and linked.waits:
        result = "pending"
    elif isinstance(event, IssueState) and linked.dead_seq is not None:
        result, note = "dead", f"pointsman replay {linked.lane_id}/{linked.dead_seq}"
    elif not dry_run:
        update = await updates.apply_read(destination, event, asked_at)
        is_applied = update.changed or isinstance(event, IssueRemoved)
        result, note = ("applied", update.note) if is_applied else ("unchanged", update.note)
    return Difference(
        destination=destination.slug,
        ticket=linked.ticket_id,
        issue=linked.url or linked.remote_key,
        ticket_state=ticket_state,
        issue_state=issue_state,
        result=result,
        note=note,
    )


async def _read(destination: LiveDestination, linked: LinkedIssue) -> tuple[IssueState | IssueRemoved, str]:
    """Read an issue. Return the event and the state in words."""
    tracker = destination.require_tracker()
    ref = IssueRef(linked.remote_id, linked.remote_key, linked.url)
    try:
        async with asyncio.timeout(tracker.capabilities.request_timeout_seconds):
            issue: IssueState = validated(await tracker.read_issue(ref), IssueState)
    except NotFound:
        return IssueRemoved(ref=ref), "gone"
    except IssueMoved as error:
        return IssueRemoved(ref=ref, moved_to=error.to), f"gone to {error.to}" if error.to else "gone"
    return issue, str(issue.state)


def _failure(
    destination: LiveDestination, linked: LinkedIssue | None, result: Result, note: str
) -> Difference:
    return Difference(
        destination=destination.slug,
        ticket=linked.ticket_id if linked is not None else None,
        issue=(linked.url or linked.remote_key) if linked is not None else "",
        ticket_state=None,
        issue_state="unknown",
        result=result,
        note=note,
    )
