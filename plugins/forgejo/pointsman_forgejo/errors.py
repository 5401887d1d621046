"""Turn error responses into the contract's errors, with the server's own message. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pointsman.plugin_api import (
    Conflict,
    Misconfigured,
    PluginError,
    Refused,
    Response,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import short_text

_SCOPE = re.compile(r"\b(?:read|write):[a-z]{2,20}\b")
_LOCKED = re.compile(r"\blocked\b")
_REASONS_SHOWN = 3
_SET_BY_SETTINGS = frozenset({"assignee", "assignees", "label", "labels", "milestone"})


def message_of(response: Response) -> str:
    """Return the server's own error message, empty if there is none.

    The body is ``{"message", "url"}``; a 404 adds ``errors``, often empty. Some 403 have no body at all, and a 500
    has an empty message for all but administrators.
    """
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    more = body.get("errors")
    reasons = [short_text(reason, 200) for reason in more[:_REASONS_SHOWN]] if isinstance(more, list) else []
    return ": ".join(text for text in (short_text(body.get("message"), 300), *reasons) if text)


def scopes_lacking(message: str) -> tuple[str, ...]:
    """Return the scopes that a 403 asks for, such as ``write:issue``; empty if it is about something else.

    Forgejo writes ``required scope(s): [write:issue]``, newer Gitea ``required scope(s), required=[write:issue],
    token scope=read:issue``. https://forgejo.org/docs/latest/user/token-scope/
    """
    if "required scope" not in message:
        return ()
    return tuple(dict.fromkeys(_SCOPE.findall(message.partition("token scope=")[0])))


def problem(  # noqa: C901 - a decision table
    response: Response, doing: str, *, sent: Mapping[str, Any] | None = None, issue: bool = False
) -> PluginError:
    """Return the error for a response.

    ``sent`` is the body of a create, where an error proves less. ``issue`` says that the path names an issue, so that
    a 404 is about the issue and not about the repository.

    The statuses of each call are in the server's own ``/api/swagger``,
    https://forgejo.org/docs/latest/user/api-usage/. What an error leaves behind was read in the server's source,
    ``routers/api/v1/repo/issue.go``: a 422 comes before the insert, but assignees are notified and ``closed`` is
    applied after it.
    """
    text = message_of(response)
    failed = f"could not {doing}" + (f": {text}" if text else "")
    status = response.status
    if status in (301, 302, 303, 307, 308):
        # Issues do not move between Forgejo repositories: a redirect means that the repository was renamed.
        where = short_text(response.headers.get("location", ""), 200)
        return Misconfigured(
            f"{failed}: the repository has another name now ({where}): set `repository` to it",
            **_kept(response),
        )
    if sent is not None and (status == 412 or (status == 400 and sent.get("assignees"))):
        return UnknownOutcome(f"{failed}: the issue may exist all the same", **_kept(response))
    if status == 400 and "already changed" in text:
        return Conflict(failed, **_kept(response))
    if status == 412:
        return Refused(failed, fields={"state": text}, **_kept(response))
    if status == 403:
        return _forbidden(response, failed, text, issue=issue)
    if status in (404, 410) and not issue:
        where = "check `url`: the server does not know this address"
        if "/repos/" in response.path:
            where = "the repository is not there, or hidden from the account, or its issues are switched off"
        return Misconfigured(
            f"{failed}: {response.method} {response.path} answered {status}: {where}", **_kept(response)
        )
    if status == 423:
        return Misconfigured(f"{failed}: the repository is archived", **_kept(response))
    if status == 500 and not text:
        return UnknownOutcome(f"{failed}: the server's log says why, its answer does not", **_kept(response))
    field = field_of(text)
    if status == 422 and field in _SET_BY_SETTINGS:
        return Misconfigured(f"{failed}: correct the setting that decides it", **_kept(response))
    return response.error(failed, fields={field: text} if text else None, about_issue=issue)


def _forbidden(response: Response, failed: str, text: str, *, issue: bool) -> PluginError:
    if _LOCKED.search(text):
        return Refused(f"{failed}: the issue is locked", **_kept(response))
    if lacking := scopes_lacking(text):
        return Misconfigured(f"{failed}: give the token the scope {' or '.join(lacking)}", **_kept(response))
    if not text:
        return Misconfigured(
            f"{failed}: the account may not, and the server does not say why", **_kept(response)
        )
    return response.error(failed, about_issue=issue)


def _kept(response: Response) -> dict[str, Any]:
    """Return the parts of the response that an error keeps for the operator."""
    return {"status": response.status, "excerpt": response.text()}


def field_of(message: str) -> str:
    """Return the field that a 422 is about, if the message names it: ``[Title]: Required``,
    ``CreateIssueOption.labels``.
    """
    named = re.match(r"\[(\w{1,40})\]", message) or re.search(r"\b\w{1,40}Option\.(\w{1,40})", message)
    if named:
        return named[1].lower()
    lowered = message.lower()
    return next((field for field in ("assignee", "label", "title", "body") if field in lowered), "message")
