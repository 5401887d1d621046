"""What ``check`` makes of GitHub's answers: findings with a cure. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Protocol

from pointsman.plugin_api import Answer, AuthFailed, Finding, PluginError, UnknownOutcome
from pointsman_github import wire

_SOON = dt.timedelta(days=14)
_RENEW = "make a new one at https://github.com/settings/personal-access-tokens and put it into `token`"


class _Wanted(Protocol):
    """What the checks need to know of the settings."""

    @property
    def repository(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def assignees(self) -> Sequence[str]: ...


def failed(error: PluginError) -> Finding:
    """The check itself could not go on: why, and what to do."""
    if isinstance(error, AuthFailed):
        mend = _RENEW
    elif error.status == 403:
        mend = "use a token of an account: by its account we know our own issues again"
    else:
        mend = "see that `url` is the address of GitHub's API and that it is up"
    return Finding(
        level="error", what=error.message, breaks="no issue can be opened or found again", mend=mend
    )


def token(answer: Answer, now: dt.datetime) -> list[Finding]:
    """What an answer's headers tell about the token: its end, and the scopes of a classic one.

    A fine-grained token names no scopes; what it may is seen when it is used.
    """
    findings = []
    end = expiry(answer.headers.get("github-authentication-token-expiration", ""))
    if end is not None and end - now < _SOON:
        findings.append(
            Finding(
                level="warning",
                what=f"the token ends on {end:%Y-%m-%d}",
                breaks="nothing reaches GitHub from then on",
                mend=_RENEW,
            )
        )
    scopes = answer.headers.get("x-oauth-scopes")
    if scopes is not None:
        has = {scope.strip() for scope in scopes.split(",")}
        raw = _object(answer)
        private = raw is None or raw.get("private") is not False
        if "repo" not in has and (private or "public_repo" not in has):
            findings.append(
                Finding(
                    level="error",
                    what="the classic token lacks the scope " + ("repo" if private else "public_repo"),
                    breaks="issues are answered with 404",
                    mend="add the scope, or better take a fine-grained token with Issues: read and write",
                )
            )
    return findings


def repository(answer: Answer, settings: _Wanted) -> list[Finding]:
    """What the repository's own record says about us."""
    name = settings.repository
    raw = _object(answer)
    if raw is None:
        return [_repository_failed(answer, name)]
    findings = [Finding(level="ok", what=f"repository {name} is visible")]
    if raw.get("has_issues") is False:
        findings.append(
            Finding(
                level="error",
                what=f"issues are switched off in {name}",
                breaks="every issue is answered with 410",
                mend="switch them on in the repository's settings, under Features",
            )
        )
    if raw.get("archived") is True:
        findings.append(
            Finding(
                level="error",
                what=f"{name} is archived",
                breaks="every issue is answered with 403",
                mend="take it out of the archive, or name another repository",
            )
        )
    permissions = raw.get("permissions")
    if not (isinstance(permissions, dict) and permissions.get("push") is True):
        findings.append(
            Finding(
                level="warning",
                what=f"the account may not push to {name}",
                breaks="labels and assignees are dropped silently",
                mend="give the account the role Write in the repository",
            )
        )
    return findings


def issues(answer: Answer) -> Finding:
    """Whether the list of issues can be read."""
    if answer.ok:
        return Finding(level="ok", what="issues can be read")
    return Finding(
        level="error",
        what=wire.problem(answer, "list issues").message,
        breaks="issues can't be opened, and lost answers can't be found again",
        mend="give the token the permission Issues: read and write for this repository",
    )


def _repository_failed(answer: Answer, name: str) -> Finding:
    if answer.status == 404:
        mend = "check the spelling of `repository`; for a private one, let the token see it: it answers 404 otherwise"
    elif answer.status in (301, 302, 307, 308):
        mend = "the repository has another name now: set `repository` to it"
    else:
        mend = "follow the message"
    return Finding(
        level="error",
        what=wire.problem(answer, f"read the repository {name}").message,
        breaks="no issue can be opened",
        mend=mend,
    )


def expiry(text: str) -> dt.datetime | None:
    """The end of a token, ``2027-02-06 17:23:12 UTC`` or with an offset; None if there is none."""
    try:
        found = dt.datetime.fromisoformat(text.strip().removesuffix("UTC").strip())
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _object(answer: Answer) -> dict[str, Any] | None:
    """The answer's JSON object, None if it is an error or none."""
    if not answer.ok:
        return None
    try:
        raw = answer.json()
    except UnknownOutcome:
        return None
    return raw if isinstance(raw, dict) else None
