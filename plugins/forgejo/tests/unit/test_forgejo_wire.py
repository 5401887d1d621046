"""Text and request bodies, with plain values."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, Draft, Marker
from pointsman.plugin_api.helpers import CUT_NOTE, find_markers
from pointsman_forgejo import wire

MARKER = Marker("pm1-0190b5a0-7c11-7000-8000-000000000001-0123456789abcdef")

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def test_the_marker_is_the_last_line_of_the_body_and_is_found_again():
    body = wire.marked_text("Hello\n", MARKER)
    assert body == f"Hello\n\n<!-- pointsman: {MARKER.text} -->"
    assert find_markers(body) == (MARKER.text,)


def test_the_marker_survives_what_an_edit_in_a_browser_does_to_lines():
    assert find_markers(wire.marked_text("a\nb", MARKER).replace("\n", "\r\n") + "\r\n") == (MARKER.text,)


def test_a_marker_that_came_along_in_the_text_is_taken_out():
    other = "pm1-0190b5a0-7c11-7000-8000-0000000000ff-fedcba9876543210"
    nested = f"<!-- poi<!-- pointsman: {other} -->ntsman: {other} -->"
    for text in (
        f"> <!-- pointsman: {other} -->",
        nested,
        f"<!-- pointsman:<!-- pointsman: {other} --> {other} -->",
    ):
        assert find_markers(wire.marked_text(text, MARKER)) == (MARKER.text,)


def test_an_empty_text_leaves_the_marker_alone():
    assert wire.marked_text("  \n", MARKER) == f"<!-- pointsman: {MARKER.text} -->"


@calm
@given(st.text())
def test_every_text_keeps_its_marker_and_can_be_sent(text):
    body = wire.marked_text(text, MARKER)
    assert find_markers(body)[-1] == MARKER.text
    assert b"\x00" not in body.encode()


def test_too_long_a_text_is_cut_says_so_and_keeps_the_marker():
    body = wire.marked_text("ä" * wire.BODY_BYTES, MARKER)
    assert len(body.encode()) <= wire.BODY_BYTES
    assert "cut here" in body
    assert find_markers(body) == (MARKER.text,)


def test_a_cut_inside_a_code_block_closes_it():
    body = wire.marked_text("```text\n" + "x\n" * wire.BODY_BYTES, MARKER)
    assert body.count("```") == 2
    assert len(body.encode()) <= wire.BODY_BYTES


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("two\nlines\t here ", "two lines here"),
        ("", "(no title)"),
        ("\ud800x\x00", "?x"),
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 252 + "…"),
        ("ä" * 128, "ä" * 126 + "…"),
        ("😀" * 64, "😀" * 63 + "…"),
    ],
)
def test_a_title_is_one_line_of_255_bytes_at_most(text, title):
    assert wire.title(text) == title
    assert len(wire.title(text).encode()) <= 255


def test_labels_are_given_once_and_only_where_forgejo_can_have_them():
    assert wire.label_names(["Bug", " ", "x" * 51], ["bug", "needs  triage"]) == ("Bug", "needs triage")


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "actor"),
    [
        ({"id": 5, "login": "dev"}, Actor("5", "dev")),
        ({"id": 5, "username": "dev"}, Actor("5", "dev")),
        ({"id": -1, "login": "Ghost"}, Actor("Ghost", "Ghost")),
        ({"id": True, "login": "dev"}, Actor("dev", "dev")),
        ({"id": 5}, Actor("5", "")),
        ({}, None),
        (None, None),
        ("dev", None),
    ],
)
def test_an_account_is_known_by_its_id(account, actor):
    assert wire.account(account) == actor


@pytest.mark.parametrize("key", ["user", "poster"])
def test_the_author_of_an_issue_is_told(key):
    seen = wire.issue_state({"number": 1, key: {"id": 5, "login": "dev"}})
    assert seen is not None
    assert (seen.author, seen.actor) == (Actor("5", "dev"), None)


def test_an_issue_without_a_word_about_its_author_has_none():
    seen = wire.issue_state({"number": 1})
    assert seen is not None
    assert seen.author is None


@pytest.mark.parametrize(
    ("draft", "notes"),
    [
        ({}, []),
        ({"title": " two\n lines "}, []),
        ({"title": "ü" * 127 + "x"}, []),
        ({"title": "ü" * 128}, ["the title was longer than 255 bytes and is cut"]),
        ({"body": "x" * wire.BODY_BYTES}, [f"the text was longer than {wire.BODY_BYTES} bytes and is cut"]),
        ({"body": CUT_NOTE}, []),
        ({"labels": ("ok", "x" * 51)}, [f"label '{'x' * 51}' left out: names have 1 to 50 characters"]),
        ({"labels": (" ",)}, ["label ' ' left out: names have 1 to 50 characters"]),
    ],
)
def test_what_forgejo_can_not_have_of_a_draft_is_told(draft, notes):
    assert wire.notes_of_draft(Draft(**{"title": "t", "body": "b", "marker": MARKER, **draft})) == notes


def test_what_the_server_dropped_is_seen_in_its_answer():
    raw = {"labels": [{"id": 1}, "odd"], "assignees": [{"login": "Dev"}, {}], "title": "A title"}
    assert wire.dropped_labels(raw, {"bug": 1, "urgent": 2}) == ["urgent"]
    assert wire.dropped_assignees(raw, ["dev", "ann"]) == ["ann"]
    assert not wire.title_differs(raw, " A title ")
    assert wire.title_differs(raw, "A title that is longer")


@pytest.mark.parametrize("raw", [None, [], {}, {"labels": None, "assignees": None, "title": None}])
def test_an_answer_that_tells_nothing_counts_as_dropped_labels_and_as_the_title_kept(raw):
    assert wire.dropped_labels(raw, {"bug": 1}) == ["bug"]
    assert wire.dropped_assignees(raw, ["dev"]) == ["dev"]
    assert not wire.title_differs(raw, "x")
