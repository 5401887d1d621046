"""Verify unknown outcomes: find out whether a request that may have left took effect.

While writes are to be verified, after the database lost commits or may have, every issue and comment is also looked for
before it is sent.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum

from pointsman.delivery.attempt import Attempt
from pointsman.domain.states import DeliveryKind
from pointsman.plugin_api import CommentRef, IssueRef, Marker
from pointsman.plugin_host.http_client import track_writes
from pointsman.plugin_host.snapshot import ConfigSnapshot
from pointsman.plugin_host.validate import validated
from pointsman.storage import marker_observations
from pointsman.storage.db import Database
from pointsman.storage.queue import Lanes

LOOK_BACK = dt.timedelta(days=2)
"""How long before its event a delivery is looked for when the database does not know when it was first sent."""
CLOCKS_DIFFER = dt.timedelta(minutes=5)
"""How far a tracker's clock may be behind the database's."""
VERIFICATION_TIMEOUT_FACTOR = 20
"""A verification may take as long as this many of a tracker's slowest requests: a list has many pages, and a verification
that is never read to its end never resolves anything.
"""


class Resolution(enum.Enum):
    """The result of a verification that found no effect."""

    NOT_APPLIED = "not applied"
    """The earlier request had no effect: the delivery may be sent."""
    WAIT = "wait"
    """Not known yet, or the tracker can't be asked: the lane waits, or its lease was lost."""


async def resolve_unknown(
    database: Database, lanes: Lanes, snapshot: ConfigSnapshot, attempt: Attempt
) -> IssueRef | CommentRef | Resolution:
    """Resolve the unknown outcome of a delivery: return the issue or comment that an earlier request created, or a resolution.

    A delivery counts as not applied when it was not found after each of the tracker's ``settle_seconds``.
    """
    delivery, lane = attempt.delivery, attempt.lane
    track_writes()
    if delivery.verify_after_seconds > 0:
        await lanes.release(lane, delay_seconds=delivery.verify_after_seconds)
        return Resolution.WAIT
    ref = await verify_outcome(database, snapshot, attempt)
    if ref is not None:
        return ref
    tracker = attempt.destination.tracker
    if tracker is None or not tracker.capabilities.find:
        await lanes.park(lane, "in doubt: the tracker can't be asked; replay once you know it is not there")
        return Resolution.WAIT
    verify_attempts = delivery.verify_attempts + 1
    settle_seconds = tracker.capabilities.settle_seconds
    if verify_attempts < len(settle_seconds):
        await lanes.retry(
            lane,
            delivery.seq,
            delay_seconds=settle_seconds[verify_attempts],
            counts_attempt=False,
            outcome_unknown=True,
            verify_attempts=verify_attempts,
            verify_after_seconds=settle_seconds[verify_attempts],
            outcome="not found yet",
            error="",
            status=None,
            started_at=attempt.started_at,
        )
        return Resolution.WAIT
    if not await lanes.confirm_not_applied(lane, delivery.seq):
        return Resolution.WAIT
    attempt.outcome_unknown = False
    return Resolution.NOT_APPLIED


async def verify_outcome(
    database: Database, snapshot: ConfigSnapshot, attempt: Attempt
) -> IssueRef | CommentRef | None:
    """Return the issue or comment that an earlier request created: observed before, or found at the tracker.

    None: it is not there (yet), or the tracker can't be asked.
    """
    return await _observed_issue(database, attempt) or await _find(database, snapshot, attempt)


async def _observed_issue(database: Database, attempt: Attempt) -> IssueRef | None:
    """Return the issue that was observed with the delivery's marker, by a webhook or a poll."""
    if attempt.kind is not DeliveryKind.CREATE:
        return None
    issues = await marker_observations.issues_with_marker(
        database, attempt.lane.destination_id, attempt.delivery.marker
    )
    return IssueRef(*issues[0]) if issues else None


async def _find(
    database: Database, snapshot: ConfigSnapshot, attempt: Attempt
) -> IssueRef | CommentRef | None:
    """Return the issue or comment that the tracker finds by the delivery's marker."""
    tracker = attempt.destination.require_tracker()
    if not tracker.capabilities.find:
        return None
    delivery = attempt.delivery
    marker = Marker(snapshot.marker_text(delivery.marker))
    # a database that came back from a backup does not know what it had sent since
    sent_at = delivery.first_sent_at or delivery.event_at - LOOK_BACK
    since = sent_at - CLOCKS_DIFFER
    async with asyncio.timeout(tracker.capabilities.request_timeout_seconds * VERIFICATION_TIMEOUT_FACTOR):
        if attempt.kind is not DeliveryKind.CREATE:
            comments = await tracker.find_comment(attempt.issue, marker, since)
            return validated(comments[0], CommentRef) if comments else None
        issues = [validated(issue, IssueRef) for issue in await tracker.find_issue(marker, since)]
    for issue in issues:
        await marker_observations.record_marker(
            database,
            attempt.lane.destination_id,
            delivery.marker,
            (issue.remote_id, issue.key, issue.url),
            "find",
        )
    return issues[0] if issues else None
