"""Outcomes and states in plain words, each with what happens next or what a person can do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from pointsman.content.sanitize import clean, one_line
from pointsman.domain.ticket import Kind

Tone: TypeAlias = Literal["good", "wait", "bad", "calm"]


class Words(msgspec.Struct, frozen=True):
    """How something stands: a short label, how much it should worry, and a sentence."""

    label: str
    tone: Tone
    sentence: str = ""


OUTCOMES: Mapping[str, Words] = {
    "done": Words("done", "good"),
    "found": Words(
        "found",
        "good",
        "An earlier request had worked after all: its work was found there, and nothing was sent twice.",
    ),
    "unavailable": Words(
        "can't be reached",
        "wait",
        "The destination can't be reached. It is tried again by itself; nothing is lost.",
    ),
    "limited": Words(
        "asked to wait", "wait", "The destination asked us to slow down. It goes on by itself after that."
    ),
    "unknown": Words(
        "in doubt",
        "wait",
        "A request left, and whether it took effect is not known. Our mark is looked for there before anything is "
        "sent again.",
    ),
    "not found yet": Words(
        "looked for", "wait", "Our mark was looked for there and not found yet. It is looked for again."
    ),
    "refused": Words(
        "refused",
        "bad",
        "The destination refused what was sent. It is not tried again until a person replays it.",
    ),
    "auth": Words(
        "credentials refused",
        "bad",
        "The destination refused our credentials. Give it a valid token; deliveries then go on by themselves.",
    ),
    "misconfigured": Words(
        "settings don't fit",
        "bad",
        "What the settings of the destination name is not there or not allowed. Mend them; deliveries then go on by "
        "themselves.",
    ),
    "orphan": Words("issue gone", "bad", "The issue is gone from its destination: deleted, or moved away."),
    "conflict": Words(
        "changed meanwhile", "wait", "The issue changed while we wrote to it. It is tried again soon."
    ),
    "moved": Words("moved", "wait", "The issue moved to another address. It is tried again there."),
    "defect": Words(
        "plugin failed",
        "bad",
        "The plugin failed in a way it has no name for. That is tried again a few times and then given up.",
    ),
    "expired": Words("too late", "bad", "It could not be delivered within its time and was given up."),
}
"""The outcomes of attempts, by the word that stands in the database."""

FAILURES: Mapping[str, str] = {
    "Unavailable": "unavailable",
    "RateLimited": "limited",
    "UnknownOutcome": "unknown",
    "TimeoutError": "unknown",
    "Refused": "refused",
    "AuthFailed": "auth",
    "Misconfigured": "misconfigured",
    "NotFound": "misconfigured",
    "Conflict": "conflict",
    "Moved": "moved",
}
"""Which outcome the type of a destination's last failure leads to."""

DOES: Mapping[int, str] = {
    Kind.CREATE: "create an issue",
    Kind.COMMENT: "add a comment",
    Kind.CLOSE: "close the issue",
    Kind.REOPEN: "reopen the issue",
    Kind.UPDATE: "update the issue",
    Kind.MAIL: "write to the owner",
}
"""What a kind of delivery does."""

CLOSE_REASONS: Mapping[str, str] = {
    "completed": "completed",
    "not_planned": "not planned",
    "duplicate": "duplicate",
}

_WEB = re.compile(r"https?://[^\s/?#<>\"'`\\]+([/?#][^\s<>\"'`\\]*)?", re.IGNORECASE)


def outcome(name: str | None) -> Words:
    """The words for an outcome; an unknown one is shown as it is."""
    return OUTCOMES.get(name or "") or Words(one_line(name or "", 80) or "unknown outcome", "wait")


def failure(error_type: str | None) -> Words:
    """The words for the type of a destination's failure; a type without a name is a plugin's fault."""
    return OUTCOMES[FAILURES.get(error_type or "", "defect")]


def place(slug: str) -> str:
    """A destination as people call it."""
    if slug.startswith("@source:"):
        return f"the source {slug.removeprefix('@source:')}"
    return "mail" if slug == "@mail" else slug


def web_url(url: object) -> str:
    """The address if a browser may be sent there: http or https, with a host and nothing hidden. Else empty."""
    if not isinstance(url, str) or clean(url) != url or not _WEB.fullmatch(url):
        return ""
    return url
