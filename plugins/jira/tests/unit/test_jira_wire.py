"""What Jira says, read into values; and what is sent, made from values."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, IssueRef, Response, Secret
from pointsman_jira import errors, transitions, wire
from pointsman_jira.settings import JiraSettings

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
quick = settings(max_examples=150, deadline=None)
GOOD = {
    "url": "https://acme.atlassian.net/",
    "email": "bot@acme.test",
    "api_token": Secret("t"),
    "project_key": "ops",
}


def answer(status, body=b"", headers=None, method="POST"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(method=method, path="/rest/api/3/issue", status=status, headers=headers or {}, body=raw)


# -- settings ------------------------------------------------------------------------------------------------------


def test_settings_are_tidied():
    created = JiraSettings(**GOOD)
    assert (created.site, created.base, created.project) == (
        "https://acme.atlassian.net",
        "https://acme.atlassian.net",
        "OPS",
    )
    assert created.authorization.reveal() == "Basic Ym90QGFjbWUudGVzdDp0"
    assert "Ym90" not in repr(created.authorization)
    scoped = JiraSettings(**GOOD, api_url="https://api.atlassian.com/ex/jira/1234/")
    assert (scoped.site, scoped.base) == (
        "https://acme.atlassian.net",
        "https://api.atlassian.com/ex/jira/1234",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", ""),
        ("url", "acme.atlassian.net"),
        ("url", "https://user:pass@acme.test"),
        ("url", "https://acme.test/?x=1"),
        ("url", "http://["),
        ("api_url", "nonsense"),
        ("email", " "),
        ("email", "a:b"),
        ("api_token", Secret("")),
        ("project_key", "OPS-1"),
        ("project_key", 'X" OR project = "Y'),
        ("issue_type", " "),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        JiraSettings(**{**GOOD, field: value})


# -- out -------------------------------------------------------------------------------------------------------------


@quick
@given(st.text(max_size=600))
def test_a_summary_is_one_short_line(title):
    created = wire.summary(title)
    assert created
    assert len(created.splitlines()) == 1
    assert len(created.encode("utf-16-le")) // 2 <= 255


def test_summaries():
    assert wire.summary(" a\r\n b\tc ") == "a b c"
    assert wire.summary("\n") == "(no title)"
    assert wire.summary("x" * 300) == "x" * 254 + "\u2026"


def test_labels_have_no_spaces_and_no_doubles():
    assert wire.labels(("a b", "c", "a_b", " "), "pm1-x-1") == ["a_b", "c", "pm1-x-1"]


def test_jql_text_is_quoted():
    assert wire.quoted('a"b\\c') == '"a\\"b\\\\c"'


@pytest.mark.parametrize(("seconds", "minutes"), [(-100, 2), (0, 3), (59, 3), (60, 4), (900, 18)])
def test_minutes_ago_always_reach_far_enough(seconds, minutes):
    assert wire.minutes_ago(NOW - dt.timedelta(seconds=seconds), NOW) == minutes
    assert minutes * 60 > seconds + 60


# -- in --------------------------------------------------------------------------------------------------------------


def test_times():
    assert wire.time_of("2019-02-15T19:15:40.477-0800") == dt.datetime(
        2019, 2, 16, 3, 15, 40, 477000, tzinfo=dt.UTC
    )
    for odd in (
        "2019-02-15T19:15:40",
        "",
        "x",
        None,
        5,
        "0001-01-01T00:00:00+2300",
        "9999-12-31T23:59:59-2300",
    ):
        assert wire.time_of(odd) is None


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": {"statusCategory": {"key": "done"}}}, "closed"),
        ({"status": {"statusCategory": {"key": "new"}}}, "open"),
        ({"status": {"statusCategory": {"key": "indeterminate"}}}, "open"),
        ({"status": {"statusCategory": {"key": "undefined"}}, "resolution": {"name": "Done"}}, "open"),
        ({"status": {"name": "Done"}, "resolution": {"name": "Done"}}, "closed"),
        ({"status": {"name": "Done"}, "resolution": None}, None),
        (None, None),
    ],
)
def test_state_is_told_by_the_category(fields, state):
    assert wire.state_of(fields) == state


@pytest.mark.parametrize(
    ("resolution", "reason"),
    [
        ("Done", "completed"),
        ("Won't Do", "not_planned"),
        ("Won\u2019t Fix", "not_planned"),
        ("Declined", "not_planned"),
        ("Cannot Reproduce", "not_planned"),
        ("Duplicate", "duplicate"),
        ("Erledigt", "completed"),
    ],
)
def test_reasons(resolution, reason):
    assert wire.reason_of({"resolution": {"name": resolution}}) == reason
    assert wire.reason_of({"resolution": None, "status": {"name": resolution}}) == reason
    assert wire.reason_of({"resolution": {"name": "Done"}, "status": {"name": resolution}}) == reason
    assert wire.reason_of({"resolution": {"name": resolution}, "status": {"name": "Done"}}) == reason


def test_reasons_that_the_settings_name():
    called = {"completed": "Rejected by QA", "not_planned": "Verworfen", "duplicate": "Dublette"}
    for name, reason in (
        ("verworfen", "not_planned"),
        (" Dublette", "duplicate"),
        ("Rejected by QA", "completed"),
    ):
        assert wire.reason_of({"resolution": {"name": name}}, called) == reason


def test_the_author_is_the_creator_and_markers_are_as_found():
    fields = {
        "labels": ["x", "pm1-a-b", 3],
        "creator": {"accountId": "them"},
        "reporter": {"accountId": "us"},
    }
    assert wire.markers_of(fields) == ("pm1-a-b",)
    assert wire.author_of(fields) == Actor("them")
    assert wire.author_of({**fields, "creator": None}) == Actor("us")


def test_refs():
    assert wire.ref_of({"id": "10", "key": "OPS-1"}, "https://s") == IssueRef(
        "10", "OPS-1", "https://s/browse/OPS-1"
    )
    assert wire.ref_of({"id": 10, "key": None}, "https://s") == IssueRef("10", "", "")
    for odd in (None, {}, {"id": True}, {"id": "x"}, {"id": "1/../2"}, {"id": "٣"}):
        assert wire.ref_of(odd, "https://s") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["transitions", "fields", "errors", "errorMessages", "id", "to", "name", "labels", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@quick
@given(json_values, st.integers(400, 599))
def test_answers_of_any_shape_are_read_without_an_exception(value, status):
    errors.problem(answer(status, value), "x", now=NOW)
    errors.is_about_format(answer(400, value))
    wire.seen(value, "https://s")
    transitions.read(value)
