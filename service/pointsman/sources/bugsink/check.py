"""What an administrator of Bugsink has to set, and what of it can be tested from here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import Finding, PluginError
from pointsman.sources.bugsink.api import Api, lacks_address, problem

_NOBODY = "00000000-0000-4000-8000-000000000000"
"""No issue has this id: what is asked of it changes nothing, and shows whether one may ask."""


async def check(api: Api, settings: Any, intake_url: str, *, signed: bool) -> list[Finding]:
    """All findings; changes nothing."""
    found = await _address(intake_url)
    if signed:
        found.append(
            Finding(
                level="ok",
                what="signing_secret is set: only the messaging service kind Pointsman is taken, Custom and Slack get 401",
            )
        )
    if not settings.url:
        found.append(
            Finding(
                level="warning",
                what="no url and token of Bugsink's API are set",
                breaks="issues have no stack trace and environment, lost alerts are not found, and nothing is resolved"
                " in Bugsink",
                mend="make a token at /bsmain/auth_tokens/ and set url and token in the source's settings",
            )
        )
        return found
    return [*found, *await _api(api, settings)]


async def _address(intake_url: str) -> list[Finding]:
    """Whether Bugsink's own rules let it call us."""
    if not intake_url:
        return [
            Finding(
                level="warning",
                what="our public address is not known",
                breaks="nobody can say what to paste into Bugsink",
                mend="set POINTSMAN_PUBLIC_URL",
            )
        ]
    parts = urlsplit(intake_url)
    host = parts.hostname or ""
    found = [
        Finding(level="ok", what=f"paste into Bugsink as the service's URL, with the token: {intake_url}")
    ]
    if ("." not in host and ":" not in host and host != "localhost") or "_" in host:
        found.append(
            Finding(
                level="error",
                what=f"Bugsink's form refuses the host name {host!r}",
                breaks="the service can't be saved there",
                mend="use a name with a dot and without underscores: a network alias such as pointsman.internal",
            )
        )
        return found
    private = await _private(host)
    if private is None:
        found.append(
            Finding(
                level="warning",
                what=f"{host} does not resolve from here",
                breaks="Bugsink refuses a name that does not resolve where it runs",
                mend="look there, with the same name",
            )
        )
    elif private:
        found.append(
            Finding(
                level="warning",
                what=f"{host} is a private address, which Bugsink 2.1.0 and later refuse by default",
                breaks="every alert fails with a ValueError, whatever ALERTS_WEBHOOK_ALLOW_LIST says",
                mend="set ALERTS_WEBHOOK_DENY_NON_GLOBAL=false, ALERTS_WEBHOOK_OUTBOUND_MODE=allowlist_only and"
                f" ALERTS_WEBHOOK_ALLOW_LIST={host} for Bugsink's web process and for snappea, and restart both",
            )
        )
    return found


async def _private(host: str) -> bool | None:
    """Whether a host has an address that is not public; None if it has none at all."""
    try:
        async with asyncio.timeout(5):
            known = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return None
    return any(not ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_global for one in known)


async def _api(api: Api, settings: Any) -> list[Finding]:
    try:
        listed = await api.get("issues/", {"project": settings.project} if settings.project else None)
    except PluginError as error:
        return [
            Finding(
                level="error",
                what=f"Bugsink's API at {settings.url} can't be reached: {error}",
                breaks="issues have no details, lost alerts are not found, nothing is resolved there",
                mend="look at url; a private address needs POINTSMAN_OUTBOUND_ALLOW",
            )
        ]
    if listed.status == 401:
        return [
            Finding(
                level="error",
                what="Bugsink refuses the token",
                breaks="issues have no details, lost alerts are not found, nothing is resolved there",
                mend="make a new one at /bsmain/auth_tokens/",
            )
        ]
    found = (
        [Finding(level="ok", what=f"Bugsink's API at {settings.url} answers")] if listed.status != 404 else []
    )
    wanted = [
        ("issues:read", "lost alerts are not found", listed.status),
        (
            "events:read",
            "issues have no stack trace and environment",
            (await api.get(f"events/{_NOBODY}/")).status,
        ),
    ]
    triage = await api.post(f"issues/{_NOBODY}/resolve/") if settings.resolve != "no" else None
    comment = (
        await api.post("issue-comments/", {"issue": _NOBODY, "comment": ""}) if settings.comment else None
    )
    if triage is not None:
        wanted.append(("issues:triage", "nothing is resolved in Bugsink", triage.status))
    if comment is not None:
        wanted.append(("issues:comment", "the issue is not named in Bugsink", comment.status))
    lacking = [(right, breaks) for right, breaks, status in wanted if status == 403]
    found += [
        Finding(level="error", what=f"the token lacks {right}", breaks=breaks, mend="make one that has it")
        for right, breaks in lacking
    ]
    if not lacking:
        found.append(Finding(level="ok", what=f"the token has {', '.join(right for right, _, _ in wanted)}"))
    if listed.status not in (200, 400, 403):
        found.append(
            Finding(
                level="error", what=str(problem(listed, "listing issues")), mend="look at url and project"
            )
        )
    found += await _version(api, settings)
    found += await _project(api, settings)
    return found


async def _version(api: Api, settings: Any) -> list[Finding]:
    """How old Bugsink is, as far as its answers tell."""
    found = []
    if settings.comment and lacks_address(await api.post("issue-comments/", {})):
        found.append(
            Finding(
                level="error",
                what="it is older than Bugsink 2.2.1 and takes no comments",
                breaks="every comment for it waits, and fails in the end",
                mend="update Bugsink, or set comment = false",
            )
        )
    if settings.resolve != "no" and lacks_address(await api.post(f"issues/{_NOBODY}/reopen/")):
        found.append(
            Finding(
                level="error",
                what="it is older than Bugsink 2.4.0 and can't reopen issues by its API",
                breaks="what should be told to it waits, and fails in the end",
                mend='update Bugsink, or set resolve = "no"',
            )
        )
    if not lacks_address(await api.get("issue-history/")):
        found.append(
            Finding(level="ok", what="it is Bugsink 2.6.2 or newer: lost alerts of every kind are found")
        )
        return found
    found.append(
        Finding(
            level="warning",
            what="it is older than Bugsink 2.6.2",
            breaks="of lost alerts only new issues are found, and that a closed one had events again",
            mend="update Bugsink when you can",
        )
    )
    return found


async def _project(api: Api, settings: Any) -> list[Finding]:
    """Whether the project alerts, and which it is."""
    if settings.project is None:
        try:
            number = await api.project(None, "")
        except PluginError as error:
            return [
                Finding(
                    level="warning", what=str(error), breaks="alerts lost before the first one are not found"
                )
            ]
    else:
        number = settings.project
    answer = await api.get(f"projects/{number}/")
    if not answer.ok:
        return [
            Finding(
                level="warning",
                what="the token may not read the project (projects:read), so its alert switches were not looked at",
                mend="look in Bugsink, at the project's settings, that it alerts on new issues, on regressions and on unmute",
            )
        ]
    said = answer.json()
    off = [
        name
        for name in ("alert_on_new_issue", "alert_on_regression", "alert_on_unmute")
        if said.get(name) is False
    ]
    if off:
        return [
            Finding(
                level="warning",
                what=f"project {number} has {', '.join(off)} switched off",
                breaks="such alerts are never sent; they are found by asking only",
                mend="switch them on in the project's settings in Bugsink",
            )
        ]
    return [Finding(level="ok", what=f"project {number} alerts on new issues, regressions and unmuted ones")]
