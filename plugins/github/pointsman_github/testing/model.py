"""The data of the double: issues, comments, webhooks and Apps, as plain values."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

_MARKER = re.compile(r"<!--\s*pointsman:\s*(\S+?)\s*-->")


@dataclass(slots=True)
class GitHubComment:
    """A comment as GitHub stores it."""

    id: int
    body: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(slots=True)
class GitHubIssue:
    """An issue, or a pull request, as GitHub stores it; ``moved_to`` is set once it was transferred."""

    number: int
    title: str
    body: str
    author: str
    created_at: dt.datetime
    updated_at: dt.datetime
    state: str = "open"
    state_reason: str | None = None
    closed_at: dt.datetime | None = None
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    comments: list[GitHubComment] = field(default_factory=list)
    locked: bool = False
    is_pull: bool = False
    deleted: bool = False
    moved_to: tuple[str, int] | None = None


@dataclass(slots=True)
class GitHubWebhook:
    """A webhook call that GitHub made; ``status`` is None without a response."""

    event: str
    action: str
    number: int
    delivery: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


@dataclass(slots=True)
class GitHubHook:
    """A webhook of the repository as GitHub stores it, its secret included; ``last_response`` is the last response."""

    id: int
    config: dict[str, Any]
    events: list[str]
    active: bool = True
    last_response: dict[str, Any] = field(
        default_factory=lambda: {"code": None, "status": "unused", "message": None}
    )


@dataclass(slots=True)
class GitHubApp:
    """A GitHub App that is installed for the repository; ``public_key`` (PEM) verifies its JWTs.

    A test may change its rights, suspend it, and set the validity and the length of its tokens.
    """

    public_key: bytes
    app_id: str = "1234"
    installation_id: str = "77"
    slug: str = "pointsman"
    permissions: dict[str, str] = field(default_factory=lambda: {"issues": "write", "metadata": "read"})
    suspended: bool = False
    token_seconds: float = 3600.0
    token_characters: int = 520

    @property
    def login(self) -> str:
        """Return the account under which it acts."""
        return f"{self.slug}[bot]"


def stamp(moment: dt.datetime) -> str:
    """Return a time as the API writes it."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def marker_of(body: str) -> str:
    """Return the first marker in a body, empty if there is none."""
    matching = _MARKER.search(body)
    return matching[1] if matching else ""
