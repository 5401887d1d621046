"""Decide when the circuit breaker of a destination opens; its state is a row that all replicas share.

It opens after five consecutive calls without an answer, or if half of at least twenty calls within a minute had none. Then no
lane of the destination is claimed, until one lane in the whole cluster is let through as a probe.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pointsman.plugin_api import Unavailable, UnknownOutcome

FAILURES_IN_A_ROW = 5
OPEN_SECONDS = 30.0
MAX_OPEN_SECONDS = 900.0
WINDOW_SECONDS = 60.0
MIN_CALLS = 20
_MAX_RECORDED = 500


def is_unreachable(error: BaseException) -> bool:
    """Return whether an error means that the service did not answer, rather than that it refused the request."""
    return isinstance(error, Unavailable | UnknownOutcome | TimeoutError | ConnectionError)


class RecentCalls:
    """The results of this replica's calls to one destination within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque(maxlen=_MAX_RECORDED)
        self._unreachable = 0

    def record(self, *, unreachable: bool) -> None:
        """Record the end of a call."""
        if len(self._calls) == self._calls.maxlen:
            self._drop_oldest()
        self._calls.append((self._clock(), unreachable))
        self._unreachable += unreachable

    def mostly_unreachable(self) -> bool:
        """Return whether at least half of enough calls had no answer."""
        oldest = self._clock() - WINDOW_SECONDS
        while self._calls and self._calls[0][0] < oldest:
            self._drop_oldest()
        return len(self._calls) >= MIN_CALLS and self._unreachable * 2 >= len(self._calls)

    def clear(self) -> None:
        """Forget all calls, after the breaker opened."""
        self._calls.clear()
        self._unreachable = 0

    def _drop_oldest(self) -> None:
        self._unreachable -= self._calls.popleft()[1]
