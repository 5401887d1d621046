"""Each answer of Jira ends in the right class of error, with Jira's own words and without our secrets."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest

from pointsman.plugin_api import (
    AuthFailed,
    Blocked,
    Conflict,
    Draft,
    IssueRef,
    Marker,
    Misconfigured,
    NotFound,
    PluginError,
    RateLimited,
    Refused,
    Response,
    Secret,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_jira import errors

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
ISSUE = "/rest/api/3/issue"


def answer(status, body=b"", headers=None, method="POST", path=ISSUE):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(method=method, path=path, status=status, headers=headers or {}, body=raw)


def problem(*args, **kwargs):
    return errors.problem(answer(*args, **kwargs), "it was not done", now=NOW)


def refusal(*messages, **fields):
    return {"errorMessages": list(messages), "errors": fields}


@pytest.mark.parametrize(
    ("reason", "path", "scope"),
    [
        ("jira-per-issue-on-write", f"{ISSUE}/10001/comment", "issue:10001"),
        ("jira-per-issue-on-write", f"{ISSUE}/10001", "issue:10001"),
        ("Jira-Per-Issue-On-Write", "/ex/jira/1234/rest/api/3/issue/10001/transitions", "issue:10001"),
        ("jira-per-issue-on-write", ISSUE, "all"),
        ("jira-burst-based", ISSUE, "endpoint:POST /issue"),
        ("jira-burst-based", f"{ISSUE}/10001/comment", "endpoint:POST /issue/{id}/comment"),
        ("jira-quota-global-based", ISSUE, "all"),
        ("jira-quota-tenant-based", ISSUE, "all"),
        ("something-new", ISSUE, "all"),
        ("", ISSUE, "all"),
    ],
)
def test_rate_limits_name_their_scope(reason, path, scope):
    error = problem(429, b"", {"retry-after": "7", "ratelimit-reason": reason}, path=path)
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.scope, error.status) == (7, scope, 429)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7", "x-ratelimit-reset": "2026-03-01T13:00:00Z"}, 7),
        ({"x-ratelimit-reset": "2026-03-01T12:00:30Z"}, 30),
        ({"x-ratelimit-reset": "2026-03-01T12:01Z"}, 60),
        ({"x-ratelimit-reset": "2026-03-01T13:00:30.000+01:00"}, 30),
        ({"x-ratelimit-reset": "2026-03-01T11:00:00Z"}, 0),
        ({"x-ratelimit-reset": "2027-03-01T12:00:00Z"}, 3600),
        ({"x-ratelimit-reset": "1772366400"}, None),
        ({"retry-after": "soon", "beta-ratelimit-reset": "2026-03-01T12:00:30Z"}, None),
    ],
)
def test_how_long_to_wait(headers, seconds):
    """The reset is a time in ISO 8601 and no number of seconds since 1970."""
    assert problem(429, b"", headers).retry_after == seconds


def test_a_503_that_asks_to_wait_is_a_limit_only_where_nothing_can_have_been_done():
    asks = {"retry-after": "7"}
    for method, path in (("GET", ISSUE), ("POST", "/rest/api/3/search/jql"), ("POST", "/rest/api/2/search")):
        error = problem(503, b"", asks, method=method, path=path)
        assert isinstance(error, RateLimited)
        assert error.retry_after == 7
        assert isinstance(problem(503, b"", method=method, path=path), UnknownOutcome)
    for method, path in (("POST", ISSUE), ("PUT", f"{ISSUE}/1"), ("POST", f"{ISSUE}/1/transitions")):
        assert isinstance(problem(503, b"", asks, method=method, path=path), UnknownOutcome)


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


@pytest.mark.parametrize("name", ["summary", "description", "comment", "body"])
def test_a_refusal_of_a_text_is_about_the_text(name):
    error = problem(400, refusal(**{name: "is too long"}))
    assert isinstance(error, Refused)
    assert error.fields == {name: "is too long"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("customfield_1", "Team is required."),
        ("components", "Component/s is required."),
        ("priority", "The priority selected is invalid."),
        ("issuetype", "Specify a valid issue type"),
        ("assignee", "User 'x' cannot be assigned issues."),
        ("labels", "The label 'a b' contains spaces which is invalid."),
        (
            "description",
            "Field 'description' cannot be set. It is not on the appropriate screen, or unknown.",
        ),
    ],
)
def test_a_refusal_of_what_the_settings_decide_is_the_destinations(name, text):
    """The deliveries wait, and continue once the project or the settings are corrected."""
    error = problem(400, refusal(**{name: text}))
    assert isinstance(error, Misconfigured)
    assert text in error.message
    of_issue = problem(400, refusal(**{name: text}), path="/rest/api/3/issue/10001/transitions")
    assert isinstance(of_issue, Blocked)


def test_labels_off_the_screen_are_refused_with_the_cure():
    error = problem(400, refusal(labels="Field 'labels' cannot be set. It is not on the appropriate screen."))
    assert isinstance(error, Misconfigured)
    assert "create screen" in error.message


def test_a_403_of_one_issue_holds_that_issue_alone():
    for path in ("/rest/api/3/issue/10001/comment", "/rest/api/2/issue/10001"):
        assert type(problem(403, refusal("no permission"), path=path)) is Blocked
    assert type(problem(403, refusal("no permission"))) is Misconfigured


def test_a_missing_project_or_type_is_the_operators_to_mend():
    assert isinstance(problem(400, refusal(issuetype="Specify a valid issue type")), Misconfigured)
    assert isinstance(problem(400, refusal(project="valid project is required")), Misconfigured)


def test_an_anonymous_request_is_told_by_a_header_only():
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
    assert errors.is_about_format(answer(400, body)) is expected
    assert not errors.is_about_format(answer(500, body))


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            400,
            refusal(summary="You must specify a summary of the issue."),
            Refused,
            "summary: You must specify",
        ),
        (400, refusal(customfield_1="Team is required."), Misconfigured, "customfield_1: Team is required"),
        (
            400,
            refusal("You do not have permission to create issues in this project."),
            Misconfigured,
            "permission",
        ),
        (400, refusal("No permission", customfield_1="Team is required."), Misconfigured, "Team is required"),
        (400, refusal("Field is broken"), Refused, "Field is broken"),
        (400, b"<html>Bad Request</html>", Refused, "Bad Request"),
        (401, b"Client must be authenticated to access this resource.", AuthFailed, "must be authenticated"),
        (403, refusal("Forbidden here"), Misconfigured, "Forbidden here"),
        (
            404,
            refusal("Issue does not exist or you do not have permission to see it."),
            NotFound,
            "does not exist",
        ),
        (409, refusal("The issue was updated meanwhile"), Conflict, "updated meanwhile"),
        (413, refusal("limit of comments breached"), Refused, "number of comments of this issue"),
        (422, refusal("A problem of the configuration"), Refused, "A problem of the configuration"),
        (500, refusal("Internal server error"), UnknownOutcome, "Internal server error"),
    ],
)
def test_documented_answers(status, body, kind, says):
    """https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/ (the answers of each call)"""
    error = problem(status, body)
    assert type(error) is kind
    assert says in error.message
    assert error.status == status


# -- what may not be repeated ----------------------------------------------------------------------------------------

REF = IssueRef("10001", "OPS-1")
DRAFT = Draft(title="Title", body="Text", marker=Marker("pm1-a-b"))


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503])
async def test_no_error_repeats_the_address_or_the_token(jira, make_tracker, status):
    jira.email, jira.api_token = "robot@acme.example", "ATATT3xFfGF0-secret"
    pair = base64.b64encode(b"robot@acme.example:ATATT3xFfGF0-secret").decode()
    echo = f"robot@acme.example may not; ATATT3xFfGF0-secret; Basic {pair}"
    tracker = make_tracker(api_token=Secret("ATATT3xFfGF0-secret"))
    now = dt.datetime.now(dt.UTC)
    for doing in (
        lambda: tracker.create_issue(DRAFT),
        lambda: tracker.update_issue(REF, DRAFT),
        lambda: tracker.add_comment(REF, "Text", DRAFT.marker),
        lambda: tracker.set_state(REF, "closed", None),
        lambda: tracker.read_issue(REF),
        lambda: tracker.find_issue(DRAFT.marker, now),
        lambda: tracker.find_comment(REF, DRAFT.marker, now),
        lambda: tracker.list_changes(now),
        tracker.own_account,
    ):
        body = json.dumps(refusal(echo, customfield_1=echo)).encode() if status != 200 else echo.encode()
        jira.faults[:] = [Fault(status=status, body=body, times=9)]
        with pytest.raises(PluginError) as caught:
            await doing()
        shown = f"{caught.value.message} {caught.value.excerpt} {getattr(caught.value, 'fields', '')}"
        for private in ("robot@acme", "ATATT3xFfGF0", pair):
            assert private not in shown
    jira.faults[:] = [Fault(status=status, body=body, times=99)]
    payload = repr(
        [*await tracker.check(), await tracker.ensure_webhook("https://pm.example/w", Secret("hush-hush"))]
    )
    assert not [word for word in ("robot@acme", "ATATT3xFfGF0", pair, "hush-hush") if word in payload]


async def test_an_account_called_like_its_address_is_still_found(jira, tracker):
    """Answers lose our address, and nothing that we go by is lost with it."""
    jira.email = "bot@example.com"
    ref = await tracker.create_issue(
        Draft(title="bot@example.com", body="bot@example.com", marker=Marker("pm1-a-b"))
    )
    assert jira.issues[ref.remote_id].summary == "bot@example.com"
    assert list(await tracker.find_issue(Marker("pm1-a-b"), NOW)) == [ref]


# -- answers that are not Jira's -------------------------------------------------------------------------------------

ODD = [b"<html>Sign in", b'"under maintenance"', b'{"status": "under maintenance"}', b"[]"]


@pytest.mark.parametrize("body", ODD)
async def test_a_list_that_is_none_is_not_taken_for_an_empty_one(jira, tracker, body):
    """Else an issue that is there would be made anew, and changes would be passed over."""
    ref = await tracker.create_issue(DRAFT)
    await tracker.own_account()
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    for match, doing in (
        ("search/jql", lambda: tracker.find_issue(DRAFT.marker, long_ago)),
        ("search/jql", lambda: tracker.list_changes(long_ago)),
        ("/comment", lambda: tracker.find_comment(ref, DRAFT.marker, long_ago)),
    ):
        jira.faults.append(Fault(match=match, status=200, body=body))
        with pytest.raises(UnknownOutcome):
            await doing()


@pytest.mark.parametrize("body", ODD)
async def test_a_success_that_says_something_is_not_taken_for_one(jira, tracker, body):
    ref = await tracker.create_issue(DRAFT)
    for match, doing in (
        ("PUT", lambda: tracker.update_issue(ref, DRAFT)),
        (
            f"POST /rest/api/3/issue/{ref.remote_id}/transitions",
            lambda: tracker.set_state(ref, "closed", None),
        ),
    ):
        jira.faults.append(Fault(match=match, status=200, body=body))
        with pytest.raises(UnknownOutcome):
            await doing()


@pytest.mark.parametrize("status", [404, 410])
async def test_an_unknown_account_call_says_nothing_about_issues(jira, tracker, status):
    jira.faults.append(Fault(match="myself", status=status))
    with pytest.raises(Misconfigured, match="address"):
        await tracker.find_comment(REF, DRAFT.marker, NOW)
