"""Tokens: never fewer than none, never more than the burst, and no window sees more writes than a limit allows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.token_bucket import (
    LONGEST_WAIT_SECONDS,
    PREFETCH_SECONDS,
    LocalTokens,
    PerIssueLimits,
    RateLimit,
    WaiterSchedule,
    filled,
    rate_limits_of,
    shared_limit,
    wait_seconds,
)
from pointsman.plugin_api import Quota

LIMITS = st.builds(
    Quota, st.just("issue"), st.integers(1, 500), st.floats(0.5, 3600, allow_nan=False, allow_infinity=False)
)
STEPS = st.lists(st.floats(0, 30, allow_nan=False), max_size=120)


# -- from limits to buckets ------------------------------------------------------------------------------------------


def test_four_fifths_of_a_limit_are_used_steadily_and_three_fifths_of_an_hour_at_once():
    [hour, minute] = rate_limits_of((Quota("content", 80, 60.0), Quota("content-hour", 500, 3600.0)), None)
    assert (hour.scope, hour.rate, hour.burst) == ("content-hour", 200 / 3600, pytest.approx(300))
    assert (minute.scope, minute.rate, minute.burst) == ("content", 64 / 60, pytest.approx(16))


def test_the_operators_limit_replaces_what_the_tracker_declares():
    declared = (Quota("content", 80, 60.0), Quota("issue", 20, 2.0))
    assert rate_limits_of(declared, 60) == (RateLimit("all", 1.0, 5.0),)
    assert rate_limits_of(declared, 1) == (RateLimit("all", 1 / 60, 1.0),)
    assert rate_limits_of(declared, 0) == ()
    assert rate_limits_of((), None) == ()


@pytest.mark.parametrize(
    ("given_by", "holds"),
    [
        ([], None),
        ([None, None], None),
        ([None, 60], 60),
        ([60, 30, None], 30),
        ([0, None], 0),
        ([0, 30], 30),
    ],
)
def test_what_one_destination_was_told_holds_for_all_with_its_credential(given_by, holds):
    assert shared_limit(given_by) == holds


@pytest.mark.parametrize("wrong", [("", 1, 1.0), ("a:b", 1, 1.0), ("a", 0, 1.0), ("a", 1, 0.0)])
def test_a_budget_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="a quota has"):
        Quota(*wrong)


@given(LIMITS)
def test_what_is_not_urgent_can_always_take_one(limit):
    [rate_limit] = rate_limits_of((limit,), None)
    assert rate_limit.burst - rate_limit.priority_tokens >= 1.0 - 1e-9
    assert 0 <= rate_limit.priority_tokens <= 0.2 * rate_limit.burst + 1e-9


@given(st.lists(st.sampled_from(["take", "take priority", "give back", "clear prefetched"]), max_size=60))
def test_a_token_that_was_given_back_is_used_by_the_next_write_and_never_lost(steps):
    """Even by a bucket that is so slow that no token may be taken in advance, and after any time."""
    tokens, returned, now = LocalTokens(RateLimit("hour", 0.05, 300.0)), {False: 0, True: 0}, 0.0
    for step in steps:
        now += PREFETCH_SECONDS * 3
        if step == "give back":
            tokens.give_back(priority=True)
            tokens.give_back(priority=False)
            returned = {kind: count + 1 for kind, count in returned.items()}
        elif step == "clear prefetched":
            tokens.clear_prefetched()
        else:
            priority = step == "take priority"
            kinds = [kind for kind in ((True, False) if priority else (False,)) if returned[kind]]
            assert tokens.acquire(now, priority=priority) is bool(kinds)
            if kinds:
                returned[kinds[0]] -= 1
        assert tokens.count == sum(returned.values())


# -- the arithmetic --------------------------------------------------------------------------------------------------


@given(LIMITS, st.floats(0, 1000, allow_nan=False), st.floats(allow_nan=False, min_value=-1e6, max_value=1e9))
def test_a_bucket_holds_no_more_than_its_burst_and_time_that_runs_back_fills_nothing(limit, tokens, elapsed):
    [rate_limit] = rate_limits_of((limit,), None)
    tokens = min(tokens, rate_limit.burst)
    after = filled(rate_limit, tokens, elapsed)
    assert tokens <= after <= rate_limit.burst
    assert elapsed > 0 or after == tokens


@given(LIMITS, STEPS)
def test_no_window_sees_more_than_the_published_limit(limit, steps):
    """Write whenever the lane may; count every window of the limit's length."""
    [rate_limit] = rate_limits_of((limit,), None)
    lanes, now, went = PerIssueLimits(), 0.0, []
    for step in steps:
        now += step
        while lanes.wait_seconds(7, [rate_limit], now) == 0.0:
            lanes.acquire(7, [rate_limit], now)
            went.append(now)
    for first, start in enumerate(went):
        within = [at for at in went[first:] if at - start < limit.seconds]
        assert len(within) <= limit.calls


@given(LIMITS, STEPS)
def test_a_wait_is_honest(limit, steps):
    """After it there is a token; shortly before there was none."""
    [rate_limit] = rate_limits_of((limit,), None)
    lanes, now = PerIssueLimits(), 0.0
    for step in steps:
        now += step
        wait = lanes.wait_seconds(7, [rate_limit], now)
        if wait > 0.0:
            assert lanes.wait_seconds(7, [rate_limit], now + wait * 0.9) > 0.0 or wait < 1e-3
            now += wait + 1e-9
            assert lanes.wait_seconds(7, [rate_limit], now) == 0.0
        lanes.acquire(7, [rate_limit], now)


@given(
    LIMITS,
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_those_that_wait_come_one_a_token_and_the_urgent_ones_first(limit, tokens, urgent, normal):
    [rate_limit] = rate_limits_of((limit,), None)
    first, then = wait_seconds(
        rate=rate_limit.rate,
        priority_tokens=rate_limit.priority_tokens,
        tokens=tokens,
        priority=urgent,
        normal=normal,
    )
    both = first + then
    assert both == sorted(both)
    for n, wait in enumerate(first, 1):
        assert tokens + rate_limit.rate * wait >= n - 1e-6
    for n, wait in enumerate(then, 1):
        assert tokens + rate_limit.rate * wait >= rate_limit.priority_tokens + urgent + n - 1e-6


def test_those_that_are_told_later_queue_behind_those_told_before():
    queue = WaiterSchedule()
    assert [queue.wait_seconds(100.0, 1.0, 0.5) for _ in range(3)] == [1.0, 3.0, 5.0]
    assert queue.wait_seconds(101.0, 1.0, 0.5) == 6.0
    assert queue.wait_seconds(200.0, 1.0, 0.5) == 1.0, "whoever came before is served by now"
    assert max(queue.wait_seconds(200.0, 1.0, 0.5) for _ in range(100)) == LONGEST_WAIT_SECONDS


# -- lanes -----------------------------------------------------------------------------------------------------------


def test_each_lane_has_a_bucket_of_its_own_and_a_full_one_is_forgotten():
    rate_limit = RateLimit("issue", 8.0, 4.0)
    lanes = PerIssueLimits()
    for lane in range(1023):
        lanes.acquire(lane, [rate_limit], 0.0)
    assert lanes.wait_seconds(1, [rate_limit], 0.0) == 0.0
    lanes.acquire(5000, [rate_limit], 100.0)
    assert len(lanes) == 1


def test_a_clean_up_leaves_buckets_of_other_trackers_alone():
    slow, fast = RateLimit("issue", 0.001, 1.0), RateLimit("issue", 8.0, 4.0)
    lanes = PerIssueLimits()
    lanes.acquire(1, [slow], 0.0)
    for lane in range(2, 1100):
        lanes.acquire(lane, [fast], 50.0)
    assert lanes.wait_seconds(1, [slow], 50.0) > 0


def test_the_longest_of_several_buckets_counts():
    short, long = RateLimit("issue", 8.0, 4.0), RateLimit("issue-long", 0.5, 1.0)
    lanes = PerIssueLimits()
    lanes.acquire(1, [short, long], 0.0)
    assert lanes.wait_seconds(1, [short, long], 0.0) == 2.0


# -- what a replica holds --------------------------------------------------------------------------------------------


def test_the_last_fifth_of_the_prefetched_tokens_is_for_priority_writes():
    throttled = LocalTokens(RateLimit("all", 10.0, 50.0))
    throttled.add(0.0, 10)
    assert [throttled.acquire(0.0, priority=False) for _ in range(9)] == [True] * 8 + [False]
    assert [throttled.acquire(0.0, priority=True) for _ in range(3)] == [True, True, False]


def test_what_was_taken_for_an_urgent_one_stays_for_urgent_ones():
    throttled = LocalTokens(RateLimit("all", 10.0, 50.0))
    throttled.add(0.0, 1, priority=True)
    assert not throttled.acquire(0.0, priority=False)
    assert throttled.acquire(0.0, priority=True)


@given(
    st.floats(0.01, 50, allow_nan=False),
    st.lists(
        st.tuples(st.sampled_from(["put", "back", "take", "urgent"]), st.integers(1, 99), st.floats(0, 5))
    ),
)
def test_never_more_is_prefetched_than_a_second_is_worth_and_never_less_than_nothing(rate, doings):
    rate_limit = RateLimit("all", rate, max(1.0, rate))
    tokens, now, put, took = LocalTokens(rate_limit), 0.0, 0, 0
    for subject, count, step in doings:
        now += step
        before = tokens.count
        if subject in ("put", "back"):
            tokens.add(now, count, priority=subject == "back")
            put += tokens.count - before
        else:
            took += tokens.acquire(now, priority=subject == "urgent")
        assert 0 <= tokens.count <= max(1, rate)
    assert took <= put


def test_prefetched_tokens_are_not_kept_for_long():
    throttled = LocalTokens(RateLimit("all", 10.0, 50.0))
    throttled.add(0.0, 5)
    assert throttled.acquire(PREFETCH_SECONDS, priority=True)
    assert not throttled.acquire(PREFETCH_SECONDS * 2 + 0.1, priority=True)
    assert throttled.count == 0


def test_a_pace_is_a_key():
    assert {RateLimit("a", 1.0, 2.0): 1}[RateLimit("a", 1.0, 2.0)] == 1
    assert msgspec.structs.replace(RateLimit("a", 1.0, 2.0), rate=2.0) != RateLimit("a", 1.0, 2.0)
