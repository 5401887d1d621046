"""What Jira says, read into values; and what is sent, made from values."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import (
    Actor,
    Answer,
    AuthFailed,
    Conflict,
    IssueRef,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    Secret,
    UnknownOutcome,
)
from pointsman_jira import wire
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
    return Answer(method=method, path="/rest/api/3/issue", status=status, headers=headers or {}, body=raw)


def problem(*args, **kwargs):
    return wire.problem(answer(*args, **kwargs), "it was not done", now=NOW)


def refusal(**errors):
    return {"errorMessages": [], "errors": errors}


# -- settings ------------------------------------------------------------------------------------------------------


def test_settings_are_tidied():
    made = JiraSettings(**GOOD)
    assert (made.site, made.base, made.project) == (
        "https://acme.atlassian.net",
        "https://acme.atlassian.net",
        "OPS",
    )
    assert made.authorization.reveal() == "Basic Ym90QGFjbWUudGVzdDp0"
    assert "Ym90" not in repr(made.authorization)
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
    made = wire.summary(title)
    assert made
    assert len(made.splitlines()) == 1
    assert len(made.encode("utf-16-le")) // 2 <= 255


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


# -- transitions -----------------------------------------------------------------------------------------------------


def way(number, name, category, to=None, **fields):
    target = {"name": to or name, "statusCategory": {"key": category}}
    return {"id": str(number), "name": name, "to": target, "fields": fields}


NEEDED = {"required": True, "hasDefaultValue": False}
RESOLUTION = {**NEEDED, "allowedValues": [{"id": "1", "name": "Done"}, {"id": "2", "name": "Won't Do"}]}
WORKFLOW = [
    way(1, "Start", "indeterminate"),
    way(2, "Done", "done"),
    way(3, "Won't do", "done"),
    way(4, "Back", "new"),
]


def chosen(ways, state, reason=None, preferred=""):
    found, fields = wire.choose_transition(wire.transitions({"transitions": ways}), state, reason, preferred)
    return found.id, fields


@pytest.mark.parametrize(
    ("ways", "state", "reason", "preferred", "expected"),
    [
        (WORKFLOW, "closed", None, "", "2"),
        (WORKFLOW, "closed", "completed", "", "2"),
        (WORKFLOW[::-1], "closed", "completed", "", "2"),
        (WORKFLOW, "closed", "not_planned", "", "3"),
        (WORKFLOW, "closed", "duplicate", "", "3"),
        ([*WORKFLOW, way(5, "Duplicate", "done")], "closed", "duplicate", "", "5"),
        ([way(3, "Won't do", "done")], "closed", "completed", "", "3"),
        (WORKFLOW, "closed", "completed", "won't DO", "3"),
        (WORKFLOW, "open", None, "", "4"),
        (WORKFLOW[:3], "open", None, "", "1"),
        (WORKFLOW, "open", None, "start", "1"),
        ([way(6, "Resolve", "done", cf=NEEDED), way(7, "Finish", "done")], "closed", None, "", "7"),
        ([way(6, "Resolve", "done", cf={**NEEDED, "hasDefaultValue": True})], "closed", None, "", "6"),
        (
            [{**way(6, "Gone", "done"), "isAvailable": False}, way(7, "Finish", "done")],
            "closed",
            None,
            "",
            "7",
        ),
    ],
)
def test_the_fitting_transition_is_chosen(ways, state, reason, preferred, expected):
    assert chosen(ways, state, reason, preferred) == (expected, {})


def test_a_required_resolution_is_filled_in():
    ways = [way(8, "Resolve", "done", resolution=RESOLUTION)]
    assert chosen(ways, "closed", "completed") == ("8", {"resolution": {"id": "1"}})
    assert chosen(ways, "closed", "not_planned") == ("8", {"resolution": {"id": "2"}})


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ([], "Transition issues"),
        ([way(1, "Start", "indeterminate", "Doing")], r"there are: Start \(to Doing\)"),
        ([way(6, "Resolve", "done", cf=NEEDED)], "demands fields that have no default: cf"),
    ],
)
def test_no_way_says_what_there_is(ways, says):
    with pytest.raises(Misconfigured, match=says):
        chosen(ways, "closed")


# -- errors ----------------------------------------------------------------------------------------------------------


def test_rate_limits_name_their_scope():
    error = problem(429, b"", {"retry-after": "7", "ratelimit-reason": "jira-per-issue-on-write"})
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.scope) == (7, "issue")
    assert problem(429, b"", {"ratelimit-reason": "jira-burst-based"}).scope == "endpoint"
    assert problem(429, b"", {"ratelimit-reason": "jira-quota-tenant-based"}).scope == "all"
    assert problem(429).retry_after is None
    assert problem(429, b"", {"x-ratelimit-reset": "2026-03-01T12:00:30Z"}).retry_after == 30
    assert problem(429, b"", {"x-ratelimit-reset": "1772366400"}).retry_after is None
    assert isinstance(problem(503, b"", {"retry-after": "7"}, method="GET"), RateLimited)
    assert isinstance(problem(503, b"", {"retry-after": "7"}), UnknownOutcome)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, AuthFailed), (403, Misconfigured), (404, NotFound), (409, Conflict), (413, Refused),
     (422, Refused), (500, UnknownOutcome), (502, UnknownOutcome)],
)  # fmt: skip
def test_statuses(status, kind):
    error = problem(status, {"errorMessages": ["Said so"], "errors": {}})
    assert type(error) is kind
    assert "Said so" in error.message
    assert error.status == status


def test_field_errors_are_handed_on():
    error = problem(400, refusal(customfield_1="Team is required."))
    assert isinstance(error, Refused)
    assert error.fields == {"customfield_1": "Team is required."}


def test_labels_off_the_screen_are_refused_with_the_cure():
    error = problem(400, refusal(labels="Field 'labels' cannot be set. It is not on the appropriate screen."))
    assert isinstance(error, Refused)
    assert "create screen" in error.message
    assert set(error.fields) == {"labels"}


def test_a_missing_project_or_type_is_the_operators_to_mend():
    assert isinstance(problem(400, refusal(issuetype="Specify a valid issue type")), Misconfigured)
    assert isinstance(problem(400, refusal(project="valid project is required")), Misconfigured)


def test_a_stranger_is_told_by_a_header_only():
    login = {"x-seraph-loginreason": "AUTHENTICATED_FAILED"}
    assert isinstance(problem(404, refusal(), login), AuthFailed)
    assert isinstance(problem(404, refusal(), {"x-seraph-loginreason": "OK"}), NotFound)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (refusal(description="INVALID_INPUT"), True),
        (
            refusal(
                comment="The entered text is too long. It exceeds the allowed limit of 32,767 characters."
            ),
            True,
        ),
        ({"errorMessages": ["INVALID_INPUT"], "errors": {}}, True),
        ({"errorMessages": ["CONTENT_LIMIT_EXCEEDED"], "errors": {}}, True),
        (
            refusal(description="Field 'description' cannot be set. It is not on the appropriate screen."),
            False,
        ),
        (refusal(description="INVALID_INPUT", customfield_1="required"), False),
        (refusal(summary="Summary can't exceed 255 characters."), False),
        (b"<html>", False),
    ],
)
def test_only_refusals_of_the_text_earn_a_plain_repeat(body, expected):
    assert wire.is_about_format(answer(400, body)) is expected
    assert not wire.is_about_format(answer(500, body))


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
    wire.problem(answer(status, value), "x", now=NOW)
    wire.is_about_format(answer(400, value))
    wire.seen(value, "https://s")
    wire.transitions(value)
