"""What ``check`` makes of the server's answers: findings with a cure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pointsman.plugin_api import Answer, AuthFailed, Finding, PluginError, UnknownOutcome
from pointsman_forgejo import wire


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
        mend = "make a new token under Settings, Applications of the account, and put it into `token`"
    elif error.status == 403:
        mend = "give the token the scope read:user: by its account we know our own issues again"
    else:
        mend = "see that `url` is the address of a Forgejo or Gitea server and that it is up"
    return Finding(
        level="error", what=error.message, breaks="no issue can be opened or found again", mend=mend
    )


def repository(answer: Answer, settings: _Wanted) -> list[Finding]:
    """What the repository's own record says about us."""
    name = settings.repository
    raw = _object(answer)
    if raw is None:
        return [_repository_failed(answer, name)]
    permissions = raw.get("permissions")
    may_push = isinstance(permissions, dict) and permissions.get("push") is True
    findings = [Finding(level="ok", what=f"repository {name} is visible")]
    if raw.get("has_issues") is False:
        findings.append(
            Finding(
                level="error",
                what=f"issues are switched off in {name}",
                breaks="every issue is answered with 404",
                mend="switch them on in the repository's settings, under Units",
            )
        )
    if raw.get("archived") is True:
        findings.append(
            Finding(
                level="error",
                what=f"{name} is archived",
                breaks="every issue is answered with 423",
                mend="take it out of the archive, or name another repository",
            )
        )
    if not may_push:
        wanted = bool(settings.labels or settings.assignees)
        findings.append(
            Finding(
                level="warning",
                what=f"the account may not write to {name}",
                breaks="labels and assignees are dropped silently; locked issues can't be commented"
                if wanted
                else "locked issues can't be commented, and labels of a route are dropped silently",
                mend="make the account a collaborator with the right to write",
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
        mend="give the token the scope write:issue",
    )


def labels(missing: Sequence[str]) -> Finding:
    """Whether the configured labels exist."""
    if not missing:
        return Finding(level="ok", what="all labels exist")
    return Finding(
        level="warning",
        what=f"labels do not exist yet: {', '.join(missing)}",
        breaks="they are made with the first issue if the account may write; otherwise issues go without them",
        mend="make them, or give the account the right to write",
    )


def _repository_failed(answer: Answer, name: str) -> Finding:
    if answer.status == 403:
        mend = "give the token the scope read:repository"
    elif answer.status == 404:
        mend = "check the spelling of `repository`, and that the account may read it: hidden ones answer 404 as well"
    else:
        mend = "follow the message"
    return Finding(
        level="error",
        what=wire.problem(answer, f"read the repository {name}").message,
        breaks="no issue can be opened",
        mend=mend,
    )


def _object(answer: Answer) -> dict[str, Any] | None:
    """The answer's JSON object, None if it is an error or none."""
    if not answer.ok:
        return None
    try:
        raw = answer.json()
    except UnknownOutcome:
        return None
    return raw if isinstance(raw, dict) else None
