"""The data of the double: issues, comments, transitions, webhook calls, and the site's formats."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class JiraComment:
    """A comment as the site stores it; ``body`` is a document, on Data Center a text."""

    id: str
    author: str
    body: Any
    created: float
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class JiraIssue:
    """An issue as the site stores it; ``description`` is a document, on Data Center a text."""

    id: str
    key: str
    project: str
    summary: str
    creator: str
    created: float
    updated: float
    issue_type: str = "Bug"
    status: str = "To Do"
    resolution: str | None = None
    description: Any = None
    labels: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    comments: list[JiraComment] = field(default_factory=list)


@dataclass(slots=True)
class JiraTransition:
    """A transition to a status; ``fields`` as the API shows them with ``expand=transitions.fields``."""

    id: str
    name: str
    to: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class JiraWebhook:
    """A webhook call that the site made; ``status`` is None without a response."""

    event: str
    key: str
    headers: dict[str, str]
    body: bytes
    status: int | None = None


def change_item(name: str, before: str, after: str) -> dict[str, Any]:
    """Return one entry of a changelog."""
    return {
        "field": name,
        "fieldtype": "jira",
        "fieldId": name.lower(),
        "fromString": before,
        "toString": after,
    }


def stamp(seconds: float) -> str:
    """Return a time as Jira writes it."""
    when = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}+0000"


def document(text: str) -> dict[str, Any]:
    """Return a document of one paragraph."""
    return {
        "version": 1,
        "type": "doc",
        "content": [{"type": "paragraph", "content": [{"type": "text", "text": text}]}],
    }


def plain_text(node: Any) -> str:
    """Return the text of a document, a line for each block; a plain text is returned as it is."""
    if isinstance(node, str):
        return node
    if node.get("type") == "text":
        return str(node.get("text", ""))
    texts = "".join(plain_text(child) for child in node.get("content", ()))
    return texts + "\n" if node.get("type") in {"paragraph", "heading", "codeBlock"} else texts
