"""Turn GitHub's error responses into the contract's errors. Pure.

https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

from __future__ import annotations

import email.utils
import json
import time
import urllib.parse
from typing import Any

from pointsman.plugin_api import (
    Blocked,
    Misconfigured,
    NotFound,
    PluginError,
    RateLimited,
    Refused,
    Response,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import short_text

REDIRECTS = (301, 302, 307, 308)
SECONDARY_SECONDS = 60.0
"""The shortest wait where GitHub names no time,
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
"""

_FOR_ALL_ISSUES = (
    "resource not accessible",
    "archived",
    "disabled",
    "saml",
    "ip allow list",
    "must have",
    "suspended",
)
_TOO_QUICKLY = "submitted too quickly"
_SECONDARY = ("secondary rate", "abuse detection", _TOO_QUICKLY)
_PRIMARY = "api rate limit exceeded"
_LONGEST_WAIT = 86400.0


def problem(response: Response, doing: str, *, about_issue: bool = False) -> PluginError:
    """Return the error for a response, with GitHub's message and the id of the request, which its support asks for.

    ``about_issue``: the request's path names one issue. Only then can a 404 or 410 mean that the issue is gone;
    elsewhere it means that something about the destination is not in order. GitHub answers 404 for everything that
    the credential may not see: https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api.
    """
    reason, fields = error_messages(response)
    details = "; ".join(
        f"{name}: {text}" if name != "message" else text for name, text in sorted(fields.items())
    )
    failed = f"could not {doing}" + (f": {reason}" if reason else "") + (f" ({details})" if details else "")
    failed += _request_id(response)
    limited = _rate_limit(response, f"{failed}: {response.method} {response.path} answered {response.status}")
    if limited is not None:
        return limited
    error = response.error(failed + _hint(response, about_issue=about_issue), fields=fields)
    if response.status == 403 and "locked" in reason.lower():
        return Refused(f"{error.message}: the issue is locked", **_shown(error))
    if isinstance(error, Blocked) and (not about_issue or _is_about_credential(response, reason.lower())):
        return Misconfigured(error.message, **_shown(error))
    if _is_our_setup(response, error, reason.lower(), about_issue=about_issue):
        return Misconfigured(error.message, **_shown(error))
    return error


def _is_our_setup(response: Response, error: PluginError, reason: str, *, about_issue: bool) -> bool:
    """Return whether a refusal is about the destination and not about the requested object."""
    if isinstance(error, NotFound):
        # 410 is "this issue was deleted", and also "issues are disabled for this repo"
        return not about_issue or not _is_api(response) or "disabled" in reason
    if isinstance(error, Refused):
        # a read has no content that could be refused; and an API version can expire
        return response.method == "GET" or (response.status == 400 and "version" in reason)
    return response.status == 451


def _is_about_credential(response: Response, reason: str) -> bool:
    """Return whether a 403 is about the credential or the repository: it would be the same for any other issue."""
    headers = response.headers
    return (
        not _is_api(response)
        or "x-github-sso" in headers
        or "x-accepted-github-permissions" in headers
        or any(sign in reason for sign in _FOR_ALL_ISSUES)
    )


def _hint(response: Response, *, about_issue: bool) -> str:
    """Return what GitHub's headers add to its message, and what its message leaves out."""
    if response.status in (404, 405) and not _is_api(response):
        return " (what answered is not GitHub's API: `url` is https://HOST/api/v3 for an Enterprise Server)"
    if response.status == 404 and not about_issue:
        return " (GitHub says so too of what the credential may not see)"
    if response.status == 403:
        single_sign_on = short_text(response.headers.get("x-github-sso"), 500)
        if single_sign_on:
            return f" (authorize the token for single sign-on: {single_sign_on})"
        needed = short_text(response.headers.get("x-accepted-github-permissions"), 200)
        if needed:
            return f" (the token needs {needed})"
    return ""


def as_unavailable(error: PluginError) -> PluginError:
    """Return the error of a preparatory request: the request that matters was certainly not sent."""
    return Unavailable(error.message, **_shown(error)) if isinstance(error, UnknownOutcome) else error


def _shown(error: PluginError) -> dict[str, Any]:
    return {"status": error.status, "excerpt": error.excerpt, "is_json": error.is_json}


def _is_api(response: Response) -> bool:
    """Return whether the response has the form of the API's errors."""
    return bool(error_messages(response)[0])


def _request_id(response: Response) -> str:
    request_id = short_text(response.headers.get("x-github-request-id"), 100)
    return f" [GitHub request {request_id}]" if request_id else ""


def error_messages(response: Response) -> tuple[str, dict[str, str]]:
    """Return GitHub's error message and, for a 422, the messages about fields.

    ``errors`` contains objects, or texts, or is one text.
    """
    raw = _object(response)
    fields: dict[str, str] = {}
    for error in _errors(raw):
        if isinstance(error, dict):
            field = short_text(error.get("field")) or "message"
            text = short_text(error.get("message"), 300) or short_text(error.get("code")) or "refused"
            value = error.get("value")
            fields[field] = text + (f" ({short_text(value)})" if isinstance(value, str) and value else "")
        elif isinstance(error, str):
            fields["message"] = short_text(error, 300)
    return short_text(raw.get("message"), 300), fields


def refused_fields(response: Response) -> dict[str, tuple[str, ...]]:
    """Return the fields that a 422 names, each with the values that it names."""
    values: dict[str, tuple[str, ...]] = {}
    for error in _errors(_object(response)) if response.status == 422 else []:
        if isinstance(error, dict) and isinstance(error.get("field"), str):
            value = error.get("value")
            named = [
                item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)
            ]
            values[error["field"]] = (*values.get(error["field"], ()), *named)
    return values


def _object(response: Response) -> dict[str, Any]:
    """Return the response's JSON object, an empty one for anything else."""
    try:
        raw = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _errors(raw: dict[str, Any]) -> list[Any]:
    errors = raw.get("errors")
    return errors if isinstance(errors, list) else [errors]


# -- limits: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api ---------------------------


def _rate_limit(response: Response, failed: str) -> RateLimited | None:
    """Return the rate limit that a response reports, None if it reports none. Both kinds come as 403 or 429.

    The secondary limit on creating content (80 a minute, 500 an hour) is counted separately, hence its own scope.
    Texts that follow each other too quickly are refused with a 422 too.
    """
    text = response.text().lower()
    secondary = any(sign in text for sign in _SECONDARY)
    spent = response.headers.get("x-ratelimit-remaining", "").strip() == "0"
    asked = _asked(response)
    if response.status == 403:
        limited = secondary or spent or asked is not None or _PRIMARY in text
    else:
        limited = response.status == 429 or (response.status == 422 and _TOO_QUICKLY in text)
    if not limited:
        return None
    if asked is None and spent:
        asked = _until_reset(response)
    return RateLimited(
        failed,
        retry_after=SECONDARY_SECONDS if asked is None else asked,
        scope="content" if secondary and response.method != "GET" else "all",
        status=response.status,
        excerpt=response.text(),
    )


def _asked(response: Response) -> float | None:
    """Return the seconds to wait from ``Retry-After``, a number or a date."""
    seconds = response.retry_after()
    if seconds is not None:
        return seconds
    until = _http_date(response.headers.get("retry-after", ""))
    return None if until is None else min(max(until - clock(response), 0.0) + 1.0, _LONGEST_WAIT)


def _until_reset(response: Response) -> float | None:
    """Return the seconds until the primary limit is reset."""
    reset = response.headers.get("x-ratelimit-reset", "").strip()
    if not (reset.isascii() and reset.isdigit() and len(reset) <= 12):
        return None
    return min(max(float(reset) - clock(response), 0.0) + 1.0, _LONGEST_WAIT)


def clock(response: Response) -> float:
    """Return the time by GitHub's own clock if the response contains it."""
    server_time = _http_date(response.headers.get("date", ""))
    return time.time() if server_time is None else server_time


def _http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def renamed(response: Response) -> Misconfigured:
    """Return the error for a repository that has another name now."""
    where = short_text(response.headers.get("location", ""), 200)
    return Misconfigured(
        f"the repository has another name now ({where}): set `repository` to it",
        status=response.status,
        excerpt=response.text(),
    )


def same_origin(url: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port."""
    try:
        first, second = urllib.parse.urlsplit(url), urllib.parse.urlsplit(other)
    except ValueError:
        return False
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)
