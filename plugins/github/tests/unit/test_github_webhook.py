"""Webhook calls: who signed them, and what they say."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, IgnoredWebhook, IssueRef, IssueRemoved, IssueState, Marker
from pointsman_github import GitHubTracker, webhook_events, wire

SECRET = b"a secret"
BODY = b'{"action":"closed"}'
HEX = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
MARKER = Marker("pm1-0190b5a0-7c11-7000-8000-000000000001-0123456789abcdef")
ISSUES = {"x-github-event": "issues"}

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def verify(headers, body=BODY, secrets=(SECRET,)):
    return GitHubTracker.verify_webhook(headers, body, secrets)


def read(payload, headers=None, repository="acme/shop"):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return webhook_events.read(ISSUES if headers is None else headers, body, repository)


# -- signatures ----------------------------------------------------------------------------------------------------


def test_the_published_example_verifies():
    """The example of https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(
        {"x-hub-signature-256": f"sha256={digest}"}, b"Hello, World!", [b"It's a Secret to Everybody"]
    )


def test_every_valid_secret_counts():
    assert verify({"x-hub-signature-256": f"sha256={HEX}"}, secrets=(b"new", SECRET))
    assert not verify({"x-hub-signature-256": f"sha256={HEX}"}, secrets=(b"new",))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature-256": ""},
        {"x-hub-signature-256": "sha256="},
        {"x-hub-signature-256": HEX},
        {"x-hub-signature-256": f"sha1={HEX}"},
        {"x-hub-signature-256": f"SHA256={HEX}"},
        {"x-hub-signature-256": f" sha256={HEX}"},
        {"x-hub-signature-256": f"sha256={HEX}0"},
        {"x-hub-signature-256": "sha256=" + "ä" * 64},
        {"x-hub-signature-256": "sha256=" + "\udcff" * 64},
        {"x-hub-signature-256": "sha256=" + "0" * 1_000_000},
        {"x-hub-signature": f"sha256={HEX}"},
        {"x-hub-signature": "sha1=" + hmac.new(SECRET, BODY, hashlib.sha1).hexdigest()},
    ],
)
def test_anything_else_does_not_verify(headers):
    assert not verify(headers)


def test_an_empty_secret_never_verifies():
    signed_with_nothing = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    assert not verify({"x-hub-signature-256": f"sha256={signed_with_nothing}"}, secrets=(b"",))
    assert not verify({"x-hub-signature-256": f"sha256={signed_with_nothing}"}, secrets=())


@calm
@given(st.text(), st.binary())
def test_verifying_always_comes_to_a_decision(given_signature, body):
    assert verify({"x-hub-signature-256": given_signature}, body) is False
    assert verify({"x-hub-signature-256": f"sha256={given_signature}"}, body) is False


def test_the_id_of_a_call_is_in_its_header():
    assert GitHubTracker.webhook_id({"x-github-delivery": "one"}, b"") == "one"
    assert GitHubTracker.webhook_id({}, b"") is None


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
                "html_url": "https://github.example/acme/shop/issues/3",
                "body": body,
                "state": "closed",
                "state_reason": "not_planned",
                "updated_at": "2026-05-01T10:00:00+02:00",
            },
            "repository": {"full_name": "Acme/Shop"},
            "sender": {"id": 5, "login": "dev"},
        }
    )
    assert seen == IssueState(
        ref=IssueRef("3", "3", "https://github.example/acme/shop/issues/3"),
        state="closed",
        close_reason="not_planned",
        version=dt.datetime(2026, 5, 1, 8, tzinfo=dt.UTC),
        actor=Actor("5", "dev"),
        markers=(MARKER.text,),
    )


@pytest.mark.parametrize("headers", [{}, ISSUES])
@pytest.mark.parametrize(
    ("action", "state"), [("opened", "open"), ("closed", "closed"), ("reopened", "open")]
)
def test_a_minimal_payload_is_enough(headers, action, state):
    seen = read({"action": action, "issue": {"number": 1}, "repository": {"full_name": "acme/shop"}}, headers)
    assert isinstance(seen, IssueState)
    assert (seen.ref.remote_id, seen.state, seen.version, seen.markers) == ("1", state, None, ())


def test_an_issue_can_be_born_closed():
    seen = read({"action": "opened", "issue": {"number": 1, "state": "closed"}})
    assert isinstance(seen, IssueState)
    assert seen.state == "closed"


@pytest.mark.parametrize("reason", ["reopened", None, "new one", 5, ["completed"]])
def test_an_unknown_close_reason_is_none(reason):
    seen = read({"action": "closed", "issue": {"number": 1, "state": "closed", "state_reason": reason}})
    assert isinstance(seen, IssueState)
    assert seen.close_reason is None


def test_a_reopened_issue_has_no_reason_even_where_the_payload_is_of_two_minds():
    seen = read(
        {"action": "reopened", "issue": {"number": 1, "state": "closed", "state_reason": "completed"}}
    )
    assert isinstance(seen, IssueState)
    assert (seen.state, seen.close_reason) == ("open", None)


def test_deletion_and_transfer():
    assert read({"action": "deleted", "issue": {"number": 1}}) == IssueRemoved(ref=IssueRef("1", "1"))
    changes = {"new_issue": {"number": 4, "html_url": "https://github.example/acme/other/issues/4"}}
    gone = read({"action": "transferred", "issue": {"number": 1}, "changes": changes})
    assert gone == IssueRemoved(ref=IssueRef("1", "1"), moved_to="https://github.example/acme/other/issues/4")
    assert read({"action": "transferred", "issue": {"number": 1}, "changes": []}) == IssueRemoved(
        ref=IssueRef("1", "1")
    )


@pytest.mark.parametrize(
    ("payload", "headers", "why"),
    [
        ({}, {"x-github-event": "push"}, "event push"),
        ({}, {"x-github-event": "ping"}, "ping"),
        ({}, {"x-github-event": "issue_comment"}, "event issue_comment"),
        ({"action": "edited", "issue": {"number": 1}}, ISSUES, "action edited"),
        ({"action": "labeled", "issue": {"number": 1}}, ISSUES, "action labeled"),
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
    st.dictionaries(st.just("x-github-event"), st.sampled_from(["issues", ""]) | st.text()),
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


# -- recordings ----------------------------------------------------------------------------------------------------


def recorded(payload, name, event="issues"):
    raw = payload(name)
    repository = json.loads(raw).get("repository", {}).get("full_name", "acme/shop")
    return webhook_events.read({"x-github-event": event} if event else {}, raw, repository)


@pytest.mark.parametrize("event", ["issues", ""])
@pytest.mark.parametrize(
    ("name", "state"),
    [("issues.opened.json", "open"), ("issues.closed.json", "closed"), ("issues.reopened.json", "open")],
)
def test_recorded_changes_of_state(payload, name, state, event):
    seen = recorded(payload, name, event)
    assert isinstance(seen, IssueState)
    assert seen.state == state
    assert seen.ref.url.startswith("https://github.com/")
    assert seen.version is not None
    assert seen.actor is not None
    assert seen.actor.account_id.isdigit()


@pytest.mark.parametrize("event", ["issues", ""])
def test_recorded_deletion_and_transfer(payload, event):
    assert isinstance(recorded(payload, "issues.deleted.json", event), IssueRemoved)
    gone = recorded(payload, "issues.transferred.json", event)
    assert isinstance(gone, IssueRemoved)
    assert gone.moved_to.startswith("https://github.com/")


@pytest.mark.parametrize("with_event", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "issue_comment.created.json",
        "issue_comment.deleted.json",
        "issue_comment.edited.json",
        "issues.assigned.with-installation.json",
        "issues.edited.json",
        "issues.labeled.json",
        "ping.json",
    ],
)
def test_recorded_calls_that_do_not_concern_us(payload, name, with_event):
    news = recorded(payload, name, name.partition(".")[0] if with_event else "")
    assert isinstance(news, IgnoredWebhook)
    assert "another repository" not in news.reason


def test_a_recorded_call_of_another_repository(payload):
    news = webhook_events.read(ISSUES, payload("issues.opened.json"), "acme/shop")
    assert isinstance(news, IgnoredWebhook)
    assert "another repository" in news.reason


# -- the whole table -----------------------------------------------------------------------------------------------------

NOTHING = (
    *("edited", "pinned", "unpinned", "assigned", "unassigned", "labeled", "unlabeled", "locked", "unlocked"),
    *("milestoned", "demilestoned", "typed", "untyped"),
)
OF_ISSUES = {
    **dict.fromkeys(("opened", "closed", "reopened"), IssueState),
    **dict.fromkeys(("deleted", "transferred"), IssueRemoved),
    **dict.fromkeys(NOTHING, IgnoredWebhook),
}


@pytest.mark.parametrize("action", OF_ISSUES)
def test_every_action_of_issues_has_its_meaning(action):
    payload = {
        "action": action,
        "issue": {"number": 3, "state": "open", "user": {"id": 9, "login": "author"}},
        "repository": {"full_name": "acme/shop"},
        "sender": {"id": 5, "login": "dev"},
    }
    news = read(payload)
    assert type(news) is OF_ISSUES[action]
    if isinstance(news, IgnoredWebhook):
        assert news.reason.startswith(f"action {action}: ")
        assert "none that opens" not in news.reason
    else:
        assert news.actor == Actor("5", "dev")
    if isinstance(news, IssueState):
        assert news.author == Actor("9", "author")
        assert news.state == ("closed" if action == "closed" else "open")
    pull = {**payload, "issue": {**payload["issue"], "pull_request": {"url": "x"}}}
    assert isinstance(read(pull), IgnoredWebhook)


def test_an_action_that_github_adds_one_day_is_ignored_by_its_name():
    assert read({"action": "frozen", "issue": {"number": 3}}) == IgnoredWebhook(
        "action frozen: none that opens, closes or reopens an issue"
    )


@pytest.mark.parametrize(
    ("event", "action"),
    [
        *(("issue_comment", action) for action in ("created", "edited", "deleted")),
        ("ping", ""),
        ("push", ""),
        ("label", "edited"),
        ("milestone", "closed"),
        ("pull_request", "closed"),
        ("sub_issues", "sub_issue_added"),
        ("repository", "renamed"),
        ("installation", "deleted"),
        ("installation_repositories", "removed"),
        ("github_app_authorization", "revoked"),
        ("deployment", "created"),
    ],
)
@pytest.mark.parametrize("is_pull", [True, False])
def test_every_other_event_is_ignored_by_its_name(event, action, is_pull):
    issue = {"number": 3, "state": "closed", **({"pull_request": {"url": "x"}} if is_pull else {})}
    payload = {"action": action, "issue": issue, "comment": {"id": 1, "body": "x"}}
    news = read(payload, {"x-github-event": event})
    assert isinstance(news, IgnoredWebhook)
    assert news.reason.startswith(f"event {event}: ")


def test_an_issue_that_came_from_another_repository_is_a_new_one_with_its_markers():
    old = {"old_issue": {"number": 1, "html_url": "https://github.example/acme/other/issues/1"}}
    body = wire.marked_text("text", MARKER)
    seen = read({"action": "opened", "issue": {"number": 8, "state": "closed", "body": body}, "changes": old})
    assert isinstance(seen, IssueState)
    assert (seen.ref.remote_id, seen.state, seen.markers) == ("8", "closed", (MARKER.text,))


def test_recordings_name_the_author_of_the_issue(payload):
    for name in ("issues.opened.json", "issues.closed.json", "issues.reopened.json"):
        seen = recorded(payload, name)
        assert isinstance(seen, IssueState)
        assert seen.author is not None
        assert seen.author.account_id.isdigit()
        assert seen.author.name
