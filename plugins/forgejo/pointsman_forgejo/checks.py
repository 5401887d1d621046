"""Turn the server's responses into the findings of ``check``, each with a remedy. Pure."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from pointsman.plugin_api import AuthFailed, Finding, PluginError, Response, UnknownOutcome
from pointsman.plugin_api.helpers import short_text
from pointsman_forgejo import wire
from pointsman_forgejo.errors import message_of, problem, scopes_lacking
from pointsman_forgejo.settings import ForgejoSettings
from pointsman_forgejo.webhook_registration import Webhook, by_hand, delivery_obstacle

_NOTHING = "no issue can be opened"
_LATE = "changes are noticed only with the next look at the list of issues"


def failed(error: PluginError) -> Finding:
    """Return the findings for a check that could not continue."""
    if isinstance(error, AuthFailed):
        remedy = "make a new token under Settings, Applications of the account, and put it into `token`"
    elif lacking := scopes_lacking(error.message):
        remedy = _give(lacking)
    else:
        remedy = "see that `url` is the address of a Forgejo or Gitea server and that it is up"
    return Finding(
        level="error", message=error.message, impact="no issue can be opened or found again", remedy=remedy
    )


def version(response: Response) -> Finding:
    """Return the finding about the server. Forgejo appends the Gitea version that it is compatible with:
    ``15.0.3+gitea-1.22.0``.
    """
    raw = read_object(response)
    version_text = short_text(raw.get("version")) if raw else ""
    if not version_text:
        return Finding(
            level="warning",
            message=problem(response, "read the server's version").message
            if not response.ok
            else "the server tells no version",
            impact="perhaps it is no Forgejo or Gitea, or a page for signing in stands before it",
            remedy="set `url` to the address that opens the server in a browser, without anything behind the host",
        )
    brand = "Forgejo" if "+gitea-" in version_text else "Gitea"
    if not re.match(r"\d+\.\d+", version_text):
        return Finding(
            level="warning",
            message=f"the server tells the version {version_text!r}, which is none of Forgejo or Gitea",
            impact="nobody has tried this server",
            remedy="see that `url` is right",
        )
    return Finding(level="ok", message=f"{brand} {version_text}")


def account(response: Response) -> Finding:
    """Return the finding about the token's account."""
    raw = read_object(response)
    owner = wire.account(raw)
    if raw is not None and owner is not None and owner.account_id.isdigit():
        return Finding(level="ok", message=f"signed in as {owner.name}")
    if not response.ok:
        return failed(problem(response, "read our own account"))
    return Finding(
        level="error",
        message="the server does not say who we are",
        impact="our own issues can't be told from those of others",
        remedy="see that `url` is the address of a Forgejo or Gitea server",
    )


def repository(response: Response, settings: ForgejoSettings) -> list[Finding]:
    """Return the findings about the repository's own record: visibility, archive, issues, rights."""
    name = settings.repository
    raw = read_object(response)
    if raw is None:
        return [_repository_failed(response, name)]
    public = _is_public(raw)
    seen = f"repository {name} is visible{' to everybody' if public else ''}"
    findings = [Finding(level="ok", message=seen, public=public)]
    if raw.get("has_issues") is False:
        findings.append(
            Finding(
                level="error",
                message=f"issues are switched off in {name}",
                impact="every issue is answered with 404",
                remedy="switch them on in the repository's settings, under Units",
            )
        )
    if raw.get("archived") is True:
        findings.append(
            Finding(
                level="error",
                message=f"{name} is archived",
                impact="every issue is answered with 423",
                remedy="take it out of the archive, or name another repository",
            )
        )
    permissions = raw.get("permissions")
    if not (isinstance(permissions, dict) and permissions.get("push") is True):
        wanted = bool(settings.labels or settings.assignees)
        findings.append(
            Finding(
                level="warning",
                message=f"the account may not write to {name}",
                impact="labels and assignees are dropped silently; locked issues can't be commented"
                if wanted
                else "locked issues can't be commented, and labels of a route are dropped silently",
                remedy="make the account a collaborator with the right to write",
            )
        )
    return findings


def _is_public(raw: dict[str, Any]) -> bool:
    """Return whether everybody can see the repository: neither it nor its owner is hidden."""
    owner = raw.get("owner")
    seen = owner.get("visibility") if isinstance(owner, dict) else None
    return raw.get("private") is False and raw.get("internal") is not True and seen in (None, "", "public")


def issues(response: Response) -> Finding:
    """Return the finding about reading the list of issues."""
    if response.ok:
        return Finding(level="ok", message="issues can be read")
    return Finding(
        level="error",
        message=problem(response, "list issues").message,
        impact="issues can't be opened, and lost answers can't be found again",
        remedy=_give(scopes_lacking(message_of(response)) or ("write:issue",)),
    )


def writing(response: Response) -> Finding | None:
    """Return the finding about an edit of issue 0, which never exists: 403 if the token lacks the scope, otherwise
    404.

    None if the response says nothing about the token.
    """
    if response.status == 404:
        return Finding(level="ok", message="the token may write issues")
    lacking = scopes_lacking(message_of(response))
    if response.status != 403:
        return None
    return Finding(
        level="error",
        message=problem(response, "write issues").message,
        impact="issues can be read and not opened, commented or closed",
        remedy=_give(lacking)
        if lacking
        else "follow the message; a new token must not be limited to public repositories",
    )


def labels(missing: Sequence[str], unread: str, settings: ForgejoSettings) -> list[Finding]:
    """Return the finding about the configured labels. ``unread`` is the reason why they can't be read."""
    if unread:
        return [
            Finding(
                level="warning",
                message=unread,
                impact="issues are opened without labels",
                remedy=_give(scopes_lacking(unread)) if scopes_lacking(unread) else "follow the message",
            )
        ]
    if not missing:
        return [Finding(level="ok", message="all labels exist")]
    impact = "issues are opened without them"
    if settings.create_labels:
        impact = (
            "they are made with the first issue if the account may write; otherwise issues go without them"
        )
    return [
        Finding(
            level="warning",
            message=f"labels do not exist yet: {', '.join(missing)}",
            impact=impact,
            remedy="make them in the repository, under Issues, Labels"
            + ("" if settings.create_labels else ", or set `create_labels` to true"),
        )
    ]


def assignees(response: Response, settings: ForgejoSettings) -> Finding:
    """Return the findings about the configured assignees."""
    known = read_list(response)
    if known is None:
        return Finding(
            level="warning",
            message=problem(response, "read who can be assigned").message
            if not response.ok
            else "the server does not say who can be assigned",
            impact="nobody knows yet whether issues can be assigned",
            remedy=_give(scopes_lacking(message_of(response)) or ("read:repository",)),
        )
    lost = [login for login in settings.assignees if login.casefold() not in wire.logins(known)]
    if not lost:
        return Finding(level="ok", message="all assignees can be assigned")
    return Finding(
        level="warning",
        message=f"can't be assigned: {', '.join(lost)}",
        impact="issues are opened without them",
        remedy="correct the login, or make the person a collaborator of the repository",
    )


def hooks(
    webhooks: Sequence[Webhook] | PluginError, settings: ForgejoSettings, url: str = ""
) -> list[Finding]:
    """Return the findings about the webhook that leads to Pointsman.

    It is recognized by its address, ``url``; if that is empty, by ``/webhooks/forgejo/`` in the path.
    """
    name = settings.repository
    if isinstance(webhooks, PluginError):
        # a right that should not be granted: an account that may read webhooks administers the whole repository
        return [
            Finding(
                level="ok",
                message=f"the webhook was not looked at, that takes an administrator of {name}: {webhooks.message}",
                impact=f"without a webhook {_LATE}",
                remedy=by_hand(name, url),
            )
        ]
    ours = [webhook for webhook in webhooks if _is_ours(webhook, url)]
    if not ours:
        return [
            Finding(
                level="warning",
                message=f"{name} has no webhook to Pointsman",
                impact=_LATE,
                remedy=by_hand(name, url),
            )
        ]
    return [_hook(webhook, name) for webhook in ours]


def _is_ours(hook: Webhook, url: str) -> bool:
    return hook.url == url if url else "/webhooks/forgejo/" in urllib.parse.urlsplit(hook.url).path


def _hook(hook: Webhook, name: str) -> Finding:
    faults = [fault for fault in hook.defects() if fault != "it does not send issue_comment"]
    if faults:
        return Finding(
            level="warning",
            message=f"webhook {hook.number}: {', '.join(faults)}",
            impact=_LATE,
            remedy=f"set it right in the settings of {name} under Webhooks",
        )
    if trap := delivery_obstacle(hook.url):
        return Finding(
            level="warning",
            message=f"webhook {hook.number} leads to an address that is not public",
            impact="the server refuses to call private and loopback addresses unless told otherwise, and tells nobody",
            remedy=trap,
        )
    return Finding(level="ok", message=f"webhook {hook.number} is active and sends issues")


def _repository_failed(response: Response, name: str) -> Finding:
    lacking = scopes_lacking(message_of(response))
    if lacking:
        remedy = _give(lacking)
    elif response.status == 403:
        remedy = "take a token that is not limited to public repositories, with the scope read:repository"
    elif response.status == 404:
        remedy = "check the spelling of `repository`, and that the account may read it: hidden ones answer 404 as well"
    else:
        remedy = "follow the message"
    message = (
        problem(response, f"read the repository {name}").message
        if not response.ok
        else f"{name} is no repository"
    )
    return Finding(level="error", message=message, impact=_NOTHING, remedy=remedy)


def _give(scopes: Sequence[str]) -> str:
    """Return the remedy for missing scopes. The scopes of a token can't be changed afterwards:
    https://forgejo.org/docs/latest/user/token-scope/.
    """
    return f"give the token the scope {' or '.join(scopes)}: make a new one with it, and put it into `token`"


def read_object(response: Response) -> dict[str, Any] | None:
    """Return the response's JSON object, None for an error or anything else."""
    raw = _json(response)
    return raw if isinstance(raw, dict) else None


def read_list(response: Response) -> list[dict[str, Any]] | None:
    """Return the objects of the response's JSON list, None for an error or anything else."""
    raw = _json(response)
    return [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else None


def _json(response: Response) -> Any:
    try:
        return response.json() if response.ok else None
    except UnknownOutcome:
        return None
