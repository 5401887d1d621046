"""All that happened to a ticket, in order of time: its events, its deliveries, and each attempt. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from pointsman.console.messages import CLOSE_REASONS, DOES, Tone, Words, outcome, place
from pointsman.content.redaction.outgoing_filter import masked_words
from pointsman.content.sanitize import clean, cut, one_line
from pointsman.storage.db import Row

TEXT_LIMIT = 6000
PENDING, DONE, DEAD = 0, 1, 2
LEASED, PARKED = 2, 3

_RANK = {"event": 0, "delivery": 1, "attempt": 2}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    at: dt.datetime
    sort: Literal["event", "delivery", "attempt"]
    title: str
    label: str = ""
    tone: Tone = "calm"
    sentence: str = ""
    error: str = ""
    """What the other side, or the plugin, said; for experts."""
    said: str = ""
    """What a person or a report said; a stranger's text."""
    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    """What an operator can run about it."""
    seconds: float | None = None
    due_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    times: int = 1
    until: dt.datetime | None = None
    """When the last of several like ones began."""


def timeline(events: Sequence[Row], deliveries: Sequence[Row], attempts: Sequence[Row]) -> list[Entry]:
    """The entries of a ticket, oldest first; like attempts in a row are one entry."""
    entries = [_event(row) for row in events]
    entries += _deliveries(deliveries)
    entries += [_attempt(row) for row in attempts]
    # at one and the same time the event comes first, then where it goes, then how that went; sorting is stable
    entries.sort(key=lambda entry: (entry.at, _RANK[entry.sort]))
    return _folded(entries)


# -- events --------------------------------------------------------------------------------------------------------


def _event(row: Row) -> Entry:
    data: Mapping[str, Any] = json.loads(row["data"]) if isinstance(row["data"], str) else row["data"]
    kind = row["kind"]
    title, sentence = _TITLES.get(kind, (f"Event: {one_line(str(kind), 80)}", ""))
    said = data.get("text", "")
    if kind == "commented":
        author = data.get("author") or {}
        who = one_line(str(author.get("name") or author.get("email") or ""), 120)
        title, said = f"Comment by {who}" if who else title, data.get("body", "")
    elif kind == "closed":
        reason = str(data.get("reason") or "completed")
        title = f"Closed: {CLOSE_REASONS.get(reason, one_line(reason, 80))}"
    if kind in ("closed", "reopened"):
        sentence = _cause(data, kind)
    elif kind == "opened" and "routed" in data:
        sentence = "More new problems came than the source may open in a minute: this one is listed in the storm's ticket."
    return Entry(
        at=row["at"],
        sort="event",
        title=title,
        sentence=sentence,
        said=_text(said),
        code=_text(data.get("code", "")),
        facts=tuple(
            (one_line(str(label), 120), _text(value))
            for label, value in (fact for fact in data.get("facts", ()) if _is_pair(fact))
        ),
    )


_TITLES: Mapping[str, tuple[str, str]] = {
    "opened": ("Ticket opened", ""),
    "recurred": ("Came back", "The problem was reported again after its ticket was closed."),
    "regressed": ("Came back", "The source thought this problem solved, and saw it again."),
    "resolved": ("Over", "The source says that this problem is over."),
    "unmuted": ("No longer muted", "The problem had been muted at the source, and is loud again."),
    "commented": ("Comment", ""),
    "reopened": ("Reopened", ""),
    "linked": ("Issue made", "The ticket's source is told where it is."),
    "details": (
        "Details came",
        "The source could not tell them when the issue was made; they are added as a comment.",
    ),
    "grew": (
        "The storm goes on",
        "More new problems came than the source may open in a minute; they are listed here.",
    ),
    "posted": (
        "Reached its threshold",
        "The problem was only counted before. It gets an issue now.",
    ),
    "ignored": (
        "Came back, and left closed",
        "The problem was reported again. As the ticket was closed, that is only counted.",
    ),
    "succeeded": (
        "Goes on elsewhere",
        "The problem came back, and has a ticket of its own from here on.",
    ),
    "singled_out": (
        "Singled out",
        "The problem of a storm was reported again, and gets an issue of its own.",
    ),
}


def _cause(data: Mapping[str, Any], verb: str) -> str:
    """Why a ticket changed its status: its issue changed, or somebody asked for it."""
    by = one_line(str(data.get("by") or ""), 120)
    if "storm" in data:
        return f"The ticket of its storm was {verb}, and it with it."
    if where := one_line(str(data.get("destination") or ""), 120):
        issue = one_line(str(data.get("issue") or ""), 120)
        sentence = f"The issue {issue} at {where} was {verb}" if issue else f"Its issue at {where} was {verb}"
        return f"{sentence} by {by}." if by else f"{sentence}."
    if by == "operator":
        return "An operator asked for it."
    return f"{by} asked for it." if by else ""


def _is_pair(fact: object) -> bool:
    return isinstance(fact, list) and len(fact) == 2


def _text(value: object) -> str:
    return cut(clean(str(value or "")).strip("\n"), TEXT_LIMIT)


# -- deliveries ----------------------------------------------------------------------------------------------------


def _deliveries(rows: Sequence[Row]) -> list[Entry]:
    """The promises, in their lanes' order. Only a lane's first unfinished one is worked on; others wait for it."""
    rows = sorted(rows, key=lambda row: (row["created_at"], row["lane_id"], row["seq"]))
    heads: dict[int, int] = {}
    for row in rows:
        if row["state"] == PENDING:
            heads[row["lane_id"]] = min(row["seq"], heads.get(row["lane_id"], row["seq"]))
    stuck = {
        row["lane_id"]
        for row in rows
        if row["state"] == DEAD and row["lane_state"] == PARKED and row["parked_why"] == row["last_class"]
    }
    entries = []
    for row in rows:
        first = row["lane_id"] not in stuck and heads.get(row["lane_id"]) == row["seq"]
        stands = delivery_words(row, first=first)
        parked = row["lane_state"] == PARKED and first
        entries.append(
            Entry(
                at=row["created_at"],
                sort="delivery",
                title=f"Delivery to {place(row['destination'])}: {DOES.get(row['kind'], 'deliver')}",
                label=stands.label,
                tone=stands.tone,
                sentence=" ".join(filter(None, (stands.sentence, _collapsed(row), _notes(row)))),
                command=f"pointsman replay {row['lane_id']}/{row['seq']}"
                if row["state"] == DEAD or parked
                else "",
                due_at=row["due_at"] if stands.label == "to be tried again" else None,
                ended_at=row["done_at"] if row["state"] == DONE else None,
            )
        )
    return entries


def _collapsed(row: Row) -> str:
    """How many events a delivery stands for beside its own."""
    return f"It tells of {row['collapsed'] + 1} updates at once." if row["collapsed"] else ""


def _notes(row: Row) -> str:
    """What was kept from leaving, as numbers, and what went wrong with a template."""
    masked = f"Masked in it: {masked_words(json.loads(row['masked']))}." if row["masked"] else ""
    problem = one_line(row["template_problem"] or "", 500)
    return f"{masked} {f'In the built-in words: {problem}.' if problem else ''}".strip()


def delivery_words(row: Row, *, first: bool) -> Words:
    """How a delivery stands. ``first``: it is the one its lane is at."""
    if row["state"] == DONE:
        return outcome(row["last_class"] if row["last_class"] == "found" else "done")
    if row["state"] == DEAD:
        return Words("dead letter", "bad", outcome(row["last_class"]).sentence)
    if row["state"] != PENDING:
        return Words("skipped", "calm", "It was not needed any more.")
    if not first:
        return Words("waits", "wait", "Waits for the delivery before it: their order is kept.")
    if row["lane_state"] == PARKED:
        return Words("parked", "bad", parked_sentence(row["parked_why"]))
    if row["in_doubt"]:
        return outcome("unknown")
    if row["last_class"]:
        return Words("to be tried again", "wait", outcome(row["last_class"]).sentence)
    if row["lane_state"] == LEASED:
        return Words("on its way", "wait")
    return Words("waits", "wait", "Waits for its turn.")


def parked_sentence(why: str | None) -> str:
    """Why a lane is parked: the sentence of an outcome, or the words that stand there."""
    known = outcome(why).sentence
    if known or not why:
        return known or "It waits for a person."
    words = one_line(why, 500)
    return f"{words[:1].upper()}{words[1:]}."


# -- attempts ------------------------------------------------------------------------------------------------------


def _attempt(row: Row) -> Entry:
    words = outcome(row["outcome"])
    does = DOES.get(row["kind"], "deliver") if row["kind"] is not None else "deliver"
    error = one_line(row["error"] or "", 2000)
    if row["status"] is not None and str(row["status"]) not in error:
        error = f"{error} (status {row['status']})".strip()
    return Entry(
        at=row["started_at"],
        sort="attempt",
        title=f"Attempt at {place(row['destination'])}: {does}",
        label=words.label,
        tone=words.tone,
        sentence=words.sentence,
        error=error,
        seconds=max(0.0, (row["ended_at"] - row["started_at"]).total_seconds()),
    )


def _folded(entries: Sequence[Entry]) -> list[Entry]:
    """Attempts in a row that ended alike become one, with how often and until when."""
    folded: list[Entry] = []
    for entry in entries:
        last = folded[-1] if folded else None
        if last is not None and entry.sort == "attempt" and _alike(last, entry):
            folded[-1] = msgspec.structs.replace(last, times=last.times + 1, until=entry.at, seconds=None)
        else:
            folded.append(entry)
    return folded


def _alike(one: Entry, other: Entry) -> bool:
    return (one.sort, one.title, one.label, one.error) == (
        other.sort,
        other.title,
        other.label,
        other.error,
    ) and one.tone != "good"
