"""Text, answers and webhooks, with plain values."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import (
    Actor,
    Answer,
    AuthFailed,
    Ignored,
    IssueGone,
    IssueRef,
    IssueSeen,
    Marker,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    UnknownOutcome,
)
from pointsman_forgejo import ForgejoTracker, wire

SECRET = b"a secret"
BODY = b'{"action":"closed"}'
HEX = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
MARKER = Marker("pm1-0190b5a0-7c11-7000-8000-000000000001-0123456789abcdef")
ISSUES = {"x-forgejo-event": "issues"}

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def verify(headers, body=BODY, secrets=(SECRET,)):
    return ForgejoTracker.verify_webhook(headers, body, secrets)


def read(payload, headers=None, repository="acme/shop"):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return wire.read(ISSUES if headers is None else headers, body, repository)


def answer(status, body=b"{}", headers=None, method="POST"):
    return Answer(method=method, path="/x", status=status, headers=headers or {}, body=body)


# -- text --------------------------------------------------------------------------------------------------------


def test_the_marker_is_the_last_line_of_the_body_and_is_found_again():
    body = wire.marked("Hello\n", MARKER)
    assert body == f"Hello\n\n<!-- pointsman: {MARKER.text} -->"
    assert wire.markers_in(body) == (MARKER.text,)


def test_the_marker_survives_what_an_edit_in_a_browser_does_to_lines():
    assert wire.markers_in(wire.marked("a\nb", MARKER).replace("\n", "\r\n") + "\r\n") == (MARKER.text,)


def test_a_marker_that_came_along_in_the_text_is_taken_out():
    other = "pm1-0190b5a0-7c11-7000-8000-0000000000ff-fedcba9876543210"
    nested = f"<!-- poi<!-- pointsman: {other} -->ntsman: {other} -->"
    for text in (
        f"> <!-- pointsman: {other} -->",
        nested,
        f"<!-- pointsman:<!-- pointsman: {other} --> {other} -->",
    ):
        assert wire.markers_in(wire.marked(text, MARKER)) == (MARKER.text,)


def test_an_empty_text_leaves_the_marker_alone():
    assert wire.marked("  \n", MARKER) == f"<!-- pointsman: {MARKER.text} -->"


@calm
@given(st.text())
def test_every_text_keeps_its_marker_and_can_be_sent(text):
    body = wire.marked(text, MARKER)
    assert wire.markers_in(body)[-1] == MARKER.text
    assert b"\x00" not in body.encode()


def test_too_long_a_text_is_cut_says_so_and_keeps_the_marker():
    body = wire.marked("ä" * wire.BODY_BYTES, MARKER)
    assert len(body.encode()) <= wire.BODY_BYTES
    assert "cut here" in body
    assert wire.markers_in(body) == (MARKER.text,)


def test_a_cut_inside_a_code_block_closes_it():
    body = wire.marked("```text\n" + "x\n" * wire.BODY_BYTES, MARKER)
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
    assert wire.title_line(text) == title
    assert len(wire.title_line(text).encode()) <= 255


def test_labels_are_given_once_and_only_where_forgejo_can_have_them():
    assert wire.label_names(["Bug", " ", "x" * 51], ["bug", "needs  triage"]) == ("Bug", "needs triage")


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"message":"invalid username, password or token"}', AuthFailed),
        (403, b"", Misconfigured),
        (403, b'{"message":"token does not have at least one of required scope(s): [x]"}', Misconfigured),
        (403, b'{"message":"You cannot comment on a locked issue."}', Refused),
        (404, b'{"message":"not found","errors":[]}', NotFound),
        (410, b"{}", NotFound),
        (412, b'{"message":"cannot close this issue"}', Refused),
        (422, b'{"message":"[Title]: Required"}', Refused),
        (423, b'{"message":"archived"}', Misconfigured),
        (307, b"", Misconfigured),
        (429, b"<html>", RateLimited),
        (500, b'{"message":""}', UnknownOutcome),
        (502, b"<html>", UnknownOutcome),
    ],
)
def test_an_answer_stands_for_an_error(status, body, kind):
    assert type(wire.problem(answer(status, body), "edit the issue")) is kind


def test_a_create_answered_with_412_may_have_happened():
    assert isinstance(wire.problem(answer(412), "create", sent={"title": "x"}), UnknownOutcome)


def test_a_create_answered_with_400_may_have_happened_only_where_assignees_are_added_after_the_insert():
    assert isinstance(wire.problem(answer(400), "create", sent={"assignees": ["dev"]}), UnknownOutcome)
    assert isinstance(wire.problem(answer(400), "create", sent={"title": "x"}), Refused)


def test_a_refusal_names_the_field():
    error = wire.problem(answer(422, b'{"message":"[Title]: Required"}'), "create")
    assert isinstance(error, Refused)
    assert error.fields == {"title": "[Title]: Required"}


def test_a_limit_of_a_proxy_says_how_long():
    error = wire.problem(answer(429, b"slow down", {"retry-after": "7"}), "create")
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7


# -- signatures ----------------------------------------------------------------------------------------------------


def test_either_header_of_forgejo_or_gitea_verifies():
    assert verify({"x-forgejo-signature": HEX})
    assert verify({"x-gitea-signature": HEX})
    assert verify({"x-gitea-signature": HEX, "content-type": "application/json"})


def test_every_valid_secret_counts():
    assert verify({"x-forgejo-signature": HEX}, secrets=(b"new", SECRET))
    assert not verify({"x-forgejo-signature": HEX}, secrets=(b"new",))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-forgejo-signature": ""},
        {"x-forgejo-signature": "", "x-gitea-signature": HEX},
        {"x-forgejo-signature": f"sha256={HEX}"},
        {"x-forgejo-signature": HEX[:-1]},
        {"x-forgejo-signature": HEX + "0"},
        {"x-forgejo-signature": "ä" * 64},
        {"x-forgejo-signature": "\udcff" * 64},
        {"x-forgejo-signature": "0" * 1_000_000},
        {"x-hub-signature-256": f"sha256={HEX}"},
        {"x-gogs-signature": HEX},
        {"x-forgejo-signature": HEX, "content-type": "application/x-www-form-urlencoded"},
        {"x-forgejo-signature": HEX, "content-type": "Application/X-WWW-Form-URLEncoded; charset=utf-8"},
    ],
)
def test_anything_else_does_not_verify(headers):
    assert not verify(headers)


def test_an_empty_secret_never_verifies():
    signed_with_nothing = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    assert not verify({"x-forgejo-signature": signed_with_nothing}, secrets=(b"",))
    assert not verify({"x-forgejo-signature": signed_with_nothing}, secrets=())


@calm
@given(
    st.dictionaries(st.sampled_from(["x-forgejo-signature", "x-gitea-signature", "content-type"]), st.text()),
    st.binary(),
)
def test_verifying_always_comes_to_a_decision(headers, body):
    assert verify(headers, body) is False


def test_the_id_of_a_call_is_in_its_header():
    assert ForgejoTracker.webhook_id({"x-forgejo-delivery": "one", "x-gitea-delivery": "two"}, b"") == "one"
    assert ForgejoTracker.webhook_id({"x-gitea-delivery": "two"}, b"") == "two"
    assert ForgejoTracker.webhook_id({}, b"") is None


# -- webhooks ------------------------------------------------------------------------------------------------------


def test_a_closed_issue_is_read_whole():
    body = wire.marked("text", MARKER)
    seen = read(
        {
            "action": "closed",
            "number": 3,
            "issue": {
                "id": 99,
                "number": 3,
                "html_url": "https://forge.example/acme/shop/issues/3",
                "body": body,
                "state": "closed",
                "updated_at": "2026-05-01T10:00:00+02:00",
                "pull_request": None,
            },
            "repository": {"full_name": "Acme/Shop"},
            "sender": {"id": 5, "login": "dev"},
        }
    )
    assert seen == IssueSeen(
        ref=IssueRef("3", "3", "https://forge.example/acme/shop/issues/3"),
        state="closed",
        version=dt.datetime(2026, 5, 1, 8, tzinfo=dt.UTC),
        actor=Actor("5", "dev"),
        markers=(MARKER.text,),
    )


@pytest.mark.parametrize("headers", [{}, {"x-gitea-event": "issues"}, ISSUES])
@pytest.mark.parametrize(
    ("action", "state"), [("opened", "open"), ("closed", "closed"), ("reopened", "open")]
)
def test_a_minimal_payload_is_enough(headers, action, state):
    seen = read({"action": action, "issue": {"number": 1}, "repository": {"full_name": "acme/shop"}}, headers)
    assert isinstance(seen, IssueSeen)
    assert (seen.ref.remote_id, seen.state, seen.version, seen.markers) == ("1", state, None, ())


def test_an_issue_can_be_born_closed():
    seen = read({"action": "opened", "issue": {"number": 1, "state": "closed"}})
    assert isinstance(seen, IssueSeen)
    assert seen.state == "closed"


def test_gitea_tells_of_deletion():
    assert read({"action": "deleted", "issue": {"number": 1}}) == IssueGone(ref=IssueRef("1", "1"))


@pytest.mark.parametrize(
    ("payload", "headers", "why"),
    [
        ({}, {"x-forgejo-event": "push"}, "event push"),
        ({}, {"x-forgejo-event": "issue_comment"}, "event issue_comment"),
        ({"action": "edited", "issue": {"number": 1}}, ISSUES, "action edited"),
        ({"action": "label_updated", "issue": {"number": 1}}, ISSUES, "action label_updated"),
        ({"issue": {"number": 1}}, ISSUES, "action (none)"),
        ({"action": "closed"}, ISSUES, "without an issue"),
        ({"action": "closed", "issue": {"id": 4}}, ISSUES, "without an issue"),
        ({"action": "closed", "issue": {"number": 1, "pull_request": {}}}, ISSUES, "without an issue"),
        ({"action": "deleted", "issue": {"number": 1}, "comment": {"id": 1}}, {}, "a comment"),
        ({"action": "closed", "pull_request": {"number": 1}}, {}, "pull request"),
        (
            {"action": "closed", "issue": {"number": 1}, "repository": {"full_name": "a/b"}},
            ISSUES,
            "another repository: a/b",
        ),
        (b"payload=%7B%7D", ISSUES, "not JSON"),
        (b"[" * 100_000, ISSUES, "not JSON"),
        (b"\xff\xfe\x00", ISSUES, "not JSON"),
        (b"[]", ISSUES, "not a JSON object"),
    ],
)
def test_what_does_not_concern_us_is_ignored_with_a_reason(payload, headers, why):
    news = read(payload, headers)
    assert isinstance(news, Ignored)
    assert why in news.why


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "1", None, [], 2**80])
def test_what_is_no_number_is_no_issue(number):
    assert isinstance(read({"action": "closed", "issue": {"number": number}}), Ignored)


def test_odd_text_is_made_fit_to_be_kept():
    payload = b'{"action":"closed","issue":{"number":1,"html_url":"javascript:x"},"sender":{"login":"a\\ud800\\u0000b"}}'
    seen = read(payload)
    assert isinstance(seen, IssueSeen)
    assert seen.ref.url == ""
    assert seen.actor == Actor("a?b", "a?b")


_PAYLOAD_KEYS = ("action", "issue", "number", "repository", "full_name", "sender", "comment", "pull_request")
_ISSUE_KEYS = ("id", "login", "user", "state", "state_reason", "body", "updated_at", "html_url")
_KEYS = st.sampled_from([*_PAYLOAD_KEYS, *_ISSUE_KEYS, "changes", "new_issue"])
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["closed", "opened", "reopened", "deleted", "transferred", "acme/shop", "2026-01-01T00:00:00Z"]
    )
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "<!-- pointsman: pm1-a -->"])
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=20,
)


@calm
@given(
    st.dictionaries(
        st.sampled_from(["x-forgejo-event", "x-gitea-event"]), st.sampled_from(["issues", ""]) | st.text()
    ),
    st.fixed_dictionaries(
        {"action": _LEAVES, "issue": _JSON}, optional={"repository": _JSON, "sender": _JSON}
    )
    | _JSON,
)
def test_any_json_comes_to_a_decision_that_can_be_kept(headers, payload):
    news = read(payload, headers)
    assert isinstance(news, IssueSeen | IssueGone | Ignored)
    assert "\x00" not in repr(news)
    repr(news).encode()


@calm
@given(st.binary())
def test_any_bytes_come_to_a_decision(body):
    assert isinstance(wire.read({}, body, "acme/shop"), Ignored)


# -- recordings ----------------------------------------------------------------------------------------------------


def test_a_recorded_opened_issue(payload):
    raw = payload("gitea.issues-event.json")
    name = json.loads(raw)["repository"]["full_name"]
    seen = read(raw, {"x-gitea-event": "issues"}, name)
    assert isinstance(seen, IssueSeen)
    assert seen.state == "open"
    assert seen.version is not None
    assert seen.actor is not None
    assert isinstance(read(raw, {"x-gitea-event": "issues"}), Ignored)


def test_a_recorded_closed_issue_of_an_old_server(payload):
    seen = read(payload("gitea-2017.issues_closed.json"), {"x-gogs-event": "issues"}, "gogits/hello-world")
    assert isinstance(seen, IssueSeen)
    assert (seen.ref, seen.state, seen.actor) == (IssueRef("1", "1"), "closed", Actor("1", "unknwon"))


@pytest.mark.parametrize("headers", [{}, None])
@pytest.mark.parametrize(
    "name",
    [
        "gitea.issue-assign-event.json",
        "gitea.issue-label-event.json",
        "gitea.issue-milestone-event.json",
        "gitea.issue-comment-event.json",
        "gitea.pull-request-comment-event.json",
        "gitea-2017.issue_comment_created.json",
    ],
)
def test_recorded_calls_that_do_not_concern_us(payload, name, headers):
    raw = payload(name)
    repository = json.loads(raw)["repository"]["full_name"]
    event = "issue_comment" if "comment" in name else "issues"
    news = read(raw, {"x-gitea-event": event} if headers is None else headers, repository)
    assert isinstance(news, Ignored)
    assert "another repository" not in news.why
