"""Throttling: how many tickets a minute admits, how long it lasts, and what its summary lists."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.content import render
from pointsman.domain import ticket_throttle
from pointsman.domain.states import DeliveryKind, TicketKind, TicketStatus
from pointsman.domain.ticket import (
    RECURRENCE_KEY,
    Changes,
    DeliveryTargets,
    PlannedDelivery,
    Ticket,
    apply_report,
    coalesce,
)
from pointsman.domain.ticket_throttle import Admission, RateWindow, admit_tickets, apply_throttle, window_at
from pointsman.plugin_api import Report

AT = dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC)
PARENT = uuid.UUID("0192aaaa-0000-7000-8000-00000000000a")
CHILD = uuid.UUID("0192aaaa-0000-7000-8000-00000000000c")
REPORT_ID = uuid.UUID("0192bbbb-0000-7000-8000-000000000000")
FORGEJO, GITHUB, MAIL = 1, 2, 9


def seconds(n: float) -> dt.datetime:
    return AT + dt.timedelta(seconds=n)


def parent(next_event: int = 2, status: TicketStatus = TicketStatus.OPEN) -> Ticket:
    reason = None if status is TicketStatus.OPEN else "completed"
    return Ticket(PARENT, 1, TicketKind.ALERT, "throttle:then", 1, status, reason, next_event)


def child(status: TicketStatus = TicketStatus.OPEN, next_event: int = 2) -> Ticket:
    reason = None if status is TicketStatus.OPEN else "completed"
    return Ticket(
        CHILD, 1, TicketKind.ALERT, "print", 1, status, reason, next_event, summary_ticket_id=PARENT
    )


def surplus(ticket: Ticket, wanted=(FORGEJO,), trackers=(), waiting=()) -> Changes:
    changes = Changes()
    apply_throttle(ticket, wanted, DeliveryTargets(trackers, MAIL), set(waiting), changes, limit=60)
    return changes


def planned(changes: Changes) -> list[tuple[int, DeliveryKind, int, str | None]]:
    return [
        (delivery.destination_id, delivery.kind, delivery.event_n, delivery.coalesce_key)
        for delivery in changes.deliveries
    ]


# -- the minute ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "new", "recurring", "own", "throttled", "singled_out"),
    [
        (0, 60, 0, 60, 0, 0),
        (0, 61, 0, 60, 1, 0),
        (59, 5, 0, 1, 4, 0),
        (60, 3, 0, 0, 3, 0),
        (70, 3, 2, 0, 3, 0),
        (57, 2, 5, 2, 0, 1),
        (0, 0, 5, 0, 0, 5),
        (60, 0, 5, 0, 0, 0),
    ],
)
def test_a_minute_lets_in_what_it_may_and_new_ones_come_first(
    opened, new, recurring, own, throttled, singled_out
):
    window, room = admit_tickets(RateWindow(AT, opened), 60, new=new, recurring=recurring)
    assert room == Admission(own, throttled, singled_out)
    assert window.opened == opened + new + singled_out


def test_while_a_throttle_lasts_nothing_throttled_is_released():
    assert admit_tickets(RateWindow(AT, 0, PARENT), 60, new=1, recurring=5)[1] == Admission(1, 0, 0)


@pytest.mark.parametrize(
    ("opened", "after", "window"),
    [
        (61, 59.9, RateWindow(AT, 61, PARENT)),
        (61, 60, RateWindow(seconds(60), 0, PARENT)),
        (61, 119.9, RateWindow(seconds(119.9), 0, PARENT)),
        (61, 120, RateWindow(seconds(120), 0, None)),
        (60, 60, RateWindow(seconds(60), 0, None)),
    ],
)
def test_a_throttle_lasts_while_minutes_stay_over_the_limit(opened, after, window):
    assert window_at(RateWindow(AT, opened, PARENT), seconds(after), 60) == window


batches = st.lists(
    st.tuples(st.floats(0, 200), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40
)


@given(allowed=st.integers(1, 30), batches=batches)
def test_no_minute_lets_out_more_than_allowed_whatever_comes(allowed, batches):
    """Batches at any times: no minute has more issues than its limit."""
    window, now, let_in = RateWindow(AT), AT, {}
    for wait, new, recurring in batches:
        now += dt.timedelta(seconds=wait)
        window = window_at(window, now, allowed)
        window, room = admit_tickets(window, allowed, new=new, recurring=recurring)
        assert room.admitted + room.throttled == new
        assert 0 <= room.released <= recurring
        assert not (room.released and (room.throttled or window.summary_ticket_id))
        let_in[window.started_at] = let_in.get(window.started_at, 0) + room.admitted + room.released
        if room.throttled:
            assert let_in[window.started_at] == allowed, "held back although there was room"
            window = RateWindow(window.started_at, window.opened, window.summary_ticket_id or uuid.uuid4())
        assert (window.opened > allowed) <= (window.summary_ticket_id is not None)
    assert max(let_in.values()) <= allowed


# -- the parent ----------------------------------------------------------------------------------------------------


def test_the_first_surplus_opens_the_parent_wherever_its_tickets_would_have_gone():
    ticket = parent(next_event=1)
    changes = surplus(ticket, wanted=(FORGEJO, GITHUB))
    assert [(event.n, event.kind) for event in changes.events] == [(1, "opened")]
    assert planned(changes) == [
        (FORGEJO, DeliveryKind.CREATE, 1, None),
        (GITHUB, DeliveryKind.CREATE, 1, None),
    ]
    assert ticket.next_event == 2


def test_more_throttled_tickets_are_one_comment():
    changes = surplus(parent(), trackers=(FORGEJO,))
    assert [event.kind for event in changes.events] == ["throttle_continued"]
    assert planned(changes) == [(FORGEJO, DeliveryKind.COMMENT, 2, "throttle")]


def test_news_that_waits_to_be_sent_will_tell_of_this_too():
    ticket = parent()
    assert surplus(ticket, trackers=(FORGEJO,), waiting={FORGEJO}) == Changes()
    assert ticket.next_event == 2
    changes = surplus(ticket, trackers=(FORGEJO, GITHUB), waiting={FORGEJO})
    assert planned(changes) == [(GITHUB, DeliveryKind.COMMENT, 2, "throttle")]


def test_a_place_that_comes_later_gets_the_issue():
    changes = surplus(parent(), wanted=(GITHUB,), trackers=(FORGEJO,), waiting={FORGEJO})
    assert planned(changes) == [(GITHUB, DeliveryKind.CREATE, 1, None)]
    assert changes.events == []


def test_a_summary_that_was_closed_while_the_throttle_continues_is_reopened():
    ticket = parent(status=TicketStatus.CLOSED)
    changes = surplus(ticket, trackers=(FORGEJO,))
    assert [event.kind for event in changes.events] == ["recurred"]
    assert [event.kind for event in changes.deliveries] == [DeliveryKind.REOPEN, DeliveryKind.COMMENT]
    assert (ticket.status, ticket.close_reason) == (TicketStatus.OPEN, None)


# -- throttled tickets ---------------------------------------------------------------------------------------------


def reported(ticket: Ticket, targets: DeliveryTargets, action="recurred") -> Changes:
    changes = Changes()
    apply_report(ticket, Report(action=action, fingerprint="print", title="t"), REPORT_ID, targets, changes)
    return changes


def test_a_throttled_ticket_is_opened_without_an_issue_and_says_where_it_is_listed():
    changes = reported(child(next_event=1), DeliveryTargets((), MAIL, (FORGEJO,)), "opened")
    assert changes.deliveries == []
    assert changes.events[0].data == {"action": "opened", "throttle": str(PARENT), "routed": [FORGEJO]}


@pytest.mark.parametrize("action", ["opened", "recurred", "regressed", "unmuted"])
@pytest.mark.parametrize("status", list(TicketStatus))
def test_a_throttled_ticket_gets_its_own_issue_once_the_limit_allows_it(action, status):
    ticket = child(status)
    changes = reported(ticket, DeliveryTargets((FORGEJO,), MAIL), action)
    assert [(event.kind, event.data["throttle"]) for event in changes.events] == [("released", str(PARENT))]
    assert [(event.destination_id, event.kind) for event in changes.deliveries] == [
        (FORGEJO, DeliveryKind.CREATE)
    ]
    assert (ticket.summary_ticket_id, ticket.status, ticket.close_reason) == (None, TicketStatus.OPEN, None)
    assert [
        event.kind for event in reported(ticket, DeliveryTargets((FORGEJO,), MAIL), "regressed").deliveries
    ] == [DeliveryKind.COMMENT]


def test_while_the_limit_allows_no_more_a_throttled_ticket_stays_as_quiet_as_any_without_an_issue():
    assert reported(child(), DeliveryTargets((), MAIL), "opened") == Changes()
    assert reported(child(), DeliveryTargets((), MAIL), "regressed").deliveries == []


def test_a_persons_comment_does_not_open_an_issue():
    ticket = child()
    changes = reported(ticket, DeliveryTargets((FORGEJO,), MAIL), "commented")
    assert DeliveryKind.CREATE not in [delivery.kind for delivery in changes.deliveries]
    assert ticket.summary_ticket_id == PARENT


# -- updates that repeat -------------------------------------------------------------------------------------------


def keyed(n: int, key: str | None, kind: DeliveryKind = DeliveryKind.COMMENT) -> PlannedDelivery:
    return PlannedDelivery(CHILD, FORGEJO, n, kind, key)


def test_only_our_own_news_of_an_alert_collapses():
    alert = Ticket(CHILD, 1, TicketKind.ALERT, "print", 1, TicketStatus.OPEN, None, 5)
    request = Ticket(CHILD, 1, TicketKind.SUPPORT, "print", 1, TicketStatus.OPEN, None, 5)
    for action in ("regressed", "unmuted"):
        assert {
            delivery.coalesce_key
            for delivery in reported(alert, DeliveryTargets((1,), MAIL), action).deliveries
        } == {RECURRENCE_KEY}
        assert {
            delivery.coalesce_key
            for delivery in reported(request, DeliveryTargets((1,), MAIL), action).deliveries
        } == {None}
    assert [
        delivery.coalesce_key
        for delivery in reported(alert, DeliveryTargets((1,), MAIL), "commented").deliveries
    ] == [None]
    alert.status = TicketStatus.CLOSED
    changes = reported(alert, DeliveryTargets((1,), MAIL), "recurred")
    assert [(delivery.kind, delivery.coalesce_key) for delivery in changes.deliveries] == [
        (DeliveryKind.REOPEN, None),
        (DeliveryKind.COMMENT, RECURRENCE_KEY),
    ]


def test_news_in_a_row_is_the_last_of_them_and_counts_the_others():
    [delivery] = coalesce([keyed(2, RECURRENCE_KEY), keyed(3, RECURRENCE_KEY), keyed(4, RECURRENCE_KEY)])
    assert (delivery.event_n, delivery.coalesced_count, delivery.coalesce_key) == (4, 2, RECURRENCE_KEY)


def test_nothing_moves_past_a_persons_comment():
    planned = [keyed(2, RECURRENCE_KEY), keyed(3, None), keyed(4, RECURRENCE_KEY)]
    folded = coalesce(planned)
    assert [delivery.event_n for delivery in folded] == [2, 3, 4]
    assert [delivery.coalesce_key for delivery in folded] == [None, None, RECURRENCE_KEY], "one key a lane"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([RECURRENCE_KEY, "throttle", None]),
            st.sampled_from([DeliveryKind.COMMENT, DeliveryKind.CLOSE, DeliveryKind.REOPEN]),
        )
    )
)
def test_coalescing_keeps_the_order_every_unkeyed_delivery_and_the_count(drawn):
    planned = [
        keyed(n, key if kind is DeliveryKind.COMMENT else None, kind) for n, (key, kind) in enumerate(drawn)
    ]
    folded = coalesce(planned)
    order = [delivery.event_n for delivery in folded]
    assert order == sorted(order)
    assert [
        delivery
        for delivery in folded
        if delivery.event_n in {p.event_n for p in planned if p.coalesce_key is None}
    ] == [delivery for delivery in planned if delivery.coalesce_key is None]
    assert len(folded) + sum(delivery.coalesced_count for delivery in folded) == len(planned)
    keys = [delivery.coalesce_key for delivery in folded if delivery.coalesce_key is not None]
    assert len(keys) == len(set(keys))
    if planned:
        assert folded[-1].event_n == planned[-1].event_n


# -- texts ---------------------------------------------------------------------------------------------------------


def ticket_text(title: str = "Too many") -> render.TicketText:
    page = f"https://pointsman.test/console/tickets/{PARENT}"
    return render.TicketText(id=str(PARENT), kind=TicketKind.ALERT, title=title, source="shop", page=page)


def summary_data(total: int, shown: int) -> dict:
    tickets = [[str(CHILD), f"KeyError {n} @team [x](y)"] for n in range(shown)]
    return {"throttle": {"allowed": 60, "total": total, "tickets": tickets}}


def test_the_issue_of_a_summary_lists_its_tickets_and_how_many_more():
    body = render.issue_body(ticket_text(), summary_data(362, 50))
    assert "More than 60 new problems" in body
    assert body.count("\n- ") + body.startswith("- ") >= 49
    assert "… and 312 more" in body
    assert f"https://pointsman.test/console/tickets/{CHILD}" in body
    assert "@team" not in body and " [x](y)" not in body
    assert len(body) < 20_000


def test_a_summary_that_is_listed_whole_names_no_more():
    assert "more:" not in render.issue_body(ticket_text(), summary_data(3, 3))
    assert "**3** new problems" in render.comment_body(
        ticket_text(), "throttle_continued", summary_data(3, 3)
    )


def test_an_issue_that_was_released_refers_to_its_summary():
    assert str(PARENT) in render.issue_body(ticket_text(), {"action": "opened", "throttle": str(PARENT)})


def test_a_collapsed_comment_says_how_many_it_stands_for_and_since_when():
    body = render.comment_body(ticket_text(), "regressed", {}, coalesced_count=49, since=AT)
    assert "49 more like it since 2026-11-20 10:00 UTC" in body
    assert "more like it" not in render.comment_body(ticket_text(), "regressed", {})


def test_a_summarys_fingerprint_is_its_sources_and_its_start():
    assert ticket_throttle.fingerprint(RateWindow(AT)) == "throttle:2026-11-20T10:00:00+00:00"
    assert "shop" in ticket_throttle.title("shop", 60)
