"""How one try to keep a promise ended, and what comes next. Pure.

The rule: what is not provably unapplied is in doubt.
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import Any

import msgspec

from pointsman import plugin_api as api

BASE_SECONDS = 5.0
CAP_SECONDS = 3600.0
MAX_DEFECTS = 3
SILENCES_ALLOWED = 5


class Outcome(enum.StrEnum):
    """The classes of outcome; the words stand in the database, in logs and metrics."""

    DONE = "done"
    VERIFIED = "found"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "limited"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    AUTH = "auth"
    MISCONFIGURED = "misconfigured"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    MOVED = "moved"
    DEFECT = "defect"
    EXPIRED = "expired"


class NextStep(enum.StrEnum):
    """What comes next for a delivery."""

    RETRY = "retry"
    DEAD = "dead"
    ORPHAN = "orphan"


class RetryDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What an error makes of a delivery.

    ``counts``: the attempt raises the back-off. ``hold_seconds``: no lane of the destination is worked for so long.
    ``settles``: the request may take effect yet, so nothing may follow it before the tracker has settled: a close that
    comes late must not undo a reopen.
    """

    outcome: Outcome
    next_step: NextStep
    outcome_unknown: bool = False
    counts_as_attempt: bool = True
    delay_seconds: float = 0.0
    destination_back_off_seconds: float | None = None
    must_settle: bool = False


def back_off(attempts: int, jitter: float) -> float:
    """Seconds to wait after so many attempts that count: full jitter over 5 s x 2^n, at most an hour.

    ``dice`` is a random number from 0 to 1; the wait is never under a tenth of its window.
    """
    window = min(CAP_SECONDS, BASE_SECONDS * math.pow(2, min(max(attempts - 1, 0), 30)))
    return window * max(0.1, min(jitter, 1.0))


def _asked(retry_after: Any) -> float:
    """The seconds a service asked for, within reason; a minute if it said nothing that is a number."""
    if isinstance(retry_after, (int, float)) and not math.isnan(retry_after):
        return float(min(max(retry_after, 1.0), CAP_SECONDS))
    return 60.0


def classify_error(  # noqa: C901 - a decision table
    error: BaseException, *, creates: bool, idempotent: bool, attempts: int, destination_failures: int, jitter: float
) -> RetryDecision:
    """What an error of a plugin, or of anything else, makes of a delivery.

    ``creates``: the delivery makes an issue. ``idempotent``: doing it twice is the same as once. ``attempts``: those
    that count so far, this one included. ``failures``: consecutive failures of the destination before this one.
    """
    wait = back_off(attempts, jitter)
    hold = min(900.0, 15.0 * math.pow(2, min(destination_failures, 10)))
    match error:
        case api.Unavailable():
            # what concerns the whole destination is the breaker's
            return RetryDecision(
                outcome=Outcome.UNAVAILABLE,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=back_off(min(destination_failures, 5) + 1, jitter),
            )
        case api.RateLimited():
            asked = _asked(error.retry_after)
            return RetryDecision(
                outcome=Outcome.RATE_LIMITED,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=asked,
                # a limit on one issue is its lane's alone
                destination_back_off_seconds=None if error.scope.startswith("issue") else asked,
            )
        case api.Refused():
            return RetryDecision(outcome=Outcome.REFUSED, next_step=NextStep.DEAD)
        case api.AuthFailed():
            return RetryDecision(
                outcome=Outcome.AUTH, next_step=NextStep.RETRY, counts_as_attempt=False, delay_seconds=hold, destination_back_off_seconds=hold
            )
        case api.NotFound() if not creates:
            return RetryDecision(outcome=Outcome.ORPHAN, next_step=NextStep.ORPHAN)
        case api.NotFound() | api.Misconfigured():
            return RetryDecision(
                outcome=Outcome.MISCONFIGURED,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=hold,
                # the first lane waits alone; when the next one says the same the destination is at fault
                destination_back_off_seconds=hold if destination_failures else None,
            )
        case api.IssueMoved():
            return RetryDecision(outcome=Outcome.MOVED, next_step=NextStep.RETRY, delay_seconds=wait)
        case api.Conflict():
            return RetryDecision(outcome=Outcome.CONFLICT, next_step=NextStep.RETRY, delay_seconds=min(wait, 5.0))
        case api.UnknownOutcome() | TimeoutError() | ConnectionError() | asyncio.CancelledError():
            if idempotent:
                return RetryDecision(outcome=Outcome.UNAVAILABLE, next_step=NextStep.RETRY, delay_seconds=wait, must_settle=True)
            return RetryDecision(outcome=Outcome.UNKNOWN, next_step=NextStep.RETRY, outcome_unknown=True, delay_seconds=wait)
        case _:
            if attempts >= MAX_DEFECTS:
                return RetryDecision(outcome=Outcome.DEFECT, next_step=NextStep.DEAD, outcome_unknown=not idempotent)
            return RetryDecision(outcome=Outcome.DEFECT, next_step=NextStep.RETRY, outcome_unknown=not idempotent, delay_seconds=wait)
