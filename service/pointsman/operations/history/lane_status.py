"""Decide the status of an issue, what its lane waits for, and the operator's next step. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from pointsman.content.sanitize import one_line
from pointsman.domain.states import BreakerState, DeliveryState, LaneState, LinkState
from pointsman.operations.outcomes import (
    FINAL,
    NO_ACTION,
    OUTCOMES,
    StatusMessage,
    failure_outcome,
    format_time,
    outcome_status,
    park_message,
)
from pointsman.storage.explain import HistoryDeliveryRow, HistoryLaneRow

LATE = dt.timedelta(minutes=1)
"""A lane that is due for this long and not claimed suggests that no worker runs."""


def backs_off_until(
    breaker: int, open_until: dt.datetime | None, blocked_until: dt.datetime | None, now: dt.datetime
) -> dt.datetime | None:
    """Return until when nothing is sent to a destination, or None if it may be sent to."""
    moments = [blocked_until, open_until if breaker == BreakerState.OPEN else None]
    return max((moment for moment in moments if moment is not None and moment > now), default=None)


def pause_status(pause_reason: str | None, *, retired: bool) -> StatusMessage:
    """Explain why nothing is delivered to a paused or retired destination."""
    if retired or pause_reason == "retired":
        return StatusMessage(
            "retired", "calm", "It is no longer configured. Its tickets are kept; nothing is delivered."
        )
    if pause_reason != "operator":
        reason = one_line(pause_reason or "", 200)
        return StatusMessage(
            "paused", "bad", f"Pointsman paused it: {reason}. Nothing is lost; deliveries wait."
        )
    return StatusMessage("paused", "wait", "An operator paused it. Nothing is lost; deliveries wait.")


def issue_status(
    *,
    link_state: int | None,
    issue: str,
    lane_state: int,
    park_reason: str | None,
    last_outcome: str | None,
    retired: bool,
    pause_reason: str | None,
    backing_off: bool,
) -> StatusMessage:
    """Describe a ticket's issue at one destination, or why it does not exist yet."""
    if link_state == LinkState.ORPHANED:
        return StatusMessage(
            "orphaned",
            "bad",
            "The issue no longer exists at its destination: it was deleted or moved. Pending deliveries wait for an "
            "operator.",
        )
    if lane_state == LaneState.PARKED:
        return StatusMessage("parked", "bad", park_message(park_reason))
    if lane_state == LaneState.IDLE:
        if issue:
            return StatusMessage("in sync", "good")
        return StatusMessage("no issue", "wait", "No delivery is pending, and no issue is linked.")
    if retired or pause_reason:
        return pause_status(pause_reason, retired=retired)
    if last_outcome:
        return outcome_status(last_outcome)
    if backing_off:
        return StatusMessage(
            "backing off", "wait", "The destination is not used for a while after a failure."
        )
    if lane_state == LaneState.LEASED:
        return StatusMessage("in progress", "wait", "It is being delivered now.")
    return StatusMessage("waiting", "wait", "It waits to be sent.")


def waits_for(lane: HistoryLaneRow, head: HistoryDeliveryRow | None) -> Iterator[str]:
    """Yield everything that delays a lane now, the longest-lasting first. ``head``: its next delivery."""
    now = lane.now
    if lane.retired or lane.pause_reason == "retired":
        yield "the destination is retired: the configuration does not name it"
    elif lane.pause_reason:
        yield f"the destination is paused ({one_line(lane.pause_reason, 200)})"
    if lane.state == LaneState.PARKED:
        dead = (
            f": it is a dead letter ({head.last_outcome})"
            if head and head.state == DeliveryState.DEAD
            else ""
        )
        yield f"its lane is parked ({one_line(lane.park_reason or 'no reason given', 500)}){dead}"
        return
    if lane.state == LaneState.LEASED:
        until = format_time(lane.lease_until)
        expired = lane.lease_until is None or lane.lease_until < now
        yield (
            f"the lease of replica {lane.holder} expired at {until}"
            if expired
            else f"replica {lane.holder} works on it, under a lease until {until}"
        )
        return
    yield from _back_off(lane)
    if head is not None and head.outcome_unknown:
        after = head.verify_after
        start = f"not before {format_time(after)}" if after is not None and after > now else "now"
        yield (
            "a request was sent and its outcome is unknown: the tracker is searched for the marker"
            f" {start}, {head.verify_attempts} searches so far"
        )
    if lane.verify_writes:
        limit = lane.verify_writes_until
        end = f" until {format_time(limit)}" if limit is not None and limit > now else ""
        yield f"verify-writes mode{end}: the tracker is searched before each write"
    if lane.due_at > now:
        cause = f" after {head.last_outcome}" if head is not None and head.last_outcome else ""
        yield f"it is due at {format_time(lane.due_at)}{cause}"
    else:
        ahead = "1000 or more" if lane.lanes_ahead >= 1000 else lane.lanes_ahead
        yield (
            f"it is due since {format_time(lane.due_at)}, behind {ahead} lanes; {lane.leased_lanes} of"
            f" {lane.max_inflight} lanes are in progress"
        )


def _back_off(lane: HistoryLaneRow) -> Iterator[str]:
    last = ""
    if lane.failed_at is not None:
        failure = one_line(f"{lane.failure_type}: {lane.failure_message or ''}", 500)
        last = f"; the last of {lane.failures} failures at {format_time(lane.failed_at)}: {failure}"
    if lane.breaker == BreakerState.OPEN:
        until = f" until {format_time(lane.open_until)}, then one lane tries" if lane.open_until else ""
        yield f"the destination's circuit breaker is open{until}{last}"
    elif lane.breaker == BreakerState.HALF_OPEN:
        yield f"the destination's circuit breaker is half open: one lane tries for all{last}"
    if lane.blocked_until is not None and lane.blocked_until > lane.now:
        until = format_time(lane.blocked_until)
        yield f"the destination backs off until {until}{'' if lane.breaker else last}"
    if lane.limited_until is not None and lane.limited_until > lane.now:
        yield f"the tracker asked to wait until {format_time(lane.limited_until)}"


def next_step(lane: HistoryLaneRow, head: HistoryDeliveryRow | None) -> str:
    """Return what an operator should do about a lane; empty if nothing is wrong."""
    slug = lane.destination
    if lane.state == LaneState.IDLE:
        return ""
    if lane.retired or lane.pause_reason == "retired":
        return f"name {slug} in the configuration again, or leave it"
    if lane.pause_reason:
        return f"run `pointsman destinations resume {slug}` when deliveries may continue"
    delivery = f"{lane.id}/{lane.head_seq}"
    parked = lane.state == LaneState.PARKED
    outcome = _last_outcome(lane, head)
    if outcome in OUTCOMES and (parked or outcome not in FINAL):
        return OUTCOMES[outcome].next_step.format(slug=slug, delivery=delivery)
    if parked and head is None:
        return "no delivery is pending, so there is nothing to replay; the reason names what to check"
    if parked and head is not None and head.outcome_unknown:
        return (
            "look for the issue or comment at the tracker; if it is not there, run"
            f" `pointsman replay {delivery} --assume-not-applied`, else `pointsman replay {delivery}` once the"
            " tracker can be searched"
        )
    if parked:
        return f"fix the reason, then run `pointsman replay {delivery}`"
    if lane.state == LaneState.READY and lane.due_at <= lane.now - LATE and not lane.breaker:
        return "check that the service runs: `pointsman destinations`, and /health/ready"
    return NO_ACTION


def _last_outcome(lane: HistoryLaneRow, head: HistoryDeliveryRow | None) -> str:
    """Return the outcome that decides the next step: the lane's own, else the destination's last failure."""
    if lane.state == LaneState.PARKED:
        return lane.park_reason or ""
    if head is not None and head.last_outcome:
        return head.last_outcome
    return failure_outcome(lane.failure_type) if lane.failed_at is not None else ""
