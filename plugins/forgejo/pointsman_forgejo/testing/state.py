"""The data of the server, and its JSON."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pointsman.testing.fake import FakeTracker

_MARKER = re.compile(r"<!--\s*pointsman:\s*(\S+?)\s*-->")


@dataclass(slots=True)
class ForgejoComment:
    """A comment as the server stores it."""

    id: int
    body: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(slots=True)
class ForgejoIssue:
    """An issue, or a pull request, as the server stores it."""

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
    """A webhook call that the server made; ``status`` is None without a response."""

    event: str
    action: str
    number: int
    headers: dict[str, str]
    body: bytes
    status: int | None = None


@dataclass(slots=True)
class ForgejoHook:
    """A webhook as the server stores it. ``events`` are the names under which it lists them."""

    id: int
    url: str
    secret: str = ""
    content_type: str = "json"
    events: set[str] = field(default_factory=lambda: {"issues", "issue_comment"})
    active: bool = True
    branch_filter: str = ""
    authorization: str = ""
    type: str = "gitea"


class ForgejoState(FakeTracker):
    """The data of the server. The module ``people`` has the actions of people, ``double`` the API calls."""

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
        self.hooks: dict[int, ForgejoHook] = {}
        self.brand: Literal["forgejo", "gitea"] = "forgejo"
        self.webhooks_enabled = True
        self.may_write = True
        self.may_admin = False
        self.members = {bot}
        self.known_users = {bot, "dev"}
        self.has_issues = True
        self.archived = False
        self.private = False
        self.labels: dict[int, str] = {}
        self.org_labels: dict[int, str] | None = None
        self.scopes = {"user", "repository", "issue", "organization"}
        self.read_only: set[str] = set()
        self.indexed: set[int] = set()
        self.hidden: set[int] = set()
        self.blocked: set[int] = set()
        self.newest_first = True
        self.page_max = 50
        self.title_bytes = 255
        self.now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
        self.issues: dict[int, ForgejoIssue] = {}
        self.webhooks: list[ForgejoWebhook] = []
        self._former_names: set[str] = set()
        self._accounts: dict[str, int] = {}
        self._numbers = 0
        self._ids = 100
        self._sending: set[asyncio.Task[None]] = set()

    # -- state -------------------------------------------------------------------------------------------------------

    def _add_issue(self, title: str, body: str, by: str, *, is_pull: bool = False) -> ForgejoIssue:
        self._numbers += 1
        now = self.now()
        cut = title.strip().encode()[: self.title_bytes].decode("utf-8", "ignore")
        issue = ForgejoIssue(self._numbers, cut, body, by, now, now, is_pull=is_pull)
        self.issues[issue.number] = issue
        return issue

    def _add_comment(self, issue: ForgejoIssue, text: str, by: str) -> ForgejoComment:
        self._ids += 1
        now = self.now()
        created = ForgejoComment(self._ids, text, by, now, now)
        issue.comments.append(created)
        issue.updated_at = now
        return created

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
            "private": self.private,
            "html_url": f"{self.url}/{self.repository}",
            "has_issues": self.has_issues,
            "archived": self.archived,
            "permissions": {"admin": self.may_admin, "push": self.may_write, "pull": True},
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

    def _hook(self, hook: ForgejoHook) -> dict[str, Any]:
        return {
            "id": hook.id,
            "type": hook.type,
            "branch_filter": hook.branch_filter,
            "url": hook.url,
            "config": {"url": hook.url, "content_type": hook.content_type},
            "content_type": hook.content_type,
            "events": sorted(hook.events),
            "authorization_header": hook.authorization,
            "metadata": None,
            "active": hook.active,
            "updated_at": _stamp(self.now()),
            "created_at": _stamp(self.now()),
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


def _stamp(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def marker_of(body: str) -> str:
    """Return the first marker in a body, empty if there is none."""
    matching = _MARKER.search(body)
    return matching[1] if matching else ""
