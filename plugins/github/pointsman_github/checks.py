"""Turn GitHub's responses into the findings of ``check``, each with a remedy. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pointsman.plugin_api import AuthFailed, Finding, PluginError, RateLimited, Response, UnknownOutcome
from pointsman_github import errors
from pointsman_github.settings import GitHubSettings

_SOON = dt.timedelta(days=14)
_FEW = 0.1
_RIGHTS = "give it Issues: read and write for this repository"


def failed(error: PluginError, settings: GitHubSettings) -> Finding:
    """Return the finding for a check that could not continue."""
    if isinstance(error, RateLimited):
        remedy = "wait; and give Pointsman an account or App of its own, whose limit nobody else uses up"
    elif isinstance(error, AuthFailed):
        remedy = "see the App's page for its id and keys" if settings.is_app else _renew(settings)
    elif error.is_json is False:
        remedy = "see that `url` is the address of GitHub's API, https://HOST/api/v3 for an Enterprise Server"
    elif error.status == 403 and not settings.is_app:
        remedy = (
            "use a token of an account, or an App's id and key: by the account we know our own issues again"
        )
    else:
        remedy = "follow the message; see that `url` is the address of GitHub's API and that it is up"
    return Finding(
        level="error", message=error.message, impact="no issue can be opened or found again", remedy=remedy
    )


def _renew(settings: GitHubSettings) -> str:
    return f"make a new token at {settings.web}/settings/personal-access-tokens and put it into `token`"


def credential(response: Response, login: str, settings: GitHubSettings) -> list[Finding]:
    """Return the findings about the account, the token's expiry, and the scopes of a classic token.

    The expiry is in ``github-authentication-token-expiration``, the scopes in ``x-oauth-scopes``; a fine-grained
    token names no rights, they show when it is used.

    https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
    """
    server = response.headers.get("x-github-enterprise-version", "")
    where = f" at GitHub Enterprise Server {server}" if server else ""
    findings = [Finding(level="ok", message=f"signed in as {login}{where}")]
    end = expiry(response.headers.get("github-authentication-token-expiration", ""))
    if end is not None:
        left = end - dt.datetime.fromtimestamp(errors.clock(response), dt.UTC)
        if left < _SOON:
            findings.append(
                Finding(
                    level="warning",
                    message=f"the token ends on {end:%Y-%m-%d}",
                    impact="nothing reaches GitHub from then on",
                    remedy=_renew(settings),
                )
            )
        else:
            findings.append(Finding(level="ok", message=f"the token is valid until {end:%Y-%m-%d}"))
    return findings


def scopes(response: Response) -> list[Finding]:
    """Return the findings about a classic token's scopes for the repository in the response."""
    scope_list = response.headers.get("x-oauth-scopes")
    if scope_list is None:
        return []
    has = {scope.strip() for scope in scope_list.split(",")}
    raw = _object(response)
    private = raw is None or raw.get("private") is not False
    if "repo" in has or (not private and "public_repo" in has):
        return []
    return [
        Finding(
            level="error",
            message="the classic token lacks the scope " + ("repo" if private else "public_repo"),
            impact="issues are answered with 404",
            remedy="add the scope, or better take a fine-grained token with Issues: read and write",
        )
    ]


def app(permissions: Mapping[str, str]) -> list[Finding]:
    """Return the findings about the permissions of the App's installation."""
    if permissions.get("issues") == "write":
        return [Finding(level="ok", message="the App may write issues")]
    has = permissions.get("issues", "none")
    return [
        Finding(
            level="error",
            message=f"the App's permission for issues is {has!r} and not 'write'",
            impact="every issue is answered with 403",
            remedy="set Issues: read and write in the App's settings, and let the owner accept it in the installation",
        )
    ]


def repository(response: Response, settings: GitHubSettings) -> list[Finding]:
    """Return the findings about the repository's own record: visibility, archive, issues, role."""
    name = settings.repository
    raw = _object(response)
    if raw is None:
        return [_repository_failed(response, name)]
    # `internal`, visible to a whole enterprise, is private too
    public = raw.get("private") is False
    seen = f"repository {name} is visible{' to everybody' if public else ''}"
    findings = [Finding(level="ok", message=seen, public=public)]
    if raw.get("has_issues") is False:
        findings.append(
            Finding(
                level="error",
                message=f"issues are switched off in {name}",
                impact="every issue is answered with 410",
                remedy="switch them on in the repository's settings, under Features",
            )
        )
    if raw.get("archived") is True:
        findings.append(
            Finding(
                level="error",
                message=f"{name} is archived",
                impact="every issue is answered with 403",
                remedy="take it out of the archive, or name another repository",
            )
        )
    # an App's permissions are in its token and not in this record
    return findings if settings.is_app else [*findings, _role(raw, name)]


def _role(raw: Mapping[str, Any], name: str) -> Finding:
    """Return the account's role:
    https://docs.github.com/en/organizations/managing-user-access-to-your-organizations-repositories.
    """
    permissions = raw.get("permissions")
    may = (
        {right for right, allowed in permissions.items() if allowed is True}
        if isinstance(permissions, dict)
        else set()
    )
    if "push" in may:
        return Finding(level="ok", message="the account may set labels and assignees")
    impact = "labels and assignees of a new issue are dropped silently"
    if "triage" not in may:
        impact += "; issues of others can't be closed or reopened"
    return Finding(
        level="warning",
        message=f"the account may not push to {name}",
        impact=impact,
        remedy="give the account the role Write in the repository",
    )


def issues(response: Response) -> Finding:
    """Return the finding about reading the list of issues."""
    if response.ok:
        return Finding(level="ok", message="issues can be read")
    return Finding(
        level="error",
        message=errors.problem(response, "list issues").message,
        impact="issues can't be opened, and lost answers can't be found again",
        remedy=_RIGHTS,
    )


def assignee(response: Response, login: str) -> Finding:
    """Return the finding about one assignee: 204 means assignable, 404 not.

    https://docs.github.com/en/rest/issues/assignees#check-if-a-user-can-be-assigned
    """
    if response.status == 204:
        return Finding(level="ok", message=f"{login} can be assigned")
    if response.status == 404:
        return Finding(
            level="warning",
            message=f"{login} can't be assigned in this repository",
            impact="issues are opened without this assignee",
            remedy=f"give {login} access to the repository, or take the name out of `assignees`",
        )
    return Finding(
        level="warning",
        message=errors.problem(response, f"ask whether {login} can be assigned").message,
        impact="issues may be opened without this assignee",
        remedy="follow the message",
    )


def limit(response: Response) -> list[Finding]:
    """Return the finding about the remaining requests of this hour. An Enterprise Server may have no limit, and
    reports none then.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    left = _number(response.headers.get("x-ratelimit-remaining", ""))
    all_ = _number(response.headers.get("x-ratelimit-limit", ""))
    if left is None or not all_:
        return []
    message = f"{left} of {all_} requests are left"
    reset = _number(response.headers.get("x-ratelimit-reset", ""))
    if reset is not None:
        message += f" until {dt.datetime.fromtimestamp(reset, dt.UTC):%H:%M} UTC"
    if left >= all_ * _FEW:
        return [Finding(level="ok", message=message)]
    return [
        Finding(
            level="warning",
            message=message,
            impact="deliveries wait when none is left",
            remedy="give Pointsman an account or App of its own, whose limit nobody else uses up",
        )
    ]


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None


def _repository_failed(response: Response, name: str) -> Finding:
    if response.status == 404:
        remedy = "check the spelling of `repository`; for a private one, let the token see it: it answers 404 otherwise"
    elif response.status in errors.REDIRECTS:
        remedy = "the repository has another name now: set `repository` to it"
    else:
        remedy = "follow the message"
    return Finding(
        level="error",
        message=errors.problem(response, f"read the repository {name}").message,
        impact="no issue can be opened",
        remedy=remedy,
    )


def expiry(text: str) -> dt.datetime | None:
    """Return the expiry of a token, ``2027-02-06 17:23:12 UTC`` or with an offset; None if there is none."""
    try:
        time = dt.datetime.fromisoformat(text.strip().removesuffix("UTC").strip())
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)


def _object(response: Response) -> dict[str, Any] | None:
    """Return the response's JSON object, None for an error or anything else."""
    if not response.ok:
        return None
    try:
        raw = response.json()
    except UnknownOutcome:
        return None
    return raw if isinstance(raw, dict) else None
