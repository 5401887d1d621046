"""The HTTP client that the core gives to a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pointsman.plugin_api.errors import Misconfigured
from pointsman.plugin_api.values import Response


class ApiClient(Protocol):
    """HTTP client bound to the base URL and the credential of one connection.

    The core adds time limits, a limit on the size of responses, and the check of the address that is connected to.
    Redirects are not followed. Responses with any status are returned. Raises Unavailable if nothing was sent and
    UnknownOutcome if the request may have left.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request; ``path`` is relative to the base URL, or a full URL with the same origin."""
        ...


class NoApiClient:
    """Client of a plugin whose ``connection`` returned None: every request raises Misconfigured."""

    async def request(self, method: str, path: str, **_: Any) -> Response:
        """Refuse the request."""
        raise Misconfigured(f"{method} {path}: the plugin declared no connection")
