"""Tickets: support requests and comments of an application that customers use."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Person, Unreadable
from pointsman.sources.tickets import (
    TEXT_LIMIT,
    TITLE_LIMIT,
    CommentBody,
    TicketBody,
    Tickets,
    TicketsSettings,
    convert_body,
)

QUICK = settings(deadline=None, max_examples=50)
SOURCE = Tickets(TicketsSettings())
REQUEST = {
    "title": "Can't log in",
    "description": "Since today.\nHelp!",
    "reporter": {"email": "ann@example.com", "name": "Ann"},
}


def read(body):
    (report,) = SOURCE.read_report({}, b"", body)
    return report


def refused(body, kind=TicketBody):
    with pytest.raises(Unreadable) as caught:
        convert_body(body, kind)
    return caught.value


def test_a_request_is_read_with_all_it_says():
    report = read(REQUEST)
    assert (report.action, report.title, report.text) == ("opened", "Can't log in", "Since today.\nHelp!")
    assert report.person == Person("ann@example.com", "Ann")


def test_each_request_is_a_problem_of_its_own():
    """Two people may well write the same words; only the sender's idempotency key tells a repeat."""
    report = read(REQUEST)
    assert (report.fingerprint, report.dedupe) == ("", None)


def test_the_address_of_the_requester_stands_in_nothing_that_is_shown():
    report = read(REQUEST)
    assert "ann@" not in f"{report.title} {report.text} {report.facts} {report.url} {report.code}"


def test_a_title_is_enough():
    report = read({"title": "Help"})
    assert (report.text, report.person) == ("", Person())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "title"),
        ({"title": 5}, "title"),
        ({"title": None}, "title"),
        ({"title": "x", "description": 5}, "description"),
        ({"title": "x", "reporter": "ann"}, "reporter"),
        ({"title": "x", "reporter": {"email": 5}}, "reporter.email"),
        ({"title": "x", "reporter": {"email": "ann"}}, "reporter.email"),
        ({"title": " "}, "title"),
        ({"title": "x", "description": "y" * (TEXT_LIMIT + 1)}, "description"),
        ([], ""),
        (None, ""),
        ("x", ""),
    ],
)
def test_what_is_wrong_is_named_by_its_field(body, field):
    assert refused(body).field == field


@pytest.mark.parametrize("body", [{"title": "x", "tilte": "y"}, {"title": "x", "reporter": {"mail": "a@b"}}])
def test_an_unknown_field_is_a_mistake_and_named(body):
    """A misspelt field would be lost without a word."""
    assert "tilte" in str(refused(body)) or "mail" in str(refused(body))


def test_what_is_missing_is_named():
    assert "title" in str(refused({"description": "x"}))
    assert "body" in str(refused({}, CommentBody))


@pytest.mark.parametrize("title", ["", " ", "\n\t", "\u3000"])
def test_a_title_without_words_is_none(title):
    assert "title" in str(refused({"title": title}))


def test_limits_hold_to_the_character():
    assert read({"title": "x" * TITLE_LIMIT, "description": "y" * TEXT_LIMIT}).title
    assert str(TITLE_LIMIT) in str(refused({"title": "x" * (TITLE_LIMIT + 1)}))
    assert str(TEXT_LIMIT) in str(refused({"title": "x", "description": "y" * (TEXT_LIMIT + 1)}))
    assert str(TEXT_LIMIT) in str(refused({"body": "y" * (TEXT_LIMIT + 1)}, CommentBody))
    assert refused({"title": "x", "reporter": {"name": "n" * 201}}).field == "reporter.name"
    assert refused({"title": "x", "reporter": {"email": "a" * 250 + "@b.test"}}).field == "reporter.email"


@pytest.mark.parametrize(
    "email", ["ann@example.com", "ann+tag@sub.example.com", "anne@bücher.test", "a@b", "o'hara@x.test"]
)
def test_addresses(email):
    assert read({"title": "x", "reporter": {"email": email}}).person.email == email


@pytest.mark.parametrize(
    "email",
    [
        *("ann", "@example.com", "ann@", "a b@x.test", "ann@x.test,eve@y.test", "ann@x.test;eve@y.test"),
        *(
            "Ann <ann@x.test>",
            "ann@x.test\nBcc: eve@y.test",
            "ann@x.test\r",
            "a@b@c",
            '"a"@b',
            "a@[127.0.0.1]",
        ),
        *(
            "a\u0001b@x.test",
            "a@x\u2028.test",
            "a\x7f@x.test",
            "a@\u202ex.test",
            "a\u200b@x.test",
            "a@x..test",
        ),
        *("=?utf-8?q?a=40x=2etest?=@x.test", "a@=?utf-8?q?x?=", "ä@x.test", "a@ä ö.test", "a@" + "ä" * 80),
    ],
)
def test_what_could_become_two_addresses_or_a_header_is_no_address(email):
    refused({"title": "x", "reporter": {"email": email}})


def test_a_local_part_outside_ascii_is_refused_with_its_reason():
    error = refused({"title": "x", "reporter": {"email": "ännë@x.test"}})
    assert (error.field, "outside ASCII" in str(error)) == ("reporter.email", True)


def test_a_comment_is_read_with_its_author():
    comment = convert_body({"body": "hello", "author": {"email": "a@b.test", "name": "A"}}, CommentBody)
    assert (comment.body, comment.author.email, comment.author.name) == ("hello", "a@b.test", "A")
    assert refused({"body": " "}, CommentBody)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["email", "name", "title"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@QUICK
@given(
    st.dictionaries(st.sampled_from(["title", "description", "reporter", "other"]), anything, max_size=4)
    | anything
)
def test_any_body_becomes_a_report_or_a_word_to_the_sender(body):
    try:
        report = read(body)
    except Unreadable as error:
        message = str(error)
        assert "`$" not in message
        return
    assert report.title.strip()
    assert report.person.email == "" or "@" in report.person.email


def test_null_says_nothing_and_blanks_around_short_texts_are_removed():
    body = {
        "title": "  It fails\t",
        "description": None,
        "reporter": {"email": " ada@customer.example ", "name": None},
    }
    report = read(body)
    assert (report.title, report.text) == ("It fails", "")
    assert report.person is not None
    assert (report.person.email, report.person.name) == ("ada@customer.example", "")
    assert read({"title": "x", "reporter": None}).person is not None
