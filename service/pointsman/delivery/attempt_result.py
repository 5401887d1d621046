"""How an attempt ended, told once for all carriers: to the destination's standing, the log and the metrics."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pointsman.delivery.attempt import Attempt
from pointsman.domain import circuit_breaker, retry_policy
from pointsman.domain.circuit_breaker import Recent
from pointsman.domain.retry_policy import Class, Verdict
from pointsman.logs import logger
from pointsman.storage import destinations as standing
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.storage.queue import Lanes

log = logger("delivery")

OnAttempt = Callable[[str, str, str, float], None]
"""Told of each attempt: destination, kind, outcome, seconds."""


async def note_failure(
    database: Database,
    one: Attempt,
    error: BaseException,
    *,
    creates: bool,
    idempotent: bool,
    recent: Recent,
) -> tuple[Failure, Verdict]:
    """Remember a failure, judge it, and hold the destination back where the verdict says so."""
    failure = Failure.of(error)
    away = circuit_breaker.away(error)
    recent.note(went_away=away)
    stands = await standing.note_failure(
        database,
        one.lane.destination_id,
        failure,
        away=away,
        mostly_away=recent.mostly_away(),
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
    verdict = retry_policy.judge(
        error,
        creates=creates,
        idempotent=idempotent,
        attempts=one.head["attempts"] + 1,
        failures=stands.failures - 1,
        dice=random.random(),  # noqa: S311
    )
    if verdict.hold_seconds is not None:
        await standing.hold_back(database, one.lane.destination_id, verdict.hold_seconds)
    return failure, verdict


async def bury(
    lanes: Lanes,
    one: Attempt,
    verdict: Verdict,
    message: str,
    status: int | None,
    on_attempt: OnAttempt,
    *,
    park: bool,
) -> None:
    """A delivery is dead; a dead letter is never silent. ``park``: what follows can't go on without it."""
    say(one, verdict.cls, message, on_attempt)
    log.error(
        "dead letter",
        destination=one.destination.slug,
        ticket=str(one.lane.ticket_id),
        delivery=f"{one.lane.id}/{one.head['seq']}",
        kind=one.kind.name.lower(),
        outcome=str(verdict.cls),
        error=message,
    )
    await lanes.give_up(
        one.lane,
        one.head["seq"],
        park=park,
        in_doubt=verdict.in_doubt,
        why=verdict.cls,
        error=message,
        status=status,
        started=one.started,
    )


def say(one: Attempt, outcome: str, detail: str, on_attempt: OnAttempt) -> None:
    """The canonical log line of an attempt."""
    taken = time.monotonic() - one.began
    kind = one.kind.name.lower()
    on_attempt(one.destination.slug, kind, outcome, taken)
    (log.info if outcome in (Class.DONE, Class.FOUND) else log.warning)(
        "attempt",
        destination=one.destination.slug,
        tracker=one.destination.tracker_kind,
        ticket=str(one.lane.ticket_id),
        delivery=f"{one.lane.id}/{one.head['seq']}",
        event_n=one.head["event_n"],
        kind=kind,
        attempt=one.head["attempts"] + 1,
        outcome=str(outcome),
        detail=detail,
        ms=round(taken * 1000, 1),
    )
