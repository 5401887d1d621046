"""Turn error responses into the contract's errors, with GitLab's own message. Pure.

https://docs.gitlab.com/api/rest/troubleshooting/ lists the statuses.
"""

from __future__ import annotations

import email.utils
import json
from typing import Any

from pointsman.plugin_api import Misconfigured, PluginError, RateLimited, Refused, Response
from pointsman.plugin_api.helpers import short_text

_LONGEST_WAIT = 3600.0
_REASONS_SHOWN = 5
_SET_BY_SETTINGS = frozenset(
    {"labels", "label", "assignee", "assignees", "assignee_ids", "milestone", "milestone_id", "issue_type"}
)


def message_of(response: Response) -> tuple[str, dict[str, str]]:
    """Return GitLab's error message, and the messages that belong to fields.

    ``{"message": "404 Project Not Found"}``, ``{"error": "title is missing"}``, ``{"message": {"title": ["is too
    long"]}}`` and ``{"error": "insufficient_scope", "error_description": "…"}`` are all in use.
    """
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(body, dict):
        return "", {}
    fields: dict[str, str] = {}
    message = body.get("message")
    if isinstance(message, dict):
        for name, value in list(message.items())[:_REASONS_SHOWN]:
            reasons = value if isinstance(value, list) else [value]
            fields[short_text(name, 60)] = ", ".join(
                text for reason in reasons[:_REASONS_SHOWN] if (text := short_text(reason, 200))
            )
        message = "; ".join(f"{name}: {text}" for name, text in fields.items())
    reasons = [
        short_text(reason, 300) for reason in (message, body.get("error"), body.get("error_description"))
    ]
    return ": ".join(dict.fromkeys(reason for reason in reasons if reason)), fields


def problem(response: Response, doing: str, *, issue: bool = False) -> PluginError:
    """Return the error for a response. ``issue``: the path names an issue that has to exist."""
    text, fields = message_of(response)
    failed = f"could not {doing}" + (f": {text}" if text else "")
    status = response.status
    if status == 429:
        # from some limits plain text comes back, from others JSON: https://docs.gitlab.com/security/rate_limits/
        return RateLimited(failed, retry_after=wait_seconds(response), **_kept(response))
    if status in (301, 302, 303, 307, 308):
        where = short_text(response.headers.get("location", ""), 200)
        return Misconfigured(
            f"{failed}: the project has another name now ({where}): set `project` to it", **_kept(response)
        )
    if status == 403 and "insufficient_scope" in text:
        return Misconfigured(f"{failed}: give the token the scope api", **_kept(response))
    if status in (404, 410) and (not issue or "project not found" in text.lower()):
        return Misconfigured(
            f"{failed}: the project is not there, or hidden from the account, which GitLab tells alike",
            **_kept(response),
        )
    if status == 409 and _asks_for_captcha(response):
        return Refused(f"{failed}: GitLab takes it for spam", **_kept(response))
    if status in (400, 422) and fields and fields.keys() <= _SET_BY_SETTINGS:
        return Misconfigured(f"{failed}: correct the setting that decides it", **_kept(response))
    return response.error(failed, fields=fields, about_issue=issue)


def wait_seconds(response: Response) -> float | None:
    """Return how long GitLab asks to wait, None if it does not say.

    ``Retry-After`` in seconds, or ``RateLimit-Reset``, a moment that is compared with the server's own clock.
    """
    if (asked := response.retry_after()) is not None:
        return asked
    reset = response.headers.get("ratelimit-reset", "")
    if not (reset.isascii() and reset.isdigit() and len(reset) < 12):
        return None
    try:
        now = email.utils.parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(int(reset) - now, 1.0), _LONGEST_WAIT)


def _asks_for_captcha(response: Response) -> bool:
    """Return whether a create was held up as spam: a repetition is held up too."""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "needs_captcha_response" in body


def _kept(response: Response) -> dict[str, Any]:
    """Return the parts of the response that an error keeps for the operator."""
    return {"status": response.status, "excerpt": response.text()}
