"""The data of the double, the actions of people, and the webhooks that it sends."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

from pointsman.testing.fake import FakeTracker
from pointsman_github.testing.model import (
    GitHubApp,
    GitHubComment,
    GitHubHook,
    GitHubIssue,
    GitHubWebhook,
    stamp,
)


class GitHubState(FakeTracker):
    """The repository, its people and its webhook. The API calls are in ``double``."""

    def __init__(
        self,
        *,
        repository: str = "acme/shop",
        token: str = "github-token",  # noqa: S107 - of a server that lives in this process
        bot: str = "pointsman-bot",
        echo: bool = False,
        enterprise: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.prefix = "/api/v3" if enterprise else ""
        self.repository = repository
        self.token = token
        self.bot = bot
        self.echo = echo
        self.webhook_url = ""
        self.webhook_secret = ""
        self.webhook_seconds = 10.0
        self.may_see = True
        self.may_write_issues = True
        self.may_push = True
        self.may_triage = True
        self.may_administer = True
        self.assignable = {bot}
        self.has_issues = True
        self.archived = False
        self.private = False
        self.labels: set[str] = set()
        self.hidden: set[int] = set()
        self.calls_left = 5000
        self.content_left = 500
        self.secondary_retry_after: int | None = None
        self.page_max = 100
        self.token_headers: dict[str, str] = {}
        self.now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
        self.issues: dict[int, GitHubIssue] = {}
        self.webhooks: list[GitHubWebhook] = []
        self.hooks: dict[int, GitHubHook] = {}
        self.app: GitHubApp | None = None
        self.app_tokens: dict[str, dt.datetime] = {}
        self._former_names: set[str] = set()
        self._accounts: dict[str, int] = {}
        self._numbers = 0
        self._ids = 100
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def api(self) -> str:
        """Return the URL of the API."""
        return self.url + self.prefix

    # -- what a person does ------------------------------------------------------------------------------------------

    async def open_issue(
        self, title: str, body: str = "", *, by: str = "dev", is_pull: bool = False, send: bool = True
    ) -> int:
        """Open an issue (or a pull request), as a person; return its number."""
        issue = self._add_issue(title, body, by, is_pull=is_pull)
        if not is_pull:
            await self._call(issue, "opened", by, send=send)
        return issue.number

    async def close_issue(
        self, number: int, reason: str | None = None, *, by: str = "dev", send: bool = True
    ) -> int | None:
        """Close an issue, as a person, with ``completed``, ``not_planned`` or ``duplicate``. Return the status of the
        webhook's response, None if there was none.
        """
        self._set_state(self.issues[number], "closed", reason)
        return await self._call(self.issues[number], "closed", by, send=send)

    async def reopen_issue(self, number: int, *, by: str = "dev", send: bool = True) -> int | None:
        """Reopen an issue, as a person; return the status of the webhook's response."""
        self._set_state(self.issues[number], "open", None)
        return await self._call(self.issues[number], "reopened", by, send=send)

    async def comment(self, number: int, text: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Comment, as a person; return the status of the webhook's response."""
        created = self._add_comment(self.issues[number], text, by)
        return await self._call(self.issues[number], "created", by, send=send, comment=created)

    async def edit_issue(
        self,
        number: int,
        *,
        title: str | None = None,
        body: str | None = None,
        by: str = "dev",
        send: bool = True,
    ) -> int | None:
        """Edit an issue, as a person; return the status of the webhook's response."""
        issue = self.issues[number]
        issue.title = issue.title if title is None else title
        issue.body = issue.body if body is None else body
        issue.updated_at = self.now()
        return await self._call(issue, "edited", by, send=send)

    async def delete_issue(self, number: int, *, by: str = "dev", send: bool = True) -> int | None:
        """Delete an issue, as a person: it answers 410 from now on. Return the status of the webhook's response."""
        self.issues[number].deleted = True
        return await self._call(self.issues[number], "deleted", by, send=send)

    async def transfer_issue(
        self, number: int, to: str = "acme/other", *, as_number: int = 1, by: str = "dev", send: bool = True
    ) -> int | None:
        """Move an issue to another repository, as a person: it answers 301 from now on, pointing there."""
        issue = self.issues[number]
        changes = {
            "new_issue": {"number": as_number, "html_url": f"{self.url}/{to}/issues/{as_number}"},
            "new_repository": {"full_name": to},
        }
        status = await self._call(issue, "transferred", by, send=send, changes=changes)
        issue.moved_to = to, as_number
        return status

    def rename_repository(self, repository: str) -> None:
        """Rename the repository; the old name is redirected with 301."""
        self._former_names.add(self.repository)
        self.repository = repository

    async def ping(self) -> int | None:
        """Send the test call that GitHub sends when a webhook is created."""
        payload = {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {"type": "Repository"}}
        return await self._send(
            "ping", "", 0, json.dumps({**payload, "repository": self._repository()}).encode()
        )

    async def redeliver(self, webhook: GitHubWebhook) -> int | None:
        """Repeat a webhook call, as a person: the same body with the same id."""
        return await self._send(webhook.event, webhook.action, webhook.number, webhook.body, webhook.delivery)

    async def webhooks_sent(self) -> None:
        """Wait for webhook calls in the background."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def __aexit__(self, *args: object) -> None:
        await self.webhooks_sent()
        await super().__aexit__(*args)

    # -- state -------------------------------------------------------------------------------------------------------

    def _add_issue(self, title: str, body: str, by: str, *, is_pull: bool = False) -> GitHubIssue:
        self._numbers += 1
        now = self.now()
        issue = GitHubIssue(self._numbers, title, body, by, now, now, is_pull=is_pull)
        self.issues[issue.number] = issue
        return issue

    def _add_comment(self, issue: GitHubIssue, text: str, by: str) -> GitHubComment:
        self._ids += 1
        now = self.now()
        created = GitHubComment(self._ids, text, by, now, now)
        issue.comments.append(created)
        issue.updated_at = now
        return created

    def _set_state(self, issue: GitHubIssue, state: str, reason: str | None) -> None:
        """Set the state. A reason counts only if the state changes."""
        if issue.state != state:
            issue.state = state
            issue.state_reason = (reason or "completed") if state == "closed" else "reopened"
            issue.updated_at = self.now()
            issue.closed_at = issue.updated_at if state == "closed" else None

    # -- JSON --------------------------------------------------------------------------------------------------------

    def _user(self, login: str) -> dict[str, Any]:
        number = self._accounts.setdefault(login, 1000 + len(self._accounts))
        return {
            "login": login,
            "id": number,
            "node_id": f"U_{number}",
            "url": f"{self.api}/users/{login}",
            "html_url": f"{self.url}/{login}",
            "type": "Bot" if login.endswith("[bot]") else "User",
            "site_admin": False,
        }

    def _repository(self) -> dict[str, Any]:
        owner, _, name = self.repository.partition("/")
        return {
            "id": 7,
            "node_id": "R_7",
            "name": name,
            "full_name": self.repository,
            "private": self.private,
            "owner": self._user(owner),
            "html_url": f"{self.url}/{self.repository}",
            "url": f"{self.api}/repos/{self.repository}",
            "has_issues": self.has_issues,
            "archived": self.archived,
            "permissions": {
                "admin": self.may_administer,
                "push": self.may_push,
                "triage": self.may_triage,
                "pull": True,
            },
        }

    def _issue(self, issue: GitHubIssue) -> dict[str, Any]:
        repository, number = issue.moved_to or (self.repository, issue.number)
        api = f"{self.api}/repos/{repository}"
        assignees = [self._user(login) for login in issue.assignees]
        page = f"{self.url}/{repository}/{'pull' if issue.is_pull else 'issues'}/{number}"
        raw: dict[str, Any] = {
            "url": f"{api}/issues/{number}",
            "repository_url": api,
            "labels_url": f"{api}/issues/{number}/labels{{/name}}",
            "comments_url": f"{api}/issues/{number}/comments",
            "events_url": f"{api}/issues/{number}/events",
            "html_url": page,
            "id": 5000 + issue.number,
            "node_id": f"I_{5000 + issue.number}",
            "number": number,
            "title": issue.title,
            "user": self._user(issue.author),
            "labels": [{"id": 1, "name": name, "color": "ededed", "default": False} for name in issue.labels],
            "state": issue.state,
            "locked": issue.locked,
            "assignee": assignees[0] if assignees else None,
            "assignees": assignees,
            "milestone": None,
            "comments": len(issue.comments),
            "created_at": stamp(issue.created_at),
            "updated_at": stamp(issue.updated_at),
            "closed_at": stamp(issue.closed_at) if issue.closed_at else None,
            "author_association": "CONTRIBUTOR",
            "body": issue.body or None,
            "state_reason": issue.state_reason,
        }
        if issue.is_pull:
            raw["pull_request"] = {"url": f"{api}/pulls/{number}", "html_url": page}
        return raw

    def _comment(self, issue: GitHubIssue, comment: GitHubComment) -> dict[str, Any]:
        api = f"{self.api}/repos/{self.repository}/issues"
        page = f"{self.url}/{self.repository}/issues/{issue.number}"
        return {
            "url": f"{api}/comments/{comment.id}",
            "html_url": f"{page}#issuecomment-{comment.id}",
            "issue_url": f"{api}/{issue.number}",
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "user": self._user(comment.author),
            "created_at": stamp(comment.created_at),
            "updated_at": stamp(comment.updated_at),
            "author_association": "CONTRIBUTOR",
            "body": comment.body,
        }

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        issue: GitHubIssue,
        action: str,
        by: str,
        *,
        send: bool = True,
        comment: GitHubComment | None = None,
        changes: dict[str, Any] | None = None,
    ) -> int | None:
        """Make the webhook call for an action."""
        event, body = self._news(issue, action, by, comment, changes)
        if not (send and self.webhook_url):
            return None
        return await self._send(event, action, issue.number, body)

    def _news(
        self,
        issue: GitHubIssue,
        action: str,
        by: str,
        comment: GitHubComment | None = None,
        changes: dict[str, Any] | None = None,
    ) -> tuple[str, bytes]:
        payload: dict[str, Any] = {"action": action, "issue": self._issue(issue)}
        if comment is not None:
            payload["comment"] = self._comment(issue, comment)
        if changes is not None:
            payload["changes"] = changes
        payload |= {"repository": self._repository(), "sender": self._user(by)}
        return "issues" if comment is None else "issue_comment", json.dumps(payload).encode()

    async def _send(
        self, event: str, action: str, number: int, body: bytes, delivery: str | None = None
    ) -> int | None:
        """Sign and send. Without a secret there is no signature header."""
        sent = GitHubWebhook(event, action, number, delivery or str(uuid.uuid4()), body)
        sent.headers |= {
            "User-Agent": "GitHub-Hookshot/0000000",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": sent.delivery,
            "X-GitHub-Hook-ID": "1",
            "X-GitHub-Hook-Installation-Target-ID": "7",
            "X-GitHub-Hook-Installation-Target-Type": "repository",
        }
        secret = self.webhook_secret.encode()
        if secret:
            for header, name in (("X-Hub-Signature", "sha1"), ("X-Hub-Signature-256", "sha256")):
                digest = hmac.new(secret, body, getattr(hashlib, name)).hexdigest()
                sent.headers[header] = f"{name}={digest}"
        self.webhooks.append(sent)
        try:
            async with asyncio.timeout(self.webhook_seconds):
                sent.status = await self.post_webhook(self.webhook_url, body, sent.headers)
        except (aiohttp.ClientError, TimeoutError):
            self._note_response(None)
            return None
        self._note_response(sent.status)
        return sent.status

    def _note_response(self, status: int | None) -> None:
        """Store the webhook's last response."""
        for hook in self.hooks.values():
            if hook.config.get("url") == self.webhook_url:
                answered = status is not None and status < 300
                hook.last_response = {
                    "code": status or 502,
                    "status": "active" if answered else "invalid",
                    "message": "OK" if answered else f"Invalid HTTP Response: {status or 502}",
                }

    def _echo(self, issue: GitHubIssue, *actions: str, comment: GitHubComment | None = None) -> None:
        """Send the webhook calls that an API call causes, one after the other in the background."""
        if not (self.echo and self.webhook_url):
            return
        calls = [(action, *self._news(issue, action, self.bot, comment)) for action in actions]

        async def send() -> None:
            for action, event, body in calls:
                await self._send(event, action, issue.number, body)

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
