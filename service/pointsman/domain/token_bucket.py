"""How fast a tracker may be written to: declared limits made into tokens, and the arithmetic of tokens. Pure.

A bucket holds at most ``burst`` tokens and fills at ``rate`` tokens a second; each write takes one. With a rate of 80 %
of a published limit and a burst of the other 20 %, no window of the limit's length ever sees more writes than published.
The same arithmetic stands in ``sql/queries/budgets.sql``, for the buckets that all replicas share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from pointsman.plugin_api import Quota

RATE_SHARE = 0.8
PRIORITY_SHARE = 0.2
"""The end of a bucket that is left to creates, closes and reopens."""
OPERATOR_BURST_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 60.0
PREFETCH_SECONDS = 10.0
PER_ISSUE = "issue"
_A_HAIR = 1e-6
"""Less than this is missing only because numbers are rounded."""


class RateLimit(msgspec.Struct, frozen=True):
    """A budget as it is kept: tokens a second, and how many may be saved up."""

    scope: str
    rate: float
    burst: float

    @property
    def priority_tokens(self) -> float:
        """Tokens that only what is urgent may take; never so many that the rest could not take any."""
        return min(PRIORITY_SHARE * self.burst, self.burst - 1.0)

    @property
    def prefetch_limit(self) -> int:
        """Tokens that a replica may hold in advance: a second's worth. None of a slow bucket."""
        return math.floor(self.rate)

    @property
    def per_issue(self) -> bool:
        """Whether each issue has a bucket of its own."""
        return self.scope.startswith(PER_ISSUE)


def rate_limits_of(declared: Iterable[Quota], writes_per_minute: int | None) -> tuple[RateLimit, ...]:
    """The buckets of a destination, the slowest first: what is scarce is asked for first.

    The operator's word replaces the declared limits: so many writes a minute, or 0 for no bucket at all.
    """
    if writes_per_minute is not None:
        rate = writes_per_minute / 60.0
        return (RateLimit("all", rate, max(1.0, OPERATOR_BURST_SECONDS * rate)),) if rate else ()
    made = [
        RateLimit(one.scope, RATE_SHARE * one.calls / one.seconds, max(1.0, (1.0 - RATE_SHARE) * one.calls))
        for one in declared
    ]
    return tuple(sorted(made, key=lambda pace: (pace.rate, pace.scope)))


def shared_limit(given: Iterable[int | None]) -> int | None:
    """What destinations with one credential were told about writes a minute, made one: the smallest counts, and 0 (no
    limit) only where nobody gives a number.
    """
    said = [one for one in given if one is not None]
    return min((one for one in said if one > 0), default=0) if said else None


def filled(pace: RateLimit, tokens: float, elapsed_seconds: float) -> float:
    """The tokens of a bucket after a while. Time that runs backwards fills nothing."""
    return min(pace.burst, tokens + pace.rate * max(0.0, elapsed_seconds))


def wait_seconds(
    *, rate: float, priority_tokens: float, tokens: float, priority: int, normal: int
) -> tuple[list[float], list[float]]:
    """Seconds until there will be a token for each of those that got none: the urgent ones first, one after the other."""
    return (
        [max(0.0, n - tokens) / rate for n in range(1, priority + 1)],
        [max(0.0, priority_tokens + priority + n - tokens) / rate for n in range(1, normal + 1)],
    )


class LocalTokens:
    """What a replica holds of one bucket in advance: taken from it already, used by whoever comes next.

    Never more than a second's worth, and not for long: what is held knows nothing of a tracker's complaint.
    """

    def __init__(self, pace: RateLimit) -> None:
        self._pace = pace
        self._free = 0
        self._urgent = 0
        self._since = 0.0

    @property
    def count(self) -> int:
        """All tokens held."""
        return self._free + self._urgent

    def acquire(self, now: float, *, priority: bool) -> bool:
        """Take one, if there is one: the last fifth, and what came out of the bucket's last fifth, only for urgent ones."""
        if now - self._since > PREFETCH_SECONDS:
            self.clear()
        if priority and self._urgent:
            self._urgent -= 1
            return True
        if self._free > (0 if priority else math.floor(PRIORITY_SHARE * self._pace.prefetch_limit)):
            self._free -= 1
            return True
        return False

    def add(self, now: float, count: int, *, priority: bool = False) -> None:
        """Hold more. What is more than may be held is lost."""
        self._since = now
        count = min(count, max(1, self._pace.prefetch_limit) - self.count)
        if count > 0 and priority:
            self._urgent += count
        elif count > 0:
            self._free += count

    def clear(self) -> None:
        """Let go of everything."""
        self._free = self._urgent = 0


class WaiterSchedule:
    """When those that were told to wait come back: one a token, not all at the same moment."""

    def __init__(self) -> None:
        self._last = 0.0

    def wait_seconds(self, now: float, wait_seconds: float, rate: float) -> float:
        """Seconds to wait for one more, behind those before it. Capped: then they ask again."""
        self._last = min(max(now + wait_seconds, self._last + 1.0 / rate), now + LONGEST_WAIT_SECONDS)
        return max(0.001, self._last - now)


class PerIssueLimits:
    """Buckets of single issues. A lane is one issue's, and one replica at a time holds it, so they stay in memory.

    A bucket that is full says nothing and is forgotten.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, RateLimit], tuple[float, float]] = {}
        self._sweep_at = 1024

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, lane_id: int, paces: Sequence[RateLimit], now: float) -> float:
        """Seconds until each bucket of a lane has a token; 0.0 if each has one now."""
        short = [(1.0 - self._tokens(lane_id, pace, now), pace.rate) for pace in paces]
        return max((lacking / rate for lacking, rate in short if lacking > _A_HAIR), default=0.0)

    def acquire(self, lane_id: int, paces: Sequence[RateLimit], now: float) -> None:
        """Take a token out of each bucket of a lane; only after ``wait`` said 0.0."""
        for pace in paces:
            self._buckets[lane_id, pace] = (max(0.0, self._tokens(lane_id, pace, now) - 1.0), now)
        if len(self._buckets) >= self._sweep_at:
            self._buckets = {
                (lane, pace): (tokens, at)
                for (lane, pace), (tokens, at) in self._buckets.items()
                if filled(pace, tokens, now - at) < pace.burst
            }
            self._sweep_at = max(1024, 2 * len(self._buckets))

    def _tokens(self, lane_id: int, pace: RateLimit, now: float) -> float:
        tokens, at = self._buckets.get((lane_id, pace), (pace.burst, now))
        return filled(pace, tokens, now - at)
