"""Render the built-in texts of issues, comments and e-mails. Untrusted values pass through ``sanitize``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pointsman.content import sanitize
from pointsman.domain.states import TicketKind

# Together they stay below the smallest limit of a tracker (Jira's 32,767 characters), so that a plugin never cuts off
# the link to the ticket, which has the complete text.
TEXT_LIMIT = 12_000
CODE_LIMIT = 8_000
LABEL_LIMIT = 200


class TicketText(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a ticket that texts show."""

    id: str
    kind: TicketKind
    title: str
    source: str
    description: str = ""
    reporter_name: str = ""
    close_reason: str | None = None
    page: str = ""
    """URL of the ticket in the console, empty without a public URL."""


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """E-mail in Markdown; it is sent as plain text and as HTML."""

    subject: str
    body: str


_ACTION_SENTENCES = {
    "NEW": "",
    "opened": "",
    "regressed": "This problem was thought solved and has come back.",
    "recurred": "This problem has come back.",
    "unmuted": "This problem was muted and is loud again.",
    "resolved": "The source says that this problem is over.",
    "details": "What the source knows of this problem; it could not say so when the issue was made.",
}

_CLOSED_PHRASES = {
    "completed": "has been solved",
    "not_planned": "has been closed without a change",
    "duplicate": "has been closed because the same is already being worked on",
}


def issue_title(ticket: TicketText) -> str:
    """Return the title of an issue; the plugin cuts it to its tracker's limit."""
    return sanitize.title(ticket.title) or "(no title)"


def _fact_lines(facts: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"- **{_label(label[:LABEL_LIMIT])}:** {sanitize.inline_code(value)}"
        for label, value in facts
        if value and len(value) < 20_000
    ]


def facts(facts: Sequence[Sequence[str]]) -> str:
    """Return facts as a Markdown list."""
    return "\n".join(_fact_lines(facts))


@lru_cache(maxsize=512)
def _label(label: str) -> str:
    """Return a fact's name as Markdown, from a cache: most reports use the same few names."""
    return sanitize.prose(sanitize.one_line(label, 80))


def issue_body(ticket: TicketText, data: Mapping[str, Any]) -> str:
    """Return the body of an issue: reason, text, facts, code and origin."""
    parts: list[str] = []
    if first := _ACTION_SENTENCES.get(data.get("action", ""), ""):
        parts.append(first)
    match data.get("throttle"):
        case str() as parent:
            summary = (
                sanitize.link("a summary of many new problems", page)
                if (page := _console_url(ticket, parent))
                else parent
            )
            parts.append(f"This problem was first listed in {summary}. It was reported again after that.")
        case Mapping() as throttle:
            parts.append(
                _THROTTLE_SUMMARY.format(
                    source=sanitize.inline_code(ticket.source), **_throttle_counts(throttle)
                )
            )
            parts += _throttled_list(ticket, throttle)
    if times := data.get("times"):
        parts.append(
            f"This problem was only counted until it reached its threshold: it was reported **{int(times)}** times by now."
        )
    if earlier := data.get("earlier"):
        parts.append(_earlier_ticket_notice(ticket, earlier))
    if text := data.get("text", ""):
        parts.append(sanitize.prose(text, TEXT_LIMIT))
    if facts := _fact_lines(data.get("facts", ())):
        parts.append("\n".join(facts))
    if code := data.get("code", ""):
        parts.append(sanitize.block_code(code, CODE_LIMIT))
    if url := data.get("url", ""):
        parts.append(sanitize.link("Open at the source", url, shows_host=True))
    parts.append("---")
    by = "Reported by a customer" if ticket.kind is TicketKind.SUPPORT else "Reported"
    origin = f"{by} through {sanitize.inline_code(ticket.source)}"
    parts.append(f"{origin} · {sanitize.link('ticket', ticket.page) if ticket.page else ticket.id}")
    return "\n\n".join(parts)


_THROTTLE_SUMMARY = (
    "More than {allowed} new problems came from {source} within a minute. {allowed} of them have issues of their own; the"
    " others are listed here, so that they do not hide everything else. A listed problem that is reported again later gets"
    " an issue of its own. Closing this issue closes the problems that are still listed."
)


def data_for_destination(data: Mapping[str, Any], destination_id: int) -> Mapping[str, Any]:
    """Return an event's data without links to earlier issues at other destinations."""
    earlier = data.get("earlier")
    if not isinstance(earlier, Mapping):
        return data
    url = earlier.get("issues", {}).get(str(destination_id), "")
    return {**data, "earlier": {"ticket": earlier.get("ticket", ""), "url": url}}


def _earlier_ticket_notice(ticket: TicketText, earlier: Mapping[str, Any]) -> str:
    """Return the sentence that links a recurred problem's earlier issue or ticket."""
    name = str(earlier.get("ticket", ""))
    if url := earlier.get("url", ""):
        where = sanitize.link("its issue then", url)
    elif page := _console_url(ticket, name):
        where = sanitize.link("its ticket then", page)
    else:
        where = f"ticket {sanitize.inline_code(name)}"
    return f"This problem was there before, and was closed: {where}."


_STAYS_CLOSED: Mapping[str, str] = {
    "duplicate": "This issue stays closed, because it was closed as a duplicate.",
    "not_planned": "This issue stays closed, because it was closed as not planned.",
}


def _throttle_counts(throttle: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(throttle.get(name, 0)) for name in ("allowed", "total")}


def _console_url(ticket: TicketText, other: str) -> str:
    """Return the console URL of another ticket, empty without a public URL."""
    return f"{ticket.page.rpartition('/')[0]}/{other}" if ticket.page else ""


def _throttled_list(ticket: TicketText, throttle: Mapping[str, Any]) -> list[str]:
    """Return paragraphs that list the throttled tickets, newest first."""
    tickets: Sequence[Sequence[str]] = throttle.get("tickets", ())
    if not tickets:
        return []
    lines = []
    for ticket_id, title in tickets:
        label = sanitize.prose(sanitize.one_line(title, 120)) or "(no title)"
        page = _console_url(ticket, ticket_id)
        lines.append(f"- {label} ({sanitize.link('ticket', page)})" if page else f"- {label}")
    more = _throttle_counts(throttle)["total"] - len(tickets)
    parts = ["The newest first:" if more > 0 else "These are:", "\n".join(lines)]
    if more > 0:
        whole = f": {sanitize.link('all of them', ticket.page)}" if ticket.page else ""
        parts.append(f"… and {more} more{whole}")
    return parts


def missing_comments_notice(ticket: TicketText, count: int, since: dt.datetime | None) -> str:
    """Return the notice that ``count`` earlier comments, the first at ``since``, could not be added; empty for 0."""
    if not count:
        return ""
    which = "One update" if count == 1 else f"{count} updates"
    when = (
        f" {'of' if count == 1 else 'since'} {since.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if since else ""
    )
    where = sanitize.link("the ticket", ticket.page) if ticket.page else "the ticket"
    return f"_{which}{when} could not be added here; see {where}._"


def comment_body(
    ticket: TicketText,
    event_kind: str,
    data: Mapping[str, Any],
    *,
    coalesced_count: int = 0,
    since: dt.datetime | None = None,
) -> str:
    """Return the comment for an event.

    ``coalesced_count``: earlier events of the same kind that this comment also covers, the first of them at ``since``.
    """
    if event_kind == "commented":
        author = data.get("author", {}).get("name", "")
        name = sanitize.one_line(author, 80)
        text = sanitize.prose(data.get("body", ""), TEXT_LIMIT)
        head = f"**{sanitize.prose(name)}** wrote:" if name else "The customer wrote:"
        return f"{head}\n\n{text}" if ticket.kind is TicketKind.SUPPORT else text
    throttle = data.get("throttle")
    if isinstance(throttle, Mapping):
        total = _throttle_counts(throttle)["total"]
        return "\n\n".join(
            [
                f"More problems were reported: **{total}** new problems are listed by now.",
                *_throttled_list(ticket, throttle),
            ]
        )
    parts = [_ACTION_SENTENCES.get(event_kind, "") or f"Event: {event_kind}"]
    if stays := data.get("stays"):
        parts.append(
            _STAYS_CLOSED.get(stays, "This issue stays closed.") + " Repeats are only counted from here on."
        )
    if coalesced_count:
        when = f" since {since.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if since is not None else ""
        parts.append(f"… and {coalesced_count} more like it{when}. This is the latest.")
    if text := data.get("text", ""):
        parts.append(sanitize.prose(text, TEXT_LIMIT))
    if facts := _fact_lines(data.get("facts", ())):
        parts.append("\n".join(facts))
    if event_kind == "details" and (code := data.get("code", "")):
        parts.append(sanitize.block_code(code, CODE_LIMIT))
    if url := data.get("url", ""):
        parts.append(sanitize.link("Open at the source", url, shows_host=True))
    return "\n\n".join(parts)


def mail(ticket: TicketText, event_kind: str) -> Email:
    """Return the e-mail to a ticket's requester about a state change."""
    title = sanitize.one_line(ticket.title, 150) or "(no title)"
    hello = (
        f"Hello {sanitize.prose(sanitize.one_line(ticket.reporter_name, 80))},"
        if ticket.reporter_name
        else "Hello,"
    )
    if event_kind == "closed":
        how = _CLOSED_PHRASES.get(ticket.close_reason or "completed", "has been closed")
        subject = f"Closed: {title}"
        news = f"your request **{sanitize.prose(title)}** {how}."
    else:
        subject = f"Reopened: {title}"
        news = f"your request **{sanitize.prose(title)}** is open again and being worked on."
    parts = [hello, news, f"Your request's number is {sanitize.inline_code(ticket.id)}."]
    return Email(subject=subject, body="\n\n".join(parts))
