"""Text, request bodies and answers, tested with plain values."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from pointsman.plugin_api import Actor, Draft, IssueRef, Marker, Secret
from pointsman.plugin_api.helpers import find_markers, parse_time
from pointsman_gitlab import wire
from pointsman_gitlab.settings import GitLabSettings

MARKER = Marker("pm1-00000000-0000-5000-8000-000000000000-000000000000")
OTHER = Marker("pm1-11111111-1111-5111-8111-111111111111-111111111111")
ISSUE = {
    "id": 76,
    "iid": 6,
    "state": "closed",
    "description": f"Text.\n\n<!-- pointsman: {MARKER.text} -->",
    "author": {"id": 18, "username": "eileen.lowe"},
    "updated_at": "2016-01-04T15:31:51.081Z",
    "moved_to_id": None,
    "web_url": "https://gitlab.example.com/acme/shop/-/issues/6",
    "_links": {"closed_as_duplicate_of": None},
}

# -- text --------------------------------------------------------------------------------------------------------


def test_a_title_is_one_line_within_the_limit():
    assert wire.title("a\r\nb\u2028c\x00") == "a b c"
    assert wire.title(" \n") == "(no title)"
    cut = wire.title("x" * 300)
    assert (len(cut), cut[-1]) == (255, "…")


@pytest.mark.parametrize(
    "text",
    [
        "/close",
        "before\n/close\nafter",
        "/assign @me",
        "/CLOSE",
        "before\r/close",
        "before\r\n/close\r\n",
        "````text\n/close\n````",
        "~~~\n/close\n~~~",
        "```\n/close",
        "/label ~bug",
        "/close\t",
    ],
)
def test_quick_actions_are_made_inert_everywhere(text):
    """What GitLab counts as code is less than Markdown does, so it is done in code too."""
    created = wire.marked_text(text, MARKER)
    assert "\r" not in created
    assert not re.search(r"(?m)^/", created)
    assert "\u2060/" in created


@pytest.mark.parametrize("text", ["/usr/lib/python3", "see /close", "1/2", " /close", "/", "/ no"])
def test_other_slashes_stay(text):
    assert wire.disarm_quick_actions(text) == text


def test_a_text_carries_its_own_marker_and_no_other():
    quoted = wire.marked_text("See above.", OTHER)
    assert find_markers(wire.marked_text(f"{quoted}\n\n{OTHER.text}", MARKER)) == (MARKER.text,)


def test_an_open_fence_is_closed_before_the_marker():
    assert wire.marked_text("```python\nraise", MARKER).splitlines()[2] == "```"
    assert wire.marked_text("~~~~\n```\nraise", MARKER).splitlines()[3] == "~~~~"
    assert wire.marked_text("```\ndone\n```", MARKER).count("```") == 2


def test_a_text_that_is_too_long_is_cut_and_keeps_its_marker():
    for text in ("x" * 2_000_000, "```\n" + "code\n" * 300_000, "\U0001f600" * 1_100_000):
        created = wire.marked_text(text, MARKER)
        assert len(created) <= wire.BODY_CHARACTERS
        assert find_markers(created) == (MARKER.text,)
        assert "is cut here" in created


def test_labels_have_no_commas():
    assert wire.label_names(["bug", "a, b", " ", "x" * 256], ["bug", "two  words"]) == ("bug", "two words")


def test_what_a_draft_can_not_have_is_noted():
    draft = Draft(title="x" * 300, body="y" * 2_000_000, marker=MARKER, labels=("a,b", "fine"))
    notes = wire.notes_of_draft(draft)
    assert [note.split()[1] for note in notes] == ["title", "text", "'a,b'"]
    assert wire.notes_of_draft(Draft(title="x", body="y", marker=MARKER)) == []


# -- request bodies ------------------------------------------------------------------------------------------------


def test_an_issue_goes_out():
    draft = Draft(title="Help", body="It broke.", marker=MARKER)
    body = wire.issue_body(draft, ["bug", "shop"], [8], confidential=True)
    assert body == {
        "title": "Help",
        "description": f"It broke.\n\n<!-- pointsman: {MARKER.text} -->",
        "labels": "bug,shop",
        "assignee_ids": [8],
        "confidential": True,
    }
    assert set(wire.issue_body(draft, [], [], confidential=False)) == {"title", "description"}


def test_states_go_out_as_events():
    assert wire.state_body("closed") == {"state_event": "close"}
    assert wire.state_body("open") == {"state_event": "reopen"}


# -- answers -------------------------------------------------------------------------------------------------------


def test_an_issue_is_read():
    seen = wire.issue_state(ISSUE)
    assert seen is not None
    assert seen.ref == IssueRef("6", "#6", "https://gitlab.example.com/acme/shop/-/issues/6")
    assert (seen.state, seen.close_reason, seen.markers) == ("closed", None, (MARKER.text,))
    assert seen.version == dt.datetime(2016, 1, 4, 15, 31, 51, 81000, dt.UTC)
    assert seen.author == Actor("18", "eileen.lowe")


def test_a_duplicate_says_so():
    for more in ({"_links": {"closed_as_duplicate_of": "https://x/1"}}, {"duplicated_to_id": 3}):
        seen = wire.issue_state({**ISSUE, **more})
        assert seen is not None
        assert seen.close_reason == "duplicate"


def test_a_moved_issue_is_gone():
    gone = wire.issue_removed({**ISSUE, "moved_to_id": 99})
    assert gone is not None
    assert "99" in gone.moved_to
    assert wire.issue_removed(ISSUE) is None


def test_what_is_no_issue_is_none():
    for raw in (None, 7, [], {}, {"iid": True}, {"iid": "7"}, {"iid": -1}, {**ISSUE, "state": "locked"}):
        assert wire.issue_state(raw) is None


def test_a_comment_is_read_with_a_page_of_its_own():
    ref = wire.comment_ref({"id": 5}, IssueRef("6", "#6", "https://x/6"))
    assert ref is not None
    assert ref.url == "https://x/6#note_5"
    assert wire.comment_ref({"id": "5"}, IssueRef("6", "#6")) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-09-15T16:50:55Z", 0),
        ("2017-09-15 16:50:55 UTC", 0),
        ("2017-09-15T18:50:55.000+02:00", 0),
        ("2017-09-15T16:50:56.5Z", 1.5),
    ],
)
def test_times_come_in_several_forms(text, seconds):
    assert parse_time(text) == dt.datetime(2017, 9, 15, 16, 50, 55, tzinfo=dt.UTC) + dt.timedelta(
        seconds=seconds
    )


@pytest.mark.parametrize("text", [None, 7, "", "UTC", "9999-99-99", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_is_none(text):
    assert parse_time(text) is None


def test_what_gitlab_left_out_is_noted():
    raw = {"labels": ["Bug"], "assignees": [{"id": 8}]}
    assert wire.notes_of_response(raw, ["bug"], {"ada": 8}) == []
    [labels, item] = wire.notes_of_response(raw, ["bug", "shop"], {"ada": 8, "bob": 9})
    assert "shop" in labels and "bug," not in labels
    assert "bob" in item and "licence" in item
    [no_account] = wire.notes_of_response({}, [], {"ada": 8})
    assert "no members" in no_account


# -- settings ------------------------------------------------------------------------------------------------------


def settings(**changed) -> GitLabSettings:
    return GitLabSettings(**{"token": Secret("glpat-x"), "project": "acme/shop", **changed})


def test_settings_that_work():
    assert settings().base == "https://gitlab.com"
    assert settings(url="https://git.example.com/gitlab/api/v4/").base == "https://git.example.com/gitlab"
    assert settings(project="acme/sub.group/shop_1").project_path == "/projects/acme%2Fsub.group%2Fshop_1"
    assert settings(project="42").project_path == "/projects/42"


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "gitlab.com"},
        {"url": "https://me:secret@gitlab.com"},
        {"url": "https://gitlab.com/?x=1"},
        {"project": "shop"},
        {"project": "https://gitlab.com/acme/shop"},
        {"project": "acme/../shop"},
        {"project": "acme/shop/"},
        {"token": Secret(" ")},
        {"token": Secret("Bearer x")},
        {"labels": ("a,b",)},
        {"labels": ("",)},
        {"assignees": ("@ada",)},
    ],
    ids=str,
)
def test_settings_that_can_not_be(changed):
    with pytest.raises(ValueError, match=r":|too|more") as caught:
        settings(**changed)
    assert "secret" not in str(caught.value)
