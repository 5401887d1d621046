"""What answers stand for."""

from __future__ import annotations

import json

import pytest

from pointsman.plugin_api import (
    AuthFailed,
    Conflict,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    Response,
    UnknownOutcome,
)
from pointsman_gitlab.errors import message_of, problem


def answer(status: int, content: object = None, method: str = "POST", **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    reported = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(method=method, path="/x", status=status, headers=reported, body=body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "404 Project Not Found"}, "404 Project Not Found"),
        ({"error": "title is missing"}, "title is missing"),
        ({"message": {"title": ["is too long", "is odd"]}}, "title: is too long, is odd"),
        (
            {"message": {"error": "This endpoint has been requested too many times."}},
            "error: This endpoint has been requested too many times.",
        ),
        ({"error": "insufficient_scope", "error_description": "more"}, "insufficient_scope: more"),
        (b"Retry later\n", ""),
        ([], ""),
        ({"message": None}, ""),
    ],
)
def test_gitlabs_words_are_read(body, message):
    assert message_of(answer(400, body))[0] == message


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"message": "401 Unauthorized"}, AuthFailed),
        (403, {"error": "insufficient_scope"}, Misconfigured),
        (403, {"message": "403 Forbidden"}, Misconfigured),
        (404, {"message": "404 Project Not Found"}, Misconfigured),
        (410, None, Misconfigured),
        (409, {"message": "409 Conflict"}, Conflict),
        (409, {"needs_captcha_response": True, "message": {"error": "spam"}}, Refused),
        (400, {"message": {"title": ["is too long"]}}, Refused),
        (422, {"error": "no"}, Refused),
        (500, None, UnknownOutcome),
        (502, b"<html>", UnknownOutcome),
        (301, None, Misconfigured),
    ],
)
def test_statuses_stand_for_errors(status, body, kind):
    assert type(problem(answer(status, body), "create the issue")) is kind


def test_a_404_of_an_issue_is_about_it_unless_it_names_the_project():
    assert type(problem(answer(404, {"message": "404 Not found"}), "read", issue=True)) is NotFound
    assert type(problem(answer(404, {"message": "404 Issue Not Found"}), "read", issue=True)) is NotFound
    assert (
        type(problem(answer(404, {"message": "404 Project Not Found"}), "read", issue=True)) is Misconfigured
    )


def test_fields_that_are_refused_are_named():
    error = problem(answer(400, {"message": {"title": ["is too long"]}}), "create the issue")
    assert isinstance(error, Refused)
    assert error.fields == {"title": "is too long"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "60"}, 60),
        ({"retry_after": "60", "ratelimit_reset": "1"}, 60),
        ({"ratelimit_reset": "1609844460", "date": "Tue, 05 Jan 2021 11:00:30 GMT"}, 30),
        ({"ratelimit_reset": "1609844400", "date": "Tue, 05 Jan 2021 11:00:30 GMT"}, 1),
        ({"ratelimit_reset": "99999999999", "date": "Tue, 05 Jan 2021 11:00:30 GMT"}, 3600),
        ({"ratelimit_reset": "1609844460"}, None),
        ({"ratelimit_reset": "soon", "date": "Tue, 05 Jan 2021 11:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_a_limit_says_how_long(headers, seconds):
    """A moment is measured against the server's clock and not ours."""
    error = problem(answer(429, b"Retry later\n", **headers), "create the issue")
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_a_new_name_is_told():
    error = problem(answer(301, None, location="https://gitlab.example.com/api/v4/projects/42"), "read")
    assert "projects/42" in error.message
