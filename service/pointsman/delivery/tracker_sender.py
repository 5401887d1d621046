"""Towards trackers: one attempt after the other along a lane, each with its intent written before it is sent."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from functools import partial
from typing import Any

import msgspec

from pointsman.bus.signals import IssueLinked, Signals
from pointsman.delivery import outcome_verification
from pointsman.delivery.attempt import Attempt
from pointsman.delivery.attempt_result import dead_letter, record_failure, log_attempt
from pointsman.delivery.draft import DraftRenderer
from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.domain.circuit_breaker import RecentCalls
from pointsman.domain.retry_policy import NextStep, Outcome, RetryDecision
from pointsman.domain.states import DeliveryKind, TicketStatus
from pointsman.errors import DatabaseError
from pointsman.logs import logger
from pointsman.plugin_api import (
    CommentRef,
    Draft,
    IssueRef,
    IssueState,
    Marker,
    PluginError,
    RateLimited,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_host.http_client import track_writes, write_may_have_left
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import checked
from pointsman.storage import destinations as standing
from pointsman.storage.batching import CallCoalescer
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError
from pointsman.storage.marker_observations import MarkerObservation, record_markers
from pointsman.storage.queue import Lane, Lanes, NextDelivery

log = logger("delivery")

DELIVERIES_PER_CLAIM = 20
SECONDS_PER_CLAIM = 30.0
SENDING_MARGIN_SECONDS = 5.0
WAITS_IN_PLACE_SECONDS = 1.0
FIRST_KINDS = frozenset({DeliveryKind.CREATE, DeliveryKind.CLOSE, DeliveryKind.REOPEN})
LOOKED_FOR = frozenset({DeliveryKind.CREATE, DeliveryKind.COMMENT})


class TrackerSender:
    """The carrier for lanes that lead to a tracker."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        reloader: ConfigReloader,
        drafts: DraftRenderer,
        *,
        rate_limiter: RateLimiter,
        stopping: asyncio.Event,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._reloader = reloader
        self._drafts = drafts
        self._stopping = stopping
        self._budgets = rate_limiter
        self._calls: dict[int, RecentCalls] = {}
        self._sightings = CallCoalescer(partial(record_markers, database))
        self._signals = signals or Signals()

    async def handle(self, lane: Lane) -> None:
        """Work along a lane until it is empty, must wait, or had its share."""
        began = time.monotonic()
        head = lane.first_delivery or await self._lanes.next_delivery(lane)
        for number in range(1, DELIVERIES_PER_CLAIM + 1):
            if head is None:
                return
            if self._stopping.is_set():
                await self._lanes.release(lane)
                return
            share_left = number < DELIVERIES_PER_CLAIM and time.monotonic() - began < SECONDS_PER_CLAIM
            if not await self._deliver(lane, head, keep=share_left):
                return
            head = await self._lanes.next_delivery(lane)

    async def _deliver(self, lane: Lane, head: NextDelivery, *, keep: bool) -> bool:
        """One delivery; whether the lane is still ours and has more."""
        destination = self._reloader.current.destinations.get(lane.destination_id)
        if destination is None:
            await self._lanes.release(lane, delay_seconds=10.0)
            return False
        one = Attempt(
            lane=lane,
            delivery=head,
            kind=DeliveryKind(head.kind),
            destination=destination,
            started_at=dt.datetime.now(dt.UTC),
            started_monotonic=time.monotonic(),
            outcome_unknown=head.outcome_unknown,
        )
        if head.expired and not head.outcome_unknown:
            expired = RetryDecision(outcome=Outcome.EXPIRED, next_step=NextStep.DEAD)
            await self._bury(one, expired, "not delivered within its time", None)
            return False
        if head.link_state == 2 and one.kind is not DeliveryKind.CREATE:
            await self._lanes.park(lane, "orphan")
            return False
        try:
            if head.outcome_unknown:
                settled = await self._settle(one, keep=keep)
                if settled is not None:
                    return settled
            return await self._send(one, keep=keep)
        except (asyncio.CancelledError, DatabaseError, StatementError):
            raise
        except (PluginError, TimeoutError) as error:
            await self._failed(one, error)
        except (Exception, SystemExit) as error:
            log.exception("plugin failed", destination=destination.slug, lane=lane.id)
            await self._failed(one, error)
        return False

    # -- in doubt ----------------------------------------------------------------------------------------------

    async def _settle(self, one: Attempt, *, keep: bool) -> bool | None:
        """Find out whether an earlier request took effect. None: it did not, and may be sent again."""
        head, lane = one.delivery, one.lane
        track_writes()
        if head.verify_after_seconds > 0:
            await self._lanes.release(lane, delay_seconds=head.verify_after_seconds)
            return False
        tracker = one.destination.tracker
        found = await outcome_verification.verify_outcome(self._database, self._lanes, self._reloader.current, one)
        if found is not None:
            return await self._found(one, found, keep=keep)
        if tracker is None or not tracker.capabilities.find:
            why = "in doubt: the tracker can't be asked; replay once you know it is not there"
            await self._lanes.park(lane, why)
            return False
        verify_attempts = head.verify_attempts + 1
        waits = tracker.capabilities.settle_seconds
        if verify_attempts < len(waits):
            await self._lanes.retry(
                lane,
                head.seq,
                delay_seconds=waits[verify_attempts],
                counts_attempt=False,
                outcome_unknown=True,
                verify_attempts=verify_attempts,
                verify_after_seconds=waits[verify_attempts],
                outcome="not found yet",
                error="",
                status=None,
                started_at=one.started_at,
            )
            return False
        if not await self._lanes.confirm_not_applied(lane, head.seq):
            return False
        one.outcome_unknown = False
        return None

    async def _found(self, one: Attempt, found: IssueRef | CommentRef, *, keep: bool) -> bool:
        issue, comment = (found, None) if isinstance(found, IssueRef) else (None, found)
        return await self._done(one, keep=keep, outcome=Outcome.VERIFIED, issue=issue, comment=comment)

    # -- sending -----------------------------------------------------------------------------------------------

    async def _send(self, one: Attempt, *, keep: bool) -> bool:
        tracker = one.destination.require_tracker()
        head, lane = one.delivery, one.lane
        if head.verify_writes and one.kind in LOOKED_FOR and tracker.capabilities.find:
            track_writes()
            found = await outcome_verification.verify_outcome(self._database, self._lanes, self._reloader.current, one)
            if found is not None:
                return await self._found(one, found, keep=keep)
        if not await self._may_send(one):
            return False
        capabilities = tracker.capabilities
        draft = await self._drafts.render(one)
        timeout = capabilities.request_timeout_seconds
        settle = capabilities.settle_seconds[0] if capabilities.settle_seconds else 0.0
        attempts = await self._lanes.record_intent(
            lane,
            head.seq,
            outcome_unknown=not one.idempotent,
            verify_after_seconds=timeout + settle,
            draft=draft,
        )
        if attempts is None:
            log.info("lease lost before sending", lane=lane.id, seq=head.seq)
            return False
        if time.monotonic() > lane.trust_until - timeout - SENDING_MARGIN_SECONDS and not one.idempotent:
            # too late to be sure that nobody else takes over while the request is on its way
            kept = await self._lanes.renew([lane])
            if lane.id not in kept:
                return False
        marker = Marker(self._reloader.current.marker_text(head.marker))
        track_writes(lambda: time.monotonic() < lane.trust_until)
        async with asyncio.timeout(timeout * 4):
            return await self._call(one, draft, marker, keep=keep)

    async def _may_send(self, one: Attempt) -> bool:
        """Take what the destination's budgets ask for; if they are spent, the lane waits until they will not be."""
        waited = 0.0
        while (wait := await self._budgets.acquire(one.destination, one.kind, one.lane.id)) > 0:
            waited += wait
            if waited > WAITS_IN_PLACE_SECONDS or self._stopping.is_set():
                await self._lanes.release(one.lane, delay_seconds=wait)
                if one.kind in FIRST_KINDS and (hold := self._budgets.until_next(one.destination)):
                    # nothing is left even for those that go first: no other lane need be claimed to find that out
                    await standing.hold_back(self._database, one.lane.destination_id, hold)
                return False
            await asyncio.sleep(wait)
        return True

    async def _call(self, one: Attempt, draft: dict[str, Any], marker: Marker, *, keep: bool) -> bool:
        """The request itself, and what its answer makes of the delivery."""
        tracker, lane, head = one.destination.require_tracker(), one.lane, one.delivery
        match one.kind:
            case DeliveryKind.CREATE:
                facts = draft.get("facts", {})
                issue = checked(
                    await tracker.create_issue(
                        Draft(title=draft["title"], body=draft["body"], marker=marker, facts=facts)
                    ),
                    IssueRef,
                )
                if not issue.remote_id:
                    raise UnknownOutcome("the plugin returned an issue without an id")
                await self._sightings(
                    MarkerObservation(
                        lane.destination_id, head.marker, issue.remote_id, issue.key, issue.url, "answer"
                    )
                )
                return await self._done(one, keep=keep, outcome=Outcome.DONE, issue=issue)
            case DeliveryKind.COMMENT:
                comment = checked(await tracker.add_comment(one.issue, draft["body"], marker), CommentRef)
                return await self._done(one, keep=keep, outcome=Outcome.DONE, comment=comment)
            case DeliveryKind.CLOSE:
                reason = head.close_reason if tracker.capabilities.close_reasons else None
                now = await tracker.set_state(one.issue, "closed", reason)
                return await self._done(
                    one, keep=keep, outcome=Outcome.DONE, remote_state=TicketStatus.CLOSED, now=now
                )
            case DeliveryKind.REOPEN:
                now = await tracker.set_state(one.issue, "open", None)
                return await self._done(
                    one, keep=keep, outcome=Outcome.DONE, remote_state=TicketStatus.OPEN, now=now
                )
            case _:
                await tracker.update_issue(
                    one.issue, Draft(title=draft["title"], body=draft["body"], marker=marker)
                )
                return await self._done(one, keep=keep, outcome=Outcome.DONE)

    # -- outcomes ----------------------------------------------------------------------------------------------

    async def _done(
        self,
        one: Attempt,
        *,
        keep: bool,
        outcome: Outcome,
        issue: IssueRef | None = None,
        comment: CommentRef | None = None,
        remote_state: int | None = None,
        now: IssueState | None = None,
    ) -> bool:
        left = await self._lanes.finish(
            one.lane,
            one.delivery.seq,
            keep_lease=keep,
            outcome=outcome,
            note="; ".join(issue.notes)[:2000] if issue is not None else "",
            started_at=one.started_at,
            issue=(issue.remote_id, issue.key, issue.url) if issue is not None else None,
            comment_id=comment.remote_id if comment is not None else None,
            remote_state=remote_state,
            remote_version=now.version if isinstance(now, IssueState) else None,
        )
        log_attempt(
            one,
            "stale" if left is None else outcome,
            issue.key if issue is not None else "",
            self._signals,
        )
        self._recent(one).record(unreachable=False)
        if issue is not None and left is not None:
            self._signals.emit(IssueLinked(one.lane.destination_id, issue))
        return bool(left)

    def _recent(self, one: Attempt) -> RecentCalls:
        return self._calls.setdefault(one.lane.destination_id, RecentCalls())

    async def _failed(self, one: Attempt, error: BaseException) -> None:
        if (
            isinstance(error, UnknownOutcome)
            and one.destination.client is not None
            and not write_may_have_left()
        ):
            # only questions were asked so far: whatever became of them, nothing was done
            error = Unavailable(
                error.message, status=error.status, excerpt=error.excerpt, is_json=error.is_json
            )
        failure, verdict = await record_failure(
            self._database,
            one,
            error,
            creates=one.kind is DeliveryKind.CREATE,
            idempotent=one.idempotent,
            recent=self._recent(one),
        )
        if isinstance(error, RateLimited):
            await self._budgets.slow_down(one.destination, error.scope, verdict.delay_seconds)
        if one.outcome_unknown and not one.idempotent:
            # the find failed, so the doubt of the earlier request stays
            verdict = msgspec.structs.replace(verdict, outcome_unknown=True)
        message = str(failure)
        match verdict.next_step:
            case NextStep.RETRY:
                await self._retry(one, verdict, message, failure.status)
            case NextStep.DEAD:
                await self._bury(one, verdict, message, failure.status)
            case NextStep.ORPHAN:
                log_attempt(one, verdict.outcome, message, self._signals)
                await self._lanes.park(
                    one.lane,
                    "orphan",
                    orphaned=True,
                    outcome=verdict.outcome,
                    error=message,
                    status=failure.status,
                    started_at=one.started_at,
                )

    async def _retry(self, one: Attempt, verdict: RetryDecision, message: str, status: int | None) -> None:
        settle = 0.0
        if (verdict.outcome_unknown or verdict.must_settle) and one.destination.capabilities.settle_seconds:
            settle = one.destination.capabilities.settle_seconds[0]
        log_attempt(one, verdict.outcome, message, self._signals)
        await self._lanes.retry(
            one.lane,
            one.delivery.seq,
            delay_seconds=max(verdict.delay_seconds, settle),
            counts_attempt=verdict.counts_as_attempt,
            outcome_unknown=verdict.outcome_unknown,
            verify_attempts=0 if verdict.outcome_unknown else one.delivery.verify_attempts,
            verify_after_seconds=settle,
            outcome=verdict.outcome,
            error=message,
            status=status,
            started_at=one.started_at,
        )

    async def _bury(self, one: Attempt, verdict: RetryDecision, message: str, status: int | None) -> None:
        # followers of an issue that can't be made wait with it; others go on without
        park = one.kind is DeliveryKind.CREATE
        await dead_letter(self._lanes, one, verdict, message, status, self._signals, park=park)
