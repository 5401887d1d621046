"""Requests of ``check``, in an order in which one failure explains the next."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from pointsman.plugin_api import (
    ApiClient,
    AuthFailed,
    Finding,
    Misconfigured,
    PluginError,
    RateLimited,
    Response,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import positive_int, short_text
from pointsman_gitlab import wire
from pointsman_gitlab.errors import problem
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.users import UserLookup
from pointsman_gitlab.webhook_registration import Webhooks, by_hand

_FATAL = (Unavailable, AuthFailed, RateLimited, UnknownOutcome)
_PLANNER = 15
_SOON_DAYS = 14


class Doctor:
    """Checks one destination and changes nothing."""

    def __init__(
        self,
        settings: GitLabSettings,
        client: ApiClient,
        people: UserLookup,
        hooks: Webhooks,
        webhook_url: str = "",
    ) -> None:
        self._settings = settings
        self._client = client
        self._people = people
        self._hooks = hooks
        self._webhook_url = webhook_url

    async def findings(self) -> list[Finding]:
        """Check account, token, project, issues, assignees and webhook."""
        looks: tuple[Callable[[], Awaitable[list[Finding]]], ...] = (
            self._account,
            self._token,
            self._project,
            self._issues,
            self._assignees,
            self._webhook,
        )
        findings: list[Finding] = []
        for look in looks:
            try:
                findings += await look()
            except _FATAL as error:
                return [*findings, _failed(error)]
            except PluginError as error:
                findings.append(_failed(error))
        return findings

    async def _account(self) -> list[Finding]:
        account = (await self._get("/user", "sign in")).json()
        me = wire.account(account)
        if me is None:
            raise Misconfigured("this is not GitLab's API: check `url`")
        return [Finding(level="ok", message=f"signed in as {me.name}")]

    async def _token(self) -> list[Finding]:
        """Check scopes and expiry of the token. https://docs.gitlab.com/api/personal_access_tokens/."""
        response = await self._client.request("GET", "/personal_access_tokens/self")
        if not response.ok:
            return []  # tokens of other kinds, and GitLab before 15.5, do not say
        return token_findings(response.json(), dt.datetime.now(dt.UTC).date())

    async def _project(self) -> list[Finding]:
        response = await self._get(self._settings.project_path, f"read the project {self._settings.project}")
        return project_findings(response.json(), self._settings)

    async def _issues(self) -> list[Finding]:
        """Read the list. Whether the account may write shows in its role, or in `pointsman doctor --write-test`."""
        await self._get(
            f"{self._settings.project_path}/issues", "read the issues", {"per_page": 1, "scope": "all"}
        )
        return []

    async def _assignees(self) -> list[Finding]:
        _, unknown = await self._people.ids(self._settings.assignees)
        if not unknown:
            return []
        return [
            Finding(
                level="warning",
                message=f"GitLab knows no user {', '.join(unknown)}",
                impact="issues are opened without them",
                remedy="correct `assignees`: usernames, without @",
            )
        ]

    async def _webhook(self) -> list[Finding]:
        try:
            hooks = await self._hooks.read_all()
        except PluginError as error:
            if error.status not in (403, 404):
                raise
            message = "the account may not see webhooks, so nothing is known about ours"
            return [
                Finding(
                    level="ok", message=message, remedy=by_hand(self._settings.project, self._webhook_url)
                )
            ]
        wanted = self._webhook_url
        ours = [
            webhook
            for webhook in hooks
            if (webhook.url == wanted if wanted else "/webhooks/gitlab/" in webhook.url)
        ]
        findings = [
            Finding(
                level="warning",
                message=f"webhook {hook.number} to {hook.url}: {fault}",
                impact="changes are noticed only with the next look at the list of issues",
                remedy="run `pointsman doctor --ensure-webhook`, or set it right under Settings, Webhooks",
            )
            for hook in ours
            for fault in hook.defects()
        ]
        if not ours:
            return [
                Finding(
                    level="warning",
                    message="no webhook of the project leads to Pointsman",
                    impact="changes are noticed only with the next look at the list of issues",
                    remedy=f"run `pointsman doctor --ensure-webhook`; or {by_hand(self._settings.project, wanted)}",
                )
            ]
        return findings or [Finding(level="ok", message=f"webhook {ours[0].number} leads to {ours[0].url}")]

    async def _get(self, path: str, doing: str, params: dict[str, str | int] | None = None) -> Response:
        response = await self._client.request("GET", path, params=params)
        if not response.ok:
            raise problem(response, doing)
        return response


def token_findings(token: object, today: dt.date) -> list[Finding]:
    """Return the findings about scope and expiry of a token."""
    if not isinstance(token, dict):
        return []
    findings = []
    scopes = token.get("scopes")
    if isinstance(scopes, list) and "api" not in scopes:
        named = ", ".join(short_text(scope) for scope in scopes)
        findings.append(
            Finding(
                level="error",
                message=f"the token has the scopes {named or '(none)'} and not api",
                impact="no issue is opened",
                remedy="make a token with the scope api",
            )
        )
    ends = token.get("expires_at")
    try:
        left = (dt.date.fromisoformat(str(ends)[:10]) - today).days
    except ValueError:
        return findings
    if left <= _SOON_DAYS:
        findings.append(
            Finding(
                level="warning",
                message=f"the token ends on {str(ends)[:10]}",
                impact="from then on nothing is delivered",
                remedy="make a new one, and apply the configuration again",
            )
        )
    return findings


def project_findings(raw: Any, settings: GitLabSettings) -> list[Finding]:
    """Return the findings about the project: whether issues can be created in it.
    https://docs.gitlab.com/api/projects/.
    """
    if not isinstance(raw, dict) or positive_int(raw, "id") is None:
        raise Misconfigured("this is not GitLab's API: check `url`")
    name = short_text(raw.get("path_with_namespace"), 200) or settings.project
    findings = []
    if raw.get("archived") is True:
        findings.append(
            _error(f"the project {name} is archived", "unarchive it, or name another in `project`")
        )
    if raw.get("issues_access_level") == "disabled" or raw.get("issues_enabled") is False:
        findings.append(
            _error(
                f"the issues of {name} are switched off", "switch them on under Settings, General, Visibility"
            )
        )
    role = _role(raw.get("permissions"))
    if role is not None and role < _PLANNER:
        findings.append(
            Finding(
                level="warning",
                message=f"the account is a Guest of {name}",
                impact="GitLab drops labels and assignees without a word, and issues of others can't be closed",
                remedy="give it the role Planner, or Reporter where that is not there",
            )
        )
    findings = findings or [Finding(level="ok", message=f"the project {name} has issues")]
    if _is_public(raw, settings):
        findings.append(
            Finding(level="ok", message=f"the issues of {name} are visible to everybody", public=True)
        )
    return findings


def _is_public(raw: dict[str, Any], settings: GitLabSettings) -> bool:
    """Return whether everybody can read our issues: a public project may restrict its issues to members, or they may
    be confidential.
    """
    kept = settings.confidential or raw.get("issues_access_level") in ("private", "disabled")
    return raw.get("visibility") == "public" and not kept


def _role(permissions: object) -> int | None:
    """Return the account's highest role in the project, None if GitLab does not say."""
    if not isinstance(permissions, dict):
        return None
    levels = [
        positive_int(permissions.get(key), "access_level") for key in ("project_access", "group_access")
    ]
    return max((level for level in levels if level is not None), default=None)


def _error(message: str, remedy: str) -> Finding:
    return Finding(level="error", message=message, impact="no issue is opened", remedy=remedy)


def _failed(error: PluginError) -> Finding:
    """Return the finding for a check that failed."""
    remedies = {
        AuthFailed: "make a new token with the scope api: this one is wrong, revoked or has ended",
        Misconfigured: "check `url` and `project`, and that the account is a member",
        RateLimited: "wait, then run this again",
    }
    remedy = remedies.get(type(error), "check `url`, and that the server is up")
    return Finding(level="error", message=error.message, impact="no issue is opened", remedy=remedy)
