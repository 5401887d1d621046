"""Requests of ``check``, in an order in which one failure explains the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pointsman.plugin_api import (
    ApiClient,
    AuthFailed,
    Finding,
    PluginError,
    RateLimited,
    Response,
    Unavailable,
)
from pointsman_forgejo import checks, wire
from pointsman_forgejo.errors import problem
from pointsman_forgejo.labels import Labels
from pointsman_forgejo.settings import ForgejoSettings
from pointsman_forgejo.webhook_registration import Webhooks

_FATAL = (Unavailable, AuthFailed, RateLimited)


class Doctor:
    """Checks one destination and changes nothing."""

    def __init__(
        self,
        settings: ForgejoSettings,
        client: ApiClient,
        labels: Labels,
        hooks: Webhooks,
        webhook_url: str = "",
    ) -> None:
        self._settings = settings
        self._client = client
        self._labels = labels
        self._hooks = hooks
        self._webhook_url = webhook_url
        self._repo = f"/repos/{settings.repository}"

    async def findings(self) -> list[Finding]:
        """Check server, credential, repository, rights, labels, assignees and webhook."""
        looks: tuple[Callable[[], Awaitable[list[Finding]]], ...] = (
            self._server,
            self._account,
            self._repository,
            self._issues,
            self._label,
            self._assignees,
            self._webhook,
        )
        findings: list[Finding] = []
        for look in looks:
            try:
                findings += await look()
            except _FATAL as error:
                return [*findings, checks.failed(error)]
            except PluginError as error:
                findings.append(checks.failed(error))
        return findings

    async def _server(self) -> list[Finding]:
        return [checks.version(await self._get("/version"))]

    async def _account(self) -> list[Finding]:
        response = await self._get("/user")
        if response.status == 401:
            raise problem(response, "sign in")
        return [checks.account(response)]

    async def _repository(self) -> list[Finding]:
        return checks.repository(await self._get(self._repo), self._settings)

    async def _issues(self) -> list[Finding]:
        params: dict[str, str | int] = {"state": "all", "type": "issues", "limit": 1}
        listed = await self._client.request("GET", f"{self._repo}/issues", params=params)
        findings = [checks.issues(listed)]
        if listed.ok:
            # Issue numbers begin with 1, so this changes nothing.
            edited = await self._client.request("PATCH", f"{self._repo}/issues/0", json={})
            may = checks.writing(edited)
            findings += [may] if may is not None else []
        return findings

    async def _label(self) -> list[Finding]:
        names = wire.label_names(self._settings.labels)
        if not names:
            return []
        self._labels.forget()
        unread = await self._labels.look_up(names)
        return checks.labels(self._labels.missing(names), unread, self._settings)

    async def _assignees(self) -> list[Finding]:
        if not self._settings.assignees:
            return []
        return [checks.assignees(await self._get(f"{self._repo}/assignees"), self._settings)]

    async def _webhook(self) -> list[Finding]:
        try:
            webhooks = await self._hooks.read_all()
        except PluginError as error:
            if error.status in (403, 404):
                return checks.hooks(error, self._settings, self._webhook_url)
            raise
        return checks.hooks(webhooks, self._settings, self._webhook_url)

    async def _get(self, path: str) -> Response:
        return await self._client.request("GET", path)
