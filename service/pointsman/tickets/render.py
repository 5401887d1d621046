"""What an issue, a comment and a mail say. Values are strangers' and pass through ``text``; the words are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.tickets import text
from pointsman.tickets.ticket import TicketKind

# Together they stay under the smallest limit of a tracker (Jira's 32,767 characters), so that the link to the ticket,
# which has all of it, is never what a plugin cuts off.
TEXT_LIMIT = 12_000
CODE_LIMIT = 8_000


class TicketText(msgspec.Struct, frozen=True, kw_only=True):
    """What rendering needs to know of a ticket."""

    id: str
    kind: TicketKind
    title: str
    source: str
    description: str = ""
    reporter_name: str = ""
    close_reason: str | None = None
    page: str = ""
    """Address of the ticket at our console, empty if we have no public address."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail in Markdown; it is sent as plain text and as HTML."""

    subject: str
    body: str


_REASON = {
    "NEW": "",
    "opened": "",
    "regressed": "This problem was thought solved and has come back.",
    "recurred": "This problem has come back.",
    "unmuted": "This problem was muted and is loud again.",
}

_CLOSED = {
    "completed": "has been solved",
    "not_planned": "has been closed without a change",
    "duplicate": "has been closed because the same is already being worked on",
}


def issue_title(ticket: TicketText) -> str:
    """The issue's title; the plugin cuts it to its tracker's limit."""
    return text.title(ticket.title) or "(no title)"


def _facts(facts: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"- **{text.prose(text.one_line(label, 80))}:** {text.inline_code(value)}"
        for label, value in facts
        if value and len(value) < 20_000
    ]


def issue_body(ticket: TicketText, data: Mapping[str, Any]) -> str:
    """The issue's body: what happened, the facts, the code, and where it came from."""
    parts: list[str] = []
    if first := _REASON.get(data.get("action", ""), ""):
        parts.append(first)
    if said := data.get("text", ""):
        parts.append(text.prose(said, TEXT_LIMIT))
    if facts := _facts(data.get("facts", ())):
        parts.append("\n".join(facts))
    if code := data.get("code", ""):
        parts.append(text.block_code(code, CODE_LIMIT))
    if url := data.get("url", ""):
        parts.append(text.link("Open at the source", url, shows_host=True))
    parts.append("---")
    by = "Reported by a customer" if ticket.kind is TicketKind.SUPPORT else "Reported"
    origin = f"{by} through {text.inline_code(ticket.source)}"
    parts.append(f"{origin} · {text.link('ticket', ticket.page) if ticket.page else ticket.id}")
    return "\n\n".join(parts)


def comment_body(ticket: TicketText, event_kind: str, data: Mapping[str, Any]) -> str:
    """A comment for an event of the ticket."""
    if event_kind == "commented":
        who = data.get("author", {}).get("name", "")
        name = text.one_line(who, 80)
        said = text.prose(data.get("body", ""), TEXT_LIMIT)
        head = f"**{text.prose(name)}** wrote:" if name else "The customer wrote:"
        return f"{head}\n\n{said}" if ticket.kind is TicketKind.SUPPORT else said
    parts = [_REASON.get(event_kind, "") or f"Event: {event_kind}"]
    if said := data.get("text", ""):
        parts.append(text.prose(said, TEXT_LIMIT))
    if facts := _facts(data.get("facts", ())):
        parts.append("\n".join(facts))
    if url := data.get("url", ""):
        parts.append(text.link("Open at the source", url, shows_host=True))
    return "\n\n".join(parts)


def mail(ticket: TicketText, event_kind: str) -> Mail:
    """The mail to a ticket's owner about a transition."""
    title = text.one_line(ticket.title, 150) or "(no title)"
    hello = (
        f"Hello {text.prose(text.one_line(ticket.reporter_name, 80))}," if ticket.reporter_name else "Hello,"
    )
    if event_kind == "closed":
        how = _CLOSED.get(ticket.close_reason or "completed", "has been closed")
        subject = f"Closed: {title}"
        news = f"your request **{text.prose(title)}** {how}."
    else:
        subject = f"Reopened: {title}"
        news = f"your request **{text.prose(title)}** is open again and being worked on."
    parts = [hello, news, f"Your request's number is {text.inline_code(ticket.id)}."]
    return Mail(subject=subject, body="\n\n".join(parts))
