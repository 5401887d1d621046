"""Authentication as a GitHub App, whose tokens are valid for an hour.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/authenticating-as-a-github-app-installation
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import jwt

from pointsman.plugin_api import (
    ApiClient,
    AuthFailed,
    Conflict,
    Misconfigured,
    PluginError,
    RateLimited,
    Response,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import parse_time, short_text
from pointsman_github import errors
from pointsman_github.settings import GitHubSettings

RENEW_SECONDS = 300.0
"""How long before its expiry a token is renewed."""
_TOKEN_SECONDS = 3600.0
_BACK_SECONDS = 60
_JWT_SECONDS = 540
_LEAST_SECONDS = 30.0

_clock = time.monotonic


class AppClient:
    """The core's client, with the token of the App's installation added to every request.

    The token is kept in memory only. One renewal runs at a time, however many requests wait for it. A 401 proves that
    nothing was done: the token is renewed once, and the request is sent again.
    """

    def __init__(self, settings: GitHubSettings, client: ApiClient) -> None:
        self._client = client
        self._app_id = str(settings.app_id).strip()
        self._installation = str(settings.installation_id).strip()
        self._key = settings.app_key(is_checked=True)
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self.permissions: dict[str, str] = {}
        """The permissions of the installation, which GitHub sends with the token."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request with the installation's token."""
        token = await self._usable()
        response = await self._send(method, path, token, params=params, json=json, headers=headers)
        if response.status == 401:
            token = await self._usable(refused=token)
            response = await self._send(method, path, token, params=params, json=json, headers=headers)
        return response

    async def login(self) -> str:
        """Return the account under which the App acts, ``SLUG[bot]``: https://docs.github.com/en/rest/apps/apps."""
        slug = (await self._as_app("GET", "/app", doing="read the App")).get("slug")
        if not isinstance(slug, str) or not slug:
            raise Misconfigured("GitHub does not name the App: check `url`")
        return f"{slug}[bot]"

    async def _send(
        self,
        method: str,
        path: str,
        credential: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        signed = {**(headers or {}), "Authorization": f"Bearer {credential}"}
        return await self._client.request(method, path, params=params, json=json, headers=signed)

    async def _usable(self, *, refused: str = "") -> str:
        """Return a token that is valid for some time and is not the refused token."""
        if self._is_fresh(refused):
            return self._token
        async with self._lock:
            if self._is_fresh(refused):
                return self._token
            try:
                await self._renew()
            except (Unavailable, RateLimited):
                left = self._ends_at - _clock()
                if not self._token or self._token == refused or left < _LEAST_SECONDS:
                    raise
                # the old token is still valid: try again later
                self._renew_at = _clock() + _LEAST_SECONDS
            return self._token

    def _is_fresh(self, refused: str) -> bool:
        return bool(self._token) and self._token != refused and _clock() < self._renew_at

    async def _renew(self) -> None:
        path = f"/app/installations/{urllib.parse.quote(self._installation)}/access_tokens"
        asked_at = _clock()
        raw = await self._as_app("POST", path, doing="get a token for the App's installation")
        token = raw.get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable("GitHub answered without a token for the App's installation")
        permissions = raw.get("permissions")
        self.permissions = {
            short_text(name): short_text(level)
            for name, level in (permissions.items() if isinstance(permissions, dict) else ())
        }
        self._token = token
        self._ends_at = asked_at + raw["lasts"]
        self._renew_at = self._ends_at - RENEW_SECONDS

    async def _as_app(self, method: str, path: str, *, doing: str) -> dict[str, Any]:
        """Return the JSON object of a request that the App makes as itself; with a token, ``lasts`` is its validity
        in seconds.

        If this fails, the request that it prepares was not sent: no outcome is unknown. The response may contain a
        token and is never shown.
        """
        try:
            response = await self._send(method, path, self._jwt())
        except UnknownOutcome as error:
            raise Unavailable(f"could not {doing}: {error.message}") from None
        if not response.ok:
            raise self._problem(response, doing)
        try:
            raw = json.loads(response.body)
        except (ValueError, RecursionError):
            raw = None
        if not isinstance(raw, dict):
            raise Unavailable(f"could not {doing}: what answered is not GitHub's API", status=response.status)
        ends = parse_time(raw.get("expires_at"))
        lasts = _TOKEN_SECONDS if ends is None else ends.timestamp() - errors.clock(response)
        return {**raw, "lasts": min(max(lasts, 0.0), 24 * 3600.0)}

    def _jwt(self) -> str:
        """Return the App's JWT for the next minutes; it begins a minute ago, since clocks differ.

        https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
        """
        now = int(time.time())
        claims = {"iat": now - _BACK_SECONDS, "exp": now + _JWT_SECONDS, "iss": self._app_id}
        return jwt.encode(claims, self._key, algorithm="RS256")

    def _problem(self, response: Response, doing: str) -> PluginError:
        error = errors.problem(response, doing)
        if isinstance(error, AuthFailed):
            off = time.time() - errors.clock(response)
            clock = f"; the clock here is {off:+.0f} s off GitHub's" if abs(off) > _BACK_SECONDS / 2 else ""
            return AuthFailed(
                f"{error.message}: check `app_id` and `private_key`{clock}", status=401, excerpt=error.excerpt
            )
        if response.status == 404:
            return Misconfigured(
                f"{error.message}: check `installation_id`, and that the App is still installed",
                status=404,
                excerpt=error.excerpt,
            )
        if isinstance(error, (RateLimited, Misconfigured, Conflict)):
            return error
        if isinstance(error, UnknownOutcome):
            return errors.as_unavailable(error)
        return Misconfigured(error.message, status=response.status, excerpt=error.excerpt)
