"""When a destination counts as away. Pure; the breaker itself is a row that all replicas share.

It opens after five calls in a row without an answer, or when half of at least twenty in a minute had none; then nothing is
claimed for its lanes. After a while one lane in the whole cluster is let through as a probe.
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


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that the service is not there, rather than what it thinks of what we asked."""
    return isinstance(error, Unavailable | UnknownOutcome | TimeoutError | ConnectionError)


class RecentCalls:
    """How the calls of this replica to one destination went within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque(maxlen=500)
        self._away = 0

    def record(self, *, unreachable: bool) -> None:
        """One call ended."""
        if len(self._calls) == self._calls.maxlen:
            self._forget()
        self._calls.append((self._clock(), unreachable))
        self._away += unreachable

    def mostly_unreachable(self) -> bool:
        """Whether at least half of enough calls had no answer."""
        oldest = self._clock() - WINDOW_SECONDS
        while self._calls and self._calls[0][0] < oldest:
            self._forget()
        return len(self._calls) >= MIN_CALLS and self._away * 2 >= len(self._calls)

    def clear(self) -> None:
        """Begin anew, once the breaker has opened."""
        self._calls.clear()
        self._away = 0

    def _forget(self) -> None:
        self._away -= self._calls.popleft()[1]
