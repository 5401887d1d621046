"""Authenticate and read webhook calls. Pure: https://forgejo.org/docs/latest/user/webhooks/.

Gitea sends the same calls without the ``X-Forgejo-`` headers, Gogs without Gitea's; Forgejo sends all three sets, and
GitHub's too, which are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import (
    IgnoredWebhook,
    IssueRemoved,
    IssueState,
    State,
    WebhookEvent,
    hmac_sha256_matches,
)
from pointsman.plugin_api.helpers import short_text
from pointsman_forgejo.wire import account, issue_state

_BRANDS = ("forgejo", "gitea", "gogs")
_STATE_AFTER: dict[str, State] = {"closed": "closed", "reopened": "open", "opened": "open"}
_OTHER_ACTIONS = {
    "edited": "title or text changed",
    "assigned": "somebody was assigned",
    "unassigned": "somebody is no longer assigned",
    "label_updated": "labels changed",
    "label_cleared": "labels were taken off",
    "milestoned": "a milestone was set",
    "demilestoned": "a milestone was taken off",
}
"""Actions that change no state. The state they mention is not used: times are whole seconds, and such a call may
arrive after a call that closed the issue within the same second, and would reopen it.
"""
_OTHER_EVENTS = {
    "issue_comment": "comments change no state",
    "pull_request": "a pull request is no issue",
    "pull_request_comment": "a pull request is no issue",
    "push": "this is also what the button for a test sends",
}


def signature_fits(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether the body was signed with one of the secrets.

    The signature is the bare hexadecimal HMAC-SHA256; a webhook without a secret sends an empty one. Of several
    headers the first counts: Forgejo's, Gitea's, Gogs'. With content type ``form`` the signature covers the decoded
    field and not the body: such a call is refused.
    """
    signature = next((headers[name] for name in _names("signature") if name in headers), None)
    fits = hmac_sha256_matches(body, signature, secrets)
    return fits and "x-www-form-urlencoded" not in headers.get("content-type", "").lower()


def delivery_id(headers: Mapping[str, str]) -> str | None:
    """Return the id of this call. A replay by hand has a new id and the old body."""
    return short_text(_header(headers, "delivery"), 100) or None


def read(headers: Mapping[str, str], body: bytes, repository: str) -> WebhookEvent:
    """Return what a webhook call reports about issues of this repository; any bytes get a decision.

    The headers are not signed: the body decides, and the event header only saves parsing of other events. Gitea also
    reports deletions, Forgejo does not.
    """
    event = _header(headers, "event")
    if event not in ("", "issues"):
        return IgnoredWebhook(
            f"event {short_text(event)}: {_OTHER_EVENTS.get(event, 'only changes of issues count')}"
        )
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return IgnoredWebhook("the body is not JSON: set the webhook's content type to application/json")
    if not isinstance(payload, dict):
        return IgnoredWebhook("the body is not a JSON object")
    elsewhere = _other_repository(payload, repository)
    if elsewhere:
        return IgnoredWebhook(f"another repository: {elsewhere}")
    if "comment" in payload:
        return IgnoredWebhook(
            f"a comment{' on a pull request' if payload.get('is_pull') is True else ''}: it changes no state"
        )
    if "pull_request" in payload:
        return IgnoredWebhook("a pull request is no issue")
    return _read_action(payload)


def _read_action(payload: dict[str, Any]) -> WebhookEvent:
    action = payload.get("action")
    if not isinstance(action, str) or not (action in _STATE_AFTER or action == "deleted"):
        name = short_text(action) or "(none)"
        return IgnoredWebhook(
            f"action {name}: {_OTHER_ACTIONS.get(name, 'it opens, closes or reopens nothing')}"
        )
    seen = issue_state(payload.get("issue"), changed_by=account(payload.get("sender")))
    if seen is None:
        return IgnoredWebhook(f"action {action}: without an issue in it")
    if action == "deleted":
        return IssueRemoved(ref=seen.ref, actor=seen.actor)
    # "opened" uses the state in the issue, which can be created closed. The other two report exactly that change.
    state = seen.state if action == "opened" else _STATE_AFTER[action]
    return IssueState(
        ref=seen.ref,
        state=state,
        version=seen.version,
        actor=seen.actor,
        author=seen.author,
        markers=seen.markers,
    )


def _names(suffix: str) -> list[str]:
    return [f"x-{brand}-{suffix}" for brand in _BRANDS]


def _header(headers: Mapping[str, str], suffix: str) -> str:
    return next((headers[name] for name in _names(suffix) if headers.get(name)), "")


def _other_repository(payload: dict[str, Any], repository: str) -> str:
    """Return the repository's name if the call is about another repository, otherwise an empty text."""
    named = payload.get("repository")
    name = named.get("full_name") if isinstance(named, dict) else None
    if not isinstance(name, str) or name.casefold() == repository.casefold():
        return ""
    return short_text(name, 200) or "(nameless)"
