"""What stands in the way of working with a Jira project: questions only, nothing is written."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import quote, urlsplit

from pointsman.plugin_api import Answer, Finding, PluginError, TrackerClient
from pointsman_jira import wire
from pointsman_jira.settings import JiraSettings

_PERMISSIONS = {
    "BROWSE_PROJECTS": "issues can't be read",
    "CREATE_ISSUES": "issues can't be made",
    "ADD_COMMENTS": "comments can't be made",
    "TRANSITION_ISSUES": "issues can't be closed or reopened",
    "EDIT_ISSUES": "issues can't be changed after they were made",
}
_SENT = {"project", "issuetype", "summary", "description", "labels", "reporter"}
_ALL = "nothing works"


async def check(settings: JiraSettings, client: TrackerClient, api: str) -> list[Finding]:
    """The findings, worst first to be mended first; the ones behind a broken one are left out."""
    asked = _Asked(client, api)
    found: list[Finding] = []
    parts = urlsplit(settings.base)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        found.append(
            _warn("the address is not https", "the token can be read on its way", "write https:// in url")
        )
    try:
        me = await asked.get("/myself", "the account could not be read")
        found.append(_ok(f"signed in as {wire.text_at(me, 'displayName') or wire.text_at(me, 'accountId')}"))
        project = quote(settings.project, safe="")
        await asked.get(f"/project/{project}", f"the project {settings.project} could not be read")
        found.append(_ok(f"the project {settings.project} is there"))
        found += await _permissions(asked, settings)
        found += await _issue_type(asked, settings, project)
    except PluginError as error:
        mend = (
            "check url, api_url, email, api_token and project_key"
            if error.status
            else "see whether Jira is up"
        )
        found.append(Finding(level="error", what=error.message, breaks=_ALL, mend=mend))
    return found


class _Asked:
    def __init__(self, client: TrackerClient, api: str) -> None:
        self._client = client
        self._api = api

    async def get(self, path: str, failed: str, **params: str | int) -> Any:
        answer: Answer = await self._client.request("GET", self._api + path, params=params or None)
        if not answer.ok:
            raise wire.problem(answer, failed, now=dt.datetime.now(dt.UTC))
        return answer.json()

    async def pages(self, path: str, failed: str, *names: str) -> list[Any]:
        """All items of a list in pages that calls itself by one of the names."""
        found: list[Any] = []
        while True:
            page = await self.get(path, failed, startAt=len(found), maxResults=100)
            items = next((items for name in names if (items := wire.items_at(page, name))), [])
            found += items
            total = wire.at(page, "total")
            if not items or not isinstance(total, int) or len(found) >= total:
                return found


async def _permissions(asked: _Asked, settings: JiraSettings) -> list[Finding]:
    """https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-permissions/#api-rest-api-3-mypermissions-get"""
    said = await asked.get(
        "/mypermissions",
        "the account's permissions could not be read",
        projectKey=settings.project,
        permissions=",".join(_PERMISSIONS),
    )
    lacking = [name for name in _PERMISSIONS if wire.at(said, "permissions", name, "havePermission") is False]
    if not lacking:
        return [_ok("the account has the permissions it needs")]
    return [
        _error(f"the account lacks {name}", _PERMISSIONS[name], "grant it in the project's permission scheme")
        for name in lacking
    ]


async def _issue_type(asked: _Asked, settings: JiraSettings, project: str) -> list[Finding]:
    """https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-get"""
    path = f"/issue/createmeta/{project}/issuetypes"
    types = await asked.pages(path, "the issue types could not be read", "issueTypes", "values")
    names = {wire.text_at(item, "name").casefold(): wire.text_at(item, "id") for item in types}
    type_id = names.get(settings.issue_type.strip().casefold())
    if not type_id:
        there = ", ".join(wire.text_at(item, "name") for item in types) or "none that the account may make"
        mend = f"set issue_type to one of: {there}"
        return [_error(f"there is no issue type {settings.issue_type}", "issues can't be made", mend)]
    fields = await asked.pages(
        f"{path}/{quote(type_id, safe='')}",
        "the fields of the issue type could not be read",
        "fields",
        "values",
    )
    found = [_ok(f"the issue type {settings.issue_type} is there")]
    ids = {wire.text_at(field, "fieldId") or wire.text_at(field, "key") for field in fields}
    for name in ("labels", "description"):
        if ids and name not in ids:
            mend = f"put the field {name} on the project's create screen"
            found.append(_error(f"the field {name} can't be set", "issues can't be made", mend))
    for field in fields:
        name = wire.text_at(field, "fieldId") or wire.text_at(field, "key")
        if (
            wire.at(field, "required") is True
            and wire.at(field, "hasDefaultValue") is not True
            and name not in _SENT
        ):
            mend = "give the field a default value, or make it optional for this issue type"
            what = f"the field {wire.text_at(field, 'name') or name} is required and has no default"
            found.append(_error(what, "issues can't be made", mend))
    return found


def _ok(what: str) -> Finding:
    return Finding(level="ok", what=what)


def _warn(what: str, breaks: str, mend: str) -> Finding:
    return Finding(level="warning", what=what, breaks=breaks, mend=mend)


def _error(what: str, breaks: str, mend: str) -> Finding:
    return Finding(level="error", what=what, breaks=breaks, mend=mend)
