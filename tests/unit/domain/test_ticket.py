"""Decisions: what reports and the trackers' news make of a ticket."""

import uuid

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pointsman.domain.states import DeliveryKind, TicketKind, TicketStatus
from pointsman.domain.ticket import (
    RECURRENCE_KEY,
    Changes,
    DeliveryTargets,
    Ticket,
    apply_report,
    apply_state,
    opening_data,
)
from pointsman.plugin_api import Person, Report

ID = uuid.UUID("0192aaaa-0000-7000-8000-000000000000")
REPORT_ID = uuid.UUID("0192bbbb-0000-7000-8000-000000000000")
FORGEJO, GITHUB, MAIL = 1, 2, 9
TARGETS = DeliveryTargets((FORGEJO, GITHUB), MAIL)


def make(status=TicketStatus.OPEN, *, next_event=2, email="ann@x.test", close_reason=None):
    reason = close_reason or ("completed" if status is TicketStatus.CLOSED else None)
    return Ticket(ID, 1, TicketKind.SUPPORT, "print", 1, status, reason, next_event, email)


def reported(ticket, action, targets=TARGETS, **more):
    changes = Changes()
    apply_report(ticket, Report(action=action, fingerprint="print", **more), REPORT_ID, targets, changes)
    return changes


def came_back(ticket, action, then, targets=TARGETS, **more):
    changes = Changes()
    report = Report(action=action, fingerprint="print", **more)
    apply_report(ticket, report, REPORT_ID, targets, changes, then)
    return changes


def state_changed(ticket, state, reason=None, targets=TARGETS, seen_at=None):
    changes = Changes()
    changed = apply_state(
        ticket, state, reason, targets, changes, except_destination=seen_at, actor={"by": "ann"}
    )
    return changed, changes


def planned(changes):
    return [(delivery.destination_id, delivery.kind) for delivery in changes.deliveries]


def both(kind):
    return [(FORGEJO, kind), (GITHUB, kind)]


OWNER = (MAIL, DeliveryKind.MAIL)
CREATE, COMMENT, REOPEN = both(DeliveryKind.CREATE), both(DeliveryKind.COMMENT), both(DeliveryKind.REOPEN)

TABLE = [
    # status of the ticket, action of the report, event, deliveries
    (None, "opened", "opened", CREATE),
    (None, "recurred", "opened", CREATE),
    (None, "regressed", "opened", CREATE),
    (None, "unmuted", "opened", CREATE),
    (None, "commented", "opened", CREATE),
    (TicketStatus.OPEN, "opened", None, []),
    (TicketStatus.OPEN, "recurred", None, []),
    (TicketStatus.OPEN, "regressed", "regressed", COMMENT),
    (TicketStatus.OPEN, "unmuted", "unmuted", COMMENT),
    (TicketStatus.OPEN, "commented", "commented", COMMENT),
    (TicketStatus.CLOSED, "opened", "recurred", [*REOPEN, OWNER, *COMMENT]),
    (TicketStatus.CLOSED, "recurred", "recurred", [*REOPEN, OWNER, *COMMENT]),
    (TicketStatus.CLOSED, "regressed", "regressed", [*REOPEN, OWNER, *COMMENT]),
    (TicketStatus.CLOSED, "unmuted", "unmuted", [*REOPEN, OWNER, *COMMENT]),
    (TicketStatus.CLOSED, "commented", "commented", COMMENT),
]


@pytest.mark.parametrize(("status", "action", "event_kind", "deliveries"), TABLE)
def test_what_a_report_makes_of_a_ticket(status, action, event_kind, deliveries):
    ticket = make(status or TicketStatus.OPEN, next_event=1 if status is None else 5)
    n = ticket.next_event
    changes = reported(ticket, action)
    assert [(event.kind, event.n) for event in changes.events] == ([(event_kind, n)] if event_kind else [])
    assert planned(changes) == deliveries
    assert {delivery.event_n for delivery in changes.deliveries} <= {n}
    assert ticket.next_event == n + len(changes.events)
    reopened = (MAIL, DeliveryKind.MAIL) in deliveries
    assert ticket.status is (TicketStatus.OPEN if reopened or status is None else status)
    assert (ticket.close_reason is None) == (ticket.status is TicketStatus.OPEN)


@pytest.mark.parametrize("action", ["opened", "recurred", "regressed", "unmuted"])
def test_a_ticket_that_stays_closed_says_so_once_and_news_of_its_own_kind_each_time(action):
    ticket = make(TicketStatus.CLOSED, close_reason="duplicate")
    ticket.kind = TicketKind.ALERT
    changes = came_back(ticket, action, "comment")
    own = action in ("regressed", "unmuted")
    kind = action if own else "recurred"
    assert [(event.kind, event.data["stays"]) for event in changes.events] == [(kind, "duplicate")]
    assert planned(changes) == COMMENT
    assert {event.coalesce_key for event in changes.deliveries} == {RECURRENCE_KEY}
    assert (ticket.status, ticket.close_reason) == (TicketStatus.CLOSED, "duplicate")
    repeated = came_back(ticket, action, "comment")
    assert planned(repeated) == (COMMENT if own else [])
    assert bool(repeated.events) is own


@pytest.mark.parametrize("action", ["opened", "recurred", "regressed", "unmuted"])
def test_what_is_ignored_is_an_event_once_until_it_is_closed_anew(action):
    ticket = make(TicketStatus.CLOSED, close_reason="not_planned")
    first, repeated = came_back(ticket, action, "ignore"), came_back(ticket, action, "ignore")
    assert [(event.kind, event.data) for event in first.events] == [
        ("ignored", {"action": action, "reason": "not_planned"})
    ]
    assert (repeated.events, planned(first), planned(repeated)) == ([], [], [])
    assert ticket.status is TicketStatus.CLOSED
    state_changed(ticket, "open")
    state_changed(ticket, "closed", "not_planned")
    assert [event.kind for event in came_back(ticket, action, "ignore").events] == ["ignored"]


@pytest.mark.parametrize("then", ["comment", "ignore"])
def test_what_people_say_on_a_ticket_that_stays_closed_is_said(then):
    ticket = make(TicketStatus.CLOSED, close_reason="duplicate")
    assert planned(came_back(ticket, "commented", then)) == COMMENT


def test_below_its_threshold_a_ticket_goes_nowhere_and_then_gets_its_issues():
    ticket = make(next_event=1)
    opened = reported(ticket, "opened", DeliveryTargets((), MAIL, below_threshold=True))
    assert ([event.kind for event in opened.events], planned(opened), ticket.below_threshold) == (
        ["opened"],
        [],
        True,
    )
    assert opened.events[0].data["below_threshold"] is True
    assert reported(ticket, "opened", DeliveryTargets((), MAIL)).events == []
    posted = reported(ticket, "opened", DeliveryTargets((FORGEJO, GITHUB), MAIL, occurrences=3), text="words")
    assert ([event.kind for event in posted.events], planned(posted)) == (["threshold_reached"], CREATE)
    assert posted.events[0].data == {"action": "opened", "text": "words", "times": 3}
    assert not ticket.below_threshold
    assert reported(ticket, "opened").events == []


def test_a_closed_ticket_below_its_threshold_is_open_once_it_reaches_it_unless_it_is_ignored():
    ticket = make(TicketStatus.CLOSED, close_reason="not_planned")
    ticket.below_threshold = True
    assert planned(came_back(ticket, "opened", "ignore")) == []
    assert (ticket.status, ticket.below_threshold) == (TicketStatus.CLOSED, True)
    assert planned(came_back(ticket, "opened", "reopen")) == [*CREATE, OWNER]
    assert (ticket.status, ticket.below_threshold) == (TicketStatus.OPEN, False)


def test_a_ticket_that_follows_another_says_which():
    ticket = make(next_event=1)
    ticket.predecessor = {"ticket": "t", "issues": {"1": "https://forge.example/1"}}
    [opened] = reported(ticket, "regressed").events
    assert opened.data["earlier"] == {"ticket": "t", "issues": {"1": "https://forge.example/1"}}


def test_events_remember_the_report_they_came_from():
    (event,) = reported(make(next_event=1), "opened").events
    assert (event.ticket_id, event.report_id) == (ID, REPORT_ID)


def test_the_opening_event_keeps_what_the_issue_is_made_from_and_nothing_empty():
    report = Report(
        action="opened",
        fingerprint="f",
        title="t",
        text="words",
        code="trace",
        facts=(("Type", "KeyError"),),
        level="",
    )
    assert opening_data(report) == {
        "action": "opened",
        "text": "words",
        "code": "trace",
        "facts": [["Type", "KeyError"]],
    }


def test_a_comment_keeps_its_words_and_its_author():
    (event,) = reported(make(), "commented", text="hello", person=Person("ann@x.test", "Ann")).events
    assert event.data == {"body": "hello", "author": {"name": "Ann", "email": "ann@x.test"}}
    (event,) = reported(make(), "commented", text="hello").events
    assert event.data == {"body": "hello", "author": {}}


@pytest.mark.parametrize(
    ("status", "state", "event_kind", "deliveries"),
    [
        (TicketStatus.OPEN, "closed", "closed", [(GITHUB, DeliveryKind.CLOSE), OWNER]),
        (TicketStatus.CLOSED, "open", "reopened", [(GITHUB, DeliveryKind.REOPEN), OWNER]),
        (TicketStatus.OPEN, "open", None, []),
        (TicketStatus.CLOSED, "closed", None, []),
    ],
)
def test_the_other_issues_follow_and_the_one_that_told_us_is_left_alone(
    status, state, event_kind, deliveries
):
    ticket = make(status)
    changed, changes = state_changed(ticket, state, seen_at=FORGEJO)
    assert changed is bool(event_kind)
    assert [event.kind for event in changes.events] == ([event_kind] if event_kind else [])
    assert planned(changes) == deliveries
    assert ticket.status is (TicketStatus.OPEN if state == "open" else TicketStatus.CLOSED)


def test_all_issues_follow_when_a_person_closes_the_ticket_here():
    _, changes = state_changed(make(), "closed", seen_at=None)
    assert planned(changes) == [*both(DeliveryKind.CLOSE), OWNER]


@pytest.mark.parametrize("reason", ["completed", "not_planned", "duplicate", None])
def test_the_reason_of_a_close_is_kept_until_it_is_reopened(reason):
    ticket = make()
    _, changes = state_changed(ticket, "closed", reason)
    assert ticket.close_reason == (reason or "completed")
    assert changes.events[0].data == {"reason": reason or "completed", "by": "ann"}
    state_changed(ticket, "open")
    assert ticket.close_reason is None


@pytest.mark.parametrize(("email", "mail"), [("", MAIL), ("ann@x.test", None)])
def test_no_mail_without_an_address_or_without_a_place_for_mail(email, mail):
    targets = DeliveryTargets((FORGEJO,), mail)
    ticket = make(email=email)
    _, closed = state_changed(ticket, "closed", targets=targets)
    repeated = reported(ticket, "recurred", targets)
    assert DeliveryKind.MAIL not in [delivery.kind for delivery in closed.deliveries + repeated.deliveries]
    assert ticket.status is TicketStatus.OPEN


def test_decisions_of_one_transaction_add_up():
    ticket, changes = make(next_event=1), Changes()
    report = Report(action="opened", fingerprint="print")
    apply_report(ticket, report, REPORT_ID, TARGETS, changes)
    apply_state(ticket, "closed", None, TARGETS, changes, except_destination=FORGEJO, actor={})
    apply_report(ticket, report, REPORT_ID, TARGETS, changes)
    assert [(event.n, event.kind) for event in changes.events] == [
        (1, "opened"),
        (2, "closed"),
        (3, "recurred"),
    ]


class TicketMachine(RuleBasedStateMachine):
    """Drive a ticket through any sequence of reports and state changes, beside a model of its state."""

    def __init__(self):
        super().__init__()
        self.ticket = make(next_event=1)
        self.changes = Changes()
        self.targets = TARGETS
        self.closed = self.unrouted = False
        self.transitions = 0

    def new_deliveries(self, before):
        return self.changes.deliveries[before:]

    @rule(action=st.sampled_from(["opened", "recurred", "regressed", "unmuted", "commented"]))
    def report(self, action):
        first = self.ticket.next_event == 1
        before = len(self.changes.deliveries)
        apply_report(
            self.ticket,
            Report(action=action, fingerprint="print"),
            REPORT_ID,
            self.targets,
            self.changes,
        )
        kinds = [delivery.kind for delivery in self.new_deliveries(before)]
        if first:
            assert set(kinds) <= {DeliveryKind.CREATE}
            self.unrouted = not self.targets.trackers
            return
        routed = self.unrouted and bool(self.targets.trackers) and action != "commented"
        assert kinds.count(DeliveryKind.CREATE) == (len(self.targets.trackers) if routed else 0)
        self.unrouted = self.unrouted and not routed
        if self.closed and action != "commented":
            self.closed = False
            self.transitions += 1
        elif not routed:
            assert set(kinds) <= {DeliveryKind.COMMENT}

    @precondition(lambda self: self.ticket.next_event > 1)
    @rule(state=st.sampled_from(["open", "closed"]), seen_at=st.sampled_from([None, FORGEJO, GITHUB]))
    def news(self, state, seen_at):
        before = len(self.changes.deliveries)
        changed = apply_state(
            self.ticket, state, None, self.targets, self.changes, except_destination=seen_at, actor={}
        )
        assert changed is (self.closed != (state == "closed"))
        assert seen_at not in [delivery.destination_id for delivery in self.new_deliveries(before)]
        self.closed = state == "closed"
        self.transitions += changed

    @rule(trackers=st.sets(st.sampled_from([FORGEJO, GITHUB, 3])).map(sorted))
    def routed_elsewhere(self, trackers):
        self.targets = DeliveryTargets(trackers, MAIL)

    @invariant()
    def events_are_numbered_without_a_gap(self):
        assert [event.n for event in self.changes.events] == list(range(1, self.ticket.next_event))

    @invariant()
    def every_delivery_is_of_an_event_and_none_is_planned_twice(self):
        keys = [
            (delivery.destination_id, delivery.event_n, delivery.kind) for delivery in self.changes.deliveries
        ]
        assert len(keys) == len(set(keys))
        assert {n for _, n, _ in keys} <= set(range(1, self.ticket.next_event))

    @invariant()
    def the_owner_gets_one_mail_for_each_transition(self):
        assert [delivery.kind for delivery in self.changes.deliveries].count(
            DeliveryKind.MAIL
        ) == self.transitions

    @invariant()
    def open_and_closed_agree(self):
        assert self.ticket.status is (TicketStatus.CLOSED if self.closed else TicketStatus.OPEN)
        assert (self.ticket.close_reason is not None) == self.closed


TestTicketMachine = TicketMachine.TestCase
TestTicketMachine.settings = settings(deadline=None, max_examples=30, stateful_step_count=20)
