"""What an answer that is no success stands for."""

from __future__ import annotations

import json

import pytest

from pointsman.plugin_api import (
    AuthFailed,
    Conflict,
    IssueMoved,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    Response,
    UnknownOutcome,
)
from pointsman_github import errors


def answer(status, body=b"{}", headers=None, method="POST"):
    return Response(method=method, path="/x", status=status, headers=headers or {}, body=body)


@pytest.mark.parametrize("about_issue", [True, False])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (301, b'{"message":"Moved Permanently"}', IssueMoved),
        (400, b'{"message":"Problems parsing JSON"}', Refused),
        (400, b'{"message":"Body should be a JSON object"}', Refused),
        (400, b'{"message":"The API version 2022-11-28 is not supported"}', Misconfigured),
        (401, b'{"message":"Bad credentials"}', AuthFailed),
        (401, b'{"message":"Requires authentication"}', AuthFailed),
        (401, b'{"message":"Must specify two-factor authentication OTP code."}', AuthFailed),
        (403, b'{"message":"Resource not accessible by personal access token"}', Misconfigured),
        (403, b'{"message":"Resource not accessible by integration"}', Misconfigured),
        (403, b'{"message":"Repository was archived so is read-only."}', Misconfigured),
        (403, b'{"message":"Unable to create comment because issue is locked."}', Refused),
        (403, b"Request forbidden by administrative rules.", Misconfigured),
        (404, b"<html>Not Found</html>", Misconfigured),
        (409, b'{"message":"Conflict"}', Conflict),
        (410, b'{"message":"Issues are disabled for this repo"}', Misconfigured),
        (410, b'{"message":"Issues has been disabled in this repository."}', Misconfigured),
        (413, b"", Refused),
        (422, b'{"message":"Validation Failed","errors":["odd"]}', Refused),
        (422, b'{"message":"Validation Failed, or the endpoint has been spammed."}', Refused),
        (429, b"", RateLimited),
        (451, b'{"message":"Repository access blocked"}', Misconfigured),
        (500, b"<html>", UnknownOutcome),
        (502, b'{"message":"Server Error"}', UnknownOutcome),
        (503, b"", UnknownOutcome),
        (504, b"", UnknownOutcome),
    ],
)
def test_an_answer_stands_for_an_error(status, body, kind, about_issue):
    error = errors.problem(answer(status, body, method="PATCH"), "edit the issue", about_issue=about_issue)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "message"), [(404, "Not Found"), (410, "This issue was deleted"), (410, "Gone")]
)
def test_only_where_the_address_names_an_issue_it_can_be_gone(status, message):
    payload = answer(status, json.dumps({"message": message}).encode())
    assert type(errors.problem(payload, "comment", about_issue=True)) is NotFound
    assert type(errors.problem(payload, "create an issue")) is Misconfigured


@pytest.mark.parametrize("status", [400, 422])
def test_what_only_reads_has_no_content_to_refuse(status):
    assert type(errors.problem(answer(status, method="GET"), "look for the issue")) is Misconfigured


def test_github_s_words_and_the_id_of_the_request_are_in_the_message():
    refused = b'{"message":"Validation Failed","errors":[{"field":"title","code":"custom","message":"is too long"}]}'
    error = errors.problem(
        answer(422, refused, {"x-github-request-id": "0A1B:2C\u202e\n3D"}), "create an issue"
    )
    assert error.message == (
        "could not create an issue: Validation Failed (title: is too long) [GitHub request 0A1B:2C3D]: POST /x answered 422"
    )
    assert error.excerpt == refused.decode()


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-accepted-github-permissions": "issues=write"}, "the token needs issues=write"),
        (
            {"x-github-sso": "required; url=https://github.com/orgs/acme/sso"},
            "https://github.com/orgs/acme/sso",
        ),
    ],
)
def test_what_is_missing_is_named(headers, message):
    assert message in errors.problem(answer(403, b"{}", headers), "create an issue").message


SECONDARY = b'{"message":"You have exceeded a secondary rate limit. Please wait."}'
PRIMARY = b'{"message":"API rate limit exceeded for installation ID 5."}'
SPENT = {
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": "1767225900",
    "date": "Thu, 01 Jan 2026 00:00:00 GMT",
}


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("body", "headers", "seconds", "scope"),
    [
        (b"{}", SPENT, 301.0, "all"),
        (PRIMARY, SPENT, 301.0, "all"),
        (b"{}", {**SPENT, "date": "Fri, 02 Jan 2026 00:00:00 GMT"}, 1.0, "all"),
        (b"{}", {**SPENT, "x-ratelimit-reset": "99999999999"}, 86400.0, "all"),
        (PRIMARY, {}, 60.0, "all"),
        (b"{}", {"retry-after": "17"}, 17.0, "all"),
        (b"{}", {"retry-after": "Thu, 01 Jan 2026 00:02:00 GMT", "date": SPENT["date"]}, 121.0, "all"),
        (b"{}", {**SPENT, "retry-after": "17"}, 17.0, "all"),
        (SECONDARY, {"retry-after": "17", "x-ratelimit-remaining": "4000"}, 17.0, "content"),
        (SECONDARY, {"x-ratelimit-remaining": "4000"}, 60.0, "content"),
        (SECONDARY, SPENT, 301.0, "content"),
        (b"You have triggered an abuse detection mechanism", {}, 60.0, "content"),
    ],
)
def test_a_rate_limit_says_how_long_and_for_what(status, body, headers, seconds, scope):
    error = errors.problem(answer(status, body, headers), "create an issue")
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.scope) == (seconds, scope)


def test_a_secondary_limit_on_reading_is_for_everything():
    error = errors.problem(answer(403, SECONDARY, {"retry-after": "5"}, "GET"), "list issues")
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.scope) == (5.0, "all")


def test_texts_that_follow_too_quickly_are_a_limit_and_no_refusal():
    body = (
        b'{"message":"Validation Failed","errors":[{"code":"custom","message":"was submitted too quickly"}]}'
    )
    error = errors.problem(answer(422, body), "comment")
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.scope) == (60.0, "content")


@pytest.mark.parametrize("headers", [{**SPENT, "date": "soon"}, {**SPENT, "x-ratelimit-reset": "soon"}, {}])
def test_a_rate_limit_with_odd_headers_still_says_how_long(headers):
    error = errors.problem(answer(429, b"", headers), "create an issue")
    assert isinstance(error, RateLimited)
    assert error.retry_after is not None
    assert 1.0 <= error.retry_after <= 86400.0


@pytest.mark.parametrize(
    ("raw_errors", "fields", "refused"),
    [
        (
            [{"resource": "Issue", "field": "assignees", "code": "invalid", "value": "x"}],
            {"assignees": "invalid (x)"},
            {"assignees": ("x",)},
        ),
        (
            [{"field": "labels", "code": "invalid", "value": ["a", 3]}, {"field": "labels", "value": "b"}],
            {"labels": "refused (b)"},
            {"labels": ("a", "b")},
        ),
        (
            [{"field": "title", "code": "custom", "message": "title is too long"}],
            {"title": "title is too long"},
            {"title": ()},
        ),
        (["just text"], {"message": "just text"}, {}),
        ("just text", {"message": "just text"}, {}),
        ([{"code": "missing"}, None, 3], {"message": "missing"}, {}),
        (None, {}, {}),
        ({"field": ["odd"]}, {"message": "refused"}, {}),
    ],
)
def test_a_refusal_names_the_fields_in_whatever_form_they_come(raw_errors, fields, refused):
    payload = answer(422, json.dumps({"message": "Validation Failed", "errors": raw_errors}).encode())
    error = errors.problem(payload, "create")
    assert isinstance(error, Refused)
    assert error.fields == fields
    assert errors.refused_fields(payload) == refused
