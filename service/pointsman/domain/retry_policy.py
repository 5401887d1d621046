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
DEFECTS_ALLOWED = 3
SILENCES_ALLOWED = 5


class Class(enum.StrEnum):
    """The classes of outcome; the words stand in the database, in logs and metrics."""

    DONE = "done"
    FOUND = "found"
    UNAVAILABLE = "unavailable"
    LIMITED = "limited"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    AUTH = "auth"
    MISCONFIGURED = "misconfigured"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    MOVED = "moved"
    DEFECT = "defect"
    EXPIRED = "expired"


class Next(enum.StrEnum):
    """What comes next for a delivery."""

    RETRY = "retry"
    DEAD = "dead"
    ORPHAN = "orphan"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an error makes of a delivery.

    ``counts``: the attempt raises the back-off. ``hold_seconds``: no lane of the destination is worked for so long.
    ``settles``: the request may take effect yet, so nothing may follow it before the tracker has settled: a close that
    comes late must not undo a reopen.
    """

    cls: Class
    next: Next
    in_doubt: bool = False
    counts: bool = True
    delay_seconds: float = 0.0
    hold_seconds: float | None = None
    settles: bool = False


def back_off(attempts: int, dice: float) -> float:
    """Seconds to wait after so many attempts that count: full jitter over 5 s x 2^n, at most an hour.

    ``dice`` is a random number from 0 to 1; the wait is never under a tenth of its window.
    """
    window = min(CAP_SECONDS, BASE_SECONDS * math.pow(2, min(max(attempts - 1, 0), 30)))
    return window * max(0.1, min(dice, 1.0))


def _asked(retry_after: Any) -> float:
    """The seconds a service asked for, within reason; a minute if it said nothing that is a number."""
    if isinstance(retry_after, (int, float)) and not math.isnan(retry_after):
        return float(min(max(retry_after, 1.0), CAP_SECONDS))
    return 60.0


def judge(  # noqa: C901 - a decision table
    error: BaseException, *, creates: bool, idempotent: bool, attempts: int, failures: int, dice: float
) -> Verdict:
    """What an error of a plugin, or of anything else, makes of a delivery.

    ``creates``: the delivery makes an issue. ``idempotent``: doing it twice is the same as once. ``attempts``: those
    that count so far, this one included. ``failures``: consecutive failures of the destination before this one.
    """
    wait = back_off(attempts, dice)
    hold = min(900.0, 15.0 * math.pow(2, min(failures, 10)))
    match error:
        case api.Unavailable():
            # what concerns the whole destination is the breaker's
            return Verdict(
                cls=Class.UNAVAILABLE,
                next=Next.RETRY,
                counts=False,
                delay_seconds=back_off(min(failures, 5) + 1, dice),
            )
        case api.RateLimited():
            asked = _asked(error.retry_after)
            return Verdict(
                cls=Class.LIMITED,
                next=Next.RETRY,
                counts=False,
                delay_seconds=asked,
                # a limit on one issue is its lane's alone
                hold_seconds=None if error.scope.startswith("issue") else asked,
            )
        case api.Refused():
            return Verdict(cls=Class.REFUSED, next=Next.DEAD)
        case api.AuthFailed():
            return Verdict(
                cls=Class.AUTH, next=Next.RETRY, counts=False, delay_seconds=hold, hold_seconds=hold
            )
        case api.NotFound() if not creates:
            return Verdict(cls=Class.ORPHAN, next=Next.ORPHAN)
        case api.NotFound() | api.Misconfigured():
            return Verdict(
                cls=Class.MISCONFIGURED,
                next=Next.RETRY,
                counts=False,
                delay_seconds=hold,
                # the first lane waits alone; when the next one says the same the destination is at fault
                hold_seconds=hold if failures else None,
            )
        case api.Moved():
            return Verdict(cls=Class.MOVED, next=Next.RETRY, delay_seconds=wait)
        case api.Conflict():
            return Verdict(cls=Class.CONFLICT, next=Next.RETRY, delay_seconds=min(wait, 5.0))
        case api.UnknownOutcome() | TimeoutError() | ConnectionError() | asyncio.CancelledError():
            if idempotent:
                return Verdict(cls=Class.UNAVAILABLE, next=Next.RETRY, delay_seconds=wait, settles=True)
            return Verdict(cls=Class.UNKNOWN, next=Next.RETRY, in_doubt=True, delay_seconds=wait)
        case _:
            if attempts >= DEFECTS_ALLOWED:
                return Verdict(cls=Class.DEFECT, next=Next.DEAD, in_doubt=not idempotent)
            return Verdict(cls=Class.DEFECT, next=Next.RETRY, in_doubt=not idempotent, delay_seconds=wait)
