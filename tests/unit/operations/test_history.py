"""A ticket's history from rows: why there is an issue or none, and the next step."""

from __future__ import annotations

import uuid

import pytest

from pointsman.domain.retry_policy import Outcome
from pointsman.domain.routing import Facts, Match, Route
from pointsman.domain.states import DeliveryKind
from pointsman.operations.history import text
from pointsman.operations.history.build import build_history, build_report_history
from pointsman.operations.history.model import TicketHistory
from pointsman.operations.history.timeline import timeline
from pointsman.operations.outcomes import ACTIONS, FAILURE_OUTCOMES, OUTCOMES
from pointsman.operations.route_results import evaluate_routes
from pointsman.storage.explain import OccurrenceTimesRow, StoredReportRow
from ticket_rows import LINKED_LANE, at, attempt_row, delivery_row, event_row, history_rows, lane_row

HOLDER = uuid.UUID("0198f0c2-0000-7000-8000-00000000000a")
ROUTES = [
    Route(1, Match(environment="production"), (5,)),
    Route(2, Match(kind="alert"), (5, 6)),
    Route(3, Match(), (6,)),
]


def history(lanes=(), deliveries=(), attempts=(), *, routes=ROUTES, report=None, **fields) -> TicketHistory:
    rows = history_rows(
        lanes, deliveries, attempts, events=[event_row(minutes=-1, report_id=HOLDER)], **fields
    )
    return build_history(rows, routes, {5: "forge", 6: "other"}, report)


def report_row(**fields) -> StoredReportRow:
    row = dict.fromkeys(StoredReportRow._fields) | {
        "id": HOLDER,
        "received_at": at(0),
        "source": "shop",
        "state": 1,
    }
    return StoredReportRow(**row | fields)


def explanation(built: TicketHistory) -> str:
    return "\n".join(text.explanation_lines(built))


def test_each_route_says_whether_it_matches_the_ticket_today_and_the_condition_that_does_not():
    assert [(route.matches, route.message) for route in history().routes] == [
        (False, "does not match: environment: wanted production, got nothing"),
        (True, "matches: to forge, other"),
        (False, "is not evaluated: route 2 took it"),
    ]
    assert "Current routes" in explanation(history())


def test_a_ticket_below_its_threshold_says_how_far():
    routes = [
        Route(1, Match(environment="production", occurrences=2, within="1h"), (5,)),
        Route(2, Match(occurrences=5, within="10m", unseen_for="24h"), (5,)),
    ]
    occurrences = OccurrenceTimesRow(occurred_at=[at(-60), at(-10), at(-9), at(0)], now=at(0))
    assert history(routes=routes, occurrences=occurrences, below_threshold=True).reasons == (
        "It has no issue: it is below its threshold and only counted.",
        "Route 2 would match it: not reported for 24h, seen 2 of 5 times within 10m.",
    )
    assert "seen 0 of 5 times" in history(routes=routes, below_threshold=True).reasons[1]


def test_a_route_that_goes_on_lets_the_next_be_asked():
    routes = [Route(1, Match(), (5,), continues=True), Route(2, Match(), (6,))]
    assert [route.matches for route in history(routes=routes).routes] == [True, True]


def test_without_a_destination_the_reason_is_the_routing():
    reasons = history().reasons
    assert reasons[0].startswith("There is no issue: no route matched the ticket")
    assert "A current route would match it" in reasons[1]
    assert len(history(routes=[]).reasons) == 1


def test_a_ticket_without_a_destination_says_what_each_route_asked():
    routes = [
        Route(1, Match(environment="production"), (1,)),
        Route(2, Match(release="2"), (1,)),
        Route(3, Match(occurrences=5, within="10m"), (1,)),
        Route(4, Match(), ()),
    ]
    facts = Facts("shop", "alert", environment="staging")
    assert [result.message for result in evaluate_routes(routes, {}, facts)] == [
        "does not match: environment: wanted production, got staging",
        "does not match: release: wanted 2, got nothing",
        "matches once its threshold is reached: occurrences 5 within 10m",
        "matches: to no destination",
    ]


def test_a_throttled_ticket_names_its_parent_and_the_parent_its_children():
    throttled = history(summary_ticket_id=HOLDER)
    assert f"is listed in ticket {HOLDER}" in throttled.reasons[0]
    assert "no route matched" not in " ".join(throttled.reasons)
    assert history(throttled_tickets=17).reasons[0].startswith("It lists 17 tickets")


@pytest.mark.parametrize(
    ("lane", "head", "waits", "step"),
    [
        ({"pause_reason": "operator"}, {}, "paused (operator)", "destinations resume forge"),
        ({"pause_reason": "retired", "retired": True}, {}, "retired", "name forge in the configuration"),
        (
            {"breaker": 2, "open_until": at(3)},
            {},
            "breaker is open until 2026-11-21 12:03:00",
            "automatically",
        ),
        ({"breaker": 1}, {}, "half open: one lane tries for all", "automatically"),
        (
            {"blocked_until": at(2)},
            {"last_outcome": "auth"},
            "backs off until 2026-11-21 12:02:00",
            "doctor forge",
        ),
        (
            {"blocked_until": at(2), "failed_at": at(-9), "failure_type": "AuthFailed", "due_at": at(-9)},
            {},
            "backs off until 2026-11-21 12:02:00",
            "doctor forge",
        ),
        ({"limited_until": at(2)}, {}, "asked to wait until 2026-11-21 12:02:00", "automatically"),
        (
            {"due_at": at(1)},
            {"last_outcome": "unknown"},
            "due at 2026-11-21 12:01:00 after unknown",
            "marker",
        ),
        (
            {},
            {"outcome_unknown": True, "verify_after": at(4), "verify_attempts": 2},
            "not before 2026-11-21 12:04:00, 2 searches",
            "",
        ),
        (
            {"verify_writes": True, "verify_writes_until": at(60)},
            {},
            "verify-writes mode until 2026-11-21 13:00:00:",
            "",
        ),
        (
            {"verify_writes": True, "verify_writes_until": at(-60)},
            {},
            "verify-writes mode: the tracker is searched",
            "automatically",
        ),
        ({"lanes_ahead": 3, "leased_lanes": 8}, {}, "behind 3 lanes; 8 of 8 lanes", "automatically"),
        ({"due_at": at(-9)}, {}, "due since 2026-11-21 11:51:00", "check that the service runs"),
        (
            {"state": 2, "holder": HOLDER, "lease_until": at(1)},
            {},
            "works on it, under a lease until",
            "automatically",
        ),
        ({"state": 2, "holder": HOLDER, "lease_until": at(-1)}, {}, "expired at", "automatically"),
        (
            {"state": 3, "park_reason": "refused"},
            {"state": 2, "last_outcome": "refused", "done_at": at(0)},
            "parked (refused): it is a dead letter (refused)",
            "pointsman replay 7/1",
        ),
        ({"state": 3, "park_reason": "orphan"}, {}, "parked (orphan)", "pointsman replay 7/1"),
        (
            {"state": 3, "park_reason": "outcome unknown: the tracker can't be searched"},
            {"outcome_unknown": True},
            "parked (outcome unknown",
            "replay 7/1 --assume-not-applied",
        ),
        ({"state": 3, "park_reason": "an operator's reason"}, {}, "an operator's reason", "replay 7/1"),
        ({"due_at": at(1)}, {"last_outcome": "defect"}, "after defect", "nothing: deliveries continue"),
    ],
)
def test_a_destination_says_what_it_waits_for_and_what_to_do(lane, head, waits, step):
    (destination,) = history([lane_row(**lane)], [delivery_row(**head)]).destinations
    assert waits in "; ".join(destination.waits_for)
    assert step in destination.next_step
    assert "No issue at forge yet: create 7/1 waits" in destination.reason


def test_a_lane_that_is_parked_with_nothing_to_deliver_names_nothing_to_replay():
    lane = lane_row(state=3, park_reason="loop: closed and reopened", head_seq=2, next_seq=2)
    (destination,) = history([lane]).destinations
    assert "loop: closed and reopened" in destination.waits_for[0]
    assert "nothing to replay" in destination.next_step
    assert destination.command == ""


def test_what_lasts_is_named_together():
    """A paused destination whose breaker is open and whose lane is due later: all three are named."""
    lane = lane_row(pause_reason="operator", breaker=2, open_until=at(3), due_at=at(5))
    assert len(history([lane], [delivery_row()]).destinations[0].waits_for) == 3


def test_the_failure_of_the_destination_is_shown_with_its_back_off():
    lane = lane_row(
        breaker=2,
        open_until=at(3),
        failed_at=at(-1),
        failures=5,
        failure_type="Unavailable",
        failure_message="refused",
    )
    waits = history([lane], [delivery_row()]).destinations[0].waits_for
    [reason] = [reason for reason in waits if "breaker" in reason]
    assert "the last of 5 failures at 2026-11-21 11:59:00: Unavailable: refused" in reason


def test_a_lane_in_sync_needs_nothing_and_says_what_was_given_up():
    lane = lane_row(
        state=0, head_seq=3, next_seq=3, remote_key="12", url="https://git.example/12", link_state=1
    )
    done = delivery_row(state=1, done_at=at(1), last_outcome=Outcome.VERIFIED)
    built = history([lane], [done])
    (destination,) = built.destinations
    assert (destination.next_step, destination.waits_for) == ("", ())
    assert destination.reason == "Issue 12 at forge: no delivery is pending."
    assert "found by its marker" in explanation(built)
    dead = delivery_row(2, 2, state=2, done_at=at(2), last_outcome="refused", outcome_unknown=True)
    built = history([lane], [done, dead])
    assert "and 1 was given up" in built.destinations[0].reason
    assert "given up at 2026-11-21 12:02:00 as refused, outcome unknown" in explanation(built)
    assert "`pointsman replay 7/2` sends it last" in explanation(built)


def test_attempts_are_shown_with_status_and_error_and_repeats_as_one():
    retries = [attempt_row(n, "auth", "AuthFailed: no", status=401) for n in range(4)]
    built = history([lane_row()], [delivery_row()], [*retries, attempt_row(9, "done")])
    first, second = built.destinations[0].deliveries[0].attempts
    assert (first.outcome, first.http_status, first.error) == ("auth", 401, "AuthFailed: no")
    assert (first.count, first.last_started_at) == (4, at(3))
    assert second.outcome == "done"
    assert "auth [401] (4 times, the last at 2026-11-21 12:03:00)  AuthFailed: no" in explanation(built)


def test_only_the_last_attempts_are_shown_and_the_rest_is_counted():
    retries = [attempt_row(n, "unknown", f"cut {n}") for n in range(25)]
    shown = explanation(history([lane_row()], [delivery_row()], retries))
    assert shown.count("  unknown  cut") == 10
    assert "15 earlier attempts are not shown" in shown


def test_a_report_without_a_ticket_says_why():
    parked = build_report_history(report_row(error="ValueError: x", state=2))
    assert "parked: ValueError: x" in parked.reasons[0]
    assert f"pointsman reports reprocess {HOLDER}" in parked.next_step
    assert "test message" in build_report_history(report_row(state=3)).reasons[0]
    assert "routes" not in explanation(parked)


def test_a_report_that_opened_the_ticket_and_one_that_was_only_counted():
    opened = history(report=report_row(kinds=["opened"])).report
    counted = history(report=report_row(id=uuid.uuid4())).report
    assert opened and "it opened the ticket" in opened.message
    assert counted and "a repeat of an open problem: counted" in counted.message


def test_every_outcome_and_every_kind_of_delivery_has_a_text_and_a_next_step():
    assert {outcome.value for outcome in Outcome} <= set(OUTCOMES)
    needs_step = set(Outcome) - {Outcome.DONE, Outcome.VERIFIED}
    assert all(OUTCOMES[outcome].next_step for outcome in needs_step)
    assert set(ACTIONS) == set(DeliveryKind)
    assert set(FAILURE_OUTCOMES.values()) <= set(OUTCOMES)


def test_an_untrusted_text_can_not_forge_lines():
    lane = lane_row(state=3, park_reason="x\nroute 1 matches", remote_key="1\n2", url="https://x\ny")
    built = history([lane], [delivery_row()], [attempt_row(0, "a\nb", "c\nd")], title="a\nb\x1b[31m")
    for lines in (text.explanation_lines(built), text.timeline_lines(built)):
        assert all("\n" not in line and "\x1b" not in line for line in lines)


# -- the status of an issue and of its deliveries ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lane", "head", "label", "severity"),
    [
        (LINKED_LANE, {}, "in sync", "good"),
        (LINKED_LANE | {"link_state": 2}, {}, "orphaned", "bad"),
        ({"state": 3, "park_reason": "refused"}, {}, "parked", "bad"),
        ({}, {"last_outcome": "auth"}, "credentials refused", "bad"),
        ({}, {"last_outcome": "unavailable"}, "unreachable", "wait"),
        ({"pause_reason": "operator"}, {}, "paused", "wait"),
        ({"pause_reason": "retired", "retired": True}, {}, "retired", "calm"),
        ({"pause_reason": "its plugin blocks the event loop"}, {}, "paused", "bad"),
        ({"blocked_until": at(5)}, {}, "backing off", "wait"),
        ({"breaker": 2, "open_until": at(5)}, {}, "backing off", "wait"),
        ({"breaker": 1, "open_until": at(5)}, {}, "waiting", "wait"),
        ({"blocked_until": at(-5)}, {}, "waiting", "wait"),
        ({"state": 2, "lease_until": at(1)}, {}, "in progress", "wait"),
        ({"state": 0}, {}, "no issue", "wait"),
    ],
)
def test_why_there_is_an_issue_or_none(lane, head, label, severity):
    (destination,) = history([lane_row(**lane)], [delivery_row(**head)]).destinations
    assert (destination.status.label, destination.status.severity) == (label, severity)


def test_a_parked_issue_names_the_delivery_to_replay():
    dead = delivery_row(1, state=2, last_outcome="refused", last_error="Refused: title: too long")
    lane = lane_row(state=3, park_reason="refused", next_seq=3)
    (destination,) = history([lane], [dead, delivery_row(2, 2)]).destinations
    assert destination.command == "pointsman replay 7/1"
    assert destination.error == "Refused: title: too long"


def test_an_issue_gone_names_the_pending_delivery_to_replay():
    lane = lane_row(**LINKED_LANE | {"state": 3, "park_reason": "orphan", "link_state": 2})
    deliveries = [delivery_row(1, state=1, done_at=at(1)), delivery_row(2, 2), delivery_row(3, 2)]
    (destination,) = history([lane], deliveries).destinations
    assert destination.command == "pointsman replay 7/2"


def test_a_delivery_that_is_tried_again_says_when():
    (later,) = history([lane_row(due_at=at(3))], [delivery_row(last_outcome="limited")]).destinations
    assert later.next_attempt_at == later.deliveries[0].due_at == at(3)
    (due,) = history([lane_row(due_at=at(-1))], [delivery_row(last_outcome="limited")]).destinations
    assert due.next_attempt_at is None


@pytest.mark.parametrize(
    ("lane", "delivery", "label", "command"),
    [
        ({}, {}, "waiting", ""),
        ({"state": 2, "lease_until": at(1)}, {}, "in progress", ""),
        ({}, {"last_outcome": "auth"}, "to be retried", ""),
        ({}, {"outcome_unknown": True, "last_outcome": "unknown"}, "outcome unknown", ""),
        ({"state": 3, "park_reason": "orphan"}, {}, "parked", "pointsman replay 7/1"),
        ({}, {"state": 2, "last_outcome": "refused"}, "dead letter", "pointsman replay 7/1"),
        ({"state": 0, "head_seq": 2}, {"state": 1, "last_outcome": "done", "done_at": at(0)}, "done", ""),
    ],
)
def test_each_delivery_has_a_status_and_the_command_that_replays_it(lane, delivery, label, command):
    (destination,) = history([lane_row(**lane)], [delivery_row(**delivery)]).destinations
    assert (destination.deliveries[0].status.label, destination.deliveries[0].command) == (label, command)


def test_a_delivery_behind_another_says_that_it_waits_for_it():
    (destination,) = history(
        [lane_row()], [delivery_row(1, last_outcome="auth"), delivery_row(2, 2, 1)]
    ).destinations
    first, second = destination.deliveries
    assert first.status.label == "to be retried"
    assert second.status.message == "It waits for the delivery before it: their order is kept."


def test_deliveries_behind_a_dead_letter_wait_for_it():
    (destination,) = history(
        [lane_row(state=3, park_reason="refused")],
        [delivery_row(1, state=2, last_outcome="refused"), delivery_row(2, 2, 1)],
    ).destinations
    dead, waiting = destination.deliveries
    assert dead.status.label == "dead letter"
    assert (waiting.status.label, waiting.command) == ("waiting", "")


def test_a_part_of_the_events_says_so_and_has_their_deliveries_alone():
    rows = history_rows(
        [lane_row(**LINKED_LANE)],
        [delivery_row(1, event_n=4), delivery_row(2, event_n=5)],
        (),
        events=[event_row(5)],
    )
    newest = build_history(rows, (), {})
    assert (newest.older_events, newest.truncated) == (5, True)
    for entries, count in ((timeline(newest), 1), (timeline(newest, events_before=5), 0)):
        assert sum(entry.kind == "delivery" for entry in entries) == count
    assert "events before number 5 are not shown" in explanation(newest)
