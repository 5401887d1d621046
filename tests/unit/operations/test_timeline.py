"""The timeline of a ticket: events, deliveries and attempts in order of time."""

from __future__ import annotations

from pointsman.domain.retry_policy import Outcome
from pointsman.operations.history.build import build_history
from pointsman.operations.history.timeline import Entry, timeline
from ticket_rows import at, attempt_row, delivery_row, event_row, history_rows, lane_row


def entries(events=(), deliveries=(), attempts=(), lanes=None) -> list[Entry]:
    rows = history_rows(
        [lane_row(state=0, head_seq=9)] if lanes is None else lanes, deliveries, attempts, events=events
    )
    return timeline(build_history(rows, (), {}))


def test_the_timeline_is_in_order_of_time():
    shown = entries(
        [event_row(), event_row(2, "commented", 2, body="me too", author={"name": "Ada"})],
        [
            delivery_row(1, 1, 0, state=1, done_at=at(1.5), last_outcome=Outcome.VERIFIED),
            delivery_row(2, 2, 2, state=1, done_at=at(3), last_outcome="done"),
        ],
        [
            attempt_row(1, "unknown", "UnknownOutcome: cut off"),
            attempt_row(1.5, Outcome.VERIFIED),
            attempt_row(3, "done", seq=2),
        ],
    )
    assert [(entry.kind, entry.title, entry.status.label) for entry in shown] == [
        ("event", "Ticket opened", ""),
        ("delivery", "Delivery to forge: create an issue", "verified"),
        ("attempt", "Attempt at forge: create an issue", "outcome unknown"),
        ("attempt", "Attempt at forge: create an issue", "verified"),
        ("event", "Comment by Ada", ""),
        ("delivery", "Delivery to forge: add a comment", "done"),
        ("attempt", "Attempt at forge: add a comment", "done"),
    ]
    assert shown[4].event is not None
    assert shown[4].event.text == "me too"
    assert shown[2].error == "UnknownOutcome: cut off"


def test_at_the_same_time_the_event_comes_before_its_delivery_and_that_before_its_attempt():
    shown = entries([event_row()], [delivery_row()], [attempt_row(0, "done")])
    assert [entry.kind for entry in shown] == ["event", "delivery", "attempt"]


def test_attempts_that_ended_alike_are_one_entry():
    down = [attempt_row(n, "unavailable", "Unavailable: refused") for n in range(50)]
    _, *shown = entries(
        [], [delivery_row()], [*down, attempt_row(60, "done"), attempt_row(61, "done", seq=2)]
    )
    assert [(entry.status.label, entry.count) for entry in shown] == [
        ("unreachable", 50),
        ("done", 1),
        ("done", 1),
    ]
    assert shown[0].at == at(0)
    assert shown[0].last_at == at(49)


def test_attempts_at_two_destinations_stay_apart():
    lanes = [lane_row(id=7, destination="forge-0"), lane_row(id=8, destination="forge-1")]
    shown = entries([], [], [attempt_row(n, "auth", lane_id=7 + n % 2) for n in range(4)], lanes)
    assert {(entry.title, entry.count) for entry in shown} == {
        ("Attempt at forge-0: deliver", 2),
        ("Attempt at forge-1: deliver", 2),
    }


def test_an_attempt_tells_its_status_once():
    _, included, added = entries(
        [],
        [delivery_row()],
        [attempt_row(0, "refused", "answered 422", status=422), attempt_row(1, "refused", "no", status=422)],
    )
    assert (included.error, added.error) == ("answered 422", "no (status 422)")


def test_an_attempt_whose_delivery_is_gone_is_still_shown():
    (entry,) = entries([], [], [attempt_row(0, "done")])
    assert entry.title == "Attempt at forge: deliver"


def test_a_closed_ticket_says_who_closed_which_issue():
    (entry,) = entries(
        [event_row(3, "closed", reason="not_planned", destination="forge", issue="a#1", by="mira")]
    )
    assert (entry.title, entry.message) == (
        "Closed: not planned",
        "The issue a#1 at forge was closed by mira.",
    )


def test_a_ticket_reopened_by_an_operator_or_its_application_says_so():
    by_operator, by_source = entries(
        [event_row(1, "reopened", by="operator"), event_row(2, "reopened", by="shop")]
    )
    assert by_operator.message == "An operator requested it."
    assert by_source.message == "shop requested it."


def test_an_unknown_event_and_an_unknown_outcome_are_shown_and_not_fatal():
    event, attempt = entries(
        [event_row(1, "sublimated", facts=["odd", ["a", "b"]])], [], [attempt_row(1, "vanished")]
    )
    assert event.title == "Event: sublimated"
    assert event.event is not None
    assert event.event.facts == (("a", "b"),)
    assert attempt.status.label == "vanished"
