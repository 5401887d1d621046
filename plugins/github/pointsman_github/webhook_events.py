"""Authenticate and read webhook calls. Pure; any bytes get a decision.

https://docs.github.com/en/webhooks/webhook-events-and-payloads#issues
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.plugin_api import (
    IgnoredWebhook,
    IssueRemoved,
    State,
    WebhookEvent,
    hmac_sha256_matches,
)
from pointsman.plugin_api.helpers import short_text, web_url
from pointsman_github import wire


def signature_fits(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether the body was signed with one of the secrets.

    The older SHA-1 header is not read:
    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
    """
    method, _, digits = headers.get("x-hub-signature-256", "").partition("=")
    fits = hmac_sha256_matches(body, digits, secrets)
    return fits and method == "sha256"


def delivery_id(headers: Mapping[str, str]) -> str | None:
    """Return the id of this call. A redelivery has the same id."""
    return short_text(headers.get("x-github-delivery"), 100) or None


_STATE_AFTER: dict[str, State] = {"closed": "closed", "reopened": "open", "opened": "open"}
_GONE = ("deleted", "transferred")
# The other actions of the event: none of them changes whether the issue is open.
_NO_CHANGE_OF_STATE = {
    "edited": "title or text changed",
    "pinned": "it was pinned",
    "unpinned": "it was unpinned",
    "assigned": "somebody was assigned",
    "unassigned": "somebody is no longer assigned",
    "labeled": "a label was added",
    "unlabeled": "a label was taken off",
    "locked": "its conversation was locked",
    "unlocked": "its conversation was unlocked",
    "milestoned": "it came to a milestone",
    "demilestoned": "it left a milestone",
    "typed": "it got a type",
    "untyped": "it lost its type",
}
_OTHER_EVENTS = {
    "ping": "the webhook is set up",
    "issue_comment": "comments stay on GitHub",
    "installation": "the App was installed, suspended or removed: the check tells whether we may still work",
    "installation_repositories": "the App's repositories changed: the check tells whether ours is among them",
    "repository": "the repository itself changed: the check tells whether it is still in order",
}


def read(headers: Mapping[str, str], body: bytes, repository: str) -> WebhookEvent:
    """Return what a webhook call reports about issues of this repository; any bytes get a decision.

    Without an event header (a call sent by hand, say) the body decides.
    """
    event = headers.get("x-github-event", "")
    if event not in ("", "issues"):
        why = _OTHER_EVENTS.get(event, "only changes of issues count")
        return IgnoredWebhook(f"event {short_text(event)}: {why}")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return IgnoredWebhook("the body is not JSON: set the webhook's content type to application/json")
    if not isinstance(payload, dict):
        return IgnoredWebhook("the body is not a JSON object")
    elsewhere = _other_repository(payload, repository)
    if elsewhere:
        return IgnoredWebhook(f"another repository: {elsewhere}")
    if payload.keys() & {"comment", "pull_request"}:
        return IgnoredWebhook("a comment or a pull request: only changes of issues count")
    return _read_action(payload)


def _read_action(payload: dict[str, Any]) -> WebhookEvent:
    action = payload.get("action")
    if not isinstance(action, str) or not (action in _STATE_AFTER or action in _GONE):
        name = short_text(action) or "(none)"
        why = _NO_CHANGE_OF_STATE.get(name, "none that opens, closes or reopens an issue")
        return IgnoredWebhook(f"action {name}: {why}")
    seen = wire.issue_state(payload.get("issue"), changed_by=wire.account(payload.get("sender")))
    if seen is None:
        return IgnoredWebhook(f"action {action}: without an issue in it")
    if action in _GONE:
        return IssueRemoved(ref=seen.ref, moved_to=_new_address(payload), actor=seen.actor)
    # "opened" uses the state in the issue. The other two report exactly that change.
    state = seen.state if action == "opened" else _STATE_AFTER[action]
    reason = seen.close_reason if state == "closed" else None
    return msgspec.structs.replace(seen, state=state, close_reason=reason)


def _new_address(payload: dict[str, Any]) -> str:
    """Return the new URL of a transferred issue, empty if the call does not contain it."""
    changes = payload.get("changes")
    new = changes.get("new_issue") if isinstance(changes, dict) else None
    return web_url(new.get("html_url")) if isinstance(new, dict) else ""


def _other_repository(payload: dict[str, Any], repository: str) -> str:
    """Return the repository's name if the call is about another repository, otherwise an empty text."""
    named = payload.get("repository")
    name = named.get("full_name") if isinstance(named, dict) else None
    if not isinstance(name, str) or name.casefold() == repository.casefold():
        return ""
    return short_text(name, 200) or "(nameless)"
