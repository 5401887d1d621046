"""Token buckets: turn declared quotas into rate limits, and compute tokens and waiting times.

A bucket holds at most ``burst`` tokens and fills at ``rate`` tokens per second; each write takes one. A share
of a published limit is its steady rate and the rest its burst, so no window of the limit's length contains more writes than
published. The same arithmetic is in ``sql/queries/rate_limits.sql``, for the buckets that all replicas share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from pointsman.plugin_api import Quota

RATE_SHARE = 0.8
"""The part of a limit that is its steady rate; the rest can be saved up and used at once."""
LONG_WINDOW_SECONDS = 600.0
LONG_WINDOW_RATE_SHARE = 0.4
"""The steady part of a limit over a longer window, such as an hour: an allowance that was not used may be used at once."""
PRIORITY_SHARE = 0.2
"""The last part of a bucket, reserved for creates, closes and reopens."""
OPERATOR_BURST_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 60.0
PREFETCH_SECONDS = 10.0
PER_ISSUE = "issue"
_ROUNDING_ERROR = 1e-6
_CLEAN_UP_SIZE = 1024


class RateLimit(msgspec.Struct, frozen=True):
    """A token bucket: tokens per second, and the most tokens that can be saved up."""

    scope: str
    rate: float
    burst: float

    @property
    def priority_tokens(self) -> float:
        """Return the tokens reserved for priority writes; other writes can always take one."""
        return min(PRIORITY_SHARE * self.burst, self.burst - 1.0)

    @property
    def prefetch_limit(self) -> int:
        """Return how many tokens a replica may take in advance: those of a second, none of a slow bucket."""
        return math.floor(self.rate)

    @property
    def per_issue(self) -> bool:
        """Return whether each issue has a bucket of its own."""
        return self.scope.startswith(PER_ISSUE)


def rate_limits_of(declared: Iterable[Quota], writes_per_minute: int | None) -> tuple[RateLimit, ...]:
    """Return the rate limits of a destination, the slowest first, which is the first to be asked.

    ``writes_per_minute`` is the operator's limit, which replaces the declared quotas; 0: no limit.
    """
    if writes_per_minute is not None:
        rate = writes_per_minute / 60.0
        return (RateLimit("all", rate, max(1.0, OPERATOR_BURST_SECONDS * rate)),) if rate else ()
    limits = [_rate_limit_of(quota) for quota in declared]
    return tuple(sorted(limits, key=lambda limit: (limit.rate, limit.scope)))


def _rate_limit_of(quota: Quota) -> RateLimit:
    share = LONG_WINDOW_RATE_SHARE if quota.seconds >= LONG_WINDOW_SECONDS else RATE_SHARE
    return RateLimit(quota.scope, share * quota.calls / quota.seconds, max(1.0, (1.0 - share) * quota.calls))


def shared_limit(configured: Iterable[int | None]) -> int | None:
    """Return the writes per minute for destinations with the same credential: the smallest number counts.

    0 (no limit) only counts where no destination has a number; None if nothing is configured.
    """
    limits = [limit for limit in configured if limit is not None]
    return min((limit for limit in limits if limit > 0), default=0) if limits else None


def filled(limit: RateLimit, tokens: float, elapsed_seconds: float) -> float:
    """Return the tokens of a bucket after some time. Time that runs backwards adds nothing."""
    return min(limit.burst, tokens + limit.rate * max(0.0, elapsed_seconds))


def wait_seconds(
    *, rate: float, priority_tokens: float, tokens: float, priority: int, normal: int
) -> tuple[list[float], list[float]]:
    """Return the seconds until there is a token for each of the ``priority`` and of the ``normal`` waiters."""
    return (
        [max(0.0, n - tokens) / rate for n in range(1, priority + 1)],
        [max(0.0, priority_tokens + priority + n - tokens) / rate for n in range(1, normal + 1)],
    )


class LocalTokens:
    """The tokens that a replica took from a shared bucket and did not use yet.

    Those taken in advance are never more than those of a second, and not kept for long: a rate limit that the tracker
    reports does not reduce them. Those that a write gave back, because another bucket had none, are kept until they are
    used: the bucket may need many seconds for each.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._normal = 0
        self._priority = 0
        self._added_at = 0.0
        self._returned = {False: 0, True: 0}

    @property
    def count(self) -> int:
        """Return the number of all tokens."""
        return self._normal + self._priority + sum(self._returned.values())

    def acquire(self, now: float, *, priority: bool) -> bool:
        """Take a token. The last fifth, and those taken from the bucket's last fifth, are for priority writes alone."""
        for kind in (True, False) if priority else (False,):
            if self._returned[kind]:
                self._returned[kind] -= 1
                return True
        if now - self._added_at > PREFETCH_SECONDS:
            self.clear_prefetched()
        if priority and self._priority:
            self._priority -= 1
            return True
        if self._normal > (0 if priority else math.floor(PRIORITY_SHARE * self._limit.prefetch_limit)):
            self._normal -= 1
            return True
        return False

    def add(self, now: float, count: int, *, priority: bool = False) -> None:
        """Add tokens; those above the limit are dropped."""
        self._added_at = now
        count = min(count, max(1, self._limit.prefetch_limit) - self._normal - self._priority)
        if count > 0 and priority:
            self._priority += count
        elif count > 0:
            self._normal += count

    def give_back(self, *, priority: bool) -> None:
        """Keep a token that a write took and did not use, for the next write of its kind."""
        self._returned[priority] += 1

    def clear_prefetched(self) -> None:
        """Drop the tokens that were taken in advance."""
        self._normal = self._priority = 0

    def clear(self) -> None:
        """Drop all tokens, because the tracker asked to wait and the shared bucket is emptied."""
        self.clear_prefetched()
        self._returned = {False: 0, True: 0}


class WaiterSchedule:
    """Spreads the times at which waiters try again: one per token instead of all at once."""

    def __init__(self) -> None:
        self._last = 0.0

    def wait_seconds(self, now: float, wait_seconds: float, rate: float) -> float:
        """Return the seconds to wait for the next waiter, behind all earlier ones, up to a minute."""
        self._last = min(max(now + wait_seconds, self._last + 1.0 / rate), now + LONGEST_WAIT_SECONDS)
        return max(0.001, self._last - now)


class PerIssueLimits:
    """Buckets of single issues, kept in memory: a lane is leased by one replica at a time. Full buckets are dropped."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, RateLimit], tuple[float, float]] = {}
        self._clean_up_size = _CLEAN_UP_SIZE

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, lane_id: int, limits: Sequence[RateLimit], now: float) -> float:
        """Return the seconds until each bucket of a lane has a token; 0.0 if each has one now."""
        missing = [(1.0 - self._tokens(lane_id, limit, now), limit.rate) for limit in limits]
        return max((tokens / rate for tokens, rate in missing if tokens > _ROUNDING_ERROR), default=0.0)

    def acquire(self, lane_id: int, limits: Sequence[RateLimit], now: float) -> None:
        """Take a token from each bucket of a lane; only after ``wait_seconds`` returned 0.0."""
        for limit in limits:
            self._buckets[lane_id, limit] = (max(0.0, self._tokens(lane_id, limit, now) - 1.0), now)
        if len(self._buckets) >= self._clean_up_size:
            self._buckets = {
                (lane, limit): (tokens, at)
                for (lane, limit), (tokens, at) in self._buckets.items()
                if filled(limit, tokens, now - at) < limit.burst
            }
            self._clean_up_size = max(_CLEAN_UP_SIZE, 2 * len(self._buckets))

    def _tokens(self, lane_id: int, limit: RateLimit, now: float) -> float:
        tokens, at = self._buckets.get((lane_id, limit), (limit.burst, now))
        return filled(limit, tokens, now - at)
