"""The data of the server, as a person and the API see it: issues, notes, people, webhooks."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from pointsman.testing.fake import FakeTracker

BOT, PERSON = "pointsman", "ada"
_MARKER = re.compile(r"pm1-[0-9A-Za-z-]+")
_FENCED = re.compile(r"^```.+?\n```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(
    r"^/(close|reopen|assign|unassign|label|title)(?:[ ]([^\n]*))?(?:\s*\n|$)", re.MULTILINE | re.IGNORECASE
)


def marker_of(text: str) -> str:
    """Return the first marker in a text, empty without one."""
    matching = _MARKER.search(text)
    return matching[0] if matching else ""


@dataclass(slots=True)
class GitLabNote:
    """A comment, or with ``system`` a note that GitLab wrote by itself."""

    id: int
    body: str
    author: str
    created_at: dt.datetime
    system: bool = False


@dataclass(slots=True)
class GitLabIssue:
    """An issue; ``iid`` is its number in the project."""

    iid: int
    title: str
    description: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime
    state: str = "opened"
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    notes: list[GitLabNote] = field(default_factory=list)
    confidential: bool = False
    moved_to_id: int | None = None
    duplicated_to_id: int | None = None


@dataclass(slots=True)
class GitLabHook:
    """A webhook that was created by the API."""

    id: int
    url: str
    token: str = ""
    signing_token: str = ""
    flags: dict[str, bool] = field(default_factory=dict)


class GitLabState(FakeTracker):
    """The part without HTTP. ``FakeGitLab`` documents what may be set."""

    def __init__(self, *, project: str = "acme/shop", token: str = "gitlab-token", port: int = 0) -> None:  # noqa: S107 - of a server in this process
        super().__init__(port=port)
        self.project = project
        self.project_id = 42
        self.token = token
        self.users: dict[str, int] = {BOT: 7, PERSON: 8, "bob": 9}
        self.members: set[str] = {BOT, PERSON}
        self.role = 20
        self.licensed = False
        self.archived = False
        self.visibility = "private"
        self.issues_enabled = True
        self.former_names: set[str] = set()
        self.hidden: set[int] = set()
        self.may_admin = True
        self.signs = True
        self.scopes = ["api"]
        self.expires_at: str | None = None
        self.issues: dict[int, GitLabIssue] = {}
        self.hooks: dict[int, GitLabHook] = {}
        self.webhook_url = ""
        self.webhook_secret = ""
        self.has_idempotency_keys = True
        self._note_count = 0

    def now(self) -> dt.datetime:
        """Return the server's time, in milliseconds."""
        now = dt.datetime.now(dt.UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    # -- what happens to an issue ------------------------------------------------------------------------------------

    def add_issue(self, title: str, description: str, author: str) -> GitLabIssue:
        """Create an issue; the quick actions in its description take effect."""
        now = self.now()
        issue = GitLabIssue(len(self.issues) + 1, title, "", author, now, now)
        issue.description = self.obey(issue, description)
        self.issues[issue.iid] = issue
        return issue

    def add_note(
        self, issue: GitLabIssue, body: str, author: str, *, system: bool = False
    ) -> GitLabNote | None:
        """Create a note; return None if nothing of it is left after its quick actions took effect."""
        body = body if system else self.obey(issue, body)
        if not body.strip():
            return None
        self._note_count += 1
        note = GitLabNote(self._note_count, body, author, self.now(), system)
        issue.notes.append(note)
        issue.updated_at = note.created_at
        return note

    def set_state(self, issue: GitLabIssue, state: str, author: str) -> bool:
        """Close or reopen, with GitLab's own note about it; return False if the issue is already in that state."""
        if issue.state == state or (issue.moved_to_id is not None and state == "opened"):
            return False
        issue.state, issue.updated_at = state, self.now()
        self.add_note(issue, "closed" if state == "closed" else "reopened", author, system=True)
        return True

    def obey(self, issue: GitLabIssue, text: str) -> str:
        """Execute quick actions and remove them from the text, except in what GitLab counts as code."""
        kept: list[str] = []

        def put_away(match: re.Match[str]) -> str:
            kept.append(match[0])
            return f"\x00{len(kept) - 1}\x00"

        def act(match: re.Match[str]) -> str:
            match match[1].lower():
                case "close":
                    issue.state = "closed"
                case "reopen":
                    issue.state = "opened"
                case "label":
                    issue.labels.append((match[2] or "").strip("~ "))
                case _:
                    issue.title = f"{issue.title} ({match[0].strip()})"
            return ""

        text = _COMMAND.sub(act, _FENCED.sub(put_away, text.replace("\x00", "").replace("\r", "")))
        return re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], text).rstrip()

    # -- what a person does ------------------------------------------------------------------------------------------

    async def open_issue(self, title: str, description: str) -> int:
        """Open an issue, as a person."""
        issue = self.add_issue(title, description, PERSON)
        await self._tell(issue, "open")
        return issue.iid

    async def close_issue(self, iid: int) -> int:
        """Close an issue, as a person; return the status of the response to its webhook, 0 without one."""
        self.set_state(self.issues[iid], "closed", PERSON)
        return await self._tell(self.issues[iid], "close")

    async def reopen_issue(self, iid: int) -> int:
        """Reopen an issue, as a person."""
        self.set_state(self.issues[iid], "opened", PERSON)
        return await self._tell(self.issues[iid], "reopen")

    async def move_issue(self, iid: int, to: int = 4711) -> int:
        """Move an issue to another project, as a person: the old issue is closed."""
        issue = self.issues[iid]
        issue.moved_to_id = to
        self.set_state(issue, "closed", PERSON)
        return await self._tell(issue, "close")

    async def _tell(self, issue: GitLabIssue, action: str) -> int:
        if not self.webhook_url:
            return 0
        headers, body = self.call(issue, action, self.webhook_secret)
        return await self.post_webhook(self.webhook_url, body, headers)

    def call(self, issue: GitLabIssue, action: str, secret: str) -> tuple[dict[str, str], bytes]:
        """Return the webhook call:
        https://docs.gitlab.com/user/project/integrations/webhook_events/#work-item-events.
        """
        kind = "confidential_issue" if issue.confidential else "issue"
        payload = {
            "object_kind": "issue",
            "event_type": kind,
            "user": {**self.user(PERSON), "email": "[REDACTED]"},
            "project": {"id": self.project_id, "path_with_namespace": self.project},
            "object_attributes": {
                "id": 1000 + issue.iid,
                "iid": issue.iid,
                "title": issue.title,
                "description": issue.description,
                "author_id": self.users[issue.author],
                "project_id": self.project_id,
                "created_at": _written(issue.created_at),
                "updated_at": _written(issue.updated_at),
                "confidential": issue.confidential,
                "moved_to_id": issue.moved_to_id,
                "duplicated_to_id": issue.duplicated_to_id,
                "type": "Issue",
                "url": f"{self.url}/{self.project}/-/issues/{issue.iid}",
                "state": issue.state,
                "action": action,
            },
        }
        body, key = json.dumps(payload).encode(), str(uuid.uuid4())
        headers = {
            "User-Agent": "GitLab/18.5.0",
            "X-Gitlab-Event": "Confidential Issue Hook" if issue.confidential else "Issue Hook",
            "X-Gitlab-Event-UUID": str(uuid.uuid4()),
            "X-Gitlab-Instance": self.url,
        }
        if self.has_idempotency_keys:
            headers["Idempotency-Key"] = key
        return headers | proof(secret, key, body, self.now()), body

    # -- JSON --------------------------------------------------------------------------------------------------------

    def user(self, name: str) -> dict[str, Any]:
        """Return an account."""
        return {"id": self.users[name], "username": name, "name": name.title(), "state": "active"}

    def issue_json(self, issue: GitLabIssue) -> dict[str, Any]:
        """Return an issue: https://docs.gitlab.com/api/issues/."""
        duplicate = issue.duplicated_to_id
        return {
            "id": 1000 + issue.iid,
            "iid": issue.iid,
            "project_id": self.project_id,
            "title": issue.title,
            "description": issue.description,
            "state": issue.state,
            "created_at": _iso(issue.created_at),
            "updated_at": _iso(issue.updated_at),
            "labels": issue.labels,
            "assignees": [self.user(name) for name in issue.assignees],
            "author": self.user(issue.author),
            "confidential": issue.confidential,
            "moved_to_id": issue.moved_to_id,
            "web_url": f"{self.url}/{self.project}/-/issues/{issue.iid}",
            "_links": {
                "closed_as_duplicate_of": f"{self.url}/api/v4/issues/{duplicate}" if duplicate else None
            },
        }

    def note_json(self, note: GitLabNote) -> dict[str, Any]:
        """Return a note: https://docs.gitlab.com/api/notes/."""
        return {
            "id": note.id,
            "body": note.body,
            "author": self.user(note.author),
            "created_at": _iso(note.created_at),
            "system": note.system,
        }

    def hook_json(self, hook: GitLabHook) -> dict[str, Any]:
        """Return a webhook without its secrets: https://docs.gitlab.com/api/project_webhooks/."""
        reported: dict[str, Any] = {
            "id": hook.id,
            "url": hook.url,
            "alert_status": "executable",
            **hook.flags,
        }
        if self.signs:
            reported |= {"token_present": bool(hook.token), "signing_token_present": bool(hook.signing_token)}
        return reported


def proof(secret: str, key: str, body: bytes, now: dt.datetime) -> dict[str, str]:
    """Return the headers that authenticate a call: a signature, or the secret token as it is."""
    if not secret.startswith("whsec_"):
        return {"X-Gitlab-Token": secret} if secret else {}
    at = str(int(now.timestamp()))
    signed = hmac.new(
        base64.b64decode(secret.removeprefix("whsec_")), f"{key}.{at}.".encode() + body, hashlib.sha256
    )
    return {
        "webhook-id": key,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(signed.digest()).decode()}",
    }


def _iso(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def _written(at: dt.datetime) -> str:
    """Return a time as some versions write it in webhooks."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
