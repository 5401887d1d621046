"""Turn Jira's error responses into the contract's errors.

``{"errorMessages": [...], "errors": {"field": "text"}}``, see "Status codes" of
https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/#status-codes
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.plugin_api import (
    ApiClient,
    AuthFailed,
    Blocked,
    Misconfigured,
    PluginError,
    RateLimited,
    Refused,
    Response,
    UnknownOutcome,
)
from pointsman_jira.wire import at, items_at, time_of

_FORMAT = re.compile(
    r"too long|exceeds the allowed limit|limit_exceeded|invalid_input|document format|\badf\b", re.IGNORECASE
)
_PERMISSION = re.compile(r"\bpermissions?\b|\bnot authori[sz]ed\b", re.IGNORECASE)
_ISSUE = re.compile(r"/issue/([0-9]+)(?:/|$)")
_TEXT_FIELDS = frozenset({"summary", "description", "comment", "body"})
_MAX_WAIT_SECONDS = 3600.0
_SHORT = 8


class RedactingClient:
    """Client whose responses never repeat our own address and token.

    Jira quotes requests in refusals, and proxies quote whole requests.
    """

    def __init__(self, client: ApiClient, private: tuple[str, ...]) -> None:
        self._client = client
        # Short texts occur in messages by chance; removing them would do harm.
        self._private = tuple(word.encode() for word in private if len(word) >= _SHORT)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request, see ``ApiClient``."""
        response = await self._client.request(method, path, params=params, json=json, headers=headers)
        body = response.body
        for word in self._private:
            body = body.replace(word, b"***")
        return response if body is response.body else msgspec.structs.replace(response, body=body)


def error_messages(response: Response) -> tuple[dict[str, str], str]:
    """Return the fields that Jira complains about, and all of its messages."""
    try:
        body = response.json()
    except PluginError:
        return {}, response.text()
    errors = at(body, "errors")
    fields = {str(key): str(value) for key, value in errors.items()} if isinstance(errors, Mapping) else {}
    messages = [str(message) for message in items_at(body, "errorMessages")]
    return fields, "; ".join([*messages, *(f"{key}: {value}" for key, value in fields.items())])


def listed(response: Response, *names: str) -> list[Any]:
    """Return the list in a response that has one of the names. A response without it is not Jira's, and proves
    nothing.
    """
    body = response.json()
    for name in names:
        if isinstance(at(body, name), list):
            return items_at(body, name)
    raise UnknownOutcome(
        f"{response.method} {response.path} answered {response.status} without {' or '.join(names)}",
        status=response.status,
        excerpt=response.text(),
    )


def must_be_empty(response: Response) -> None:
    """Raise UnknownOutcome for a success with a body: Jira's 204 is empty, so something else responded."""
    if response.body.strip() not in {b"", b"{}", b"null"}:
        raise UnknownOutcome(
            f"{response.method} {response.path} answered {response.status} with a body, which Jira does not",
            status=response.status,
            excerpt=response.text(),
        )


def is_about_format(response: Response) -> bool:
    """Return whether a refusal is about the format or length of a text, and about nothing else."""
    if response.status != 400:
        return False
    fields, text = error_messages(response)
    if set(fields) - {"description", "comment", "body"} or "screen" in text.casefold():
        return False
    return bool(fields) or _FORMAT.search(text) is not None


def problem(response: Response, summary: str, *, now: dt.datetime) -> PluginError:
    """Return the error for a response, Jira's own signs first."""
    fields, text = error_messages(response)
    message = f"{summary}: {text[:500]}" if text else summary
    shown: dict[str, Any] = {"status": response.status, "excerpt": response.text()}
    if response.status == 429 or (
        response.status == 503 and "retry-after" in response.headers and _reads(response)
    ):
        return RateLimited(
            f"{summary}: Jira asks to wait", retry_after=_wait(response, now), scope=_scope(response), **shown
        )
    # With a wrong token Jira answers some calls as if anonymous, and reports it only in this header.
    # https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
    login = response.headers.get("x-seraph-loginreason", "").upper()
    if response.status in {400, 403, 404} and (
        "AUTHENTICATED_FAILED" in login or "AUTHENTICATION_DENIED" in login
    ):
        return AuthFailed(f"{summary}: Jira does not accept the token ({login.strip()})", **shown)
    if response.status == 401:
        return AuthFailed(
            f"{message}: the token is wrong or has ended; one with scopes needs api_url", **shown
        )
    names_issue = _ISSUE.search(response.path) is not None
    if response.status == 400 and "labels" in fields and "screen" in fields["labels"].casefold():
        return Misconfigured(
            f"{summary}: put the field Labels on the project's create screen, Pointsman's marker needs it",
            **shown,
        )
    if response.status == 400 and _is_about_settings(fields, text):
        # an issue that exists can have a screen or a workflow of its own
        return Blocked(message, **shown) if names_issue else Misconfigured(message, **shown)
    if response.status == 413:
        return Refused(
            f"{message}: the text, or the number of comments of this issue, is more than Jira takes",
            fields=fields,
            **shown,
        )
    error = response.error(message, fields=fields)
    if isinstance(error, Blocked) and not names_issue:
        return Misconfigured(message, **shown)
    return error


def _is_about_settings(fields: Mapping[str, str], text: str) -> bool:
    """Return whether a 400 is about something that the settings decide: a field, a right, the issue type.

    Only a text field that the project's screen has is about the text: all other values come from the settings, or from
    the project, which may require a field that nothing fills.
    """
    if not fields:
        return _PERMISSION.search(text) is not None
    return any(name not in _TEXT_FIELDS or "screen" in message.casefold() for name, message in fields.items())


def _reads(response: Response) -> bool:
    """Return whether the request changes nothing: a search is sent as POST."""
    return response.method == "GET" or response.path.rstrip("/").endswith(("/search", "/search/jql"))


def _scope(response: Response) -> str:
    """Return what is limited: ``issue:<id>``, ``endpoint:<call>`` or all.

    https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
    """
    reason = response.headers.get("ratelimit-reason", "").strip().lower()
    issue = _ISSUE.search(response.path)
    if reason == "jira-per-issue-on-write" and issue:
        return f"issue:{issue[1]}"
    if reason == "jira-burst-based":
        path = re.sub(r"^.*/rest/api/[0-9]+", "", response.path)
        return f"endpoint:{response.method} {re.sub('/[0-9]+(?=/|$)', '/{id}', path)}"
    return "all"


def _wait(response: Response, now: dt.datetime) -> float | None:
    """Return the seconds to wait: Retry-After, or the time in X-RateLimit-Reset, which Jira writes in ISO 8601."""
    seconds = response.retry_after()
    if seconds is not None:
        return seconds
    reset = time_of(response.headers.get("x-ratelimit-reset", "").replace("Z", "+00:00"))
    return min(max(0.0, (reset - now).total_seconds()), _MAX_WAIT_SECONDS) if reset else None
