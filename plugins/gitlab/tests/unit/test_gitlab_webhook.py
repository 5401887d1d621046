"""Webhook calls: whether they are genuine, and what they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from pointsman.plugin_api import Actor, IgnoredWebhook, IssueRemoved, IssueState
from pointsman_gitlab import webhook_events

KEY = bytes(range(32))
SIGNING = b"whsec_" + base64.b64encode(KEY)
BODY = b'{"object_kind": "issue"}'


def signed(
    body: bytes = BODY, *, key: bytes = KEY, at: str = "1781000000", call: str = "call-1"
) -> dict[str, str]:
    """By the specification: https://github.com/standard-webhooks/standard-webhooks."""
    created = hmac.new(key, f"{call}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": call,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(created).decode()}",
    }


# -- genuine or not ------------------------------------------------------------------------------------------------


def test_a_secret_token_is_compared_as_it_is():
    headers = {"x-gitlab-token": "secret"}
    assert webhook_events.is_genuine(headers, BODY, [b"old", b"secret"])
    assert webhook_events.is_genuine({"x-gitlab-token": "gehe\u00efm"}, BODY, ["gehe\u00efm".encode()])
    for received in ("", "Secret", "secret ", "\udcff"):
        assert not webhook_events.is_genuine({"x-gitlab-token": received}, BODY, [b"old", b"secret"])
    for secrets in ([], [b""]):
        assert not webhook_events.is_genuine({"x-gitlab-token": ""}, BODY, secrets)
        assert not webhook_events.is_genuine({}, BODY, secrets)


def test_a_signature_covers_id_time_and_body():
    headers = signed()
    assert webhook_events.is_genuine(headers, BODY, [SIGNING])
    assert webhook_events.is_genuine(
        headers, BODY, [b"plain", b"whsec_" + base64.b64encode(b"x" * 32), SIGNING]
    )
    assert not webhook_events.is_genuine(headers, BODY + b" ", [SIGNING])
    for name in headers:
        assert not webhook_events.is_genuine({**headers, name: "1"}, BODY, [SIGNING])
    assert not webhook_events.is_genuine(signed(key=b"y" * 32), BODY, [SIGNING])


def test_of_several_signatures_one_is_enough():
    headers = signed()
    headers["webhook-signature"] = f"v1a,other {headers['webhook-signature']}"
    assert webhook_events.is_genuine(headers, BODY, [SIGNING])


def test_a_signature_that_is_wrong_is_not_made_good_by_a_token():
    headers = {**signed(key=b"y" * 32), "x-gitlab-token": "secret"}
    assert not webhook_events.is_genuine(headers, BODY, [SIGNING, b"secret"])


def test_without_a_signing_token_of_ours_the_token_counts():
    """The webhook may have both; what we do not hold we can't check."""
    assert webhook_events.is_genuine({**signed(), "x-gitlab-token": "secret"}, BODY, [b"secret"])


def test_a_signing_token_is_never_a_secret_token():
    assert not webhook_events.is_genuine({"x-gitlab-token": SIGNING.decode()}, BODY, [SIGNING])
    assert not webhook_events.is_genuine({"x-gitlab-token": "whsec_short"}, BODY, [b"whsec_short"])
    assert webhook_events.signing_key(b"whsec_short") is None
    assert webhook_events.signing_key(b"plain") is None


# -- ids -----------------------------------------------------------------------------------------------------------


def test_a_call_is_known_by_the_key_that_it_keeps():
    assert webhook_events.call_id({"idempotency-key": "k", "x-gitlab-event-uuid": "e"}, BODY) == "k"
    assert webhook_events.call_id({"webhook-id": "w", "idempotency-key": "w"}, BODY) == "w"
    assert webhook_events.call_id({}, BODY) is None


def test_calls_that_share_an_event_differ_by_their_body():
    """Before GitLab 17.4 calls that led to each other had the event's id in common."""
    headers = {"x-gitlab-event-uuid": "e"}
    item, repeated = webhook_events.call_id(headers, BODY), webhook_events.call_id(headers, BODY)
    assert item == repeated
    assert item is not None and item.startswith("e-")
    assert webhook_events.call_id(headers, BODY + b" ") != item


# -- what they say -------------------------------------------------------------------------------------------------


def call(action="close", *, kind="issue", project=None, **attributes) -> bytes:
    """After https://docs.gitlab.com/user/project/integrations/webhook_events/#work-item-events."""
    return json.dumps(
        {
            "object_kind": kind,
            "event_type": kind,
            "user": {"id": 1, "name": "Administrator", "username": "root", "email": "admin@example.com"},
            "project": project or {"id": 42, "path_with_namespace": "acme/shop"},
            "object_attributes": {
                "id": 301,
                "iid": 23,
                "author_id": 51,
                "description": "Text",
                "updated_at": "2017-09-15 16:52:00 UTC",
                "moved_to_id": None,
                "duplicated_to_id": None,
                "state": {"open": "opened", "close": "closed", "reopen": "opened"}.get(action, "opened"),
                "url": "https://gitlab.example.com/acme/shop/-/issues/23",
                "action": action,
                **attributes,
            },
        }
    ).encode()


@pytest.mark.parametrize(("action", "state"), [("open", "open"), ("close", "closed"), ("reopen", "open")])
@pytest.mark.parametrize("kind", ["issue", "work_item"])
def test_opening_closing_and_reopening_are_news(action, state, kind):
    news = webhook_events.read(call(action, kind=kind), "acme/shop")
    assert isinstance(news, IssueState)
    assert (news.ref.remote_id, news.ref.key, news.state) == ("23", "#23", state)
    assert (news.actor, news.author) == (Actor("1", "root"), Actor("51"))
    assert news.version is not None


def test_a_confidential_issue_is_news_like_any_other():
    assert isinstance(webhook_events.read(call(confidential=True), "acme/shop"), IssueState)


def test_a_move_to_another_project_is_told_as_gone():
    for action in ("update", "close"):
        news = webhook_events.read(call(action, moved_to_id=400), "acme/shop")
        assert isinstance(news, IssueRemoved)
        assert "400" in news.moved_to


@pytest.mark.parametrize("action", ["update", "approved", "", None, 7])
def test_other_actions_are_no_news(action):
    news = webhook_events.read(call(action), "acme/shop")
    assert isinstance(news, IgnoredWebhook)
    assert "opens, closes or reopens nothing" in news.reason


def test_a_close_of_what_is_open_again_is_left_to_the_next_call():
    assert isinstance(webhook_events.read(call("close", state="opened"), "acme/shop"), IgnoredWebhook)


def test_a_state_that_is_unknown_is_no_news():
    assert webhook_events.read(call("close", state="locked"), "acme/shop") == IgnoredWebhook(
        "action close: without an issue in it"
    )


@pytest.mark.parametrize("kind", ["note", "push", "merge_request", "", None])
def test_other_events_are_no_news(kind):
    assert isinstance(webhook_events.read(call(kind=kind), "acme/shop"), IgnoredWebhook)


def test_other_projects_are_no_news():
    elsewhere = {"id": 43, "path_with_namespace": "acme/other"}
    for ours in ("acme/shop", "42"):
        assert webhook_events.read(call(project=elsewhere), ours) == IgnoredWebhook(
            "another project: acme/other"
        )
        assert isinstance(webhook_events.read(call(), ours), IssueState)
    assert isinstance(webhook_events.read(call(), "ACME/Shop"), IssueState)


@pytest.mark.parametrize("body", [b"", b"\xff", b"null", b"[]", b"7", b"[" * 100_000, b'{"object_kind": []}'])
def test_any_other_bytes_are_ignored(body):
    assert isinstance(webhook_events.read(body, "acme/shop"), IgnoredWebhook)
