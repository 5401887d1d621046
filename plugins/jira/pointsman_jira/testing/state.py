"""The data of the site, the actions of people, and the webhooks that it sends. The API calls are in ``double``."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

from pointsman.testing.fake import FakeTracker
from pointsman_jira.testing.model import (
    JiraComment,
    JiraIssue,
    JiraTransition,
    JiraWebhook,
    change_item,
    document,
    plain_text,
    stamp,
)

_STATUS = {
    "To Do": (2, "new"),
    "In Progress": (4, "indeterminate"),
    "Done": (3, "done"),
    "Won't Do": (3, "done"),
}


class JiraState(FakeTracker):
    """The data of the site, the actions of people, and the webhooks that it sends."""

    def __init__(
        self,
        *,
        project_key: str = "OPS",
        email: str = "bot@example.com",
        api_token: str = "jira-token",  # noqa: S107 - of a site that lives in this process
        prefix: str = "",
        echo: bool = False,
        data_center: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.data_center = data_center
        self.email, self.api_token, self.prefix, self.echo = email, api_token, prefix, echo
        self.account_id = "account-bot"
        self.project_key = project_key
        self.projects = {project_key}
        self.issue_types = ["Task", "Bug"]
        self.statuses = dict(_STATUS)
        self.transitions = [
            JiraTransition("11", "To Do", "To Do"),
            JiraTransition("21", "In Progress", "In Progress"),
            JiraTransition("31", "Done", "Done"),
            JiraTransition("41", "Won't do", "Won't Do"),
        ]
        self.off_screen: set[str] = set()
        self.required_fields: set[str] = set()
        self.fields: dict[str, dict[str, Any]] = {}
        self.text_areas: set[str] = {"environment"}
        self.priorities = ["High", "Medium", "Low"]
        self.assignable: set[str] = set()
        self.lacking: set[str] = set()
        self.admin = False
        self.hooks: dict[int, dict[str, Any]] = {}
        self.refuse_rich = False
        self.show_comment_properties = True
        self.page_max = 50
        self.webhook_url = ""
        self.webhook_secret = ""
        self.webhook_seconds = 5.0
        self.clock: Callable[[], float] = time.time
        self.index_lag_seconds = 0.0
        self.issues: dict[str, JiraIssue] = {}
        self.webhooks: list[JiraWebhook] = []
        self._index: dict[str, JiraIssue] = {}
        self._ids = 10000
        self._numbers: dict[str, int] = {}
        self._sending: set[asyncio.Task[int | None]] = set()

    # -- what a person does ------------------------------------------------------------------------------------------

    async def open_issue(
        self,
        summary: str,
        *,
        labels: tuple[str, ...] = (),
        by: str = "dev",
        project: str = "",
        send: bool = True,
    ) -> str:
        """Create an issue, as a person; return its key."""
        issue = self._add_issue(project or self.project_key, summary, by)
        issue.labels = list(labels)
        await self._call(issue, "jira:issue_created", by, [], send=send)
        return issue.key

    async def close_issue(
        self, key: str, reason: str | None = None, *, by: str = "dev", send: bool = True
    ) -> int | None:
        """Close an issue, as a person; ``reason`` is the resolution's name. Return the status of the webhook's
        response.
        """
        issue = self.by_key(key)
        items = self._move(
            issue, next(to for to, (_, category) in self.statuses.items() if category == "done")
        )
        issue.resolution = reason or "Done"
        return await self._call(issue, "jira:issue_updated", by, items, send=send)

    async def reopen_issue(self, key: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Reopen an issue, as a person; return the status of the webhook's response."""
        issue = self.by_key(key)
        items = self._move(
            issue, next(to for to, (_, category) in self.statuses.items() if category == "new")
        )
        return await self._call(issue, "jira:issue_updated", by, items, send=send)

    async def comment(self, key: str, text: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Comment, as a person; return the status of the webhook's response."""
        issue = self.by_key(key)
        created = self._add_comment(issue, by, text if self.data_center else document(text))
        return await self._call(issue, "comment_created", by, None, send=send, comment=created)

    async def move_issue(self, key: str, project: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Move an issue to another project, as a person: another key, the same id."""
        issue, before = self.by_key(key), key
        self.projects.add(project)
        was, issue.project, issue.key = issue.project, project, self._next_key(project)
        self._touch(issue)
        items = [change_item("Key", before, issue.key), change_item("project", was, project)]
        return await self._call(issue, "jira:issue_updated", by, items, send=send)

    async def delete_issue(self, key: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Delete an issue, as a person; return the status of the webhook's response."""
        issue = self.by_key(key)
        del self.issues[issue.id]
        return await self._call(issue, "jira:issue_deleted", by, None, send=send)

    async def replay(self, webhook: JiraWebhook) -> int | None:
        """Repeat a webhook call: the same body with the same id."""
        return await self._send(webhook.event, webhook.key, webhook.body, repeated=webhook.headers)

    def by_key(self, key: str) -> JiraIssue:
        """Return the issue that has this key now."""
        return next(issue for issue in self.issues.values() if issue.key == key)

    def reindex(self) -> None:
        """Update the search index at once."""
        self._index = {issue.id: copy.deepcopy(issue) for issue in self.issues.values()}

    async def webhooks_sent(self) -> None:
        """Wait for webhook calls in the background."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def __aexit__(self, *args: object) -> None:
        await self.webhooks_sent()
        await super().__aexit__(*args)

    # -- state -------------------------------------------------------------------------------------------------------

    def _next_key(self, project: str) -> str:
        self._numbers[project] = self._numbers.get(project, 0) + 1
        return f"{project}-{self._numbers[project]}"

    def _next_id(self) -> str:
        self._ids += 1
        return str(self._ids)

    def _add_issue(self, project: str, summary: str, by: str) -> JiraIssue:
        now = self.clock()
        issue = JiraIssue(self._next_id(), self._next_key(project), project, summary, by, now, now)
        self.issues[issue.id] = issue
        return issue

    def _add_comment(self, issue: JiraIssue, by: str, body: Any) -> JiraComment:
        created = JiraComment(self._next_id(), by, body, self.clock())
        issue.comments.append(created)
        self._touch(issue)
        return created

    def _touch(self, issue: JiraIssue) -> None:
        self._refresh_index()
        issue.updated = self.clock()

    def _move(self, issue: JiraIssue, status: str) -> list[dict[str, Any]]:
        self._touch(issue)
        items = [change_item("status", issue.status, status)]
        issue.status = status
        issue.resolution = "Done" if self.statuses[status][1] == "done" else None
        return items

    def _refresh_index(self) -> None:
        for issue in self.issues.values():
            if self.clock() - issue.updated >= self.index_lag_seconds:
                self._index[issue.id] = copy.deepcopy(issue)

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _user(self, account_id: str) -> dict[str, Any]:
        if self.data_center:
            return {
                "key": account_id,
                "name": f"{account_id}.login",
                "displayName": account_id.title(),
                "active": True,
            }
        return {
            "accountId": account_id,
            "displayName": account_id.title(),
            "active": True,
            "accountType": "atlassian",
        }

    def _status(self, name: str) -> dict[str, Any]:
        number, category = self.statuses[name]
        shown = {"id": number, "key": category, "colorName": "green", "name": category.title()}
        return {"id": str(10000 + list(self.statuses).index(name)), "name": name, "statusCategory": shown}

    def _issue(self, issue: JiraIssue, *, version: int = 3) -> dict[str, Any]:
        text: Any = issue.description
        fields = {
            "summary": issue.summary,
            "project": {
                "id": str(10 + len(issue.project)),
                "key": issue.project,
                "name": issue.project.title(),
            },
            "issuetype": {"id": "1", "name": issue.issue_type},
            "status": self._status(issue.status),
            "resolution": {"id": "10000", "name": issue.resolution} if issue.resolution else None,
            "labels": list(issue.labels),
            "creator": self._user(issue.creator),
            "reporter": self._user(issue.creator),
            "created": stamp(issue.created),
            "updated": stamp(issue.updated),
            "description": plain_text(text) if version == 2 and text else text,
            **issue.more,
        }
        self_link = f"{self.url}/rest/api/{version}/issue/{issue.id}"
        return {"id": issue.id, "key": issue.key, "self": self_link, "fields": fields}

    def _comment(self, comment: JiraComment, *, properties: bool = False) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": comment.id,
            "author": self._user(comment.author),
            "body": comment.body,
            "created": stamp(comment.created),
            "updated": stamp(comment.created),
        }
        if properties and self.show_comment_properties:
            shown["properties"] = [{"key": key, "value": value} for key, value in comment.properties.items()]
        return shown

    # -- webhooks ----------------------------------------------------------------------------------------------------

    def _news(
        self,
        issue: JiraIssue,
        event: str,
        by: str,
        items: list[dict[str, Any]] | None,
        comment: JiraComment | None,
    ) -> bytes:
        shown = self._issue(issue, version=2)
        payload: dict[str, Any] = {"timestamp": int(self.clock() * 1000), "webhookEvent": event}
        if comment is not None:
            few = ("summary", "issuetype", "project", "status")
            shown["fields"] = {name: shown["fields"][name] for name in few}
            payload["comment"] = {**self._comment(comment), "body": plain_text(comment.body)}
        else:
            payload |= {"issue_event_type_name": "issue_generic", "user": self._user(by)}
            if items is not None:
                payload["changelog"] = {"id": self._next_id(), "items": items}
        return json.dumps({**payload, "issue": shown}).encode()

    async def _call(
        self,
        issue: JiraIssue,
        event: str,
        by: str,
        items: list[dict[str, Any]] | None,
        *,
        send: bool = True,
        comment: JiraComment | None = None,
    ) -> int | None:
        """Make the webhook call for an action."""
        self._refresh_index()
        body = self._news(issue, event, by, items, comment)
        return await self._send(event, issue.key, body) if send and self.webhook_url else None

    async def _send(
        self, event: str, key: str, body: bytes, *, repeated: dict[str, str] | None = None
    ) -> int | None:
        headers = {"X-Atlassian-Webhook-Identifier": str(uuid.uuid4()), "X-Atlassian-Webhook-Flow": "Primary"}
        if repeated is not None:
            headers = {**repeated, "X-Atlassian-Webhook-Retry": "1"}
        elif self.webhook_secret:
            created = hmac.new(self.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Hub-Signature"] = f"sha256={created}"
        sent = JiraWebhook(event, key, headers, body)
        self.webhooks.append(sent)
        try:
            async with asyncio.timeout(self.webhook_seconds):
                sent.status = await self.post_webhook(self.webhook_url, body, headers)
        except (aiohttp.ClientError, TimeoutError):
            return None
        return sent.status

    def _echo(
        self,
        issue: JiraIssue,
        event: str,
        items: list[dict[str, Any]] | None,
        comment: JiraComment | None = None,
    ) -> None:
        """Send the webhook call that an API call causes, in the background."""
        if self.echo and self.webhook_url:
            body = self._news(issue, event, self.account_id, items, comment)
            task = asyncio.create_task(self._send(event, issue.key, body))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
