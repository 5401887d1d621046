"""Webhooks: recorded ones and odd ones."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, Ignored, IssueGone, IssueRef, IssueSeen, Secret
from pointsman_jira import JiraTracker, webhook
from pointsman_jira.settings import JiraSettings

SITE = "https://acme.atlassian.net"
quick = settings(max_examples=200, deadline=None)


def read(body, project="TES"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return webhook.read(raw, project=project, site=SITE)


def issue(key="OPS-1", category="done", **fields):
    status = {"name": "x", "statusCategory": {"key": category}} if category else {"name": "x"}
    project = {"key": key.rpartition("-")[0]}
    return {"id": "10001", "key": key, "fields": {"status": status, "project": project, **fields}}


def call(event="jira:issue_updated", about=None, **more):
    return {"timestamp": 1772366400000, "webhookEvent": event, "issue": about or issue(), **more}


# -- signatures ------------------------------------------------------------------------------------------------------


def test_the_published_example_verifies():
    """https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks"""
    secret = b"It's a Secret to Everybody"
    signature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    assert webhook.verify({"x-hub-signature": signature}, b"Hello World!", [b"other", secret])
    assert not webhook.verify({"x-hub-signature": signature}, b"Hello World?", [secret])
    assert not webhook.verify({"x-hub-signature": signature}, b"Hello World!", [b"other"])
    assert not webhook.verify({"x-hub-signature": signature}, b"Hello World!", [])


@pytest.mark.parametrize("method", ["sha1", "sha512", "SHA-256", "", "sha256 "])
def test_other_methods_are_refused(method):
    made = hmac.new(b"s", b"body", hashlib.sha256).hexdigest()
    assert not webhook.verify({"x-hub-signature": f"{method}={made}"}, b"body", [b"s"])
    assert not webhook.verify({"x-hub-signature-256": f"sha256={made}"}, b"body", [b"s"])


@quick
@given(st.text(max_size=90), st.binary(max_size=20), st.lists(st.binary(max_size=5), max_size=2))
def test_odd_signatures_are_just_false(signature, body, secrets):
    assert webhook.verify({"x-hub-signature": signature}, body, secrets) is False
    assert webhook.verify({"x-hub-signature": "sha256=" + signature}, body, secrets) is False


def test_the_identifier_is_jiras_own():
    assert webhook.identifier({"x-atlassian-webhook-identifier": " abc "}) == "abc"
    assert webhook.identifier({}) is None


# -- recorded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("issue-created.json", "open"),
        ("issue-updated-resolved.json", "closed"),
        ("issue-updated-resolved-one-changelog.json", "closed"),
        ("issue-updated-reopened.json", "open"),
        ("issue-updated-started-working.json", "open"),
        ("issue-updated-labels.json", "open"),
        ("issue-updated-edited.json", "open"),
        ("cloud-issue-updated-custom-field.json", "open"),
        ("server-issue-updated-closed.json", None),
    ],
)
def test_recorded_changes_report_the_snapshot(recorded, name, state):
    raw = recorded(name)
    said = json.loads(raw)
    seen = read(raw, project=said["issue"]["key"].split("-")[0])
    if state is None:
        assert isinstance(seen, IssueSeen | Ignored)
        return
    assert isinstance(seen, IssueSeen)
    assert seen.state == state
    assert seen.close_reason == ("completed" if state == "closed" else None)
    assert seen.ref == IssueRef(
        said["issue"]["id"], said["issue"]["key"], f"{SITE}/browse/{said['issue']['key']}"
    )
    assert seen.actor == Actor(said["user"]["accountId"], said["user"]["displayName"])
    updated = dt.datetime.strptime(said["issue"]["fields"]["updated"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert seen.version == updated


def test_a_recorded_deletion(recorded):
    gone = read(recorded("issue-deleted.json"), project="IDT")
    assert isinstance(gone, IssueGone)
    assert (gone.ref.remote_id, gone.ref.key, gone.to) == ("10303", "IDT-19", "")


@pytest.mark.parametrize("verb", ["created", "updated", "deleted"])
def test_recorded_comments_are_ignored_by_name(recorded, verb):
    assert read(recorded(f"cloud-comment-{verb}.json")) == Ignored(f"event comment_{verb}")


def test_every_recorded_call_of_another_project_is_ignored(recorded):
    for name in ("issue-created.json", "issue-updated-resolved.json", "issue-deleted.json"):
        assert read(recorded(name), project="OTHER") == Ignored("another project")


# -- made up ---------------------------------------------------------------------------------------------------------


def test_the_project_is_told_in_any_case():
    assert isinstance(read(call(about=issue("ops-1")), project="OPS"), IssueSeen)
    without = call(
        about={"id": "1", "key": "OPS-1", "fields": {"status": {"statusCategory": {"key": "new"}}}}
    )
    assert isinstance(read(without, project="OPS"), IssueSeen)


def test_a_missing_time_is_taken_from_the_call():
    seen = read(call(), project="OPS")
    assert isinstance(seen, IssueSeen)
    assert seen.version == dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
    assert read({**call(), "timestamp": 10**30}, project="OPS").version is None


def test_markers_come_from_the_labels_and_the_author_is_told():
    seen = read(call(about=issue(labels=["team-a", "pm1-x-y"], creator={"accountId": "bot"})), project="OPS")
    assert (seen.markers, seen.author) == (("pm1-x-y",), Actor("bot"))


def test_an_automation_without_account_is_no_actor():
    assert read(call(user=None), project="OPS").actor is None


def test_without_a_category_nothing_is_claimed():
    assert read(call(about=issue(category=None)), project="OPS") == Ignored("no status category in it")
    told = read(call(about=issue(category=None, resolution={"name": "Duplicate"})), project="OPS")
    assert (told.state, told.close_reason) == ("closed", "duplicate")


def test_a_move_out_of_the_project_is_a_loss():
    items = [{"field": "project", "fromString": "Operations", "toString": "Web"}]
    key = {"field": "Key", "fromString": "OPS-1", "toString": "WEB-7"}
    moved = read(call(about=issue("WEB-7"), changelog={"items": [*items, key]}), project="OPS")
    assert moved == IssueGone(ref=IssueRef("10001", "OPS-1", f"{SITE}/browse/WEB-7"), to="WEB-7", actor=None)
    assert isinstance(read(call(about=issue("WEB-7"), changelog={"items": items}), project="OPS"), IssueGone)
    other = {"field": "Key", "fromString": "ABC-1", "toString": "WEB-7"}
    for log in ({"items": [*items, other]}, {"items": []}, {}, None):
        assert read(call(about=issue("WEB-7"), changelog=log), project="OPS") == Ignored("another project")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"[" * 100000, "not JSON"),
        (b"[]", "no webhookEvent in it"),
        ({"webhookEvent": "jira:worklog_updated"}, "event jira:worklog_updated"),
        ({"webhookEvent": "jira:issue_updated"}, "no issue in it"),
        ({"webhookEvent": "jira:issue_updated", "issue": {"id": "x"}}, "no issue in it"),
    ],
)
def test_what_does_not_concern_us_is_ignored_with_a_reason(body, why):
    assert read(body) == Ignored(why)


names = st.sampled_from(
    ["webhookEvent", "issue", "id", "key", "fields", "status", "statusCategory", "project", "labels", "updated",
     "changelog", "items", "field", "fromString", "user", "accountId", "timestamp", "resolution", "name"]
)  # fmt: skip
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
    | st.sampled_from(["jira:issue_updated", "jira:issue_deleted", "OPS-1", "OPS", "done", "Key", "10001"])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)


@quick
@given(st.binary(max_size=60))
def test_any_bytes_come_to_a_decision(raw):
    assert isinstance(read(raw), Ignored)


@quick
@given(values, st.dictionaries(names, values, max_size=6), st.dictionaries(names, values, max_size=8))
def test_json_of_any_shape_comes_to_a_decision(value, about, fields):
    for body in (
        value,
        call(about={**about, "fields": value}),
        call(about={**issue(), "fields": fields}, **about),
    ):
        assert isinstance(read(body, project="OPS"), IssueSeen | IssueGone | Ignored)


def test_the_tracker_hands_webhooks_on():
    made = JiraSettings(url=SITE, email="a@b.test", api_token=Secret("t"), project_key="ops")
    tracker = JiraTracker(made, None)  # no call is made
    assert isinstance(tracker.read_webhook({}, json.dumps(call()).encode()), IssueSeen)
    assert tracker.webhook_id({"x-atlassian-webhook-identifier": "i"}, b"") == "i"
    assert not tracker.verify_webhook({}, b"", [b"s"])
