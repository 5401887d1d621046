"""The window in which calls without an answer are counted: its edges."""

from __future__ import annotations

import pytest

from pointsman.domain import circuit_breaker
from pointsman.domain.circuit_breaker import MIN_CALLS, WINDOW_SECONDS, RecentCalls


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _noted(recent: RecentCalls, away: int, answered: int) -> RecentCalls:
    for _ in range(answered):
        recent.record(unreachable=False)
    for _ in range(away):
        recent.record(unreachable=True)
    return recent


def test_the_numbers_of_the_breaker():
    assert (
        circuit_breaker.FAILURES_IN_A_ROW,
        circuit_breaker.OPEN_SECONDS,
        circuit_breaker.MAX_OPEN_SECONDS,
    ) == (
        5,
        30.0,
        900.0,
    )
    assert (WINDOW_SECONDS, MIN_CALLS) == (60.0, 20)


@pytest.mark.parametrize(
    ("away", "answered", "mostly"), [(10, 10, True), (9, 11, False), (19, 0, False), (20, 0, True)]
)
def test_half_of_twenty_is_enough_and_one_less_is_not(away: int, answered: int, mostly: bool):
    assert _noted(RecentCalls(Clock()), away, answered).mostly_unreachable() is mostly


def test_a_call_counts_until_a_minute_is_over_and_no_longer():
    clock = Clock()
    recent = _noted(RecentCalls(clock), 20, 0)
    clock.now = WINDOW_SECONDS
    assert recent.mostly_unreachable(), "just a minute ago"
    clock.now += 0.001
    assert not recent.mostly_unreachable()


def test_the_oldest_call_goes_first():
    clock = Clock()
    recent = RecentCalls(clock)
    recent.record(unreachable=False)
    clock.now = 30.0
    _noted(recent, 20, 0)
    clock.now = WINDOW_SECONDS + 1
    assert recent.mostly_unreachable(), "only the first is forgotten"
    assert len(recent._calls) == 20


def test_the_last_500_calls_count():
    recent = _noted(RecentCalls(Clock()), 250, 251)
    assert recent.mostly_unreachable(), "of 501 calls the first, which was answered, is forgotten"


def test_once_it_has_opened_the_count_begins_anew():
    recent = _noted(RecentCalls(Clock()), 30, 0)
    recent.clear()
    assert not _noted(recent, 9, 11).mostly_unreachable()
