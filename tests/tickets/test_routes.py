"""Routes: the first rule that takes a ticket decides, unless it says to go on."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.tickets.routes import Facts, Match, Route, Verdict, choose, verdict

QUICK = settings(deadline=None, max_examples=40)
ALERT = Facts("shop", "alert", environment="production", level="error", release="1.2")


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


def test_a_verdict_names_what_stood_against_a_rule():
    assert verdict(rule(7, (1,), source="shop", level="fatal"), ALERT) == Verdict(
        7, matched=False, against="level"
    )
    assert verdict(rule(7, (1,)), ALERT) == Verdict(7, matched=True)


words = st.none() | st.sampled_from(["shop", "alert", "x", ""])
rules = st.lists(
    st.builds(
        Route,
        position=st.just(0),
        match=st.builds(Match, source=words, kind=words),
        destinations=st.lists(st.integers(1, 4), max_size=3).map(tuple),
        continues=st.booleans(),
    ),
    max_size=6,
)


@QUICK
@given(rules)
def test_destinations_come_once_each_in_the_order_of_the_rules(some):
    taken = []
    for route in some:
        if verdict(route, ALERT).matched:
            taken += route.destinations
            if not route.continues:
                break
    assert choose(some, ALERT) == tuple(dict.fromkeys(taken))
