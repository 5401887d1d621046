"""Webhook calls: what they say."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, IgnoredWebhook, IssueRef, IssueRemoved, IssueState, Marker
from pointsman_forgejo import ForgejoTracker, webhook_events, wire

MARKER = Marker("pm1-0190b5a0-7c11-7000-8000-000000000001-0123456789abcdef")
ISSUES = {"x-forgejo-event": "issues"}

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def read(payload, headers=None, repository="acme/shop"):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return webhook_events.read(ISSUES if headers is None else headers, body, repository)


# -- webhooks ------------------------------------------------------------------------------------------------------


def test_a_closed_issue_is_read_whole():
    body = wire.marked_text("text", MARKER)
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
                "user": {"id": 6, "login": "pointsman-bot"},
                "pull_request": None,
            },
            "repository": {"full_name": "Acme/Shop"},
            "sender": {"id": 5, "login": "dev"},
        }
    )
    assert seen == IssueState(
        ref=IssueRef("3", "3", "https://forge.example/acme/shop/issues/3"),
        state="closed",
        version=dt.datetime(2026, 5, 1, 8, tzinfo=dt.UTC),
        actor=Actor("5", "dev"),
        author=Actor("6", "pointsman-bot"),
        markers=(MARKER.text,),
    )


@pytest.mark.parametrize("headers", [{}, {"x-gitea-event": "issues"}, ISSUES])
@pytest.mark.parametrize(
    ("action", "state"), [("opened", "open"), ("closed", "closed"), ("reopened", "open")]
)
def test_a_minimal_payload_is_enough(headers, action, state):
    seen = read({"action": action, "issue": {"number": 1}, "repository": {"full_name": "acme/shop"}}, headers)
    assert isinstance(seen, IssueState)
    assert (seen.ref.remote_id, seen.state, seen.version, seen.markers) == ("1", state, None, ())


OPEN, CLOSED, GONE = "open", "closed", "gone"


@pytest.mark.parametrize("brand", ["forgejo", "gitea", "gogs"])
@pytest.mark.parametrize(
    ("event", "event_type", "action", "more", "comes_to"),
    [
        ("issues", "issues", "opened", {}, OPEN),
        ("issues", "issues", "closed", {}, CLOSED),
        ("issues", "issues", "closed", {"commit_id": "0123abc"}, CLOSED),
        ("issues", "issues", "reopened", {}, OPEN),
        ("issues", "issues", "deleted", {}, GONE),
        ("issues", "issues", "edited", {"changes": {"title": {"from": "x"}}}, "title or text changed"),
        ("issues", "issues", "edited", {"changes": {"body": {"from": "x"}}}, "title or text changed"),
        ("issues", "issue_assign", "assigned", {}, "somebody was assigned"),
        ("issues", "issue_assign", "unassigned", {}, "no longer assigned"),
        ("issues", "issue_label", "label_updated", {}, "labels changed"),
        ("issues", "issue_label", "label_cleared", {}, "labels were taken off"),
        ("issues", "issue_milestone", "milestoned", {}, "a milestone was set"),
        ("issues", "issue_milestone", "demilestoned", {}, "a milestone was taken off"),
        ("issues", "issues", "pinned", {}, "opens, closes or reopens nothing"),
        (
            "issue_comment",
            "issue_comment",
            "created",
            {"comment": {}, "is_pull": False},
            "comments change no state",
        ),
        (
            "issue_comment",
            "issue_comment",
            "edited",
            {"comment": {}, "is_pull": False},
            "comments change no state",
        ),
        (
            "issue_comment",
            "issue_comment",
            "deleted",
            {"comment": {}, "is_pull": False},
            "comments change no state",
        ),
        (
            "issue_comment",
            "pull_request_comment",
            "created",
            {"comment": {}, "is_pull": True, "pull_request": {}},
            "comments change no state",
        ),
        ("pull_request", "pull_request", "closed", {"pull_request": {}}, "a pull request is no issue"),
        ("pull_request", "pull_request", "opened", {"pull_request": {}}, "a pull request is no issue"),
        ("push", "push", "", {"ref": "refs/heads/main"}, "the button for a test"),
        ("release", "release", "published", {}, "only changes of issues count"),
    ],
)
def test_every_event_and_action_is_read_or_ignored_by_name(brand, event, event_type, action, more, comes_to):
    headers = {
        f"x-{brand}-event": event,
        f"x-{brand}-event-type": event_type,
        "x-github-event": "pull_request",
    }
    issue = {"number": 1, "state": "closed" if action == "closed" else "open", "pull_request": None}
    payload = {"action": action, "issue": issue, "repository": {"full_name": "acme/shop"}, **more}
    news = read(payload, headers)
    if comes_to == GONE:
        assert news == IssueRemoved(ref=IssueRef("1", "1"))
    elif comes_to in (OPEN, CLOSED):
        assert isinstance(news, IssueState)
        assert news.state == comes_to
    else:
        assert isinstance(news, IgnoredWebhook)
        assert comes_to in news.reason
        assert event in news.reason or action in news.reason


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"comment": {"id": 1}}, "a comment: "),
        ({"comment": {"id": 1}, "is_pull": True}, "a comment on a pull request: "),
        ({"pull_request": {"number": 1}}, "a pull request is no issue"),
        ({"issue": {"number": 1, "pull_request": {"merged": False}}}, "without an issue"),
    ],
)
@pytest.mark.parametrize("action", ["closed", "opened", "deleted"])
def test_headers_are_not_signed_so_the_body_decides(more, why, action):
    news = read({"action": action, "issue": {"number": 1}, **more}, ISSUES)
    assert isinstance(news, IgnoredWebhook)
    assert why in news.reason


def test_the_event_of_forgejo_comes_before_that_of_gitea_and_gogs():
    payload = {"action": "closed", "issue": {"number": 1}}
    assert isinstance(read(payload, {"x-forgejo-event": "issues", "x-gitea-event": "push"}), IssueState)
    assert isinstance(read(payload, {"x-forgejo-event": "push", "x-gitea-event": "issues"}), IgnoredWebhook)
    assert isinstance(read(payload, {"x-gitea-event": "push", "x-gogs-event": "issues"}), IgnoredWebhook)
    assert isinstance(read(payload, {"x-github-event": "push"}), IssueState)


def test_what_changes_no_state_is_not_read_for_the_state_it_mentions():
    """An edit and a close within one second may arrive in the wrong order, and the server's times are whole seconds."""
    payload = {
        "action": "edited",
        "issue": {"number": 1, "state": "open", "updated_at": "2026-05-01T10:00:00Z"},
    }
    assert isinstance(read(payload), IgnoredWebhook)


def test_an_issue_can_be_born_closed():
    seen = read({"action": "opened", "issue": {"number": 1, "state": "closed"}})
    assert isinstance(seen, IssueState)
    assert seen.state == "closed"


def test_gitea_tells_of_deletion():
    assert read({"action": "deleted", "issue": {"number": 1}}) == IssueRemoved(ref=IssueRef("1", "1"))


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
    assert isinstance(news, IgnoredWebhook)
    assert why in news.reason


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "1", None, [], 2**80])
def test_what_is_no_number_is_no_issue(number):
    assert isinstance(read({"action": "closed", "issue": {"number": number}}), IgnoredWebhook)


def test_odd_text_is_made_fit_to_be_kept():
    payload = b'{"action":"closed","issue":{"number":1,"html_url":"javascript:x"},"sender":{"login":"a\\ud800\\u0000b"}}'
    seen = read(payload)
    assert isinstance(seen, IssueState)
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
    assert isinstance(news, IssueState | IssueRemoved | IgnoredWebhook)
    assert "\x00" not in repr(news)
    repr(news).encode()


@calm
@given(st.binary())
def test_any_bytes_come_to_a_decision(body):
    assert isinstance(webhook_events.read({}, body, "acme/shop"), IgnoredWebhook)


def test_a_replay_says_the_same_under_another_id():
    payload = {"action": "closed", "issue": {"number": 1, "updated_at": "2026-05-01T10:00:00Z"}}
    first, repeated = ({**ISSUES, "x-forgejo-delivery": name} for name in ("one", "two"))
    assert read(payload, first) == read(payload, repeated)
    assert ForgejoTracker.webhook_id(first, b"") != ForgejoTracker.webhook_id(repeated, b"")


# -- recordings ----------------------------------------------------------------------------------------------------


def test_a_recorded_opened_issue(payload):
    raw = payload("gitea.issues-event.json")
    name = json.loads(raw)["repository"]["full_name"]
    seen = read(raw, {"x-gitea-event": "issues"}, name)
    assert isinstance(seen, IssueState)
    assert seen.state == "open"
    assert seen.version is not None
    assert seen.actor is not None
    assert isinstance(read(raw, {"x-gitea-event": "issues"}), IgnoredWebhook)


def test_a_recorded_closed_issue_of_an_old_server(payload):
    seen = read(payload("gitea-2017.issues_closed.json"), {"x-gogs-event": "issues"}, "gogits/hello-world")
    assert isinstance(seen, IssueState)
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
    assert isinstance(news, IgnoredWebhook)
    assert "another repository" not in news.reason
