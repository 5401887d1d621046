"""A Jira Cloud site's double: issues, comments, transitions and search of its projects, in memory, over real HTTP.

It answers as Jira does, traps included: a create tells only id and key, edits and transitions answer an empty 204, a
search shows what its index knew some time ago, texts must be documents, transition ids must be strings, webhooks carry
wiki markup. https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/ and
https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pointsman.testing.fake_jira_state import (
    JiraComment,
    JiraIssue,
    JiraState,
    JiraTransition,
    JiraWebhook,
    change_item,
    words_of,
)

__all__ = ["FakeJira", "JiraComment", "JiraIssue", "JiraTransition", "JiraWebhook"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]
_TOO_LONG = "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
_OFF_SCREEN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."


class FakeJira(JiraState):
    """A site with one or more projects.

    What a test may set at any time:

    * ``webhook_url``, ``webhook_secret``: where webhooks go; without an address none is sent;
    * ``echo``: whether calls of the API send webhooks too, as the real site does, in the background;
    * ``clock``: the site's time in seconds; ``index_lag_seconds``: how late the search learns of a change;
      ``reindex()`` makes it learn at once;
    * ``transitions``, ``statuses``: the workflow, the same from every status; without transitions the account may not
      move issues;
    * ``off_screen``: fields that can't be set; ``required_fields``: fields that a create must have;
    * ``refuse_rich``: whether documents with anything but plain paragraphs are refused;
    * ``show_comment_properties``: whether a list of comments shows their properties when asked to;
    * ``page_max``: the most a list gives at once; ``issue_types``, ``projects``, ``lacking`` (permissions).

    ``prefix`` puts the API below a path, as it is for tokens with scopes.
    """

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """The calls of API version 3 that this double knows."""
        api = f"{self.prefix}/rest/api/3"
        known: list[tuple[str, str, _Handler]] = [
            ("GET", "/myself", self._get_myself),
            ("GET", "/mypermissions", self._get_permissions),
            ("GET", "/project/{project}", self._get_project),
            ("GET", "/issue/createmeta/{project}/issuetypes", self._get_issue_types),
            ("GET", "/issue/createmeta/{project}/issuetypes/{type}", self._get_fields),
            ("POST", "/issue", self._post_issue),
            ("GET", "/issue/{issue}", self._get_issue),
            ("PUT", "/issue/{issue}", self._put_issue),
            ("GET", "/issue/{issue}/transitions", self._get_transitions),
            ("POST", "/issue/{issue}/transitions", self._post_transition),
            ("GET", "/issue/{issue}/comment", self._get_comments),
            ("POST", "/issue/{issue}/comment", self._post_comment),
            ("GET", "/comment/{comment}/properties/{key}", self._get_comment_property),
            ("POST", "/search/jql", self._post_search),
        ]
        return [web.route(method, api + path, self._guarded(handler)) for method, path, handler in known]

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.Response:
            pair = base64.b64encode(f"{self.email}:{self.api_token}".encode()).decode()
            if request.headers.get("Authorization") != f"Basic {pair}":
                headers = {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
                return web.Response(status=401, text="Client must be authenticated", headers=headers)
            return await handler(request)

        return guarded

    def _found(self, request: web.Request) -> JiraIssue:
        wanted = request.match_info["issue"]
        for issue in self.issues.values():
            if wanted in (issue.id, issue.key):
                return issue
        raise _refusal(404, "Issue does not exist or you do not have permission to see it.")

    async def _get_myself(self, _: web.Request) -> web.Response:
        return web.json_response(self._user(self.account_id))

    async def _get_permissions(self, request: web.Request) -> web.Response:
        asked = request.query.get("permissions", "").split(",")
        shown = {name: {"key": name, "havePermission": name not in self.lacking} for name in asked}
        return web.json_response({"permissions": shown})

    async def _get_project(self, request: web.Request) -> web.Response:
        key = self._project(request)
        return web.json_response({"id": "10", "key": key, "name": key.title()})

    def _project(self, request: web.Request) -> str:
        key = request.match_info["project"]
        if key not in self.projects:
            raise _refusal(404, f"No project could be found with key '{key}'.")
        return key

    async def _get_issue_types(self, request: web.Request) -> web.Response:
        self._project(request)
        types = [
            {"id": str(at + 1), "name": name, "subtask": False} for at, name in enumerate(self.issue_types)
        ]
        return self._page(request, "issueTypes", types)

    async def _get_fields(self, request: web.Request) -> web.Response:
        self._project(request)
        names = ["project", "issuetype", "summary", "description", "labels", *sorted(self.required_fields)]
        fields = [
            {"fieldId": name, "key": name, "name": name, "required": name in self.required_fields, "hasDefaultValue": False}
            for name in names
            if name not in self.off_screen
        ]  # fmt: skip
        return self._page(request, "fields", fields)

    def _page(self, request: web.Request, name: str, items: list[dict[str, Any]]) -> web.Response:
        start, most = int(request.query.get("startAt", 0)), int(request.query.get("maxResults", 50))
        most = min(most, self.page_max)
        page = {"startAt": start, "maxResults": most, "total": len(items), name: items[start : start + most]}
        return web.json_response(page)

    async def _post_issue(self, request: web.Request) -> web.Response:
        said = await _json_object(request)
        fields = said.get("fields") or {}
        project = (fields.get("project") or {}).get("key")
        if project not in self.projects:
            raise _refusal(400, project="valid project is required")
        if (fields.get("issuetype") or {}).get("name") not in self.issue_types:
            raise _refusal(400, issuetype="Specify a valid issue type")
        self._check_fields(fields, self.required_fields | {"summary"})
        issue = self._add_issue(project, fields["summary"], self.account_id)
        issue.issue_type = fields["issuetype"]["name"]
        issue.description = fields.get("description")
        issue.labels = list(fields.get("labels") or [])
        issue.properties = {item["key"]: item["value"] for item in said.get("properties") or []}
        self._refresh_index()
        self.effect(
            "issue", issue.key, _marker(issue.properties) or _marker_label(issue.labels), issue.summary
        )
        self._echo(issue, "jira:issue_created", [])
        shown = {"id": issue.id, "key": issue.key, "self": f"{self.url}/rest/api/3/issue/{issue.id}"}
        return web.json_response(shown, status=201)

    def _check_fields(self, fields: dict[str, Any], required: set[str]) -> None:
        errors = {name: _OFF_SCREEN.format(name) for name in fields if name in self.off_screen}
        errors |= {name: f"{name} is required." for name in required if not fields.get(name)}
        summary = fields.get("summary", "")
        if not isinstance(summary, str) or "\n" in summary:
            errors["summary"] = "The summary is invalid because it contains newline characters."
        elif len(summary) > 255:
            errors["summary"] = "Summary can't exceed 255 characters."
        for label in fields.get("labels") or []:
            if " " in label:
                errors["labels"] = f"The label '{label}' contains spaces which is invalid."
        if fields.get("description") is not None and "description" not in errors:
            problem = self._text_problem(fields["description"])
            if problem:
                errors["description"] = problem
        if errors:
            raise _refusal(400, **errors)

    def _text_problem(self, document: Any) -> str:
        if not isinstance(document, dict) or document.get("type") != "doc" or document.get("version") != 1:
            return "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
        if not _is_valid(document) or (self.refuse_rich and not _is_plain(document)):
            return "INVALID_INPUT"
        return _TOO_LONG if len(words_of(document)) > 32767 else ""

    async def _get_issue(self, request: web.Request) -> web.Response:
        return web.json_response(self._issue(self._found(request)))

    async def _put_issue(self, request: web.Request) -> web.Response:
        issue, said = self._found(request), await _json_object(request)
        fields = said.get("fields") or {}
        self._check_fields(fields, set())
        self._touch(issue)
        issue.summary = fields.get("summary", issue.summary)
        issue.description = fields.get("description", issue.description)
        issue.labels = list(fields.get("labels", issue.labels))
        self.effect("edit", issue.key, detail=issue.summary)
        self._echo(issue, "jira:issue_updated", [change_item("summary", "", issue.summary)])
        return web.Response(status=204)

    async def _get_transitions(self, request: web.Request) -> web.Response:
        self._found(request)
        expanded = "transitions.fields" in request.query.get("expand", "")
        shown = [
            {"id": way.id, "name": way.name, "to": self._status(way.to), "hasScreen": bool(way.fields)}
            | ({"fields": way.fields} if expanded else {})
            for way in self.transitions
        ]
        return web.json_response({"expand": "transitions", "transitions": shown})

    async def _post_transition(self, request: web.Request) -> web.Response:
        issue, said = self._found(request), await _json_object(request)
        wanted = (said.get("transition") or {}).get("id")
        way = next((way for way in self.transitions if way.id == wanted), None)
        if way is None:
            raise _refusal(400, f"Transition id '{wanted}' is not valid for this issue.")
        given = said.get("fields") or {}
        missing = (name for name, shown in way.fields.items() if shown.get("required") and name not in given)
        lacking = {
            name: f"{name} is required." for name in missing if not way.fields[name].get("hasDefaultValue")
        }
        if lacking:
            raise _refusal(400, **lacking)
        items = self._move(issue, way.to)
        chosen = (given.get("resolution") or {}).get("id")
        allowed = way.fields.get("resolution", {}).get("allowedValues", [])
        issue.resolution = next((one["name"] for one in allowed if one["id"] == chosen), issue.resolution)
        self.effect("state", issue.key, detail=self.statuses[way.to][1])
        self._echo(issue, "jira:issue_updated", items)
        return web.Response(status=204)

    async def _get_comments(self, request: web.Request) -> web.Response:
        issue = self._found(request)
        with_properties = "properties" in request.query.get("expand", "")
        comments = [self._comment(comment, properties=with_properties) for comment in issue.comments]
        if request.query.get("orderBy", "created").startswith("-"):
            comments.reverse()
        return self._page(request, "comments", comments)

    async def _post_comment(self, request: web.Request) -> web.Response:
        issue, said = self._found(request), await _json_object(request)
        problem = self._text_problem(said.get("body"))
        if problem:
            raise _refusal(400, comment=problem)
        if not words_of(said["body"]).strip():
            raise _refusal(400, comment="Comment body can not be empty!")
        made = self._add_comment(issue, self.account_id, said["body"])
        made.properties = {item["key"]: item["value"] for item in said.get("properties") or []}
        self.effect("comment", issue.key, _marker(made.properties), words_of(made.body)[:80])
        self._echo(issue, "comment_created", None, comment=made)
        return web.json_response(self._comment(made), status=201)

    async def _get_comment_property(self, request: web.Request) -> web.Response:
        wanted, key = request.match_info["comment"], request.match_info["key"]
        for issue in self.issues.values():
            for comment in issue.comments:
                if comment.id == wanted and key in comment.properties:
                    return web.json_response({"key": key, "value": comment.properties[key]})
        raise _refusal(404, f"The property {key} does not exist.")

    async def _post_search(self, request: web.Request) -> web.Response:
        said = await _json_object(request)
        self._refresh_index()
        test = self._query(str(said.get("jql", "")))
        found = sorted(
            (issue for issue in self._index.values() if test(issue)), key=lambda issue: int(issue.id)
        )
        start = int(said.get("nextPageToken") or 0)
        stop = start + min(int(said.get("maxResults", 50)), self.page_max)
        page = [self._issue(issue) if said.get("fields") else {"id": issue.id} for issue in found[start:stop]]
        answer: dict[str, Any] = {"issues": page, "isLast": stop >= len(found)}
        return web.json_response(answer if answer["isLast"] else answer | {"nextPageToken": str(stop)})

    def _query(self, jql: str) -> Callable[[JiraIssue], bool]:
        """The few forms of JQL that are understood: project, labels, updated, each with a quoted value."""
        tests: list[Callable[[JiraIssue], bool]] = []
        for clause in re.split(r"\s+AND\s+", jql.partition(" ORDER BY ")[0].strip()):
            match = re.fullmatch(r'(\w+) (=|>=) "((?:[^"\\]|\\.)*)"', clause)
            if not match:
                raise _refusal(
                    400, f"Unbounded JQL queries are not allowed here, or not understood: {clause}"
                )
            name, value = match[1], match[3]
            minutes = re.fullmatch(r"-(\d+)m", value)
            if name == "project" and value.upper() in self.projects:
                tests.append(lambda issue, value=value: issue.project == value.upper())  # type: ignore[misc]
            elif name == "labels":
                tests.append(lambda issue, value=value: value in issue.labels)  # type: ignore[misc]
            elif name == "updated" and minutes:
                since = self.clock() - 60 * int(minutes[1])
                tests.append(lambda issue, since=since: issue.updated >= since)  # type: ignore[misc]
            else:
                raise _refusal(400, f"The value '{value}' does not exist for the field '{name}'.")
        return lambda issue: all(test(issue) for test in tests)


def _refusal(status: int, *messages: str, **errors: str) -> web.HTTPException:
    body = json.dumps({"errorMessages": list(messages), "errors": errors})
    kinds = {400: web.HTTPBadRequest, 404: web.HTTPNotFound}
    return kinds[status](text=body, content_type="application/json")


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        said = json.loads(await request.read())
    except ValueError as error:
        raise _refusal(
            400, "There was an error parsing JSON. Check that your request body is valid."
        ) from error
    if not isinstance(said, dict):
        raise _refusal(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    return said


def _is_valid(node: Any) -> bool:
    """The rules that are broken most: every node has a type, no text is empty, no quote holds a heading."""
    if (
        not isinstance(node, dict)
        or not node.get("type")
        or (node["type"] == "text" and not node.get("text"))
    ):
        return False
    if node["type"] == "blockquote" and any(
        child.get("type") == "heading" for child in node.get("content", ())
    ):
        return False
    return all(_is_valid(child) for child in node.get("content", ()))


def _is_plain(document: dict[str, Any]) -> bool:
    return all(node["type"] == "paragraph" for node in document["content"]) and '"marks"' not in json.dumps(
        document
    )


def _marker(properties: dict[str, Any]) -> str:
    value = properties.get("pointsman")
    return str(value.get("marker", "")) if isinstance(value, dict) else ""


def _marker_label(labels: list[str]) -> str:
    return next((label for label in labels if label.startswith("pm1-")), "")
