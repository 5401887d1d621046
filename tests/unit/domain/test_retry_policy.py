"""Classify errors of attempts: a request that is not proven to have had no effect has an unknown outcome."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import plugin_api as api
from pointsman.domain.retry_policy import (
    BASE_SECONDS,
    CAP_SECONDS,
    MAX_DEFECTS,
    NextStep,
    Outcome,
    back_off,
    classify_error,
    concerns_issue,
)

QUICK = settings(deadline=None, max_examples=50)

CREATE = {"creates": True, "idempotent": False}
COMMENT = {"creates": False, "idempotent": False}
STATE = {"creates": False, "idempotent": True}
KINDS = {"create": CREATE, "comment": COMMENT, "state": STATE}


def of(error, kind, *, attempts=1, failures=0, dice=1.0):
    return classify_error(error, **kind, attempts=attempts, destination_failures=failures, jitter=dice)


UNAVAILABLE = (Outcome.UNAVAILABLE, NextStep.RETRY, False)
UNKNOWN = (Outcome.UNKNOWN, NextStep.RETRY, True)
# error: (outcome, next step, outcome unknown) for a create, a comment, a change of state; whether the attempt counts
TABLE = [
    (api.Unavailable("x"), UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, False),
    (api.RateLimited("x"), *[(Outcome.RATE_LIMITED, NextStep.RETRY, False)] * 3, False),
    (api.Refused("x"), *[(Outcome.REFUSED, NextStep.DEAD, False)] * 3, True),
    (api.AuthFailed("x"), *[(Outcome.AUTH, NextStep.RETRY, False)] * 3, False),
    (api.Misconfigured("x"), *[(Outcome.MISCONFIGURED, NextStep.RETRY, False)] * 3, False),
    (
        api.Blocked("x"),
        (Outcome.MISCONFIGURED, NextStep.RETRY, False),
        *[(Outcome.BLOCKED, NextStep.RETRY, False)] * 2,
        None,
    ),
    (api.IssueMoved("x", to="y"), *[(Outcome.MOVED, NextStep.RETRY, False)] * 3, True),
    (api.Conflict("x"), *[(Outcome.CONFLICT, NextStep.RETRY, False)] * 3, True),
    (api.UnknownOutcome("x"), UNKNOWN, UNKNOWN, UNAVAILABLE, True),
    (TimeoutError(), UNKNOWN, UNKNOWN, UNAVAILABLE, True),
    (ConnectionResetError(), UNKNOWN, UNKNOWN, UNAVAILABLE, True),
    (asyncio.CancelledError(), UNKNOWN, UNKNOWN, UNAVAILABLE, True),
    *[
        (bug, *[(Outcome.DEFECT, NextStep.RETRY, True)] * 2, (Outcome.DEFECT, NextStep.RETRY, False), True)
        for bug in (
            KeyError("x"),
            ValueError(),
            RecursionError(),
            api.PluginError("x"),
            NotImplementedError(),
        )
    ],
]


@pytest.mark.parametrize(
    ("error", "kind", "wanted", "counts"),
    [
        pytest.param(error, kind, wanted, counts, id=f"{type(error).__name__}-{name}")
        for error, *each, counts in TABLE
        for (name, kind), wanted in zip(KINDS.items(), each, strict=True)
    ],
)
def test_the_table_of_errors(error, kind, wanted, counts):
    decision = of(error, kind)
    assert (decision.outcome, decision.next_step, decision.outcome_unknown) == wanted
    assert decision.counts_as_attempt is (kind is not CREATE if counts is None else counts)


def test_an_error_about_one_issue_never_concerns_its_destination():
    """A create names no issue, so whatever prevents it concerns the destination."""
    for error in (api.Blocked("x"), api.NotFound("x"), api.IssueMoved("x", to="y")):
        assert concerns_issue(error, creates=False)
        assert not concerns_issue(error, creates=True)
        assert of(error, COMMENT, failures=9).destination_back_off_seconds is None
    assert concerns_issue(api.RateLimited("x", scope="issue:1"), creates=False)
    assert not concerns_issue(api.RateLimited("x"), creates=False)
    for error in (api.Misconfigured("x"), api.AuthFailed("x"), api.Unavailable("x"), api.Refused("x")):
        assert not concerns_issue(error, creates=False)


def test_a_thing_that_is_gone_is_a_fault_of_the_settings_for_a_create_and_an_orphan_for_the_rest():
    assert of(api.NotFound("x"), CREATE).outcome is Outcome.MISCONFIGURED
    assert of(api.NotFound("x"), CREATE).next_step is NextStep.RETRY
    for kind in (COMMENT, STATE):
        decision = of(api.NotFound("x"), kind)
        assert (decision.outcome, decision.next_step, decision.outcome_unknown) == (
            Outcome.ORPHAN,
            NextStep.ORPHAN,
            False,
        )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_bug_is_tried_a_few_times_and_then_given_up(kind):
    nexts = [of(KeyError("x"), kind, attempts=n).next_step for n in range(1, MAX_DEFECTS + 2)]
    assert nexts == [*[NextStep.RETRY] * (MAX_DEFECTS - 1), NextStep.DEAD, NextStep.DEAD]


def test_a_time_out_never_kills_a_delivery_however_often_it_comes():
    assert of(api.UnknownOutcome("x"), CREATE, attempts=10_000).next_step is NextStep.RETRY


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        (30, 30),
        (0, 1),
        (-5, 1),
        (86_400, CAP_SECONDS),
        (float("inf"), CAP_SECONDS),
        (float("nan"), 60),
        (None, 60),
        ("soon", 60),
    ],
)
def test_a_limit_holds_back_the_whole_destination_as_long_as_asked_within_reason(asked, waits):
    decision = of(api.RateLimited("x", retry_after=asked), CREATE)
    assert (decision.delay_seconds, decision.destination_back_off_seconds) == (waits, waits)


def test_a_refused_credential_holds_back_the_destination_at_once_and_ever_longer():
    holds = [of(api.AuthFailed("x"), CREATE, failures=n).destination_back_off_seconds for n in range(20)]
    assert holds == sorted(holds)
    assert holds[0] > 0
    assert holds[-1] == holds[-2] == 900


def test_one_lane_that_says_the_settings_are_wrong_waits_alone_two_stop_the_destination():
    for error in (api.Misconfigured("x"), api.NotFound("x")):
        first, second = (of(error, CREATE, failures=n) for n in (0, 1))
        assert first.destination_back_off_seconds is None
        assert second.destination_back_off_seconds is not None
        assert first.delay_seconds > 0


def test_an_unreachable_destination_is_left_to_the_breaker_and_uses_up_no_attempts():
    decisions = [of(api.Unavailable("x"), CREATE, attempts=50, failures=n) for n in range(12)]
    delays = [decision.delay_seconds for decision in decisions]
    assert delays == sorted(delays)
    assert delays[0] > 0 and delays[-1] <= 300
    assert not any(
        decision.counts_as_attempt or decision.destination_back_off_seconds for decision in decisions
    )


def test_the_numbers_of_an_attempt():
    assert (BASE_SECONDS, CAP_SECONDS, MAX_DEFECTS) == (5.0, 3600.0, 3)
    back_offs = [of(api.AuthFailed("x"), CREATE, failures=n).destination_back_off_seconds for n in range(8)]
    assert back_offs == [15, 30, 60, 120, 240, 480, 900, 900]
    away = [of(api.Unavailable("x"), CREATE, failures=n, dice=1.0).delay_seconds for n in range(8)]
    assert away == [5, 10, 20, 40, 80, 160, 160, 160]
    assert of(api.Refused("x"), CREATE).delay_seconds == 0.0
    assert of(api.Conflict("x"), COMMENT, attempts=20, dice=1.0).delay_seconds == 5.0


def test_nothing_waits_for_what_is_found_out_by_looking():
    """Only a change of state, which is not verified, lets the tracker settle."""
    assert not any(of(error, COMMENT).must_settle for error in (api.UnknownOutcome("x"), api.Refused("x")))


def test_a_limit_on_one_issue_holds_back_its_own_lane_only():
    decision = of(api.RateLimited("x", retry_after=7, scope="issue:12"), CREATE)
    assert (decision.delay_seconds, decision.destination_back_off_seconds) == (7, None)


@pytest.mark.parametrize("error", [api.Refused("x"), api.UnknownOutcome("x"), KeyError(), api.Conflict("x")])
def test_what_lies_with_one_delivery_holds_back_no_other(error):
    assert of(error, CREATE, failures=5).destination_back_off_seconds is None


def test_a_conflict_is_tried_again_soon_however_often_it_came():
    assert of(api.Conflict("x"), COMMENT, attempts=20).delay_seconds <= 5


@QUICK
@given(st.integers(-3, 10_000), st.floats(0, 1))
def test_the_wait_lies_within_its_window(attempts, dice):
    window = min(CAP_SECONDS, BASE_SECONDS * 2 ** min(max(attempts - 1, 0), 30))
    assert window / 10 <= back_off(attempts, dice) <= window


def test_the_windows_double_up_to_the_cap():
    assert [back_off(n, 1.0) for n in range(1, 12)] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]


def test_the_dice_spread_the_waits():
    assert back_off(5, 0.5) == back_off(5, 1.0) / 2


errors = st.sampled_from(
    [error for error, *_ in TABLE] + [api.NotFound("x"), Exception(), OSError(), MemoryError()]
)


@QUICK
@given(
    errors, st.sampled_from(list(KINDS.values())), st.integers(0, 100), st.integers(-1, 2000), st.floats(0, 1)
)
def test_any_verdict_can_be_acted_on(error, kind, attempts, failures, dice):
    decision = of(error, kind, attempts=attempts, failures=failures, dice=dice)
    assert 0 <= decision.delay_seconds <= CAP_SECONDS
    assert (
        decision.destination_back_off_seconds is None
        or 0 < decision.destination_back_off_seconds <= CAP_SECONDS
    )
    # a retry never comes at once, or a failing tracker would be hammered
    assert decision.next_step is not NextStep.RETRY or decision.delay_seconds > 0
    # doing it twice is the same as once: no outcome to verify
    assert not (decision.outcome_unknown and kind["idempotent"])
    # what was not told apart may have been done
    if not isinstance(error, api.PluginError) and not kind["idempotent"]:
        assert decision.outcome_unknown


def test_a_change_of_state_that_may_come_late_lets_the_tracker_settle_before_anything_follows():
    """A close that is applied late would undo the reopen that followed."""
    assert of(TimeoutError(), STATE).must_settle
    assert not of(api.Unavailable("x"), STATE).must_settle, "that one surely never left"
