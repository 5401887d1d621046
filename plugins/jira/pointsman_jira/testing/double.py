"""Test double of a Jira Cloud site: issues, comments, transitions and search of its projects, in memory, over HTTP.

It answers as Jira does, traps included: a create returns only id and key, edits and transitions answer an empty 204,
a search shows an older state of its index, texts must be documents, transition ids must be strings, webhooks contain
wiki markup. https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/ and
https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pointsman_jira.testing.model import (
    JiraComment,
    JiraIssue,
    JiraTransition,
    JiraWebhook,
    change_item,
    plain_text,
)
from pointsman_jira.testing.rules import (
    OFF_SCREEN,
    json_object,
    label_problem,
    marker_label,
    marker_of,
    query,
    refusal,
    summary_problem,
    text_problem,
)
from pointsman_jira.testing.state import JiraState

__all__ = ["FakeJira", "JiraComment", "JiraIssue", "JiraTransition", "JiraWebhook", "plain_text"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class FakeJira(JiraState):
    """A site with one or more projects.

    A test may set at any time:

    * ``webhook_url``, ``webhook_secret``: the webhook; without a URL none is sent;
    * ``echo``: whether API calls send webhooks too, as the real site does, in the background;
    * ``clock``: the site's time in seconds; ``index_lag_seconds``: the delay of the search index; ``reindex()``
      updates it at once;
    * ``transitions``, ``statuses``: the workflow, the same from every status; without transitions the account may not
      move issues;
    * ``off_screen``: fields that can't be set; ``required_fields``: fields that a create must have;
    * ``refuse_rich``: whether documents with anything but plain paragraphs are refused;
    * ``show_comment_properties``: whether a list of comments contains their properties on request;
    * ``fields``: further fields of the create screen, by id, as the API describes them; ``text_areas``: the
      multi-line fields among them; ``priorities``; ``assignable``: who can be assigned;
    * ``admin``: whether the account may create webhooks; ``hooks``: the existing webhooks;
    * ``page_max``: the largest page; ``issue_types``, ``projects``, ``lacking`` (permissions).

    ``prefix`` puts the API below a path, as it is for tokens with scopes. ``data_center`` makes it a Jira Data
    Center: API version 2, a personal access token, texts in wiki markup, accounts by key and name.
    """

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """Return the calls that this double knows, of API version 3 or, on Data Center, 2."""
        api = f"{self.prefix}/rest/api/{2 if self.data_center else 3}"
        hooks = "/rest/webhooks/1.0/webhook"
        search = ("/search", self._post_search_2) if self.data_center else ("/search/jql", self._post_search)
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
            ("DELETE", "/issue/{issue}/comment/{comment}", self._delete_comment),
            ("GET", "/comment/{comment}/properties/{key}", self._get_comment_property),
            ("POST", *search),
        ]
        return [
            *(web.route(method, api + path, self._guarded(handler)) for method, path, handler in known),
            web.get(hooks, self._guarded(self._get_hooks)),
            web.post(hooks, self._guarded(self._post_hook)),
            web.put(hooks + "/{number}", self._guarded(self._put_hook)),
        ]

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.Response:
            pair = base64.b64encode(f"{self.email}:{self.api_token}".encode()).decode()
            wanted = f"Bearer {self.api_token}" if self.data_center else f"Basic {pair}"
            if request.headers.get("Authorization") != wanted:
                headers = {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
                return web.Response(status=401, text="Client must be authenticated", headers=headers)
            return await handler(request)

        return guarded

    def _find_issue(self, request: web.Request) -> JiraIssue:
        wanted = request.match_info["issue"]
        for issue in self.issues.values():
            if wanted in (issue.id, issue.key):
                return issue
        raise refusal(404, "Issue does not exist or you do not have permission to see it.")

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
            raise refusal(404, f"No project could be found with key '{key}'.")
        return key

    async def _get_issue_types(self, request: web.Request) -> web.Response:
        self._project(request)
        types = [
            {"id": str(at + 1), "name": name, "subtask": False} for at, name in enumerate(self.issue_types)
        ]
        return self._page(request, "values" if self.data_center else "issueTypes", types)

    async def _get_fields(self, request: web.Request) -> web.Response:
        self._project(request)
        names = ["project", "issuetype", "summary", "description", "labels", "priority", "assignee"]
        shown: dict[str, Any] = {name: {} for name in [*names, *sorted(self.required_fields)]} | self.fields
        shown["priority"] = {
            "name": "Priority",
            "allowedValues": [{"name": name} for name in self.priorities],
        }
        fields = [
            {
                "fieldId": name,
                "key": name,
                "name": name,
                "required": name in self.required_fields,
                "hasDefaultValue": False,
                **shown[name],
            }
            for name in shown
            if name not in self.off_screen
        ]
        if self.data_center:
            return self._page(request, "values", fields)
        return self._page(request, "fields", fields)

    def _page(self, request: web.Request, name: str, items: list[dict[str, Any]]) -> web.Response:
        start, most = int(request.query.get("startAt", 0)), int(request.query.get("maxResults", 50))
        most = min(most, self.page_max)
        page = {"startAt": start, "maxResults": most, "total": len(items), name: items[start : start + most]}
        return web.json_response(page)

    async def _post_issue(self, request: web.Request) -> web.Response:
        payload = await json_object(request)
        fields = payload.get("fields") or {}
        project = (fields.get("project") or {}).get("key")
        if project not in self.projects:
            raise refusal(400, project="valid project is required")
        if (fields.get("issuetype") or {}).get("name") not in self.issue_types:
            raise refusal(400, issuetype="Specify a valid issue type")
        # Jira fills in what has a default, and the reporter.
        required = {
            name
            for name, field in self.fields.items()
            if field.get("required") and not field.get("hasDefaultValue") and name != "reporter"
        }
        self._check_fields(fields, self.required_fields | required | {"summary"})
        issue = self._add_issue(project, fields["summary"], self.account_id)
        issue.issue_type = fields["issuetype"]["name"]
        issue.description = fields.get("description")
        issue.labels = list(fields.get("labels") or [])
        sent = {"project", "issuetype", "summary", "description", "labels"}
        issue.more = {name: value for name, value in fields.items() if name not in sent}
        issue.properties = {item["key"]: item["value"] for item in payload.get("properties") or []}
        self._refresh_index()
        self.record_effect(
            "issue", issue.key, marker_of(issue.properties) or marker_label(issue.labels), issue.summary
        )
        self._echo(issue, "jira:issue_created", [])
        shown = {
            "id": issue.id,
            "key": issue.key,
            "self": f"{self.url}/rest/api/{self._version}/issue/{issue.id}",
        }
        return web.json_response(shown, status=201)

    def _check_fields(self, fields: dict[str, Any], required: set[str]) -> None:
        known = {"project", "issuetype", "summary", "description", "labels", "priority", "assignee"}
        known |= self.required_fields | self.fields.keys()
        errors = {
            name: OFF_SCREEN.format(name) for name in fields if name in self.off_screen or name not in known
        }
        errors |= {name: f"{name} is required." for name in required if not fields.get(name)}
        errors |= summary_problem(fields.get("summary", "")) | label_problem(fields.get("labels") or [])
        for name in self.text_areas | {"description"}:
            if fields.get(name) is not None and name not in errors:
                payload = text_problem(
                    fields[name], plain_only=self.refuse_rich, documents=not self.data_center
                )
                errors |= {name: payload} if payload else {}
        priority = (fields.get("priority") or {}).get("name")
        if priority and priority not in self.priorities:
            errors["priority"] = f"The priority selected is invalid: {priority}"
        assignee = (fields.get("assignee") or {}).get("name" if self.data_center else "id")
        if "assignee" in fields and "assignee" not in errors and assignee not in self.assignable:
            errors["assignee"] = f"User '{assignee}' cannot be assigned issues."
        if errors:
            raise refusal(400, **errors)

    async def _get_issue(self, request: web.Request) -> web.Response:
        return web.json_response(self._issue(self._find_issue(request), version=self._version))

    @property
    def _version(self) -> int:
        return 2 if self.data_center else 3

    async def _put_issue(self, request: web.Request) -> web.Response:
        issue, payload = self._find_issue(request), await json_object(request)
        fields = payload.get("fields") or {}
        self._check_fields(fields, set())
        self._touch(issue)
        issue.summary = fields.get("summary", issue.summary)
        issue.description = fields.get("description", issue.description)
        issue.labels = list(fields.get("labels", issue.labels))
        self.record_effect("edit", issue.key, detail=issue.summary)
        self._echo(issue, "jira:issue_updated", [change_item("summary", "", issue.summary)])
        return web.Response(status=204)

    async def _get_transitions(self, request: web.Request) -> web.Response:
        self._find_issue(request)
        expanded = "transitions.fields" in request.query.get("expand", "")
        shown = [
            {"id": way.id, "name": way.name, "to": self._status(way.to), "hasScreen": bool(way.fields)}
            | ({"fields": way.fields} if expanded else {})
            for way in self.transitions
        ]
        return web.json_response({"expand": "transitions", "transitions": shown})

    async def _post_transition(self, request: web.Request) -> web.Response:
        issue, payload = self._find_issue(request), await json_object(request)
        wanted = (payload.get("transition") or {}).get("id")
        way = next((way for way in self.transitions if way.id == wanted), None)
        if way is None:
            raise refusal(400, f"Transition id '{wanted}' is not valid for this issue.")
        received = payload.get("fields") or {}
        missing = (
            name for name, shown in way.fields.items() if shown.get("required") and name not in received
        )
        errors = {name: OFF_SCREEN.format(name) for name in received if name not in way.fields}
        errors |= {
            name: f"{name} is required." for name in missing if not way.fields[name].get("hasDefaultValue")
        }
        if errors:
            raise refusal(400, **errors)
        items = self._move(issue, way.to)
        chosen = (received.get("resolution") or {}).get("id")
        allowed = way.fields.get("resolution", {}).get("allowedValues", [])
        issue.resolution = next((item["name"] for item in allowed if item["id"] == chosen), issue.resolution)
        issue.more |= {name: value for name, value in received.items() if name != "resolution"}
        self.record_effect("state", issue.key, detail=self.statuses[way.to][1])
        self._echo(issue, "jira:issue_updated", items)
        return web.Response(status=204)

    async def _get_comments(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        with_properties = "properties" in request.query.get("expand", "")
        comments = [self._comment(comment, properties=with_properties) for comment in issue.comments]
        if request.query.get("orderBy", "created").startswith("-"):
            comments.reverse()
        return self._page(request, "comments", comments)

    async def _post_comment(self, request: web.Request) -> web.Response:
        issue, payload = self._find_issue(request), await json_object(request)
        body = payload.get("body")
        problem = text_problem(body, plain_only=self.refuse_rich, documents=not self.data_center)
        if problem:
            raise refusal(400, comment=problem)
        if not plain_text(payload["body"]).strip():
            raise refusal(400, comment="Comment body can not be empty!")
        created = self._add_comment(issue, self.account_id, payload["body"])
        created.properties = {item["key"]: item["value"] for item in payload.get("properties") or []}
        self.record_effect("comment", issue.key, marker_of(created.properties), plain_text(created.body)[:80])
        self._echo(issue, "comment_created", None, comment=created)
        return web.json_response(self._comment(created), status=201)

    async def _delete_comment(self, request: web.Request) -> web.Response:
        issue = self._find_issue(request)
        for comment in issue.comments:
            if comment.id == request.match_info["comment"]:
                if comment.author != self.account_id:
                    raise refusal(400, "You do not have the permission to delete this comment.")
                issue.comments.remove(comment)
                self.record_effect("delete", issue.key, marker_of(comment.properties))
                return web.Response(status=204)
        raise refusal(404, "Can not find a comment for the id.")

    async def _get_comment_property(self, request: web.Request) -> web.Response:
        wanted, key = request.match_info["comment"], request.match_info["key"]
        for issue in self.issues.values():
            for comment in issue.comments:
                if comment.id == wanted and key in comment.properties:
                    return web.json_response({"key": key, "value": comment.properties[key]})
        raise refusal(404, f"The property {key} does not exist.")

    async def _post_search(self, request: web.Request) -> web.Response:
        payload, matching = await self._search(request)
        start = int(payload.get("nextPageToken") or 0)
        stop = start + min(int(payload.get("maxResults", 50)), self.page_max)
        page = [
            self._issue(issue) if payload.get("fields") else {"id": issue.id}
            for issue in matching[start:stop]
        ]
        answer: dict[str, Any] = {"issues": page, "isLast": stop >= len(matching)}
        return web.json_response(answer if answer["isLast"] else answer | {"nextPageToken": str(stop)})

    async def _post_search_2(self, request: web.Request) -> web.Response:
        payload, matching = await self._search(request)
        start = int(payload.get("startAt") or 0)
        stop = start + min(int(payload.get("maxResults", 50)), self.page_max)
        page = [self._issue(issue, version=2) for issue in matching[start:stop]]
        answer = {"startAt": start, "maxResults": stop - start, "total": len(matching), "issues": page}
        return web.json_response(answer)

    async def _search(self, request: web.Request) -> tuple[dict[str, Any], list[JiraIssue]]:
        payload = await json_object(request)
        self._refresh_index()
        test = query(str(payload.get("jql", "")), self.projects, self.statuses, self.clock())
        newest = "created DESC" in payload["jql"]
        matching = sorted(filter(test, self._index.values()), key=lambda issue: int(issue.id), reverse=newest)
        return payload, matching

    # -- admin webhooks ----------------------------------------------------------------------------------------------

    def _must_be_admin(self) -> None:
        if not self.admin:
            raise refusal(403, "Only administrators can manage webhooks.")

    def _hook(self, number: int) -> dict[str, Any]:
        """Return a webhook as the site shows it: never with its secret."""
        hook = {name: value for name, value in self.hooks[number].items() if name != "secret"}
        return hook | {
            "self": f"{self.url}/rest/webhooks/1.0/webhook/{number}",
            "isSigned": "secret" in self.hooks[number],
        }

    async def _get_hooks(self, _: web.Request) -> web.Response:
        self._must_be_admin()
        return web.json_response([self._hook(number) for number in self.hooks])

    async def _post_hook(self, request: web.Request) -> web.Response:
        self._must_be_admin()
        number = max(self.hooks, default=0) + 1
        return await self._keep_hook(number, await json_object(request), {"enabled": True}, 201)

    async def _put_hook(self, request: web.Request) -> web.Response:
        self._must_be_admin()
        number = int(request.match_info["number"])
        if number not in self.hooks:
            raise refusal(404, "The webhook does not exist.")
        return await self._keep_hook(number, await json_object(request), self.hooks[number], 200)

    async def _keep_hook(
        self, number: int, payload: dict[str, Any], before: dict[str, Any], status: int
    ) -> web.Response:
        if not payload.get("name") or not payload.get("url"):
            raise refusal(400, "The webhook needs a name and a URL.")
        self.hooks[number] = before | payload
        self.webhook_url = self.hooks[number]["url"]
        self.webhook_secret = self.hooks[number].get("secret", "")
        self.record_effect("hook", str(number), detail=self.webhook_url)
        return web.json_response(self._hook(number), status=status)
