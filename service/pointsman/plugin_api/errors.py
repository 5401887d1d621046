"""What a plugin may raise; the tree of errors stands in the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping


class PluginError(Exception):
    """Something a plugin could not do.

    ``status`` and ``excerpt`` are what the remote side answered, for the operator's eyes; the core scrubs secrets
    out of them before they are kept.
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
    """The service can't be reached or can't serve now, and surely nothing was done."""


class RateLimited(PluginError):
    """The service asks to wait.

    ``retry_after`` is in seconds, None if the service did not say. ``scope`` names what is limited: ``all`` for
    the whole credential, the scope of a budget, or ``issue:ID`` where only this issue has to wait.
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
    """The content was refused. ``fields`` maps a field's name to the service's words about it."""

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
    """A right, a project, a repository or a setting is missing."""


class NotFound(PluginError):
    """The issue or comment that was asked for is not there; its ticket loses the link.

    Only where the request names the issue. A repository, a project or an account that is missing is Misconfigured.
    """


class IssueMoved(PluginError):
    """The issue lives at ``to`` now (an address or a key, as the service names it).

    For a move that may be followed by and by, such as a renamed repository. One that is final is IssueRemoved in what
    ``list_changes`` and webhooks say.
    """

    def __init__(self, message: str, *, to: str, status: int | None = None, excerpt: str = "") -> None:
        super().__init__(message, status=status, excerpt=excerpt)
        self.to = to


class Conflict(PluginError):
    """Somebody changed the thing at the same time."""


class UnknownOutcome(PluginError):
    """The request left and nobody knows whether it took effect."""
