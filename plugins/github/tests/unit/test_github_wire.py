"""Text, request bodies and what is read out of answers, with plain values."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, Draft, Marker
from pointsman.plugin_api.helpers import find_markers
from pointsman_github import wire

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
    body = wire.marked_text("ä" * 70_000, MARKER)
    assert len(body) <= wire.BODY_CHARACTERS
    assert "cut here" in body
    assert find_markers(body) == (MARKER.text,)


def test_a_text_that_just_fits_is_left_alone():
    room = wire.BODY_CHARACTERS - len(wire.marked_text("", MARKER)) - 2
    assert len(wire.marked_text("x" * room, MARKER)) == wire.BODY_CHARACTERS
    assert "cut here" in wire.marked_text("x" * (room + 1), MARKER)


def test_a_cut_inside_a_code_block_closes_it():
    body = wire.marked_text("~~~~text\n```\n" + "x\n" * 70_000, MARKER)
    assert body.count("~~~~") == 2
    assert len(body) <= wire.BODY_CHARACTERS


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("two\nlines\t here ", "two lines here"),
        ("", "(no title)"),
        ("\ud800x\x00", "?x"),
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 254 + "…"),
        ("😀" * 255, "😀" * 255),
    ],
)
def test_a_title_is_one_line_of_255_characters_at_most(text, title):
    assert wire.title(text) == title


def test_labels_are_given_once_and_only_where_github_can_have_them():
    assert wire.label_names(["Bug", " ", "x" * 51], ["bug", "needs  triage"]) == ("Bug", "needs triage")


def test_a_state_goes_with_its_reason():
    assert wire.state_body("closed", None) == {"state": "closed", "state_reason": "completed"}
    assert wire.state_body("closed", "duplicate") == {"state": "closed", "state_reason": "duplicate"}
    assert wire.state_body("open", "not_planned") == {"state": "open", "state_reason": "reopened"}


def test_an_issue_goes_out_with_assignees_and_never_with_the_old_assignee():
    created = wire.issue_body(Draft(title="x", body="y", marker=MARKER, labels=("new",)), ["bug"], ["dev"])
    assert created == {
        "title": "x",
        "body": wire.marked_text("y", MARKER),
        "labels": ["bug", "new"],
        "assignees": ["dev"],
    }
    assert wire.issue_body(Draft(title="x", body="y", marker=MARKER), [], []).keys() == {"title", "body"}


@pytest.mark.parametrize(
    ("refused", "all_of_it", "left"),
    [
        ({}, False, {"labels": ["a", "b"], "assignees": ["dev"]}),
        ({"title": ()}, False, {"labels": ["a", "b"], "assignees": ["dev"]}),
        ({"labels": ("A",)}, False, {"labels": ["b"], "assignees": ["dev"]}),
        ({"labels": ("other",)}, False, {"assignees": ["dev"]}),
        ({"labels": ()}, False, {"assignees": ["dev"]}),
        ({"labels": ("a",)}, True, {"assignees": ["dev"]}),
        ({"assignees": ("dev",), "labels": ("b",)}, False, {"labels": ["a"]}),
    ],
)
def test_what_is_refused_is_left_out(refused, all_of_it, left):
    body = {"title": "x", "labels": ["a", "b"], "assignees": ["dev"]}
    assert wire.without(body, refused, remove_all=all_of_it) == {"title": "x", **left}


@pytest.mark.parametrize(
    "raw", [None, [], {}, {"labels": None}, {"labels": [None, {"name": 5}, "BUG"], "assignees": "x"}]
)
def test_an_answer_that_does_not_tell_is_no_reason_for_a_note(raw):
    asked = {"labels": ("bug",), "assignees": ("dev",)}
    assert wire.notes(raw, asked, asked, "") == ()


@pytest.mark.parametrize(
    ("raw", "account"),
    [
        ({"id": 5, "login": "dev"}, Actor("5", "dev")),
        ({"login": "dev"}, Actor("dev", "dev")),
        ({"id": True, "login": "dev"}, Actor("dev", "dev")),
        ({"id": 2**70}, None),
        ({}, None),
        (None, None),
        ("dev", None),
    ],
)
def test_accounts_in_whatever_form_they_come(raw, account):
    assert wire.account(raw) == account
    assert wire.author({"user": raw}) == account
