"""What is done with a problem that comes back: against a table of the default, and a model of the rules."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.duration import parse_duration
from pointsman.domain.recurrence import (
    first_matching_action,
    generation_starts,
    is_same_release,
    is_silent,
    recurrence_action,
)
from pointsman.domain.routing import RecurrenceRule
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import Ticket
from pointsman.plugin_api import Report

ID = uuid.UUID("0192aaaa-0000-7000-8000-000000000000")
REASONS = ["completed", "not_planned", "duplicate"]
SPANS = ["10m", "24h", "30d"]
DAY = 86400.0


def make(
    status=TicketStatus.CLOSED, *, reason="completed", kind=TicketKind.ALERT, release="", age=0.0, **more
):
    closed = reason if status is TicketStatus.CLOSED else None
    return Ticket(ID, 1, kind, "print", 1, status, closed, 5, release=release, closed_seconds=age, **more)


def report(action="opened", release="", **more):
    return Report(action=action, fingerprint="print", release=release, **more)


@pytest.mark.parametrize(
    ("reason", "then"),
    [("completed", "reopen"), ("not_planned", "ignore"), ("duplicate", "comment"), (None, "reopen")],
)
def test_what_is_done_where_no_rule_says_anything(reason, then):
    assert first_matching_action((), reason, 5.0, same_release=None) == then


@pytest.mark.parametrize(
    ("age", "then"), [(0.0, "reopen"), (DAY - 1, "reopen"), (DAY, "new"), (400 * DAY, "new")]
)
def test_by_how_long_it_was_closed(age, then):
    assert (
        first_matching_action(
            [RecurrenceRule(then="new", closed_for="24h")], "completed", age, same_release=None
        )
        == then
    )


@pytest.mark.parametrize(
    ("was", "now", "then"),
    [
        ("1.0", "1.0", "ignore"),
        ("1.0", "1.1", "new"),
        ("", "1.1", "reopen"),
        ("1.0", "", "reopen"),
        ("", "", "reopen"),
    ],
)
def test_by_release_and_one_that_is_not_known_is_neither(was, now, then):
    rules = [RecurrenceRule(then="ignore", release="same"), RecurrenceRule(then="new", release="other")]
    assert recurrence_action(make(release=was), report(release=now), rules) == then


def test_the_first_rule_that_fits_says_it_and_what_it_does_not_ask_fits():
    rules = [
        RecurrenceRule(then="ignore", reason=["not_planned", "duplicate"], closed_for="10m"),
        RecurrenceRule(then="comment"),
        RecurrenceRule(then="new"),
    ]
    assert first_matching_action(rules, "not_planned", 600, same_release=None) == "ignore"
    assert first_matching_action(rules, "not_planned", 599, same_release=None) == "comment"
    assert first_matching_action(rules, "completed", 600, same_release=None) == "comment"


RULES = st.builds(
    RecurrenceRule,
    then=st.sampled_from(["reopen", "new", "comment", "ignore"]),
    reason=st.none() | st.sampled_from(REASONS) | st.lists(st.sampled_from(REASONS), min_size=1, unique=True),
    closed_for=st.none() | st.sampled_from(SPANS),
    release=st.none() | st.sampled_from(["same", "other"]),
)


def model(rules, reason, age, same):
    """Each condition as the sentence that documents it."""
    for rule in [
        *rules,
        RecurrenceRule(then="ignore", reason="not_planned"),
        RecurrenceRule(then="comment", reason="duplicate"),
        RecurrenceRule(then="reopen"),
    ]:
        asked_reason = (
            rule.reason is None
            or reason == rule.reason
            or (isinstance(rule.reason, list) and reason in rule.reason)
        )
        old_enough = (
            rule.closed_for is None or age >= {"10m": 600, "24h": 86400, "30d": 2592000}[rule.closed_for]
        )
        release = {None: True, "same": same is True, "other": same is False}[rule.release]
        if asked_reason and old_enough and release:
            return rule.then
    raise AssertionError("the default fits always")


@given(
    st.lists(RULES, max_size=5),
    st.sampled_from(REASONS),
    st.sampled_from([0.0, 599.0, 600.0, 86399.0, 86400.0, 2591999.0, 2592000.0]),
    st.sampled_from([True, False, None]),
)
def test_every_rule_against_its_description(rules, reason, age, same):
    assert first_matching_action(rules, reason, age, same_release=same) == model(rules, reason, age, same)


@given(st.lists(RULES, max_size=3), st.sampled_from(["opened", "recurred", "regressed", "unmuted"]))
def test_what_people_say_and_what_is_open_obeys_no_rule(rules, action):
    assert (
        recurrence_action(make(kind=TicketKind.SUPPORT, reason="not_planned"), report(action), rules)
        == "reopen"
    )
    assert recurrence_action(make(TicketStatus.OPEN), report(action), rules) == "reopen"
    assert recurrence_action(make(reason="not_planned"), report("commented"), rules) == "reopen"


@pytest.mark.parametrize("more", [{"below_threshold": True}, {"summary_ticket_id": uuid.UUID(int=1)}])
def test_a_ticket_that_never_had_an_issue_has_no_next_generation(more):
    ticket = make(**more)
    assert recurrence_action(ticket, report(), [RecurrenceRule(then="new")]) == "reopen"
    assert generation_starts(ticket, [(report(), [RecurrenceRule(then="new")])]) == []


def test_a_release_that_is_not_known_is_neither_the_same_nor_another():
    assert [is_same_release(*two) for two in (("a", "a"), ("a", "b"), ("", "b"), ("a", ""))] == [
        True, False, None, None,
    ]  # fmt: skip


def test_what_stays_silent_is_known_before_anybody_asks_where_to():
    ignored, duplicate = make(reason="not_planned"), make(reason="duplicate")
    assert is_silent(ignored, report("regressed"), ())
    assert not is_silent(duplicate, report(), ())
    duplicate.recurrence_announced = True
    assert is_silent(duplicate, report("recurred"), ())
    assert not is_silent(duplicate, report("regressed"), ()), "news of its own kind is said each time"
    assert not is_silent(make(), report(), ())


NEW = [
    RecurrenceRule(then="new", reason="completed", release="other"),
    RecurrenceRule(then="reopen", reason="completed"),
]


@pytest.mark.parametrize(
    ("ticket", "reports", "begins"),
    [
        (make(release="1"), [("opened", "2")], [0]),
        (make(release="1"), [("opened", "2"), ("opened", "3"), ("regressed", "4")], [0]),
        (make(release="1"), [("commented", "2"), ("opened", "2")], [1]),
        (make(release="1"), [("opened", "1"), ("opened", "2")], []),
        (make(TicketStatus.OPEN, release="1"), [("opened", "2"), ("over", ""), ("opened", "3")], [2]),
        (make(TicketStatus.OPEN, release="1"), [("opened", "2"), ("over", ""), ("opened", "2")], []),
        (make(release="1"), [("opened", "2"), ("over", ""), ("opened", "3"), ("over", ""), ("opened", "4")], [0, 2, 4]),
        (make(release="1", reason="not_planned"), [("opened", "2"), ("opened", "3")], []),
        (make(release="1", reason="duplicate"), [("opened", "2"), ("opened", "3")], []),
    ],
)  # fmt: skip
def test_where_tickets_of_their_own_begin_within_a_row_of_reports(ticket, reports, begins):
    row = [
        (
            report("resolved", close_reason="completed") if action == "over" else report(action, release),
            NEW,
        )
        for action, release in reports
    ]
    assert generation_starts(ticket, row) == begins


def test_what_is_ignored_first_may_begin_a_ticket_later_in_the_row():
    rules = [RecurrenceRule(then="new", release="other")]
    row = [(report(release=release), rules) for release in ("1", "1", "2", "2")]
    assert generation_starts(make(release="1", reason="not_planned"), row) == [2]


def test_every_span_that_is_used_here_is_what_the_model_says():
    assert [parse_duration(span) for span in SPANS] == [600, 86400, 2592000]
