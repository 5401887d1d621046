"""Built-in texts of issues, comments and e-mails."""

import datetime as dt

import pytest

from pointsman.content import render
from pointsman.domain.states import TicketKind

ID = "0192aaaa-0000-7000-8000-000000000000"
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def make(kind=TicketKind.ALERT, **more):
    return render.TicketText(id=ID, kind=kind, **{"title": "It fails", "source": "shop", **more})


def test_an_issue_says_what_happened_and_where_it_came_from_in_this_order():
    body = render.issue_body(
        make(page="https://pointsman.test/t/1"),
        {
            "action": "regressed",
            "text": "words",
            "facts": [["Type", "KeyError"], ["Empty", ""]],
            "code": "trace",
            "url": "https://bugs.test/1",
        },
    )
    wanted = [
        "come back",
        "words",
        "- **Type:** `KeyError`",
        "```text\ntrace\n```",
        "https://bugs.test/1",
        "---",
    ]
    wanted += ["Reported through `shop`", "(https://pointsman.test/t/1)"]
    positions = [body.find(part) for part in wanted]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert "Empty" not in body


def test_an_issue_of_a_customer_does_not_name_them():
    body = render.issue_body(make(TicketKind.SUPPORT, reporter_name="Ann"), {"text": "help"})
    assert "Reported by a customer" in body
    assert "Ann" not in body


def test_without_a_public_address_the_issue_carries_the_tickets_number():
    assert ID in render.issue_body(make(), {})


def test_an_endless_fact_is_left_out():
    assert "Trace" not in render.issue_body(make(), {"facts": [["Trace", "x" * 20_000]]})


@pytest.mark.parametrize("title", ["", " \n ", "\u200b"])
def test_a_ticket_without_words_has_a_title_all_the_same(title):
    assert render.issue_title(make(title=title)) == "(no title)"
    assert "(no title)" in render.mail(make(title=title), "closed").body


@pytest.mark.parametrize(
    ("count", "since", "notice"),
    [
        (0, None, ""),
        (1, None, "_One update could not be added here; see the ticket._"),
        (1, NOON, "_One update of 2026-05-01 12:00 UTC could not be added here; see the ticket._"),
        (3, NOON, "_3 updates since 2026-05-01 12:00 UTC could not be added here; see the ticket._"),
    ],
)
def test_what_is_missing_is_said(count, since, notice):
    assert render.missing_comments_notice(make(), count, since) == notice


def test_a_customers_comment_says_whose_it_is_and_an_operators_stands_alone():
    comment = {"body": "hello", "author": {"name": "Ann"}}
    assert render.comment_body(make(TicketKind.SUPPORT), "commented", comment) == "**Ann** wrote:\n\nhello"
    assert render.comment_body(make(TicketKind.SUPPORT), "commented", {"body": "hello"}).startswith(
        "The customer wrote:"
    )
    assert render.comment_body(make(TicketKind.ALERT), "commented", comment) == "hello"


@pytest.mark.parametrize("kind", ["regressed", "recurred", "unmuted"])
def test_each_way_to_come_back_has_its_own_words(kind):
    bodies = {render.comment_body(make(), other, {}) for other in ("regressed", "recurred", "unmuted")}
    assert len(bodies) == 3
    assert "again" in render.comment_body(make(), kind, {}) or "back" in render.comment_body(make(), kind, {})


@pytest.mark.parametrize("reason", ["completed", "not_planned", "duplicate", None, "new-reason"])
def test_a_mail_says_how_the_request_ended(reason):
    closed = render.mail(make(close_reason=reason, reporter_name="Ann"), "closed")
    assert closed.subject == "Closed: It fails"
    assert closed.body.startswith("Hello Ann,")
    assert ID in closed.body
    assert ("solved" in closed.body) == (reason in ("completed", None))


def test_a_mail_about_a_reopened_request_does_not_say_it_is_closed():
    mail = render.mail(make(close_reason="completed"), "recurred")
    assert mail.subject == "Reopened: It fails"
    assert mail.body.startswith("Hello,")
    assert "solved" not in mail.body


@pytest.mark.parametrize(
    ("earlier", "page", "says"),
    [
        (
            {"ticket": "t-1", "url": "https://forge.example/1"},
            "",
            "[its issue then](https://forge.example/1)",
        ),
        ({"ticket": "t-1", "url": ""}, "https://desk.example/console/tickets/t-2", "tickets/t-1)"),
        ({"ticket": "t-1", "url": ""}, "", "ticket `t-1`"),
    ],
)
def test_an_issue_that_follows_another_says_where_that_is(earlier, page, says):
    body = render.issue_body(make(page=page), {"action": "regressed", "earlier": earlier})
    assert "This problem was there before, and was closed: " in body
    assert says in body


def test_where_the_issue_before_stands_is_told_to_its_own_destination_alone():
    data = {"earlier": {"ticket": "t", "issues": {"1": "https://private.example/1"}}, "text": "words"}
    assert render.data_for_destination(data, 1)["earlier"] == {
        "ticket": "t",
        "url": "https://private.example/1",
    }
    assert render.data_for_destination(data, 2) == {"earlier": {"ticket": "t", "url": ""}, "text": "words"}
    assert render.data_for_destination({"text": "words"}, 1) == {"text": "words"}


def test_an_issue_that_comes_late_says_how_often_it_was_counted():
    assert "reported **5** times by now" in render.issue_body(make(), {"action": "opened", "times": 5})


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("duplicate", "closed as a duplicate"),
        ("not_planned", "as not planned"),
        ("completed", "stays closed."),
    ],
)
def test_a_comment_on_an_issue_that_stays_closed_says_so(reason, says):
    body = render.comment_body(make(), "recurred", {"action": "opened", "stays": reason})
    assert says in body
    assert "only counted" in body
    assert "stays closed" not in render.comment_body(make(), "recurred", {"action": "opened"})
