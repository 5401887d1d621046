"""Authenticate and read webhook calls; any bytes get a decision.

https://developer.atlassian.com/cloud/jira/platform/webhooks/. The objects in them have the format of the API's
version 2, on Jira Cloud too: texts are strings in wiki markup.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.plugin_api import CloseReason, IgnoredWebhook, IssueRemoved, WebhookEvent, hmac_sha256_matches
from pointsman_jira import wire

SEEN = ("jira:issue_created", "jira:issue_updated")
GONE = "jira:issue_deleted"
COMMENTS = ("comment_created", "comment_updated", "comment_deleted")
"""Ignored events: comments stay on the tracker. They contain no account and little of the issue."""


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether ``X-Hub-Signature: sha256=...`` was made over these bytes with one of the secrets.

    Jira chooses the method (WebSub); anything but sha256 is refused.
    """
    method, _, signature = headers.get("x-hub-signature", "").strip().partition("=")
    return hmac_sha256_matches(body, signature if method == "sha256" else None, secrets)


def identifier(headers: Mapping[str, str]) -> str | None:
    """Return Jira's own id of a call, the same when the call is repeated."""
    return headers.get("x-atlassian-webhook-identifier", "").strip() or None


def read(
    body: bytes, *, project: str, site: str, reasons: Mapping[CloseReason, str] | None = None
) -> WebhookEvent:
    """Return what a call reports about the project ``project``: the state of the issue, whatever caused the call.

    The snapshot counts and not the changelog, which may be empty, in any order, or absent: an issue is closed by a
    status of the category done, and neither by a text in ``issue_event_type_name`` nor by a new resolution alone.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return IgnoredWebhook("not JSON")
    event = wire.text_at(payload, "webhookEvent")
    if event not in SEEN and event != GONE:
        return IgnoredWebhook(f"event {event[:60]}" if event else "no webhookEvent in it")
    issue = wire.at(payload, "issue")
    ref = wire.ref_of(issue, site)
    if ref is None:
        return IgnoredWebhook("no issue in it")
    actor = wire.actor_of(wire.at(payload, "user"))
    if wire.project_of(issue) != project:
        left = _key_left(payload, project)
        if event == "jira:issue_updated" and left is not None:
            return IssueRemoved(
                ref=msgspec.structs.replace(ref, key=left or ref.key), moved_to=ref.key, actor=actor
            )
        return IgnoredWebhook("another project")
    if event == GONE:
        return IssueRemoved(ref=ref, actor=actor)
    seen = wire.seen(issue, site, actor, reasons)
    if seen is None:
        return IgnoredWebhook("no status category in it")
    if seen.version is None:
        return msgspec.structs.replace(seen, version=_time(wire.at(payload, "timestamp")))
    return seen


def _key_left(payload: Any, project: str) -> str | None:
    """Return the key that an issue had in the project before it was moved away; None if the changelog shows no such
    move.
    """
    moved = None
    for item in wire.items_at(payload, "changelog", "items"):
        field = wire.text_at(item, "field").casefold()
        before = wire.text_at(item, "fromString")
        if field == "key":
            return before if before.upper().rpartition("-")[0] == project else None
        if field == "project":
            moved = ""
    return moved


def _time(milliseconds: Any) -> dt.datetime | None:
    if not isinstance(milliseconds, int) or isinstance(milliseconds, bool):
        return None
    try:
        return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
