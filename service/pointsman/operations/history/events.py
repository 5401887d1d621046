"""Describe a ticket's events for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pointsman.content.sanitize import clean, cut, one_line
from pointsman.operations.history.model import Event
from pointsman.storage.explain import HistoryEventRow

TEXT_LIMIT = 6000

CLOSE_REASONS: Mapping[str, str] = {
    "completed": "completed",
    "not_planned": "not planned",
    "duplicate": "duplicate",
}

_TITLES: Mapping[str, tuple[str, str]] = {
    "opened": ("Ticket opened", ""),
    "recurred": ("Recurred", "The problem was reported again after it was closed or over at its source."),
    "regressed": ("Regressed", "The source considered this problem solved, and it occurred again."),
    "resolved": ("Resolved at the source", "The source reports that this problem is over."),
    "unmuted": ("Unmuted", "The problem was muted at the source and no longer is."),
    "commented": ("Comment", ""),
    "closed": ("Closed", ""),
    "reopened": ("Reopened", ""),
    "linked": ("Issue created", "The ticket's source is informed of it."),
    "details": (
        "Details added",
        "The source could not provide them when the issue was created; they are added as a comment.",
    ),
    "throttle_continued": (
        "More throttled tickets",
        "The source opened more new tickets than its limit per minute; they are listed here.",
    ),
    "threshold_reached": ("Threshold reached", "The problem was only counted before. It gets an issue now."),
    "routed": ("Route found", "No route took the ticket before. It gets an issue now."),
    "ignored": (
        "Recurred, stays closed",
        "The problem was reported again. As the ticket was closed, the report is only counted.",
    ),
    "succeeded": (
        "Continued in another ticket",
        "The problem recurred and has a new ticket from here on.",
    ),
    "released": (
        "No longer throttled",
        "A throttled problem was reported again and gets an issue of its own.",
    ),
}


def describe_event(row: HistoryEventRow) -> Event:
    """Return an event with a title and a sentence. Unknown kinds are shown as they are."""
    data: Mapping[str, Any] = json.loads(row.data)
    kind = one_line(str(row.kind), 80)
    title, message = _TITLES.get(kind, (f"Event: {kind}", ""))
    text = data.get("text", "")
    if kind == "commented":
        author = data.get("author") or {}
        name = one_line(str(author.get("name") or author.get("email") or ""), 120)
        title, text = f"Comment by {name}" if name else title, data.get("body", "")
    elif kind == "closed":
        reason = str(data.get("reason") or "completed")
        title = f"Closed: {CLOSE_REASONS.get(reason, one_line(reason, 80))}"
    if kind in ("closed", "reopened"):
        message = _cause(data, kind)
    elif kind == "opened" and "routed" in data:
        message = "The source had reached its limit of new tickets per minute: this ticket is listed in a summary ticket."
    return Event(
        number=row.n,
        kind=kind,
        at=row.at,
        title=title,
        message=message,
        actor=one_line(str(data.get("by") or data.get("destination") or ""), 120),
        report=str(row.report_id or ""),
        text=_text(text),
        code=_text(data.get("code", "")),
        facts=tuple(
            (one_line(str(label), 120), _text(value))
            for label, value in filter(_is_pair, data.get("facts", ()))
        ),
    )


def _cause(data: Mapping[str, Any], verb: str) -> str:
    """Explain why a ticket changed its status: its issue changed, or a person or application asked for it."""
    actor = one_line(str(data.get("by") or ""), 120)
    if "throttle" in data:
        return f"The summary ticket that lists it was {verb}."
    if destination := one_line(str(data.get("destination") or ""), 120):
        issue = one_line(str(data.get("issue") or ""), 120)
        subject = f"The issue {issue} at {destination}" if issue else f"Its issue at {destination}"
        return f"{subject} was {verb} by {actor}." if actor else f"{subject} was {verb}."
    if actor == "operator":
        return "An operator requested it."
    return f"{actor} requested it." if actor else ""


def _is_pair(fact: object) -> bool:
    return isinstance(fact, list) and len(fact) == 2


def _text(value: object) -> str:
    return cut(clean(str(value or "")).strip("\n"), TEXT_LIMIT)
