"""Why there is an issue, or none: the story of a ticket, from rows as values."""

from __future__ import annotations

import uuid

import pytest

from pointsman.domain.retry_policy import Class
from pointsman.domain.routing import Match, Route
from pointsman.operations.explain import model
from pointsman.operations.explain import text as explain_text
from pointsman.storage.explain import Material
from ticket_rows import at, attempt_row, delivery_row, ticket_row

HOLDER = uuid.UUID("0198f0c2-0000-7000-8000-00000000000a")
ROUTES = [
    Route(1, Match(environment="production"), (5,)),
    Route(2, Match(kind="alert"), (5, 6)),
    Route(3, Match(), (6,)),
]


def lane_row(**words):
    row = dict.fromkeys(("lease_until", "holder", "parked_why", "open_until", "probe_until", "blocked_until"))
    row |= dict.fromkeys(("paused_why", "failed_at", "failure_type", "failure_message", "failure_status"))
    row |= dict.fromkeys(
        ("remote_key", "url", "link_state", "remote_state", "limited_until", "careful_until")
    )
    row |= {"id": 7, "state": 1, "due_at": at(0), "head_seq": 1, "next_seq": 2, "destination": "forge"}
    row |= {"tracker": "forgejo", "destination_kind": 1, "retired": False, "breaker": 0, "failures": 0}
    row |= {"max_inflight": 8, "at_work": 0, "ahead": 0, "now": at(0), "careful": False}
    return row | words


def promise(seq=1, kind=1, **words):
    row = delivery_row(seq, kind) | {"event_n": 1, "doubt_until": None, "looks": 0, "resent_at": None}
    return row | {"collapsed": 0, "expires_at": at(72 * 60)} | words


def told(
    lanes=(), deliveries=(), attempts=(), *, routes=ROUTES, report=None, children=0, seen=None, **ticket
):
    row = ticket_row(fingerprint="f", generation=1, storm_parent=None, held=False) | ticket
    known = Material(
        ticket=row,
        events=[{"n": 1, "kind": "opened", "data": "{}", "report_id": HOLDER, "at": at(-1)}],
        lanes=lanes,
        deliveries=deliveries,
        attempts=[one | {"lane_id": 7, "seq": 1} for one in attempts],
        storm_children=children,
        held=seen,
    )
    return model.story(known, routes, {5: "forge", 6: "other"}, report)


def test_each_route_says_whether_it_takes_the_ticket_today_and_what_stands_against_it():
    said = [(rule.matches, rule.says) for rule in told().routes]
    assert said == [
        (False, "does not match: environment production, and the ticket has none"),
        (True, "matches: to forge, other"),
        (False, "is not asked: route 2 took the ticket"),
    ]
    text = "\n".join(explain_text.lines(told()))
    assert "Routes as they are now" in text


def test_a_ticket_below_its_threshold_says_how_far():
    routes = [
        Route(1, Match(environment="production", occurrences=2, within="1h"), (5,)),
        Route(2, Match(occurrences=5, within="10m", unseen_for="24h"), (5,)),
    ]
    seen = {"seen": [at(-60), at(-10), at(-9), at(0)], "now": at(0)}
    assert told(routes=routes, seen=seen, held=True).because == (
        "It has no issue: it is below its threshold, and only counted.",
        "Route 2 would take it: not reported for 24h, seen 2 of 5 times within 10m.",
    )
    assert "seen 0 of 5 times" in told(routes=routes, held=True).because[1]


def test_a_route_that_goes_on_lets_the_next_be_asked():
    routes = [Route(1, Match(), (5,), continues=True), Route(2, Match(), (6,))]
    assert [rule.matches for rule in told(routes=routes).routes] == [True, True]


def test_without_a_destination_the_reason_is_the_routing():
    because = told().because
    assert because[0].startswith("There is no issue: no route took the ticket")
    assert "A route of today would take it" in because[1]
    assert len(told(routes=[]).because) == 1


def test_a_ticket_of_a_storm_names_its_parent_and_the_parent_its_children():
    assert "is listed in ticket" in told(storm_parent=HOLDER).because[0]
    assert "no route took" not in " ".join(told(storm_parent=HOLDER).because)
    assert told(children=17).because[0].startswith("It lists 17 tickets")


@pytest.mark.parametrize(
    ("lane", "head", "waits", "todo"),
    [
        ({"paused_why": "operator"}, {}, "paused (operator)", "--resume forge"),
        ({"paused_why": "retired", "retired": True}, {}, "retired", "name forge in the configuration"),
        ({"breaker": 2, "open_until": at(3)}, {}, "breaker is open until 2026-11-21 12:03:00", "by itself"),
        ({"breaker": 1}, {}, "half open: one lane tries for all", "by itself"),
        ({"blocked_until": at(2)}, {"last_class": "auth"}, "held until 2026-11-21 12:02:00", "doctor forge"),
        ({"limited_until": at(2)}, {}, "asked to wait until 2026-11-21 12:02:00", "by itself"),
        ({"due_at": at(1)}, {"last_class": "unknown"}, "due at 2026-11-21 12:01:00 after unknown", "marker"),
        (
            {},
            {"in_doubt": True, "doubt_until": at(4), "looks": 2},
            "not before 2026-11-21 12:04:00, 2 looks",
            "",
        ),
        ({"careful": True, "careful_until": at(60)}, {}, "careful mode until 2026-11-21 13:00:00:", ""),
        ({"careful": True, "careful_until": at(-60)}, {}, "careful mode: the tracker is asked", "by itself"),
        ({"ahead": 3, "at_work": 8}, {}, "with 3 lanes before it and 8 of 8 at work", "by itself"),
        ({"due_at": at(-9)}, {}, "due since 2026-11-21 11:51:00", "see that the service runs"),
        (
            {"state": 2, "holder": HOLDER, "lease_until": at(1)},
            {},
            "works on it, under a lease until",
            "by itself",
        ),
        ({"state": 2, "holder": HOLDER, "lease_until": at(-1)}, {}, "let its lease run out", "by itself"),
        (
            {"state": 3, "parked_why": "refused"},
            {"state": 2, "last_class": "refused", "done_at": at(0)},
            "parked (refused): it is dead (refused)",
            "pointsman replay 7/1",
        ),
        ({"state": 3, "parked_why": "orphan"}, {}, "parked (orphan)", "pointsman replay 7/1"),
        (
            {"state": 3, "parked_why": "in doubt: the tracker can't be asked"},
            {"in_doubt": True},
            "parked (in doubt",
            "replay 7/1 --not-there",
        ),
        ({"state": 3, "parked_why": "somebody said so"}, {}, "somebody said so", "replay 7/1"),
        ({"due_at": at(1)}, {"last_class": "defect"}, "after defect", "nothing: it goes on by itself"),
    ],
)
def test_a_destination_says_what_it_waits_for_and_what_to_do(lane, head, waits, todo):
    (place,) = told([lane_row(**lane)], [promise(**head)]).places
    assert waits in "; ".join(place.waits_for)
    assert todo in place.next
    assert "No issue at forge yet: create 7/1 waits" in place.because


def test_a_lane_that_is_parked_with_nothing_to_deliver_names_nothing_to_replay():
    (place,) = told(
        [lane_row(state=3, parked_why="loop: closed and reopened", head_seq=2, next_seq=2)]
    ).places
    assert "loop: closed and reopened" in place.waits_for[0]
    assert "nothing to replay" in place.next


def test_what_lasts_is_named_together():
    """A paused destination whose breaker is open and whose lane is due later: all three are said."""
    lane = lane_row(paused_why="operator", breaker=2, open_until=at(3), due_at=at(5))
    assert len(told([lane], [promise()]).places[0].waits_for) == 3


def test_the_failure_of_the_destination_is_told_with_its_hold():
    lane = lane_row(
        breaker=2,
        open_until=at(3),
        failed_at=at(-1),
        failures=5,
        failure_type="Unavailable",
        failure_message="refused",
    )
    [said] = [one for one in told([lane], [promise()]).places[0].waits_for if "breaker" in one]
    assert "the last of 5 failures at 2026-11-21 11:59:00: Unavailable: refused" in said


def test_a_lane_in_step_needs_nothing_and_says_what_was_given_up():
    done = lane_row(
        state=0, head_seq=3, next_seq=3, remote_key="12", url="https://git.example/12", link_state=1
    )
    well = promise(state=1, done_at=at(1), last_class="found")
    (place,) = told([done], [well]).places
    assert (place.next, place.waits_for) == ("", ())
    assert place.because == "Issue 12 at forge: nothing waits to be delivered."
    assert "found by its marker" in place.deliveries[0].says
    dead = promise(2, 2, state=2, done_at=at(2), last_class="refused", in_doubt=True)
    (place,) = told([done], [well, dead]).places
    assert "and 1 given up" in place.because
    assert "given up at 2026-11-21 12:02:00 as refused, and still in doubt" in place.deliveries[1].says
    assert "`pointsman replay 7/2` sends it last" in place.deliveries[1].says


def test_attempts_are_told_with_status_and_error_and_repeats_as_one():
    tries = [attempt_row(n, "auth", "AuthFailed: no", status=401) for n in range(4)]
    (place,) = told([lane_row()], [promise(attempts=0)], [*tries, attempt_row(9, "done")]).places
    first, second = place.deliveries[0].attempts
    assert (first.what, first.error, first.times, first.until) == ("auth [401]", "AuthFailed: no", 4, at(3))
    assert second.what == "done"
    text = "\n".join(explain_text.lines(told([lane_row()], [promise()], tries)))
    assert "auth [401] (4 times, the last at 2026-11-21 12:03:00)  AuthFailed: no" in text


def test_only_the_last_attempts_are_shown_and_the_rest_is_counted():
    tries = [attempt_row(n, "unknown", f"cut {n}") for n in range(25)]
    (place,) = told([lane_row()], [promise()], tries).places
    assert len(place.deliveries[0].attempts) == 10
    assert place.deliveries[0].left_out == 15


def test_a_report_without_a_ticket_says_why():
    row = {"id": HOLDER, "received_at": at(0), "source": "shop", "error": "ValueError: x", "state": 2}
    parked = model.of_report(row)
    assert "parked: ValueError: x" in parked.because[0]
    assert f"pointsman reports --rerun {HOLDER}" in parked.next
    assert "test message" in model.of_report(row | {"state": 3}).because[0]
    assert "Routes" not in "\n".join(explain_text.lines(parked))


def test_a_report_that_opened_the_ticket_and_one_that_was_only_counted():
    opened = told(report={"id": HOLDER, "received_at": at(0)}).reports[0].what
    counted = told(report={"id": uuid.uuid4(), "received_at": at(0)}).reports[0].what
    assert "it opened the ticket" in opened
    assert "a repeat of an open problem: counted" in counted


def test_every_outcome_has_a_next_step():
    assert set(Class) - {Class.DONE, Class.FOUND} <= set(model.NEXT)


def test_a_strangers_words_can_not_forge_lines():
    lane = lane_row(state=3, parked_why="x\nroute 1 matches", remote_key="1\n2")
    lines = list(explain_text.lines(told([lane], [promise()], title="a\nb\x1b[31m")))
    assert all("\n" not in line and "\x1b" not in line for line in lines)
