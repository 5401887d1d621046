"""Send the deliveries of a lane to its tracker.

Stages of an attempt: expire, verify, admit, draft, record the intent, call, record the result.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, cast

import msgspec

from pointsman.bus.signals import Signals
from pointsman.delivery.attempt import Attempt, Effect
from pointsman.delivery.attempt_result import AttemptRecorder
from pointsman.delivery.draft import DraftRenderer
from pointsman.delivery.outcome_verification import Resolution, resolve_unknown, verify_outcome
from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.domain.retry_policy import NextStep, Outcome, RetryDecision
from pointsman.domain.states import DeliveryKind, LinkState, TicketStatus
from pointsman.errors import DatabaseError
from pointsman.logs import logger
from pointsman.plugin_api import (
    CloseReason,
    CommentRef,
    Draft,
    IssueRef,
    Marker,
    PluginError,
    RateLimited,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_host.http_client import track_writes, write_may_have_left
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import validated
from pointsman.storage import destinations
from pointsman.storage.batching import CallCoalescer
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError
from pointsman.storage.marker_observations import MarkerObservation, record_markers
from pointsman.storage.queue import Lanes
from pointsman.storage.queue_values import Lane, NextDelivery

log = logger("delivery")

DELIVERIES_PER_CLAIM = 20
SECONDS_PER_CLAIM = 30.0
SENDING_MARGIN_SECONDS = 5.0
MAX_WAIT_FOR_TOKENS_SECONDS = 1.0
CALL_TIMEOUT_FACTOR = 4
"""A call may take as long as this many of its tracker's slowest requests."""
NO_DESTINATION_DELAY_SECONDS = 10.0
PRIORITY_KINDS = frozenset({DeliveryKind.CREATE, DeliveryKind.CLOSE, DeliveryKind.REOPEN})
VERIFIABLE_KINDS = frozenset({DeliveryKind.CREATE, DeliveryKind.COMMENT})


class TrackerSender:
    """Handler of lanes whose destination is a tracker, or a source presented as a tracker."""

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
        self._rate_limiter = rate_limiter
        self._stopping = stopping
        self._recorder = AttemptRecorder(database, lanes, signals or Signals())
        self._record_marker = CallCoalescer(partial(record_markers, database))

    async def handle(self, lane: Lane) -> None:
        """Deliver along a lane until it is empty, must wait, or had its share of deliveries and time."""
        started = time.monotonic()
        delivery = lane.first_delivery or await self._lanes.next_delivery(lane)
        for number in range(1, DELIVERIES_PER_CLAIM + 1):
            if delivery is None:
                return
            if self._stopping.is_set():
                await self._lanes.release(lane)
                return
            is_last = number == DELIVERIES_PER_CLAIM or time.monotonic() - started >= SECONDS_PER_CLAIM
            if not await self._deliver(lane, delivery, keep_lease=not is_last):
                return
            delivery = await self._lanes.next_delivery(lane)

    async def _deliver(self, lane: Lane, delivery: NextDelivery, *, keep_lease: bool) -> bool:
        """Make one attempt. Return whether the lease is kept and the lane has more deliveries."""
        destination = self._reloader.current.destinations.get(lane.destination_id)
        if destination is None or not destination.in_use:
            # claimed before the configuration changed: a missing tracker is no failure of the destination
            await self._lanes.release(lane, delay_seconds=NO_DESTINATION_DELAY_SECONDS)
            return False
        attempt = Attempt.start(lane, delivery, destination, keep_lease=keep_lease)
        if await self._expire(attempt) or await self._park_orphan(attempt):
            return False
        try:
            effect: Effect | Resolution | None = await self._verify(attempt)
            if effect is Resolution.NOT_APPLIED:
                effect = await self._send(attempt)
            if effect is None or effect is Resolution.WAIT:
                return False
            return await self._recorder.record_success(attempt, effect)
        except (asyncio.CancelledError, DatabaseError, StatementError):
            raise
        except (PluginError, TimeoutError) as error:
            await self._record_failure(attempt, error)
        except (Exception, SystemExit) as error:
            log.exception("plugin failed", destination=destination.slug, lane=lane.id)
            await self._record_failure(attempt, error)
        return False

    # -- before sending ------------------------------------------------------------------------------------------

    async def _expire(self, attempt: Attempt) -> bool:
        """Give up a delivery that is too old. One with an unknown outcome is verified first."""
        if not attempt.delivery.expired or attempt.outcome_unknown:
            return False
        decision = RetryDecision(outcome=Outcome.EXPIRED, next_step=NextStep.DEAD)
        await self._recorder.dead_letter(attempt, decision, "not delivered within its time")
        return True

    async def _park_orphan(self, attempt: Attempt) -> bool:
        """Park the lane if its issue is gone."""
        if attempt.delivery.link_state != LinkState.ORPHANED or attempt.kind is DeliveryKind.CREATE:
            return False
        await self._lanes.park(attempt.lane, "orphan")
        return True

    async def _verify(self, attempt: Attempt) -> Effect | Resolution:
        """Return the effect of an earlier request, NOT_APPLIED if the delivery may be sent, or WAIT."""
        snapshot = self._reloader.current
        if attempt.outcome_unknown:
            resolution = await resolve_unknown(self._database, self._lanes, snapshot, attempt)
            if not isinstance(resolution, Resolution):
                return Effect.of_earlier_request(resolution)
            if resolution is Resolution.WAIT:
                return resolution
        tracker = attempt.destination.require_tracker()
        if attempt.delivery.verify_writes and attempt.kind in VERIFIABLE_KINDS and tracker.capabilities.find:
            track_writes()
            ref = await verify_outcome(self._database, snapshot, attempt)
            if ref is not None:
                return Effect.of_earlier_request(ref)
        return Resolution.NOT_APPLIED

    async def _admit(self, attempt: Attempt) -> bool:
        """Take a token of each rate limit. Without one, release the lane until there will be one."""
        waited = 0.0
        while (
            wait := await self._rate_limiter.acquire(attempt.destination, attempt.kind, attempt.lane.id)
        ) > 0:
            waited += wait
            if waited > MAX_WAIT_FOR_TOKENS_SECONDS or self._stopping.is_set():
                await self._lanes.release(attempt.lane, delay_seconds=wait)
                back_off = self._rate_limiter.until_next(attempt.destination)
                if attempt.kind in PRIORITY_KINDS and back_off:
                    # no token is left even for priority kinds: no other lane need be claimed to find that out
                    await destinations.block(self._database, attempt.lane.destination_id, back_off)
                return False
            await asyncio.sleep(wait)
        return True

    # -- sending -----------------------------------------------------------------------------------------------

    async def _send(self, attempt: Attempt) -> Effect | None:
        """Send a delivery. Return its effect, None if it must wait or the lease was lost."""
        if not await self._admit(attempt):
            return None
        draft = await self._drafts.render(attempt)
        if not await self._record_intent(attempt, draft):
            return None
        lane = attempt.lane
        marker = Marker(self._reloader.current.marker_text(attempt.delivery.marker))
        track_writes(lambda: time.monotonic() < lane.trust_until)
        timeout = attempt.destination.capabilities.request_timeout_seconds
        async with asyncio.timeout(timeout * CALL_TIMEOUT_FACTOR):
            return await self._call(attempt, draft, marker)

    async def _record_intent(self, attempt: Attempt, draft: dict[str, Any]) -> bool:
        """Store that a request is about to leave, and make sure that the lease outlasts it."""
        lane, delivery = attempt.lane, attempt.delivery
        capabilities = attempt.destination.capabilities
        timeout = capabilities.request_timeout_seconds
        settle = capabilities.settle_seconds[0] if capabilities.settle_seconds else 0.0
        attempts = await self._lanes.record_intent(
            lane,
            delivery.seq,
            outcome_unknown=not attempt.idempotent,
            verify_after_seconds=timeout + settle,
            draft=draft,
        )
        if attempts is None:
            log.info("lease lost before sending", lane=lane.id, seq=delivery.seq)
            return False
        if attempt.idempotent or time.monotonic() <= lane.trust_until - timeout - SENDING_MARGIN_SECONDS:
            return True
        # too late to be sure that no other replica claims the lane while the request is under way
        return lane.id in await self._lanes.renew([lane])

    async def _call(self, attempt: Attempt, draft: dict[str, Any], marker: Marker) -> Effect:
        """Call the tracker."""
        tracker = attempt.destination.require_tracker()
        match attempt.kind:
            case DeliveryKind.CREATE:
                return Effect(issue=await self._create_issue(attempt, draft, marker))
            case DeliveryKind.COMMENT:
                comment = await tracker.add_comment(attempt.issue, draft["body"], marker)
                return Effect(comment=validated(comment, CommentRef))
            case DeliveryKind.CLOSE:
                reason = attempt.delivery.close_reason if tracker.capabilities.close_reasons else None
                state = await tracker.set_state(attempt.issue, "closed", cast("CloseReason | None", reason))
                return Effect.of_state(TicketStatus.CLOSED, state)
            case DeliveryKind.REOPEN:
                state = await tracker.set_state(attempt.issue, "open", None)
                return Effect.of_state(TicketStatus.OPEN, state)
            case _:
                raise ValueError(f"a tracker takes no delivery of kind {attempt.kind.name}")

    async def _create_issue(self, attempt: Attempt, draft: dict[str, Any], marker: Marker) -> IssueRef:
        tracker = attempt.destination.require_tracker()
        issue_draft = Draft(
            title=draft["title"], body=draft["body"], marker=marker, facts=draft.get("facts", {})
        )
        issue: IssueRef = validated(await tracker.create_issue(issue_draft), IssueRef)
        if not issue.remote_id:
            raise UnknownOutcome("the plugin returned an issue without an id")
        await self._record_marker(
            MarkerObservation(
                attempt.lane.destination_id,
                attempt.delivery.marker,
                issue.remote_id,
                issue.key,
                issue.url,
                "answer",
            )
        )
        return issue

    # -- failures ----------------------------------------------------------------------------------------------

    async def _record_failure(self, attempt: Attempt, error: BaseException) -> None:
        """Store a failure and do with the delivery what the retry policy says."""
        if (
            isinstance(error, UnknownOutcome)
            and attempt.destination.client is not None
            and not write_may_have_left()
        ):
            # only reading requests have left so far: nothing took effect
            error = Unavailable(
                error.message, status=error.status, excerpt=error.excerpt, is_json=error.is_json
            )
        failure, decision = await self._recorder.record_failure(attempt, error, idempotent=attempt.idempotent)
        if isinstance(error, RateLimited):
            await self._rate_limiter.slow_down(attempt.destination, error.scope, decision.delay_seconds)
        if attempt.outcome_unknown and not attempt.idempotent:
            # the verification failed, so the outcome of the earlier request stays unknown
            decision = msgspec.structs.replace(decision, outcome_unknown=True)
        match decision.next_step:
            case NextStep.RETRY:
                settles = decision.outcome_unknown or decision.must_settle
                waits = attempt.destination.capabilities.settle_seconds if settles else ()
                await self._recorder.schedule_retry(
                    attempt, decision, failure, settle_seconds=waits[0] if waits else 0.0
                )
            case NextStep.DEAD:
                await self._recorder.dead_letter(attempt, decision, str(failure), failure.status)
            case NextStep.ORPHAN:
                await self._recorder.park_orphaned(attempt, decision, failure)
