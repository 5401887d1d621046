"""How an attempt ended, told once for all carriers: to the destination's standing, the log and the metrics."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pointsman.delivery import attempt
from pointsman.delivery.attempt import Class, Verdict
from pointsman.delivery.underway import Attempt
from pointsman.logs import logger
from pointsman.storage import destinations as standing
from pointsman.storage.db import Database
from pointsman.storage.destinations import Failure
from pointsman.tickets.ticket import Kind

log = logger("delivery")

OnAttempt = Callable[[str, str, str, float], None]
"""Told of each attempt: destination, kind, outcome, seconds."""


async def note_failure(
    database: Database, one: Attempt, error: BaseException, *, creates: bool, idempotent: bool
) -> tuple[Failure, Verdict]:
    """Remember a failure, judge it, and hold the destination back where the verdict says so."""
    failure = Failure.of(error)
    failures = await standing.note_failure(database, one.lane.destination_id, failure)
    verdict = attempt.judge(
        error,
        creates=creates,
        idempotent=idempotent,
        attempts=one.head["attempts"] + 1,
        failures=failures - 1,
        dice=random.random(),  # noqa: S311
    )
    if verdict.hold_seconds is not None:
        await standing.hold_back(database, one.lane.destination_id, verdict.hold_seconds)
    return failure, verdict


def say(one: Attempt, outcome: str, detail: str, on_attempt: OnAttempt) -> None:
    """The canonical log line of an attempt."""
    taken = time.monotonic() - one.began
    kind = Kind(one.kind).name.lower()
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
