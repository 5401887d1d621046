"""Authenticate and read webhook calls. Pure: https://docs.gitlab.com/user/project/integrations/webhooks/.

GitLab has two kinds of proof. A *secret token* is sent as it is, in ``X-Gitlab-Token``, and proves nothing about the
body. A *signing token* (``whsec_…``, in newer versions) signs id, time and body as in
https://www.standardwebhooks.com/. The beginning of a secret says which kind it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import IgnoredWebhook, IssueRemoved, IssueState, State, WebhookEvent
from pointsman.plugin_api.helpers import positive_int, short_text
from pointsman_gitlab.wire import account, issue_removed, issue_state

SIGNING = "whsec_"
KEY_BYTES = 32
_STATE_AFTER: dict[str, State] = {"open": "open", "close": "closed", "reopen": "open"}


def signing_key(secret: bytes) -> bytes | None:
    """Return the key of a signing token, None for a secret token."""
    if not secret.startswith(SIGNING.encode()):
        return None
    try:
        key = base64.b64decode(secret[len(SIGNING) :], validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def is_genuine(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether one of the secrets authenticates the call.

    If we have a signing token, a call with a signature must have a valid one. A signing token is never sent, so that
    it proves nothing as ``X-Gitlab-Token``. The age of the signature is not checked: a repeated call is recognized by
    its id, which is signed too.
    """
    keys = [key for secret in secrets if (key := signing_key(secret)) is not None]
    if keys and "webhook-signature" in headers:
        return _is_signed(headers, body, keys)
    received = _digest(headers.get("x-gitlab-token", "").encode("utf-8", "surrogatepass"))
    tokens = [secret for secret in secrets if secret and not secret.startswith(SIGNING.encode())]
    # all are compared, so that the duration reveals nothing
    return sum(hmac.compare_digest(received, _digest(token)) for token in tokens) > 0


def _is_signed(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> bool:
    lead = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}."
    content = lead.encode("utf-8", "surrogatepass") + body
    right = [b"v1," + base64.b64encode(hmac.digest(key, content, "sha256")) for key in keys]
    received = headers["webhook-signature"][:1000].encode("utf-8", "surrogatepass").split(b" ")
    return (
        sum(
            hmac.compare_digest(_digest(signature), _digest(expected))
            for signature in received
            for expected in right
        )
        > 0
    )


def _digest(text: bytes) -> bytes:
    """Return a digest, which has the same length for every text, for a comparison in constant time."""
    return hashlib.sha256(text).digest()


def call_id(headers: Mapping[str, str], body: bytes) -> str | None:
    """Return the id of this call, the same when GitLab repeats it.

    ``Idempotency-Key`` exists since GitLab 17.4, and ``webhook-id`` equals it. Older versions send
    ``X-Gitlab-Event-UUID`` only, which several calls share if one caused the other: the body tells them apart.
    """
    identifier = short_text(headers.get("webhook-id") or headers.get("idempotency-key"))
    if identifier:
        return identifier
    event = short_text(headers.get("x-gitlab-event-uuid"))
    return f"{event}-{hashlib.sha256(body).hexdigest()[:16]}" if event else None


def read(body: bytes, project: str) -> WebhookEvent:
    """Return what a call reports about issues of this project (a path or an id); any bytes get a decision.

    Headers are not signed: the body decides. https://docs.gitlab.com/user/project/integrations/webhook_events/
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return IgnoredWebhook("the body is not JSON")
    if not isinstance(payload, dict):
        return IgnoredWebhook("the body is not a JSON object")
    kind = payload.get("object_kind")
    # an issue that becomes an incident or a task is a work item from then on, with the same number
    if kind not in ("issue", "work_item"):
        return IgnoredWebhook(f"{short_text(kind) or '(nothing)'}: only changes of issues count")
    if elsewhere := _other_project(payload, project):
        return IgnoredWebhook(f"another project: {elsewhere}")
    issue = payload.get("object_attributes")
    by = account(payload.get("user"))
    gone: IssueRemoved | None = issue_removed(issue, changed_by=by)
    return gone or _read_action(issue, issue_state(issue, changed_by=by))


def _read_action(issue: Any, seen: IssueState | None) -> IssueState | IgnoredWebhook:
    action = issue.get("action") if isinstance(issue, dict) else None
    if not isinstance(action, str) or action not in _STATE_AFTER:
        # its state is outdated if it arrives after the call that reports a close in the same second
        return IgnoredWebhook(f"action {short_text(action) or '(none)'}: it opens, closes or reopens nothing")
    if seen is None:
        return IgnoredWebhook(f"action {action}: without an issue in it")
    if action != "open" and seen.state != _STATE_AFTER[action]:
        return IgnoredWebhook(f"action {action}: and the issue is {seen.state}, another call tells of that")
    return seen


def _other_project(payload: Mapping[str, Any], project: str) -> str:
    """Return the project's name if the call is about another project, otherwise an empty text."""
    named = payload.get("project")
    if not isinstance(named, dict):
        return ""
    path = named.get("path_with_namespace")
    if project.isdigit():
        same = positive_int(named, "id") in (None, int(project))
    else:
        same = not isinstance(path, str) or path.casefold() == project.casefold()
    return "" if same else short_text(path, 200) or "(nameless)"
