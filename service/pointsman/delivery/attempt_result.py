"""How an attempt ended, told once for all carriers: to the destination's standing, the log and the metrics."""

from __future__ import annotations

import random
import time

from pointsman.bus.signals import AttemptFinished, Signals
from pointsman.delivery.attempt import Attempt
from pointsman.domain import circuit_breaker, retry_policy
from pointsman.domain.circuit_breaker import RecentCalls
from pointsman.domain.retry_policy import Outcome, RetryDecision
from pointsman.logs import logger
from pointsman.storage import destinations as standing
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.queue import Lanes

log = logger("delivery")


async def record_failure(
    database: Database,
    one: Attempt,
    error: BaseException,
    *,
    creates: bool,
    idempotent: bool,
    recent: RecentCalls,
) -> tuple[Failure, RetryDecision]:
    """Remember a failure, judge it, and hold the destination back where the verdict says so."""
    failure = Failure.of(error)
    away = circuit_breaker.is_unreachable(error)
    recent.record(unreachable=away)
    stands = await standing.note_failure(
        database,
        one.lane.destination_id,
        failure,
        away=away,
        mostly_away=recent.mostly_unreachable(),
        in_a_row=circuit_breaker.IN_A_ROW,
        open_seconds=circuit_breaker.OPEN_SECONDS,
        open_seconds_at_most=circuit_breaker.OPEN_SECONDS_AT_MOST,
    )
    if stands.opened:
        recent.clear()
        log.error(
            "breaker opened: nothing is sent there for a while, then one lane probes",
            destination=one.destination.slug,
            failures=stands.failures,
            error=str(failure),
        )
    verdict = retry_policy.classify_error(
        error,
        creates=creates,
        idempotent=idempotent,
        attempts=one.delivery.attempts + 1,
        destination_failures=stands.failures - 1,
        jitter=random.random(),  # noqa: S311
    )
    if verdict.destination_back_off_seconds is not None:
        await standing.hold_back(database, one.lane.destination_id, verdict.destination_back_off_seconds)
    return failure, verdict


async def dead_letter(
    lanes: Lanes,
    one: Attempt,
    verdict: RetryDecision,
    message: str,
    status: int | None,
    signals: Signals,
    *,
    park: bool,
) -> None:
    """A delivery is dead; a dead letter is never silent. ``park``: what follows can't go on without it."""
    log_attempt(one, verdict.outcome, message, signals)
    log.error(
        "dead letter",
        destination=one.destination.slug,
        ticket=str(one.lane.ticket_id),
        delivery=f"{one.lane.id}/{one.delivery.seq}",
        kind=one.kind.name.lower(),
        outcome=str(verdict.outcome),
        error=message,
    )
    await lanes.dead_letter(
        one.lane,
        one.delivery.seq,
        park=park,
        outcome_unknown=verdict.outcome_unknown,
        outcome=verdict.outcome,
        error=message,
        status=status,
        started_at=one.started_at,
    )


def log_attempt(one: Attempt, outcome: str, detail: str, signals: Signals) -> None:
    """The canonical log line of an attempt."""
    taken = time.monotonic() - one.started_monotonic
    kind = one.kind.name.lower()
    signals.emit(AttemptFinished(one.destination.slug, kind, outcome, taken))
    (log.info if outcome in (Outcome.DONE, Outcome.VERIFIED) else log.warning)(
        "attempt",
        destination=one.destination.slug,
        tracker=one.destination.tracker_kind,
        ticket=str(one.lane.ticket_id),
        delivery=f"{one.lane.id}/{one.delivery.seq}",
        event_n=one.delivery.event_n,
        kind=kind,
        attempt=one.delivery.attempts + 1,
        outcome=str(outcome),
        detail=detail,
        ms=round(taken * 1000, 1),
    )
