"""What a file says, and what we write into it: bytes in, bytes out."""

from __future__ import annotations

import datetime as dt

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_folder import wire

NOW = dt.datetime(2026, 3, 1, 9, 0, tzinfo=dt.UTC)
texts = st.text(st.characters(codec="utf-8"), max_size=200)
quick = settings(max_examples=150, deadline=None)


def head_of(data):
    head = wire.read_head(data)
    assert head is not None
    return head


def state_of(data, *, in_closed=False):
    return wire.read_state(head_of(data), in_closed=in_closed)


def test_a_new_file_reads_as_its_format_says():
    created = wire.new_issue("Checkout fails", "It broke.\n", "pm1-x-1", ("backend", "two,words"), NOW)
    assert created.decode() == (
        "---\ntitle: Checkout fails\nstatus: open\nreason:\ncreated: 2026-03-01T09:00:00Z\n"
        "updated: 2026-03-01T09:00:00Z\nlabels: backend, two words\nmarker: pm1-x-1\n---\n\nIt broke.\n"
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("open", ("open", None)),
        ("closed", ("closed", "completed")),
        ("Closed", ("closed", "completed")),
        ("  DONE  ", ("closed", "completed")),
        ('"closed"', ("closed", "completed")),
        ("'closed'", ("closed", "completed")),
        ("closed # fixed in 1.2", ("closed", "completed")),
        ("wontfix", ("closed", "not_planned")),
        ("Won\u2019t do", ("closed", "not_planned")),
        ("not_planned", ("closed", "not_planned")),
        ("duplicate", ("closed", "duplicate")),
        ("", ("open", None)),
        ("in progress", ("open", None)),
    ],
)
def test_a_status_line_is_read_as_people_write_it(status, expected):
    assert state_of(f"---\nstatus: {status}\n---\n".encode()) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"---\nstatus: closed\n---",
        b"---\r\nstatus: closed\r\n---\r\ntext",
        b"\xef\xbb\xbf---\nstatus: closed\n---\n",
        b"\n\n---  \n  status  :closed\n --- \n",
        b"---\nSTATUS:    closed\t\n---\n",
        b"---\nstatus: closed\nstatus: open\n---\n",
        b"---\nnote: a: b: c\nlist:\n  - x\n\nstatus: closed\n---\n",
        b"---\ntitle: \xff\xfe latin\nstatus: closed\n---\n\x00binary text",
    ],
)
def test_odd_spacing_crlf_bom_and_missing_line_ends_are_fine(data):
    assert state_of(data)[0] == "closed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"---",
        b"# A note\n",
        b"text\n---\nstatus: closed\n---\n",
        b"---\nstatus: closed\n",
        b"---\na\0b\n---\n",
        b"---\n" + b"x: y\n" * 20000 + b"---\n",
        b"\x89PNG\r\n\x1a\n\0\0",
    ],
)
def test_a_file_without_front_matter_is_no_issue(data):
    assert wire.read_head(data) is None


def test_a_reason_line_says_why_and_the_closed_folder_closes_by_itself():
    assert state_of(b"---\nstatus: closed\nreason: duplicate\n---\n") == ("closed", "duplicate")
    assert state_of(b"---\nstatus: open\nreason: duplicate\n---\n") == ("open", None)
    assert state_of(b"---\nstatus: open\n---\n", in_closed=True) == ("closed", "completed")
    assert state_of(b"---\nstatus: wontfix\n---\n", in_closed=True) == ("closed", "not_planned")


def test_a_state_changes_two_lines_and_nothing_else():
    before = b"\xef\xbb\xbf---\r\nOwner : me\r\n  Status :  'Open'  \r\nreason: \r\n---\r\nText \xff\0\r\n---\r\nstatus: x"
    after = wire.new_state(before, head_of(before), "closed", "not_planned")
    assert after == before.replace(b":  'Open'  ", b": closed").replace(b"reason: ", b"reason: not_planned")
    repeated = wire.new_state(after, head_of(after), "open", None)
    assert repeated == before.replace(b":  'Open'  ", b": open").replace(b"reason: ", b"reason:")


def test_missing_lines_are_added_before_the_closing_fence():
    before = b"---\r\ntitle: x\r\n---\r\n"
    after = wire.new_state(before, head_of(before), "closed", None)
    assert after == b"---\r\ntitle: x\r\nstatus: closed\r\nreason: completed\r\n---\r\n"


def test_a_comment_is_appended_in_the_files_own_line_ends():
    before = b"---\r\nstatus: open\r\n---\r\nno end of line"
    after = wire.new_comment(before, head_of(before), "one\ntwo", "pm1-c-1", NOW)
    assert after == before + (
        "\r\n\r\n## Comment · 2026-03-01 09:00 UTC\r\n<!-- pm1-c-1 -->\r\n\r\none\r\ntwo\r\n".encode()
    )
    assert wire.comment_markers(after, head_of(after)) == ("pm1-c-1",)


def test_text_cannot_pose_as_a_comment_of_ours():
    fake = "hi\n## Comment · 2026-01-01 00:00 UTC\n<!-- pm1-stolen-1 -->\n"
    created = wire.new_issue("t", fake, "pm1-x-1", (), NOW)
    created = wire.new_comment(created, head_of(created), fake, "pm1-c-1", NOW)
    assert wire.comment_markers(created, head_of(created)) == ("pm1-c-1",)


def test_a_new_text_keeps_comments_and_peoples_lines():
    created = wire.new_issue("Old", "old body", "pm1-x-1", (), NOW).replace(
        b"labels:\n", b"labels:\nowner: me\n"
    )
    created = wire.new_comment(created, head_of(created), "said", "pm1-c-1", NOW)
    later = NOW + dt.timedelta(hours=1)
    after = wire.new_text(created, head_of(created), "New: title", "new body", later)
    head = head_of(after)
    assert (head.value("title"), head.value("owner"), head.value("updated")) == (
        "New: title",
        "me",
        "2026-03-01T10:00:00Z",
    )
    assert b"old body" not in after
    assert b"---\n\nnew body\n\n## Comment" in after
    assert wire.comment_markers(after, head) == ("pm1-c-1",)
    assert wire.new_text(after, head, "New: title", "new body", later) == after


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Checkout fails!", "0007-checkout-fails.md"),
        ("../../etc/passwd", "0007-etc-passwd.md"),
        ("Größe  über", "0007-grosse-uber.md"),
        ("日本語", "0007-issue.md"),
        ("", "0007-issue.md"),
        ("x" * 500, "0007-" + "x" * 50 + ".md"),
    ],
)
def test_file_names_are_plain(title, name):
    assert wire.file_name(7, title) == name
    assert wire.number_of(wire.file_name(7, title)) == 7


@pytest.mark.parametrize(
    "name", ["notes.md", "0001.txt", "0001-a.md~", ".0001-a.md", "1234567890-a.md", "٣-a.md"]
)
def test_other_files_are_not_issues(name):
    assert wire.number_of(name) is None


@quick
@given(texts, texts, texts)
def test_any_text_survives_and_stays_yaml(title, body, label):
    created = wire.new_issue(title, body, "pm1-x-1", (label,), NOW)
    head = head_of(created)
    assert head.value("title") == wire.one_line(title)
    assert head.value("marker") == "pm1-x-1"
    assert wire.read_state(head, in_closed=False) == ("open", None)
    try:
        shown = yaml.safe_load(created[: head.fence].decode().removeprefix("---"))
    except yaml.reader.ReaderError:
        return  # YAML knows fewer characters than Unicode has
    assert str(shown["title"] or "").split() == wire.one_line(title).split() or not isinstance(
        shown["title"], str
    )


@quick
@given(st.binary(max_size=400), st.sampled_from(["open", "closed"]))
def test_any_bytes_are_read_without_an_exception(noise, state):
    for data in (
        noise,
        b"---\n" + noise,
        b"---\n" + noise + b"\n---\n" + noise,
        b"---\r\nstatus:" + noise + b"\r\n---",
    ):
        head = wire.read_head(data)
        if head:
            changed = wire.new_state(data, head, state, None)
            repeated = head_of(changed)
            assert wire.read_state(repeated, in_closed=False)[0] == state
            assert changed[repeated.stop :] == data[head.stop :]
            assert wire.new_state(changed, repeated, state, None) == changed
            wire.comment_markers(data, head)


@quick
@given(texts, texts)
def test_comments_are_found_by_their_marker_alone(body, comment):
    created = wire.new_issue("t", body, "pm1-x-1", (), NOW)
    created = wire.new_comment(created, head_of(created), comment, "pm1-c-1", NOW)
    created = wire.new_comment(created, head_of(created), comment, "pm1-c-2", NOW)
    assert wire.comment_markers(created, head_of(created)) == ("pm1-c-1", "pm1-c-2")
