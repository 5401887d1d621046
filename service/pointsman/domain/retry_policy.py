"""Decide what follows a failed attempt of a delivery.

A request that is not proven to have had no effect has an unknown outcome.
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
"""A delivery is given up after this many unexpected exceptions."""
MAX_DESTINATION_BACK_OFF_SECONDS = 900.0


class Outcome(enum.StrEnum):
    """Outcomes of attempts, as in the database, in logs and in metrics."""

    DONE = "done"
    VERIFIED = "found"
    """A verification found the effect of an earlier attempt."""
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "limited"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    AUTH = "auth"
    MISCONFIGURED = "misconfigured"
    BLOCKED = "blocked"
    """Something about this one issue prevents the change."""
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    MOVED = "moved"
    DEFECT = "defect"
    EXPIRED = "expired"


class NextStep(enum.StrEnum):
    """The next step of a delivery."""

    RETRY = "retry"
    DEAD = "dead"
    ORPHAN = "orphan"


class RetryDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The consequences of an error for a delivery."""

    outcome: Outcome
    next_step: NextStep
    outcome_unknown: bool = False
    """Verify the delivery before it is sent again."""
    counts_as_attempt: bool = True
    """The attempt increases the back-off."""
    delay_seconds: float = 0.0
    destination_back_off_seconds: float | None = None
    """No lane of the destination is claimed for so long."""
    must_settle: bool = False
    """The request may still take effect: nothing may follow until the tracker has settled, since a late close must not undo
    a reopen.
    """


def back_off(attempts: int, jitter: float) -> float:
    """Return the seconds to wait after so many counted attempts: full jitter over 5 s x 2^n, at most an hour.

    ``jitter`` is a random number from 0 to 1; the wait is at least a tenth of its window.
    """
    window = min(CAP_SECONDS, BASE_SECONDS * math.pow(2, min(max(attempts - 1, 0), 30)))
    return window * max(0.1, min(jitter, 1.0))


def _retry_after(seconds: Any) -> float:
    """Return the seconds that a service asked for, within limits; a minute if it gave no number."""
    if isinstance(seconds, (int, float)) and not math.isnan(seconds):
        return float(min(max(seconds, 1.0), CAP_SECONDS))
    return 60.0


def concerns_issue(error: BaseException, *, creates: bool) -> bool:
    """Return whether an error is about one issue, so that it says nothing about its destination.

    The service answered. A create names no issue: whatever prevents it concerns the destination.
    """
    match error:
        case api.Blocked() | api.NotFound() | api.IssueMoved():
            return not creates
        case api.RateLimited():
            return error.scope.startswith("issue")
        case _:
            return isinstance(error, api.Conflict)


def classify_error(  # noqa: C901, PLR0912 - a decision table
    error: BaseException,
    *,
    creates: bool,
    idempotent: bool,
    attempts: int,
    destination_failures: int,
    jitter: float,
) -> RetryDecision:
    """Return the consequences of an error for a delivery.

    ``creates``: the delivery creates an issue. ``idempotent``: applying it twice has the effect of applying it once.
    ``attempts``: the counted ones, including this one. ``destination_failures``: consecutive failures of the destination
    before this one. ``jitter``: a random number from 0 to 1.
    """
    delay = back_off(attempts, jitter)
    destination_delay = min(
        MAX_DESTINATION_BACK_OFF_SECONDS, 15.0 * math.pow(2, min(destination_failures, 10))
    )
    match error:
        case api.Unavailable():
            # the circuit breaker stops the destination as a whole
            return RetryDecision(
                outcome=Outcome.UNAVAILABLE,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=back_off(min(destination_failures, 5) + 1, jitter),
            )
        case api.RateLimited():
            retry_after = _retry_after(error.retry_after)
            return RetryDecision(
                outcome=Outcome.RATE_LIMITED,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=retry_after,
                # a limit of one issue concerns its lane alone
                destination_back_off_seconds=None if error.scope.startswith("issue") else retry_after,
            )
        case api.Refused():
            return RetryDecision(outcome=Outcome.REFUSED, next_step=NextStep.DEAD)
        case api.AuthFailed():
            return RetryDecision(
                outcome=Outcome.AUTH,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=destination_delay,
                destination_back_off_seconds=destination_delay,
            )
        case api.NotFound() if not creates:
            return RetryDecision(outcome=Outcome.ORPHAN, next_step=NextStep.ORPHAN)
        case api.Blocked() if not creates:
            return RetryDecision(outcome=Outcome.BLOCKED, next_step=NextStep.RETRY, delay_seconds=delay)
        case api.NotFound() | api.Misconfigured() | api.Blocked():
            return RetryDecision(
                outcome=Outcome.MISCONFIGURED,
                next_step=NextStep.RETRY,
                counts_as_attempt=False,
                delay_seconds=destination_delay,
                # the first lane waits alone; if the next one fails alike, the destination's settings are wrong
                destination_back_off_seconds=destination_delay if destination_failures else None,
            )
        case api.IssueMoved():
            return RetryDecision(outcome=Outcome.MOVED, next_step=NextStep.RETRY, delay_seconds=delay)
        case api.Conflict():
            return RetryDecision(
                outcome=Outcome.CONFLICT, next_step=NextStep.RETRY, delay_seconds=min(delay, 5.0)
            )
        case api.UnknownOutcome() | TimeoutError() | ConnectionError() | asyncio.CancelledError():
            if idempotent:
                return RetryDecision(
                    outcome=Outcome.UNAVAILABLE,
                    next_step=NextStep.RETRY,
                    delay_seconds=delay,
                    must_settle=True,
                )
            return RetryDecision(
                outcome=Outcome.UNKNOWN,
                next_step=NextStep.RETRY,
                outcome_unknown=True,
                delay_seconds=delay,
            )
        case _ if attempts >= MAX_DEFECTS:
            return RetryDecision(
                outcome=Outcome.DEFECT, next_step=NextStep.DEAD, outcome_unknown=not idempotent
            )
        case _:
            return RetryDecision(
                outcome=Outcome.DEFECT,
                next_step=NextStep.RETRY,
                outcome_unknown=not idempotent,
                delay_seconds=delay,
            )
