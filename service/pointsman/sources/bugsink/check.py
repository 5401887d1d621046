"""Check the settings that an administrator of Bugsink has to make, as far as they are visible from here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import Finding, PluginError
from pointsman.sources.bugsink.api import BugsinkApi, is_missing_endpoint, problem

_NO_ISSUE_ID = "00000000-0000-4000-8000-000000000000"
"""Id that no issue has: requests for it change nothing and show whether the token has the right."""


async def check(api: BugsinkApi, settings: Any, intake_url: str, *, signed: bool) -> list[Finding]:
    """Return all findings. Changes nothing in Bugsink."""
    findings = await _check_intake_url(intake_url)
    if signed:
        findings.append(
            Finding(
                level="ok",
                message="signing_secret is set: only the messaging service kind Pointsman is taken, Custom and Slack get 401",
            )
        )
    if not settings.url:
        findings.append(
            Finding(
                level="warning",
                message="no url and token of Bugsink's API are set",
                impact="issues have no stack trace and environment, lost alerts are not found, and nothing is resolved"
                " in Bugsink",
                remedy="make a token at /bsmain/auth_tokens/ and set url and token in the source's settings",
            )
        )
        return findings
    return [*findings, *await _check_api(api, settings)]


async def _check_intake_url(intake_url: str) -> list[Finding]:
    """Check whether Bugsink's own rules let it call our intake URL."""
    if not intake_url:
        return [
            Finding(
                level="warning",
                message="our public address is not known",
                impact="the URL to paste into Bugsink cannot be shown",
                remedy="set POINTSMAN_PUBLIC_URL",
            )
        ]
    parts = urlsplit(intake_url)
    host = parts.hostname or ""
    findings = [
        Finding(level="ok", message=f"paste into Bugsink as the service's URL, with the token: {intake_url}")
    ]
    if ("." not in host and ":" not in host and host != "localhost") or "_" in host:
        findings.append(
            Finding(
                level="error",
                message=f"Bugsink's form refuses the host name {host!r}",
                impact="the service can't be saved there",
                remedy="use a name with a dot and without underscores: a network alias such as pointsman.internal",
            )
        )
        return findings
    private = await _resolves_to_private(host)
    if private is None:
        findings.append(
            Finding(
                level="warning",
                message=f"{host} does not resolve from here",
                impact="Bugsink refuses a name that does not resolve where it runs",
                remedy="look there, with the same name",
            )
        )
    elif private:
        findings.append(
            Finding(
                level="warning",
                message=f"{host} is a private address, which Bugsink 2.1.0 and later refuse by default",
                impact="every alert fails with a ValueError, whatever ALERTS_WEBHOOK_ALLOW_LIST says",
                remedy="set ALERTS_WEBHOOK_DENY_NON_GLOBAL=false, ALERTS_WEBHOOK_OUTBOUND_MODE=allowlist_only and"
                f" ALERTS_WEBHOOK_ALLOW_LIST={host} for Bugsink's web process and for snappea, and restart both",
            )
        )
    return findings


async def _resolves_to_private(host: str) -> bool | None:
    """Return whether a host has an address that is not public; None if it does not resolve."""
    try:
        async with asyncio.timeout(5):
            known = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return None
    return any(not ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_global for address in known)


async def _check_api(api: BugsinkApi, settings: Any) -> list[Finding]:
    try:
        listed = await api.get("issues/", {"project": settings.project} if settings.project else None)
    except PluginError as error:
        return [
            Finding(
                level="error",
                message=f"Bugsink's API at {settings.url} can't be reached: {error}",
                impact="issues have no details, lost alerts are not found, nothing is resolved there",
                remedy="look at url; a private address needs POINTSMAN_OUTBOUND_ALLOW",
            )
        ]
    if listed.status == 401:
        return [
            Finding(
                level="error",
                message="Bugsink refuses the token",
                impact="issues have no details, lost alerts are not found, nothing is resolved there",
                remedy="make a new one at /bsmain/auth_tokens/",
            )
        ]
    findings = (
        [Finding(level="ok", message=f"Bugsink's API at {settings.url} answers")]
        if listed.status != 404
        else []
    )
    wanted = [
        ("issues:read", "lost alerts are not found", listed.status),
        (
            "events:read",
            "issues have no stack trace and environment",
            (await api.get(f"events/{_NO_ISSUE_ID}/")).status,
        ),
    ]
    triage = await api.post(f"issues/{_NO_ISSUE_ID}/resolve/") if settings.resolve != "no" else None
    comment = (
        await api.post("issue-comments/", {"issue": _NO_ISSUE_ID, "comment": ""})
        if settings.comment
        else None
    )
    if triage is not None:
        wanted.append(("issues:triage", "nothing is resolved in Bugsink", triage.status))
    if comment is not None:
        wanted.append(("issues:comment", "the issue is not named in Bugsink", comment.status))
    lacking = [(right, breaks) for right, breaks, status in wanted if status == 403]
    findings += [
        Finding(
            level="error", message=f"the token lacks {right}", impact=breaks, remedy="make one that has it"
        )
        for right, breaks in lacking
    ]
    if not lacking:
        findings.append(
            Finding(level="ok", message=f"the token has {', '.join(right for right, _, _ in wanted)}")
        )
    if listed.status not in (200, 400, 403):
        findings.append(
            Finding(
                level="error",
                message=str(problem(listed, "listing issues")),
                remedy="look at url and project",
            )
        )
    findings += await _check_version(api, settings)
    findings += await _check_project(api, settings)
    return findings


async def _check_version(api: BugsinkApi, settings: Any) -> list[Finding]:
    """How old Bugsink is, as far as its answers tell."""
    findings = []
    if settings.comment and is_missing_endpoint(await api.post("issue-comments/", {})):
        findings.append(
            Finding(
                level="error",
                message="it is older than Bugsink 2.2.1 and takes no comments",
                impact="every comment for it waits, and fails in the end",
                remedy="update Bugsink, or set comment = false",
            )
        )
    if settings.resolve != "no" and is_missing_endpoint(await api.post(f"issues/{_NO_ISSUE_ID}/reopen/")):
        findings.append(
            Finding(
                level="error",
                message="it is older than Bugsink 2.4.0 and can't reopen issues by its API",
                impact="what should be told to it waits, and fails in the end",
                remedy='update Bugsink, or set resolve = "no"',
            )
        )
    if not is_missing_endpoint(await api.get("issue-history/")):
        findings.append(
            Finding(level="ok", message="it is Bugsink 2.6.2 or newer: lost alerts of every kind are found")
        )
        return findings
    findings.append(
        Finding(
            level="warning",
            message="it is older than Bugsink 2.6.2",
            impact="of lost alerts only new issues are found, and that a closed one had events again",
            remedy="update Bugsink when you can",
        )
    )
    return findings


async def _check_project(api: BugsinkApi, settings: Any) -> list[Finding]:
    """Check which project it is and whether its alerts are switched on."""
    if settings.project is None:
        try:
            number = await api.project(None, "")
        except PluginError as error:
            return [
                Finding(
                    level="warning",
                    message=str(error),
                    impact="alerts lost before the first one are not found",
                )
            ]
    else:
        number = settings.project
    answer = await api.get(f"projects/{number}/")
    if not answer.ok:
        return [
            Finding(
                level="warning",
                message="the token may not read the project (projects:read), so its alert switches were not looked at",
                remedy="look in Bugsink, at the project's settings, that it alerts on new issues, on regressions and on unmute",
            )
        ]
    decoded = answer.json()
    off = [
        name
        for name in ("alert_on_new_issue", "alert_on_regression", "alert_on_unmute")
        if decoded.get(name) is False
    ]
    if off:
        return [
            Finding(
                level="warning",
                message=f"project {number} has {', '.join(off)} switched off",
                impact="such alerts are never sent; they are found by asking only",
                remedy="switch them on in the project's settings in Bugsink",
            )
        ]
    return [
        Finding(level="ok", message=f"project {number} alerts on new issues, regressions and unmuted ones")
    ]
