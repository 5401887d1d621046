"""Routes: ordered rules that say which tickets go to which destinations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a rule asks of a report and its ticket; what it leaves out it does not ask. An empty match takes every ticket."""

    source: str | None = None
    kind: str | None = None
    """``alert`` or ``support``."""
    environment: str | list[str] | None = None
    """One of these."""
    level: str | list[str] | None = None
    release: str | list[str] | None = None
    tags: dict[str, str | list[str]] = {}
    """Each of these facts of the report has (one of) these values."""
    title: str | None = None
    """A regular expression (RE2) that is found somewhere in the title."""
    occurrences: int | None = None
    """The problem was reported so often ``within`` so long, this report counted."""
    within: str | None = None
    """A duration such as ``10m``."""
    unseen_for: str | None = None
    """The problem was not reported for so long before this report; one that is new fits."""


class Again(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule for a problem that comes back after its ticket was closed: the first that fits says what is done."""

    then: Literal["reopen", "new", "comment", "ignore"]
    reason: str | list[str] | None = None
    """How it was closed: ``completed``, ``not_planned``, ``duplicate``."""
    closed_for: str | None = None
    """It has been closed at least so long."""
    release: Literal["same", "other"] | None = None
    """Whether the report names the release that was reported last before it was closed."""


class QuietHours(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"start": "from", "end": "to"},
):
    """When nothing is posted; what comes meanwhile is posted when they end."""

    start: str
    end: str
    zone: str = "UTC"
    days: list[str] = []
    """``mon`` to ``sun``, the days on which they begin; none: every day."""


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Templates of one's own; what is left out is said in the built-in words."""

    title: str | None = None
    body: str | None = None
    comment: str | None = None
    mail_subject: str | None = None
    mail_body: str | None = None


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What else a rule says of the tickets that it takes."""

    name: str = ""
    fingerprint: str | None = None
    """A template that takes the place of the fingerprint that the source's kind gives."""
    recurrence: list[Again] = []
    quiet_hours: QuietHours | None = None
    templates: Words = Words()
    requester: bool = False
    """The requester's name and mail address may stand in the issue."""


class Route(msgspec.Struct, frozen=True):
    """One rule, with the ids of its destinations."""

    position: int
    match: Match
    destinations: tuple[int, ...]
    continues: bool = False
    options: Options = Options()


class Facts(msgspec.Struct, frozen=True):
    """What rules may ask about."""

    source: str
    kind: str
    environment: str = ""
    level: str = ""
    release: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """What one rule said of a ticket; ``against`` names the first thing that did not fit."""

    position: int
    matched: bool
    against: str = ""


def verdict(route: Route, facts: Facts) -> Verdict:
    """Whether a rule takes a ticket, and if not, what stood against it."""
    for name in Match.__struct_fields__:
        wanted = getattr(route.match, name)
        if wanted is not None and wanted != getattr(facts, name):
            return Verdict(route.position, matched=False, against=name)
    return Verdict(route.position, matched=True)


def choose(routes: Sequence[Route], facts: Facts) -> tuple[int, ...]:
    """The destinations of the first rule that takes the ticket, and of those after it while rules continue."""
    chosen: dict[int, None] = {}
    for route in routes:
        if verdict(route, facts).matched:
            chosen.update(dict.fromkeys(route.destinations))
            if not route.continues:
                break
    return tuple(chosen)
