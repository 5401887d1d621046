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
_WORDS_SHOWN = 5


def message_of(answer: Response) -> tuple[str, dict[str, str]]:
    """Return GitLab's error message, and the messages that belong to fields.

    ``{"message": "404 Project Not Found"}``, ``{"error": "title is missing"}``, ``{"message": {"title": ["is too
    long"]}}`` and ``{"error": "insufficient_scope", "error_description": "…"}`` are all in use.
    """
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(said, dict):
        return "", {}
    fields: dict[str, str] = {}
    message = said.get("message")
    if isinstance(message, dict):
        for name, value in list(message.items())[:_WORDS_SHOWN]:
            words = value if isinstance(value, list) else [value]
            fields[short_text(name, 60)] = ", ".join(
                text for one in words[:_WORDS_SHOWN] if (text := short_text(one, 200))
            )
        message = "; ".join(f"{name}: {text}" for name, text in fields.items())
    words = [short_text(one, 300) for one in (message, said.get("error"), said.get("error_description"))]
    return ": ".join(dict.fromkeys(one for one in words if one)), fields


def problem(answer: Response, doing: str, *, issue: bool = False) -> PluginError:
    """Return the error for a response. ``issue``: the path names an issue that has to exist."""
    said, fields = message_of(answer)
    failed = f"could not {doing}" + (f": {said}" if said else "")
    status = answer.status
    if status == 429:
        # from some limits plain text comes back, from others JSON: https://docs.gitlab.com/security/rate_limits/
        return RateLimited(failed, retry_after=wait_seconds(answer), **_kept(answer))
    if status in (301, 302, 303, 307, 308):
        where = short_text(answer.headers.get("location", ""), 200)
        return Misconfigured(
            f"{failed}: the project has another name now ({where}): set `project` to it", **_kept(answer)
        )
    if status == 403 and "insufficient_scope" in said:
        return Misconfigured(f"{failed}: give the token the scope api", **_kept(answer))
    if status in (404, 410) and (not issue or "project not found" in said.lower()):
        return Misconfigured(
            f"{failed}: the project is not there, or hidden from the account, which GitLab tells alike",
            **_kept(answer),
        )
    if status == 409 and _asks_for_captcha(answer):
        return Refused(f"{failed}: GitLab takes it for spam", **_kept(answer))
    return answer.error(failed, fields=fields)


def wait_seconds(answer: Response) -> float | None:
    """Return how long GitLab asks to wait, None if it does not say.

    ``Retry-After`` in seconds, or ``RateLimit-Reset``, a moment that is compared with the server's own clock.
    """
    if (asked := answer.retry_after()) is not None:
        return asked
    reset = answer.headers.get("ratelimit-reset", "")
    if not (reset.isascii() and reset.isdigit() and len(reset) < 12):
        return None
    try:
        now = email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(int(reset) - now, 1.0), _LONGEST_WAIT)


def _asks_for_captcha(answer: Response) -> bool:
    """Return whether a create was held up as spam: a repetition is held up too."""
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and "needs_captcha_response" in said


def _kept(answer: Response) -> dict[str, Any]:
    """Return the parts of the response that an error keeps for the operator."""
    return {"status": answer.status, "excerpt": answer.text()}
