"""Routes: the first rule that takes a ticket decides, unless it says to go on."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.domain.routing import (
    Facts,
    History,
    Match,
    MatchResult,
    Options,
    Route,
    evaluate_history,
    has_threshold,
    match_route,
    occurrence_windows,
    prefilter,
    referenced_fields,
)

QUICK = settings(deadline=None, max_examples=40)
ALERT = Facts("shop", "alert", environment="production", level="error", release="1.2")


def settle(routes, facts, history=None):
    return evaluate_history(prefilter(routes, facts), history, met=facts.kind == "support")


def choose(routes, facts, history=None):
    return settle(routes, facts, history).destinations


def rule(position, destinations, *, continues=False, **match):
    return Route(position, Match(**match), destinations, continues)


def test_without_rules_a_ticket_goes_nowhere():
    assert choose([], ALERT) == ()


def test_the_first_rule_that_matches_decides():
    rules = [rule(1, (1,), source="other"), rule(2, (2,), source="shop"), rule(3, (3,), source="shop")]
    assert choose(rules, ALERT) == (2,)


def test_an_empty_match_at_the_end_takes_what_is_left():
    rules = [rule(1, (1,), kind="support"), rule(2, (2,))]
    assert choose(rules, ALERT) == (2,)
    assert choose(rules, Facts("helpdesk", "support")) == (1,)


def test_a_rule_that_continues_adds_its_destinations_to_those_after_it():
    rules = [rule(1, (1, 2), continues=True), rule(2, (2, 3), continues=True), rule(3, (4,)), rule(4, (5,))]
    assert choose(rules, ALERT) == (1, 2, 3, 4)


def test_a_rule_that_continues_but_does_not_match_adds_nothing():
    assert choose([rule(1, (1,), source="other", continues=True), rule(2, (2,))], ALERT) == (2,)


def test_a_rule_without_destinations_drops_what_it_takes():
    assert choose([rule(1, (), source="shop"), rule(2, (2,))], ALERT) == ()


def test_everything_a_rule_asks_must_fit():
    fits = {
        "source": "shop",
        "kind": "alert",
        "environment": "production",
        "level": "error",
        "release": "1.2",
    }
    assert choose([rule(1, (1,), **fits)], ALERT) == (1,)
    for name in fits:
        assert choose([rule(1, (1,), **{**fits, name: "else"})], ALERT) == ()


def test_an_empty_word_asks_for_a_ticket_that_says_nothing():
    rules = [rule(1, (1,), environment="")]
    assert choose(rules, Facts("shop", "alert")) == (1,)
    assert choose(rules, ALERT) == ()


def test_a_verdict_names_what_stood_against_a_rule_and_what_it_met():
    assert match_route(rule(7, (1,), source="shop", level="fatal"), ALERT) == MatchResult(
        7, matched=False, failed_field="level", expected="fatal", actual="error"
    )
    assert match_route(rule(7, (1,)), ALERT) == MatchResult(7, matched=True)
    match = match_route(rule(7, (1,), environment=["a", "b"]), Facts("shop", "alert"))
    assert (match.failed_field, match.expected, match.actual) == ("environment", "a or b", "nothing")
    match = match_route(rule(7, (1,), tags={"service": ["a", ""]}), ALERT)
    assert (match.failed_field, match.expected, match.actual) == ("tags.service", "a or nothing", "nothing")
    unknown = Facts("shop", "alert", tags=None)
    assert match_route(rule(7, (1,), tags={"service": "a"}), unknown).actual == "not known here"
    match = match_route(rule(7, (1,), title="^b"), Facts("shop", "alert", title="abc"))
    assert (match.failed_field, match.expected, match.actual) == ("title", "with ^b", "abc")


@pytest.mark.parametrize("name", ["environment", "level", "release"])
def test_one_of_several_values_is_enough(name):
    rules = [rule(1, (1,), **{name: ["x", "y"]})]
    assert choose(rules, Facts("shop", "alert", **{name: "y"})) == (1,)
    assert choose(rules, Facts("shop", "alert", **{name: "xy"})) == ()
    assert choose([rule(1, (1,), **{name: "xyz"})], Facts("shop", "alert", **{name: "y"})) == ()


def test_tags_fit_by_any_value_of_their_name_and_all_names_must_fit():
    rules = [rule(1, (1,), tags={"service": ["pay", "basket"], "team": "blue"})]

    def go(*tags):
        return choose(rules, Facts("shop", "alert", tags=tags))

    assert go(("service", "pay"), ("team", "blue")) == (1,)
    assert go(("service", "x"), ("service", "basket"), ("team", "blue")) == (1,)
    assert go(("service", "pay")) == ()
    assert go(("service", "pay"), ("team", "red")) == ()
    assert go(("team", "pay"), ("service", "blue")) == ()
    assert go() == ()


def test_a_title_is_searched_not_compared():
    rules = [rule(1, (1,), title=r"(?i)time(d )?out\b")]
    assert choose(rules, Facts("shop", "alert", title="Request TIMEOUT in /basket")) == (1,)
    assert choose(rules, Facts("shop", "alert", title="timeouts")) == ()
    assert choose([rule(1, (1,), title="^Re")], Facts("shop", "alert", title="No Re")) == ()


def test_a_hostile_title_costs_no_time():
    """Python's own expressions would need longer than the universe for it."""
    rules = [rule(1, (1,), title="(a+)+$")]
    assert choose(rules, Facts("shop", "alert", title="a" * 499 + "b" * 100_000)) == ()


def test_so_much_of_a_title_is_looked_at():
    rules = [rule(1, (1,), title="x")]
    assert choose(rules, Facts("shop", "alert", title="a" * 499 + "x")) == (1,)
    assert choose(rules, Facts("shop", "alert", title="a" * 500 + "x")) == ()


# -- thresholds ------------------------------------------------------------------------------------------------------

OFTEN = rule(1, (1,), occurrences=3, within="10m")


def seen(times, seconds=600, **more):
    return History(occurrences_within={seconds: times}, **more)


def test_a_threshold_is_met_by_the_report_that_reaches_it():
    assert settle([OFTEN], ALERT, seen(2)).below_threshold
    assert settle([OFTEN], ALERT, seen(2)).destinations == ()
    met = settle([OFTEN], ALERT, seen(3))
    assert (met.destinations, met.below_threshold) == ((1,), False)


def test_without_its_past_a_problem_is_below_every_threshold():
    assert settle([OFTEN], ALERT).below_threshold
    assert match_route(OFTEN, ALERT) == MatchResult(
        1,
        matched=False,
        failed_field="occurrences",
        expected="3 within 10m",
        actual="not known here",
        pending=True,
    )
    assert match_route(OFTEN, ALERT, seen(2)).actual == "2"
    assert match_route(OFTEN, ALERT, seen(3)).matched


def test_each_rule_counts_within_its_own_time():
    day = rule(2, (2,), occurrences=100, within="1d")
    past = History(occurrences_within={600: 2, 86400: 100})
    assert settle([OFTEN, day], ALERT, past).destinations == (2,)
    assert occurrence_windows([OFTEN, day, OFTEN, rule(3, ())]) == (600, 86400)
    assert occurrence_windows([rule(3, (), unseen_for="1h")]) == ()


def test_a_rule_below_its_threshold_is_passed_over():
    below = settle([OFTEN, rule(2, (2,))], ALERT, seen(1))
    assert (below.destinations, below.below_threshold) == ((2,), False)
    assert [route.position for route in below.pending] == [1]
    assert settle([OFTEN, rule(2, (2,))], ALERT, seen(3)).destinations == (1,)


def test_nothing_is_below_a_threshold_that_a_rule_drops_or_that_no_rule_would_take():
    assert not settle([OFTEN, rule(2, ())], ALERT, seen(1)).below_threshold
    assert not settle(
        [rule(1, (1,), source="other", occurrences=3, within="10m")], ALERT, seen(1)
    ).below_threshold
    assert not settle([], ALERT, seen(1)).below_threshold
    assert settle([rule(2, (), source="other"), OFTEN], ALERT, seen(1)).below_threshold


def test_a_rule_after_one_that_took_it_holds_nothing():
    assert not settle([rule(0, (2,), continues=True), OFTEN], ALERT, seen(1)).below_threshold


def test_what_was_not_seen_for_long_or_never_is_news():
    rules = [rule(1, (1,), unseen_for="1h")]
    assert choose(rules, ALERT, History(unseen_seconds=None)) == (1,)
    assert choose(rules, ALERT, History(unseen_seconds=3600.0)) == (1,)
    assert choose(rules, ALERT, History(unseen_seconds=3599.0)) == ()
    assert settle(rules, ALERT, History(unseen_seconds=1.0)).below_threshold
    match = match_route(rules[0], ALERT, History(unseen_seconds=12.0))
    assert (match.failed_field, match.expected, match.actual) == (
        "unseen_for",
        "not reported for 1h",
        "reported 12 s before",
    )


def test_support_tickets_never_wait_for_a_threshold():
    """A support ticket is reported once: it would wait for ever."""
    help_me = Facts("helpdesk", "support")
    choice = settle([OFTEN, rule(2, (2,))], help_me)
    assert (choice.destinations, choice.below_threshold, choice.pending) == ((1,), False, ())
    assert match_route(OFTEN, help_me).matched
    assert choose([rule(1, (1,), unseen_for="1h")], help_me, History(unseen_seconds=1.0)) == (1,)


def test_only_rules_with_a_threshold_need_the_past():
    assert not any(map(has_threshold, [rule(1, (1,), source="x", title="x", tags={"a": "b"})]))
    assert any(map(has_threshold, [rule(1, (1,)), OFTEN]))
    assert any(map(has_threshold, [rule(1, (1,), unseen_for="1h")]))


def test_candidates_end_with_the_first_rule_that_takes_it_for_sure():
    some = [OFTEN, rule(2, (2,), continues=True), rule(3, (3,), source="other"), rule(4, (4,)), rule(5, (5,))]
    assert [route.position for route in prefilter(some, ALERT)] == [1, 2, 4]
    assert evaluate_history(prefilter(some, ALERT), seen(3)).destinations == (1,)
    assert evaluate_history(prefilter(some, ALERT), seen(2)).destinations == (2, 4)


def test_the_first_rule_that_took_it_says_what_else_is_done():
    named = [
        Route(number, Match(), (number,), continues=True, options=Options(name=f"n{number}"))
        for number in (1, 2)
    ]
    choice = settle(named, ALERT)
    assert choice.options.name == "n1"
    assert [route.position for route in choice.routes] == [1, 2]
    assert settle([], ALERT).options == Options()


def test_what_the_rules_ask_is_known():
    assert referenced_fields([]) == frozenset()
    assert referenced_fields(
        [rule(1, ()), rule(2, (), source="a", tags={"a": "b"}), rule(3, (), title="x", level=[])]
    ) == {
        "source",
        "tags",
        "title",
        "level",
    }
    assert referenced_fields([OFTEN]) == frozenset()


# -- properties ------------------------------------------------------------------------------------------------------

values = st.none() | st.sampled_from(["shop", "alert", "x", ""])
some_words = values | st.lists(st.sampled_from(["x", "y", ""]), max_size=2)
tag_values = st.sampled_from(["x", "y"])
matches = st.builds(
    Match,
    source=values,
    kind=values,
    environment=some_words,
    level=some_words,
    release=some_words,
    tags=st.dictionaries(st.sampled_from("ab"), tag_values | st.lists(tag_values, max_size=2), max_size=2),
    title=st.none() | st.sampled_from(["x", "^x", "x$", "x|y", "."]),
    occurrences=st.none() | st.integers(1, 4),
    within=st.sampled_from(["1s", "10m"]),
    unseen_for=st.none() | st.sampled_from(["1s", "10m"]),
)
routes = st.lists(
    st.builds(
        Route,
        position=st.integers(1, 9),
        match=matches
        | st.builds(Match, source=values)
        | st.builds(Match, occurrences=st.integers(1, 4), within=st.just("1s")),
        destinations=st.lists(st.integers(1, 4), max_size=3).map(tuple),
        continues=st.booleans(),
    ),
    max_size=6,
)
facts = st.builds(
    Facts,
    source=st.sampled_from(["shop", "x"]),
    kind=st.sampled_from(["alert", "support"]),
    environment=st.sampled_from(["x", "y", ""]),
    level=st.sampled_from(["x", ""]),
    release=st.sampled_from(["x", ""]),
    title=st.text("xyz", max_size=3),
    tags=st.lists(st.tuples(st.sampled_from("ab"), tag_values), max_size=3).map(tuple),
)
pasts = st.none() | st.builds(
    History,
    occurrences_within=st.fixed_dictionaries({1: st.integers(1, 4), 600: st.integers(1, 4)}),
    unseen_seconds=st.none() | st.sampled_from([0.5, 1.0, 600.0]),
)
SPANS = {"1s": 1, "10m": 600}


def fits(wanted, got):
    return wanted is None or got in (wanted if isinstance(wanted, list) else [wanted])


def naive(some, report, past):
    """What the rules say, written down once more, plainly."""
    to, took, waits = [], False, False
    for route in some:
        asked = route.match
        if not all(fits(getattr(asked, name), getattr(report, name)) for name in Facts.__struct_fields__[:5]):
            continue
        if not all(
            any(name == tag and fits(wanted, value) for tag, value in report.tags)
            for name, wanted in asked.tags.items()
        ):
            continue
        if asked.title is not None and not re.search(asked.title, report.title):
            continue
        enough = asked.occurrences is None or (
            past is not None and past.occurrences_within[SPANS[asked.within]] >= asked.occurrences
        )
        new = asked.unseen_for is None or (
            past is not None
            and (past.unseen_seconds is None or past.unseen_seconds >= SPANS[asked.unseen_for])
        )
        if not (enough and new) and report.kind == "alert":
            waits = True
            continue
        took = True
        to += route.destinations
        if not route.continues:
            break
    return tuple(dict.fromkeys(to)), waits and not took


@settings(deadline=None, max_examples=200)
@given(routes, facts, pasts)
def test_the_choice_is_that_of_a_plain_reading(some, report, past):
    choice = settle(some, report, past)
    assert (choice.destinations, choice.below_threshold) == naive(some, report, past)
    assert choose(some, report, past) == choice.destinations


@settings(deadline=None, max_examples=100)
@given(routes, facts, pasts)
def test_verdicts_agree_with_the_choice(some, report, past):
    choice = settle(some, report, past)
    assert all(match_route(route, report, past).matched for route in choice.routes)
    assert all(match_route(route, report, past).pending for route in choice.pending)
    for route in some:
        match = match_route(route, report, past)
        assert match.matched is (match.failed_field == "")
        assert match.matched or (match.expected and match.actual)


@settings(deadline=None, max_examples=100)
@given(routes, facts, facts, pasts)
def test_what_is_not_asked_changes_nothing(some, report, other, past):
    """The choice is kept by what is asked: two reports that differ in the rest share it."""
    asked = referenced_fields(some) | {"kind"}
    mixed = Facts(
        **{name: getattr(report if name in asked else other, name) for name in Facts.__struct_fields__}
    )
    assert settle(some, mixed, past) == settle(some, report, past)


@QUICK
@given(
    st.text(),
    st.text(),
    st.lists(st.tuples(st.text(), st.text())).map(tuple),
    st.sampled_from(["x", ".*$", r"\pL", "(?s)^.", r"\bé"]),
)
def test_no_untrusted_text_raises(title, word, tags, pattern):
    report = Facts("shop", "alert", word, word, word, title + "\ud800", tags)
    some = [rule(1, (1,), environment="x"), rule(2, (2,), tags={"a": "b"}), rule(3, (3,), title=pattern)]
    for route in some:
        assert isinstance(match_route(route, report).actual, str)
    choose(some, report)
