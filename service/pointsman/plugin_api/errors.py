"""Errors that a plugin may raise. The package's docstring shows them as a tree."""

from __future__ import annotations

from collections.abc import Mapping


class PluginError(Exception):
    """Base of the errors that a plugin raises.

    ``status`` and ``excerpt`` are from the remote response, for the operator; the core removes secrets from them before
    they are stored.
    """

    def __init__(
        self, message: str, *, status: int | None = None, excerpt: str = "", is_json: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.excerpt = excerpt[:2000]
        self.is_json = is_json


class Unavailable(PluginError):
    """The service can't be reached or can't serve now, and it is certain that nothing was done."""


class RateLimited(PluginError):
    """The service asks to wait.

    ``retry_after`` is in seconds, None if the service did not say. ``scope`` names what is limited: ``all`` for the whole
    credential, the scope of a quota, or ``issue:ID`` where only this issue has to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        scope: str = "all",
        status: int | None = None,
        excerpt: str = "",
        is_json: bool | None = None,
    ) -> None:
        super().__init__(message, status=status, excerpt=excerpt, is_json=is_json)
        self.retry_after = retry_after
        self.scope = scope


class Refused(PluginError):
    """The service refused the content. ``fields`` maps the name of a field to the service's message about it."""

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        status: int | None = None,
        excerpt: str = "",
        is_json: bool | None = None,
    ) -> None:
        super().__init__(message, status=status, excerpt=excerpt, is_json=is_json)
        self.fields = dict(fields or {})


class AuthFailed(PluginError):
    """The credential is missing, wrong or expired."""


class Misconfigured(PluginError):
    """A right, a project, a repository or a setting is missing, or the service refused a value that the settings decide.

    Deliveries wait and continue once it is corrected.
    """


class Blocked(PluginError):
    """Something about this one issue prevents the change, and a person or a setting can change that.

    For example: no transition leads to the state, the closing screen requires a field, the account may not edit this
    issue. Only its lane waits, with back-off, and is given up like any other. What concerns all issues of the
    destination is Misconfigured; for a create, which names no issue, it counts as that.
    """


class NotFound(PluginError):
    """The issue or comment does not exist (any more); the ticket loses its link.

    Only for a request that names the issue. A missing repository, project or account is Misconfigured.
    """


class IssueMoved(PluginError):
    """The issue is at ``to`` now: an address or a key, as the service names it.

    For a move that can be followed, such as a renamed repository. A final move is IssueRemoved in the results of
    ``list_changes`` and of webhooks.
    """

    def __init__(self, message: str, *, to: str, status: int | None = None, excerpt: str = "") -> None:
        super().__init__(message, status=status, excerpt=excerpt)
        self.to = to


class Conflict(PluginError):
    """The object was changed by someone else at the same time."""


class UnknownOutcome(PluginError):
    """The request was sent and it is not known whether it took effect."""
