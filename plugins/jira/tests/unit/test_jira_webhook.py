"""Webhooks: recorded ones and odd ones."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, IgnoredWebhook, IssueRef, IssueRemoved, IssueState, Secret
from pointsman_jira import JiraTracker, webhook_events
from pointsman_jira.settings import JiraSettings

SITE = "https://acme.atlassian.net"
quick = settings(max_examples=200, deadline=None)


def read(body, project="TES"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return webhook_events.read(raw, project=project, site=SITE)


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
    assert webhook_events.verify({"x-hub-signature": signature}, b"Hello World!", [b"other", secret])
    assert not webhook_events.verify({"x-hub-signature": signature}, b"Hello World?", [secret])
    assert not webhook_events.verify({"x-hub-signature": signature}, b"Hello World!", [b"other"])
    assert not webhook_events.verify({"x-hub-signature": signature}, b"Hello World!", [])


@pytest.mark.parametrize("method", ["sha1", "sha512", "SHA-256", "", "sha256 "])
def test_other_methods_are_refused(method):
    created = hmac.new(b"s", b"body", hashlib.sha256).hexdigest()
    assert not webhook_events.verify({"x-hub-signature": f"{method}={created}"}, b"body", [b"s"])
    assert not webhook_events.verify({"x-hub-signature-256": f"sha256={created}"}, b"body", [b"s"])


@quick
@given(st.text(max_size=90), st.binary(max_size=20), st.lists(st.binary(max_size=5), max_size=2))
def test_odd_signatures_are_just_false(signature, body, secrets):
    assert webhook_events.verify({"x-hub-signature": signature}, body, secrets) is False
    assert webhook_events.verify({"x-hub-signature": "sha256=" + signature}, body, secrets) is False


def test_the_identifier_is_jiras_own():
    assert webhook_events.identifier({"x-atlassian-webhook-identifier": " abc "}) == "abc"
    assert webhook_events.identifier({}) is None


# -- recorded --------------------------------------------------------------------------------------------------------


CLOSED, OPEN = ("closed", "completed"), ("open", None)

RECORDED = {
    "issue-created.json": OPEN,
    "issue-updated-resolved.json": CLOSED,
    "issue-updated-resolved-one-changelog.json": CLOSED,  # of the close, the changelog shows the resolution only
    "issue-updated-reopened.json": OPEN,
    "issue-updated-started-working.json": OPEN,  # a new status is not always a close
    "issue-updated-labels.json": OPEN,
    "issue-updated-edited.json": OPEN,
    "issue-assigned-empty-changelog.json": OPEN,
    "issue-comment-created-indentation.json": OPEN,  # jira:issue_updated without a changelog
    "cloud-issue-updated-custom-field.json": OPEN,
    "server-issue-updated-closed.json": CLOSED,  # Data Center: issue_closed, and a user without an account id
    "issue-deleted.json": "gone",
    "cloud-comment-created.json": "event comment_created",
    "cloud-comment-updated.json": "event comment_updated",
    "cloud-comment-deleted.json": "event comment_deleted",
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_each_recorded_call_means(recorded, name):
    raw, expected = recorded(name), RECORDED[name]
    payload = json.loads(raw)
    issue_id, key, user = payload["issue"]["id"], payload["issue"]["key"], payload.get("user", {})
    ref = IssueRef(issue_id, key, f"{SITE}/browse/{key}")
    news = read(raw, project=key.split("-")[0])
    if isinstance(expected, str) and expected != "gone":
        assert news == IgnoredWebhook(expected)
        return
    assert news.ref == ref
    assert news.actor == Actor(user.get("accountId") or user["key"], user["displayName"])
    if expected == "gone":
        assert isinstance(news, IssueRemoved)
        assert news.moved_to == ""
        return
    assert isinstance(news, IssueState)
    assert (news.state, news.close_reason) == expected
    updated = payload["issue"]["fields"].get("updated")
    when = (
        dt.datetime.strptime(updated, "%Y-%m-%dT%H:%M:%S.%f%z")
        if updated
        else dt.datetime.fromtimestamp(payload["timestamp"] / 1000, dt.UTC)
    )
    assert news.version == when


def test_no_recorded_call_is_left_out():
    folder = Path(__file__).parents[5] / "shared/data/trackers/jira"
    if not folder.exists():
        pytest.skip("the recorded payloads are not here")
    assert {path.name for path in folder.glob("*.json")} == RECORDED.keys()


def test_every_recorded_call_of_another_project_is_ignored(recorded):
    for name in ("issue-created.json", "issue-updated-resolved.json", "issue-deleted.json"):
        assert read(recorded(name), project="OTHER") == IgnoredWebhook("another project")


# -- made up ---------------------------------------------------------------------------------------------------------


def test_the_project_is_told_in_any_case():
    assert isinstance(read(call(about=issue("ops-1")), project="OPS"), IssueState)
    without = call(
        about={"id": "1", "key": "OPS-1", "fields": {"status": {"statusCategory": {"key": "new"}}}}
    )
    assert isinstance(read(without, project="OPS"), IssueState)


def test_a_missing_time_is_taken_from_the_call():
    seen = read(call(), project="OPS")
    assert isinstance(seen, IssueState)
    assert seen.version == dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
    assert read({**call(), "timestamp": 10**30}, project="OPS").version is None


def test_markers_come_from_the_labels_and_the_author_is_told():
    seen = read(call(about=issue(labels=["team-a", "pm1-x-y"], creator={"accountId": "bot"})), project="OPS")
    assert (seen.markers, seen.author) == (("pm1-x-y",), Actor("bot"))


def test_an_automation_without_account_is_no_actor():
    assert read(call(user=None), project="OPS").actor is None


def test_without_a_category_nothing_is_claimed():
    assert read(call(about=issue(category=None)), project="OPS") == IgnoredWebhook("no status category in it")
    reported = read(call(about=issue(category=None, resolution={"name": "Duplicate"})), project="OPS")
    assert (reported.state, reported.close_reason) == ("closed", "duplicate")


MOVED = {
    "field": "status",
    "fieldId": "status",
    "from": "1",
    "to": "3",
    "fromString": "To Do",
    "toString": "Done",
}
SOLVED = {"field": "resolution", "fieldId": "resolution", "fromString": None, "toString": "Done"}


@pytest.mark.parametrize("category", ["new", "indeterminate", "done"])
@pytest.mark.parametrize(
    "changelog",
    [
        {"items": [MOVED, SOLVED]},
        {"items": [SOLVED, MOVED]},
        {"items": [SOLVED]},
        {"items": []},
        {},
        None,
        "odd",
    ],
)
@pytest.mark.parametrize("name", ["issue_generic", "issue_closed", "issue_reopened", "issue_assigned", None])
def test_the_snapshot_counts_whatever_the_changelog_says(category, changelog, name):
    seen = read(
        call(about=issue(category=category), changelog=changelog, issue_event_type_name=name), project="OPS"
    )
    assert isinstance(seen, IssueState)
    assert seen.state == ("closed" if category == "done" else "open")


def test_reasons_are_told_by_the_names_in_the_settings():
    body = json.dumps(call(about=issue(resolution={"name": "Dublette"}))).encode()
    reported = webhook_events.read(body, project="OPS", site=SITE, reasons={"duplicate": "dublette"})
    assert reported.close_reason == "duplicate"
    assert read(body, project="OPS").close_reason == "completed"


@pytest.mark.parametrize(
    "event",
    ["comment_created", "comment_updated", "comment_deleted", "jira:worklog_updated", "worklog_created",
     "issuelink_created", "attachment_created", "issue_property_set", "sprint_started", "project_deleted",
     "jira:version_released", "user_created", "option_watching_changed"],
)  # fmt: skip
def test_events_of_other_things_are_ignored_by_name(event):
    assert read(call(event), project="OPS") == IgnoredWebhook(f"event {event}")


def test_a_deleted_issue_is_gone_without_a_status():
    gone = read(call("jira:issue_deleted", issue(category=None), user={"accountId": "dev"}), project="OPS")
    assert gone == IssueRemoved(ref=IssueRef("10001", "OPS-1", f"{SITE}/browse/OPS-1"), actor=Actor("dev"))


def test_a_move_out_of_the_project_is_a_loss():
    items = [{"field": "project", "fromString": "Operations", "toString": "Web"}]
    key = {"field": "Key", "fromString": "OPS-1", "toString": "WEB-7"}
    moved = read(call(about=issue("WEB-7"), changelog={"items": [*items, key]}), project="OPS")
    assert moved == IssueRemoved(
        ref=IssueRef("10001", "OPS-1", f"{SITE}/browse/WEB-7"), moved_to="WEB-7", actor=None
    )
    assert isinstance(
        read(call(about=issue("WEB-7"), changelog={"items": items}), project="OPS"), IssueRemoved
    )
    other = {"field": "Key", "fromString": "ABC-1", "toString": "WEB-7"}
    for log in ({"items": [*items, other]}, {"items": []}, {}, None):
        assert read(call(about=issue("WEB-7"), changelog=log), project="OPS") == IgnoredWebhook(
            "another project"
        )


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
    assert read(body) == IgnoredWebhook(why)


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
    assert isinstance(read(raw), IgnoredWebhook)


@pytest.mark.slow
@quick
@given(values, st.dictionaries(names, values, max_size=6), st.dictionaries(names, values, max_size=8))
def test_json_of_any_shape_comes_to_a_decision(value, about, fields):
    for body in (
        value,
        call(about={**about, "fields": value}),
        call(about={**issue(), "fields": fields}, **about),
    ):
        assert isinstance(read(body, project="OPS"), IssueState | IssueRemoved | IgnoredWebhook)


def test_the_tracker_hands_webhooks_on():
    created = JiraSettings(url=SITE, email="a@b.test", api_token=Secret("t"), project_key="ops")
    tracker = JiraTracker(created, None)  # no call is made
    assert isinstance(tracker.read_webhook({}, json.dumps(call()).encode()), IssueState)
    assert tracker.webhook_id({"x-atlassian-webhook-identifier": "i"}, b"") == "i"
    assert not tracker.verify_webhook({}, b"", [b"s"])
