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
_MAX_WAIT_SECONDS = 3600.0
_SHORT = 8


class Discreet:
    """Client whose responses never repeat our own address and token.

    Jira quotes requests in refusals, and proxies quote whole requests.
    """

    def __init__(self, client: ApiClient, private: tuple[str, ...]) -> None:
        self._client = client
        # Short words stand in many texts by chance, where taking them out would only do harm.
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
        answer = await self._client.request(method, path, params=params, json=json, headers=headers)
        body = answer.body
        for word in self._private:
            body = body.replace(word, b"***")
        return answer if body is answer.body else msgspec.structs.replace(answer, body=body)


def said(answer: Response) -> tuple[dict[str, str], str]:
    """Return the fields that Jira complains about, and all of its messages."""
    try:
        body = answer.json()
    except PluginError:
        return {}, answer.text()
    errors = at(body, "errors")
    fields = {str(key): str(value) for key, value in errors.items()} if isinstance(errors, Mapping) else {}
    messages = [str(message) for message in items_at(body, "errorMessages")]
    return fields, "; ".join([*messages, *(f"{key}: {value}" for key, value in fields.items())])


def listed(answer: Response, *names: str) -> list[Any]:
    """Return the list in a response that has one of the names. A response without it is not Jira's, and proves
    nothing.
    """
    body = answer.json()
    for name in names:
        if isinstance(at(body, name), list):
            return items_at(body, name)
    raise UnknownOutcome(
        f"{answer.method} {answer.path} answered {answer.status} without {' or '.join(names)}",
        status=answer.status,
        excerpt=answer.text(),
    )


def must_be_empty(answer: Response) -> None:
    """Raise UnknownOutcome for a success with a body: Jira's 204 is empty, so something else responded."""
    if answer.body.strip() not in {b"", b"{}", b"null"}:
        raise UnknownOutcome(
            f"{answer.method} {answer.path} answered {answer.status} with a body, which Jira does not",
            status=answer.status,
            excerpt=answer.text(),
        )


def is_about_format(answer: Response) -> bool:
    """Return whether a refusal is about the format or length of a text, and about nothing else."""
    if answer.status != 400:
        return False
    fields, words = said(answer)
    if set(fields) - {"description", "comment", "body"} or "screen" in words.casefold():
        return False
    return bool(fields) or _FORMAT.search(words) is not None


def problem(answer: Response, what: str, *, now: dt.datetime) -> PluginError:
    """Return the error for a response, Jira's own signs first."""
    fields, words = said(answer)
    message = f"{what}: {words[:500]}" if words else what
    shown: dict[str, Any] = {"status": answer.status, "excerpt": answer.text()}
    if answer.status == 429 or (answer.status == 503 and "retry-after" in answer.headers and _reads(answer)):
        return RateLimited(
            f"{what}: Jira asks to wait", retry_after=_wait(answer, now), scope=_scope(answer), **shown
        )
    # With a wrong token Jira answers some calls as it would answer a stranger, and says so here only.
    # https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
    login = answer.headers.get("x-seraph-loginreason", "").upper()
    if answer.status in {400, 403, 404} and (
        "AUTHENTICATED_FAILED" in login or "AUTHENTICATION_DENIED" in login
    ):
        return AuthFailed(f"{what}: Jira does not accept the token ({login.strip()})", **shown)
    if answer.status == 401:
        return AuthFailed(
            f"{message}: the token is wrong or has ended; one with scopes needs api_url", **shown
        )
    if answer.status == 400 and "labels" in fields and "screen" in fields["labels"].casefold():
        return Refused(
            f"{what}: put the field Labels on the project's create screen, Pointsman's marker needs it",
            fields=fields,
            **shown,
        )
    if answer.status == 400 and set(fields) & {"project", "issuetype", "pid"}:
        return Misconfigured(message, **shown)
    if answer.status == 400 and not fields and _PERMISSION.search(words):
        return Misconfigured(message, **shown)
    if answer.status == 413:
        return Refused(
            f"{message}: the text, or the number of comments of this issue, is more than Jira takes",
            fields=fields,
            **shown,
        )
    return answer.error(message, fields=fields)


def _reads(answer: Response) -> bool:
    """Return whether the request changes nothing: a search is sent as POST."""
    return answer.method == "GET" or answer.path.rstrip("/").endswith(("/search", "/search/jql"))


def _scope(answer: Response) -> str:
    """Return what is limited: ``issue:<id>``, ``endpoint:<call>`` or all.

    https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
    """
    reason = answer.headers.get("ratelimit-reason", "").strip().lower()
    issue = _ISSUE.search(answer.path)
    if reason == "jira-per-issue-on-write" and issue:
        return f"issue:{issue[1]}"
    if reason == "jira-burst-based":
        path = re.sub(r"^.*/rest/api/[0-9]+", "", answer.path)
        return f"endpoint:{answer.method} {re.sub('/[0-9]+(?=/|$)', '/{id}', path)}"
    return "all"


def _wait(answer: Response, now: dt.datetime) -> float | None:
    """Return the seconds to wait: Retry-After, or the time in X-RateLimit-Reset, which Jira writes in ISO 8601."""
    seconds = answer.retry_after()
    if seconds is not None:
        return seconds
    reset = time_of(answer.headers.get("x-ratelimit-reset", "").replace("Z", "+00:00"))
    return min(max(0.0, (reset - now).total_seconds()), _MAX_WAIT_SECONDS) if reset else None
