"""Check the configuration of a Jira project with reading requests only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pointsman.plugin_api import ApiClient, Blocked, Finding, PluginError, Response, State
from pointsman_jira import errors, screens, templates, transitions, wire
from pointsman_jira.dialect import Dialect
from pointsman_jira.settings import JiraSettings

_PERMISSIONS = {
    "BROWSE_PROJECTS": "issues can't be read",
    "CREATE_ISSUES": "issues can't be made",
    "ADD_COMMENTS": "comments can't be made",
    "TRANSITION_ISSUES": "issues can't be closed or reopened",
    "EDIT_ISSUES": "issues can't be changed after they were made",
}
_ASSIGN = {"ASSIGN_ISSUES": "issues are made without their assignee"}
_ALL = "nothing works"
# Ids of the status categories; their names are translated.
_DONE_ID = 3


class ReadRequests:
    """Reading requests to the site. A failed request raises the contract's error."""

    def __init__(self, client: ApiClient, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    async def get(self, path: str, failed: str, **params: str | int) -> Any:
        """Return the response to a GET below the API's path."""
        return (await self._get(path, failed, **params)).json()

    async def pages(self, path: str, failed: str, *names: str) -> list[Any]:
        """Return all items of a paged list that has one of the names."""
        collected: list[Any] = []
        while True:
            answer = await self._get(path, failed, startAt=len(collected), maxResults=100)
            items = errors.listed(answer, *names)
            collected += items
            total = wire.at(answer.json(), "total")
            if not items or not isinstance(total, int) or len(collected) >= total:
                return collected

    async def newest(self, jql: str) -> Any:
        """Return the first issue that a query finds, None if it finds none."""
        body = {"jql": jql, "fields": ["status"], "maxResults": 1}
        answer = await self._client.request("POST", self._dialect.search, json=body)
        issues = errors.listed(_good(answer, "the issues could not be searched"), "issues")
        return issues[0] if issues else None

    async def _get(self, path: str, failed: str, **params: str | int) -> Response:
        return _good(
            await self._client.request("GET", self._dialect.api + path, params=params or None), failed
        )


def _good(answer: Response, failed: str) -> Response:
    if not answer.ok:
        raise errors.problem(answer, failed, now=dt.datetime.now(dt.UTC))
    return answer


async def check(settings: JiraSettings, client: ApiClient, dialect: Dialect) -> list[Finding]:
    """Return the findings. Without account or project the other checks are skipped; the rest are independent."""
    asked = ReadRequests(client, dialect)
    findings: list[Finding] = []
    parts = urlsplit(settings.base)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        findings.append(
            _warn("the address is not https", "the token can be read on its way", "write https:// in url")
        )
    project = quote(settings.project, safe="")
    try:
        me = await asked.get("/myself", "the account could not be read")
        findings.append(
            _ok(f"signed in as {wire.text_at(me, 'displayName') or wire.text_at(me, 'accountId')}")
        )
        if settings.is_cloud:
            findings.append(_token_expiry())
        await asked.get(f"/project/{project}", f"the project {settings.project} could not be read")
        findings.append(_ok(f"the project {settings.project} is there"))
    except PluginError as error:
        return [*findings, _failed(error, _ALL)]
    findings += await _answered(
        _permissions(asked, settings), "a missing permission goes unnoticed until it is needed"
    )
    type_id = ""
    try:
        type_id, issue_types = await _issue_type(asked, settings, project)
        findings.append(issue_types)
    except PluginError as error:
        findings.append(_failed(error, "a wrong issue type goes unnoticed until an issue is made"))
    if type_id:
        fields = _fields(asked, settings, project, type_id)
        findings += await _answered(fields, "a missing field goes unnoticed until an issue is made")
        findings += await _answered(
            _ways(asked, settings), "a way that is missing goes unnoticed until an issue is closed"
        )
    return findings


async def _answered(question: Awaitable[list[Finding]], impact: str) -> list[Finding]:
    try:
        return await question
    except PluginError as error:
        return [_failed(error, impact)]


def _failed(error: PluginError, impact: str) -> Finding:
    if not error.status:
        return _error(error.message, impact, "see whether Jira is up")
    return _error(error.message, impact, "check url, api_url, email, api_token and project_key")


def _token_expiry() -> Finding:
    """Return a reminder of the token's expiry.
    https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/
    """
    return Finding(
        level="ok",
        message="the API token is accepted; tokens live for a year at most, and Jira does not say when this one ends",
        impact="on that day every call is refused, and the destination pauses",
        remedy="note its last day (id.atlassian.com > Security > API tokens) and replace api_token before it",
    )


async def _permissions(asked: ReadRequests, settings: JiraSettings) -> list[Finding]:
    """Return the findings about permissions.
    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-permissions/#api-rest-api-3-mypermissions-get
    """
    needed = _PERMISSIONS | (_ASSIGN if settings.assignee else {})
    response = await asked.get(
        "/mypermissions",
        "the account's permissions could not be read",
        projectKey=settings.project,
        permissions=",".join(needed),
    )
    findings = []
    for name, impact in needed.items():
        has = wire.at(response, "permissions", name, "havePermission")
        if has is False:
            make = _warn if name in _ASSIGN else _error
            findings.append(
                make(f"the account lacks {name}", impact, "grant it in the project's permission scheme")
            )
        elif has is not True:
            remedy = "look it up in the project's permission scheme"
            findings.append(
                _warn(f"Jira does not say whether the account has {name}", f"without it {impact}", remedy)
            )
    return findings or [_ok("the account has the permissions it needs")]


async def _issue_type(asked: ReadRequests, settings: JiraSettings, project: str) -> tuple[str, Finding]:
    """Return the issue type's id, empty if there is no such type.

    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-get
    """
    path = f"/issue/createmeta/{project}/issuetypes"
    types = await asked.pages(path, "the issue types could not be read", "issueTypes", "values")
    names = {wire.text_at(item, "name").casefold(): wire.text_at(item, "id") for item in types}
    type_id = names.get(settings.issue_type.strip().casefold(), "")
    if type_id:
        return type_id, _ok(f"the issue type {settings.issue_type} is there")
    there = ", ".join(wire.text_at(item, "name") for item in types) or "none that the account may make"
    remedy = f"set issue_type to one of: {there}"
    return "", _error(f"there is no issue type {settings.issue_type}", "issues can't be made", remedy)


async def _fields(asked: ReadRequests, settings: JiraSettings, project: str, type_id: str) -> list[Finding]:
    """Return the findings about fields.
    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-issuetypeid-get
    """
    path = f"/issue/createmeta/{project}/issuetypes/{quote(type_id, safe='')}"
    fields = await asked.pages(path, "the fields of the issue type could not be read", "fields", "values")
    return screens.check(settings, fields)


async def _ways(asked: ReadRequests, settings: JiraSettings) -> list[Finding]:
    """Return whether issues can be closed and reopened, tried on the newest of this type: the workflow itself can't
    be read.
    """
    kind = f"project = {wire.quoted(settings.project)} AND issuetype = {wire.quoted(settings.issue_type)}"
    newest = "ORDER BY created DESC"
    open_issue = await asked.newest(f"{kind} AND statusCategory != {_DONE_ID} {newest}")
    closed_issue = await asked.newest(f"{kind} AND statusCategory = {_DONE_ID} {newest}")
    return [
        await _way(asked, settings, open_issue, "closed"),
        await _way(asked, settings, closed_issue, "open"),
    ]


async def _way(asked: ReadRequests, settings: JiraSettings, issue: Any, state: State) -> Finding:
    verb, there = ("closed", "open") if state == "closed" else ("reopened", "closed")
    issue_id, key = wire.text_at(issue, "id"), wire.text_at(issue, "key")
    if not issue_id:
        return _ok(
            f"whether issues can be {verb} is unknown: there is no {there} {settings.issue_type} to look at yet"
        )
    response = await asked.get(
        f"/issue/{quote(issue_id, safe='')}/transitions",
        f"the transitions of {key} could not be read",
        expand="transitions.fields",
    )
    try:
        way, _ = transitions.choose(transitions.read(response), state, None, wish(settings, state))
    except Blocked as error:
        setting = "closed_status and close_fields" if state == "closed" else "open_status and reopen_fields"
        remedy = f"add such a transition to the workflow, or see the settings {setting}"
        return _error(f"{key} can't be {verb}: {error.message}", f"issues can't be {verb}", remedy)
    return _ok(f"{key} could be {verb} by {way.name} (to {way.status})")


def wish(settings: JiraSettings, state: State) -> transitions.TransitionSettings:
    """Return the settings for closing or reopening."""

    def filled(setting: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return templates.fill(setting, values, {})

    if state == "closed":
        fields = filled("close_fields", settings.close_fields)
        return transitions.TransitionSettings(
            "close_fields", settings.closed_status, settings.reasons, fields
        )
    fields = filled("reopen_fields", settings.reopen_fields)
    return transitions.TransitionSettings("reopen_fields", settings.open_status, settings.reasons, fields)


def _ok(message: str) -> Finding:
    return Finding(level="ok", message=message)


def _warn(message: str, impact: str, remedy: str) -> Finding:
    return Finding(level="warning", message=message, impact=impact, remedy=remedy)


def _error(message: str, impact: str, remedy: str) -> Finding:
    return Finding(level="error", message=message, impact=impact, remedy=remedy)
