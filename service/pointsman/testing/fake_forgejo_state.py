"""What the fake Forgejo server holds, what people do there, and the webhooks it sends."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from pointsman.testing.fake import FakeTracker

_MARKER = re.compile(r"<!--\s*pointsman:\s*(\S+?)\s*-->")


@dataclass(slots=True)
class ForgejoComment:
    """A comment as the server keeps it."""

    id: int
    body: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(slots=True)
class ForgejoIssue:
    """An issue, or a pull request, as the server keeps it."""

    number: int
    title: str
    body: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime
    state: str = "open"
    closed_at: dt.datetime | None = None
    labels: list[int] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    comments: list[ForgejoComment] = field(default_factory=list)
    locked: bool = False
    is_pull: bool = False


@dataclass(slots=True)
class ForgejoWebhook:
    """A webhook call the server made; ``status`` is None where nobody answered."""

    event: str
    action: str
    number: int
    headers: dict[str, str]
    body: bytes
    status: int | None = None


class ForgejoState(FakeTracker):
    """What the server holds, what people do there, and the webhooks it sends. The calls stand in ``fake_forgejo``."""

    def __init__(
        self,
        *,
        repository: str = "acme/shop",
        token: str = "forgejo-token",  # noqa: S107 - of a server that lives in this process
        bot: str = "pointsman-bot",
        echo: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.repository = repository
        self.token = token
        self.bot = bot
        self.echo = echo
        self.webhook_url = ""
        self.webhook_secret = ""
        self.webhook_seconds = 5.0
        self.may_write = True
        self.members = {bot}
        self.known_users = {bot, "dev"}
        self.has_issues = True
        self.archived = False
        self.labels: dict[int, str] = {}
        self.org_labels: dict[int, str] | None = None
        self.scopes = {"user", "repository", "issue", "organization"}
        self.indexed: set[int] = set()
        self.hidden: set[int] = set()
        self.blocked: set[int] = set()
        self.page_max = 50
        self.now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
        self.issues: dict[int, ForgejoIssue] = {}
        self.webhooks: list[ForgejoWebhook] = []
        self._former_names: set[str] = set()
        self._accounts: dict[str, int] = {}
        self._numbers = 0
        self._ids = 100
        self._sending: set[asyncio.Task[None]] = set()

    # -- what a person does ------------------------------------------------------------------------------------------

    async def open_issue(
        self, title: str, body: str = "", *, by: str = "dev", is_pull: bool = False, send: bool = True
    ) -> int:
        """Somebody opens an issue (or a pull request); gives its number."""
        issue = self._add_issue(title, body, by, is_pull=is_pull)
        if not is_pull:
            await self._call(issue, "opened", by, send=send)
        return issue.number

    async def close_issue(
        self,
        number: int,
        reason: str | None = None,  # noqa: ARG002 - Forgejo has none; all fakes are used alike
        *,
        by: str = "dev",
        send: bool = True,
    ) -> int | None:
        """Somebody closes an issue; gives the status of the webhook's answer, None if none came."""
        self._set_state(self.issues[number], "closed")
        return await self._call(self.issues[number], "closed", by, send=send)

    async def reopen_issue(self, number: int, *, by: str = "dev", send: bool = True) -> int | None:
        """Somebody reopens an issue; gives the status of the webhook's answer."""
        self._set_state(self.issues[number], "open")
        return await self._call(self.issues[number], "reopened", by, send=send)

    async def comment(self, number: int, text: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Somebody comments; gives the status of the webhook's answer."""
        made = self._add_comment(self.issues[number], text, by)
        return await self._call(self.issues[number], "created", by, send=send, comment=made)

    async def edit_issue(
        self,
        number: int,
        *,
        title: str | None = None,
        body: str | None = None,
        by: str = "dev",
        send: bool = True,
    ) -> int | None:
        """Somebody edits an issue; gives the status of the webhook's answer."""
        issue = self.issues[number]
        issue.title = issue.title if title is None else title
        issue.body = issue.body if body is None else body
        issue.updated_at = self.now()
        return await self._call(issue, "edited", by, send=send)

    def delete_issue(self, number: int) -> None:
        """Somebody deletes an issue. Forgejo tells nobody."""
        del self.issues[number]

    def rename_repository(self, repository: str) -> None:
        """The repository gets another name; the old one is redirected with 307."""
        self._former_names.add(self.repository)
        self.repository = repository

    async def replay(self, webhook: ForgejoWebhook) -> int | None:
        """Somebody replays a webhook call by hand: the same body under a new id."""
        return await self._send(webhook.event, webhook.action, webhook.number, webhook.body)

    async def webhooks_sent(self) -> None:
        """Wait for webhook calls that are under way in the background."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def __aexit__(self, *args: object) -> None:
        await self.webhooks_sent()
        await super().__aexit__(*args)

    # -- state -------------------------------------------------------------------------------------------------------

    def _add_issue(self, title: str, body: str, by: str, *, is_pull: bool = False) -> ForgejoIssue:
        self._numbers += 1
        now = self.now()
        cut = title.strip().encode()[:255].decode("utf-8", "ignore")
        issue = ForgejoIssue(self._numbers, cut, body, by, now, now, is_pull=is_pull)
        self.issues[issue.number] = issue
        return issue

    def _add_comment(self, issue: ForgejoIssue, text: str, by: str) -> ForgejoComment:
        self._ids += 1
        now = self.now()
        made = ForgejoComment(self._ids, text, by, now, now)
        issue.comments.append(made)
        issue.updated_at = now
        return made

    def _set_state(self, issue: ForgejoIssue, state: str) -> None:
        if issue.state != state:
            issue.state = state
            issue.updated_at = self.now()
            issue.closed_at = issue.updated_at if state == "closed" else None

    def _new_label(self, name: str) -> int:
        self._ids += 1
        self.labels[self._ids] = name
        return self._ids

    # -- JSON --------------------------------------------------------------------------------------------------------

    def _user(self, login: str) -> dict[str, Any]:
        number = self._accounts.setdefault(login, 1000 + len(self._accounts))
        return {
            "id": number,
            "login": login,
            "login_name": "",
            "full_name": "",
            "email": f"{login}@noreply.localhost",
            "avatar_url": "",
            "html_url": f"{self.url}/{login}",
            "username": login,
        }

    def _repository(self) -> dict[str, Any]:
        owner, _, name = self.repository.partition("/")
        return {
            "id": 7,
            "owner": self._user(owner),
            "name": name,
            "full_name": self.repository,
            "private": False,
            "html_url": f"{self.url}/{self.repository}",
            "has_issues": self.has_issues,
            "archived": self.archived,
            "permissions": {"admin": False, "push": self.may_write, "pull": True},
        }

    def _label(self, number: int) -> dict[str, Any]:
        name = {**self.labels, **(self.org_labels or {})}[number]
        return {"id": number, "name": name, "exclusive": False, "is_archived": False, "color": "6b7280"}

    def _issue(self, issue: ForgejoIssue) -> dict[str, Any]:
        owner, _, name = self.repository.partition("/")
        page = "pulls" if issue.is_pull else "issues"
        assignees = [self._user(login) for login in issue.assignees]
        return {
            "id": 5000 + issue.number,
            "url": f"{self.url}/api/v1/repos/{self.repository}/issues/{issue.number}",
            "html_url": f"{self.url}/{self.repository}/{page}/{issue.number}",
            "number": issue.number,
            "user": self._user(issue.author),
            "original_author": "",
            "original_author_id": 0,
            "title": issue.title,
            "body": issue.body,
            "ref": "",
            "assets": [],
            "labels": [self._label(number) for number in issue.labels],
            "milestone": None,
            "assignee": assignees[0] if assignees else None,
            "assignees": assignees or None,
            "state": issue.state,
            "is_locked": issue.locked,
            "comments": len(issue.comments),
            "created_at": _stamp(issue.created_at),
            "updated_at": _stamp(issue.updated_at),
            "closed_at": _stamp(issue.closed_at) if issue.closed_at else None,
            "due_date": None,
            "pull_request": {"merged": False, "merged_at": None} if issue.is_pull else None,
            "repository": {"id": 7, "name": name, "owner": owner, "full_name": self.repository},
            "pin_order": 0,
        }

    def _comment(self, issue: ForgejoIssue, comment: ForgejoComment) -> dict[str, Any]:
        address = f"{self.url}/{self.repository}/issues/{issue.number}"
        return {
            "id": comment.id,
            "html_url": f"{address}#issuecomment-{comment.id}",
            "pull_request_url": "",
            "issue_url": address,
            "user": self._user(comment.author),
            "body": comment.body,
            "assets": [],
            "created_at": _stamp(comment.created_at),
            "updated_at": _stamp(comment.updated_at),
        }

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        issue: ForgejoIssue,
        action: str,
        by: str,
        *,
        send: bool = True,
        event_type: str = "",
        comment: ForgejoComment | None = None,
    ) -> int | None:
        """Make the webhook call for something that happened."""
        event, body = self._news(issue, action, by, comment)
        if not (send and self.webhook_url):
            return None
        return await self._send(event, action, issue.number, body, event_type=event_type)

    def _news(
        self, issue: ForgejoIssue, action: str, by: str, comment: ForgejoComment | None = None
    ) -> tuple[str, bytes]:
        payload: dict[str, Any] = {
            "action": action,
            "number": issue.number,
            "issue": self._issue(issue),
            "repository": self._repository(),
            "sender": self._user(by),
            "commit_id": "",
        }
        if comment is None:
            return "issues", json.dumps(payload, indent=2).encode()
        del payload["number"], payload["commit_id"]
        payload |= {"comment": self._comment(issue, comment), "is_pull": issue.is_pull}
        return "issue_comment", json.dumps(payload, indent=2).encode()

    async def _send(
        self, event: str, action: str, number: int, body: bytes, *, event_type: str = ""
    ) -> int | None:
        """Sign and send. Without a secret the signature headers are there and empty."""
        secret = self.webhook_secret.encode()
        sha256 = hmac.new(secret, body, hashlib.sha256).hexdigest() if secret else ""
        sha1 = hmac.new(secret, body, hashlib.sha1).hexdigest() if secret else ""
        headers = {"X-Hub-Signature": f"sha1={sha1}", "X-Hub-Signature-256": f"sha256={sha256}"}
        delivery = str(uuid.uuid4())
        for brand in ("Forgejo", "Gitea", "Gogs", "GitHub"):
            headers[f"X-{brand}-Delivery"] = delivery
            headers[f"X-{brand}-Event"] = event
            headers[f"X-{brand}-Event-Type"] = event_type or event
            if brand != "GitHub":
                headers[f"X-{brand}-Signature"] = sha256
        sent = ForgejoWebhook(event, action, number, headers, body)
        self.webhooks.append(sent)
        try:
            async with asyncio.timeout(self.webhook_seconds):
                sent.status = await self.post_webhook(self.webhook_url, body, headers)
        except (aiohttp.ClientError, TimeoutError):
            return None
        return sent.status

    def _echo(
        self, issue: ForgejoIssue, *news: tuple[str, str], comment: ForgejoComment | None = None
    ) -> None:
        """The webhook calls that a call of the API sets off, one after the other in the background."""
        if not (self.echo and self.webhook_url):
            return
        calls = [(action, kind, *self._news(issue, action, self.bot, comment)) for action, kind in news]

        async def send() -> None:
            for action, kind, event, body in calls:
                await self._send(event, action, issue.number, body, event_type=kind)

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def _stamp(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def marker_of(body: str) -> str:
    """The first marker in a body, empty if there is none."""
    found = _MARKER.search(body)
    return found[1] if found else ""
