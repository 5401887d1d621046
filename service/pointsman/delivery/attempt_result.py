"""Record how attempts end: in the queue, at the destination, in the log and as signals."""

from __future__ import annotations

import random
import time

from pointsman.bus.signals import AttemptFinished, IssueLinked, Signals
from pointsman.delivery.attempt import Attempt, Effect
from pointsman.domain import circuit_breaker, retry_policy
from pointsman.domain.circuit_breaker import RecentCalls
from pointsman.domain.retry_policy import Outcome, RetryDecision
from pointsman.domain.states import DeliveryKind
from pointsman.logs import logger, scrub
from pointsman.storage import destinations
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.queue import Lanes

log = logger("delivery")

LEASE_LOST = "lease lost"
"""Outcome of an attempt whose lease was lost before its result was stored."""
MAX_NOTE_CHARACTERS = 2000


class AttemptRecorder:
    """Records the results of the attempts of one handler."""

    def __init__(self, database: Database, lanes: Lanes, signals: Signals) -> None:
        self._database = database
        self._lanes = lanes
        self._signals = signals
        self._recent_calls: dict[int, RecentCalls] = {}
        self._failed: set[int] = set()
        """Destinations whose last call from this replica failed."""

    async def record_success(self, attempt: Attempt, effect: Effect) -> bool:
        """Finish a delivery. Return whether the lease is kept and the lane has more deliveries."""
        issue = effect.issue
        outcome = Outcome.VERIFIED if effect.verified else Outcome.DONE
        has_more = await self._lanes.finish(
            attempt.lane,
            attempt.delivery.seq,
            keep_lease=attempt.keep_lease,
            outcome=outcome,
            note=scrub("; ".join(issue.notes))[:MAX_NOTE_CHARACTERS] if issue is not None else "",
            started_at=attempt.started_at,
            issue=(issue.remote_id, issue.key, issue.url) if issue is not None else None,
            comment_id=effect.comment.remote_id if effect.comment is not None else None,
            remote_state=effect.remote_state,
            remote_version=effect.remote_version,
        )
        lease_lost = has_more is None
        self._announce(attempt, LEASE_LOST if lease_lost else outcome, issue.key if issue is not None else "")
        self._recent_calls_of(attempt).record(unreachable=False)
        if attempt.lane.destination_id in self._failed:
            # it works again: the other lanes need not wait for the end of their back-off
            self._failed.discard(attempt.lane.destination_id)
            await destinations.end_lane_back_offs(self._database, attempt.lane.destination_id)
        if issue is not None and not lease_lost:
            self._signals.emit(IssueLinked(attempt.lane.destination_id, issue))
        return bool(has_more)

    async def record_failure(
        self, attempt: Attempt, error: BaseException, *, idempotent: bool
    ) -> tuple[Failure, RetryDecision]:
        """Store a failure of a destination and decide what follows for the delivery.

        The destination backs off where the decision says so, and its circuit breaker counts the failure. An error about
        one issue changes neither.
        """
        failure = Failure.from_error(error)
        creates = attempt.kind in (DeliveryKind.CREATE, DeliveryKind.MAIL)
        if retry_policy.concerns_issue(error, creates=creates):
            self._recent_calls_of(attempt).record(unreachable=False)
            await destinations.record_answer(self._database, attempt.lane.destination_id)
            return failure, self._decide(attempt, error, creates=creates, idempotent=idempotent)
        self._failed.add(attempt.lane.destination_id)
        unreachable = circuit_breaker.is_unreachable(error)
        recent_calls = self._recent_calls_of(attempt)
        recent_calls.record(unreachable=unreachable)
        status = await destinations.record_failure(
            self._database,
            attempt.lane.destination_id,
            failure,
            no_answer=unreachable,
            mostly_no_answer=recent_calls.mostly_unreachable(),
            failure_threshold=circuit_breaker.FAILURES_IN_A_ROW,
            open_seconds=circuit_breaker.OPEN_SECONDS,
            max_open_seconds=circuit_breaker.MAX_OPEN_SECONDS,
        )
        if status.opened:
            recent_calls.clear()
            log.error(
                "circuit breaker opened: nothing is sent for a while, then one lane probes",
                destination=attempt.destination.slug,
                failures=status.failures,
                error=str(failure),
            )
        decision = self._decide(
            attempt,
            error,
            creates=creates,
            idempotent=idempotent,
            destination_failures=status.failures - 1,
        )
        if decision.destination_back_off_seconds is not None:
            await destinations.block(
                self._database, attempt.lane.destination_id, decision.destination_back_off_seconds
            )
        return failure, decision

    @staticmethod
    def _decide(
        attempt: Attempt,
        error: BaseException,
        *,
        creates: bool,
        idempotent: bool,
        destination_failures: int = 0,
    ) -> RetryDecision:
        return retry_policy.classify_error(
            error,
            creates=creates,
            idempotent=idempotent,
            attempts=attempt.delivery.attempts + 1,
            destination_failures=destination_failures,
            jitter=random.random(),  # noqa: S311
        )

    async def schedule_retry(
        self, attempt: Attempt, decision: RetryDecision, failure: Failure, *, settle_seconds: float = 0.0
    ) -> None:
        """Try a delivery again later, at the earliest when the tracker has settled."""
        message = str(failure)
        self._announce(attempt, decision.outcome, message)
        await self._lanes.retry(
            attempt.lane,
            attempt.delivery.seq,
            delay_seconds=max(decision.delay_seconds, settle_seconds),
            counts_attempt=decision.counts_as_attempt,
            outcome_unknown=decision.outcome_unknown,
            verify_attempts=0 if decision.outcome_unknown else attempt.delivery.verify_attempts,
            verify_after_seconds=settle_seconds,
            outcome=decision.outcome,
            error=message,
            status=failure.status,
            started_at=attempt.started_at,
        )

    async def dead_letter(
        self, attempt: Attempt, decision: RetryDecision, message: str, status: int | None = None
    ) -> None:
        """Give a delivery up. What follows a create can't be delivered without its issue, so its lane is parked."""
        self._announce(attempt, decision.outcome, message)
        log.error(
            "dead letter",
            destination=attempt.destination.slug,
            ticket=str(attempt.lane.ticket_id),
            delivery=f"{attempt.lane.id}/{attempt.delivery.seq}",
            kind=attempt.kind.name.lower(),
            outcome=str(decision.outcome),
            error=message,
        )
        await self._lanes.dead_letter(
            attempt.lane,
            attempt.delivery.seq,
            park=attempt.kind is DeliveryKind.CREATE,
            outcome_unknown=decision.outcome_unknown,
            outcome=decision.outcome,
            error=message,
            status=status,
            started_at=attempt.started_at,
        )

    async def park_orphaned(self, attempt: Attempt, decision: RetryDecision, failure: Failure) -> None:
        """Park a lane whose issue is gone."""
        message = str(failure)
        self._announce(attempt, decision.outcome, message)
        await self._lanes.park(
            attempt.lane,
            "orphan",
            orphaned=True,
            outcome=decision.outcome,
            error=message,
            status=failure.status,
            started_at=attempt.started_at,
        )

    def _recent_calls_of(self, attempt: Attempt) -> RecentCalls:
        return self._recent_calls.setdefault(attempt.lane.destination_id, RecentCalls())

    def _announce(self, attempt: Attempt, outcome: str, detail: str) -> None:
        """Write the canonical log line of an attempt, and emit its signal."""
        seconds = time.monotonic() - attempt.started_monotonic
        kind = attempt.kind.name.lower()
        self._signals.emit(AttemptFinished(attempt.destination.slug, kind, outcome, seconds))
        (log.info if outcome in (Outcome.DONE, Outcome.VERIFIED) else log.warning)(
            "attempt",
            destination=attempt.destination.slug,
            tracker=attempt.destination.tracker_kind,
            ticket=str(attempt.lane.ticket_id),
            delivery=f"{attempt.lane.id}/{attempt.delivery.seq}",
            event_n=attempt.delivery.event_n,
            kind=kind,
            attempt=attempt.delivery.attempts + 1,
            outcome=str(outcome),
            detail=detail,
            ms=round(seconds * 1000, 1),
        )
