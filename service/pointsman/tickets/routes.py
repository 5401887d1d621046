"""Routes: ordered rules that say which tickets go to which destinations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule asks of a ticket; what it leaves out it does not ask. An empty match takes every ticket."""

    source: str | None = None
    kind: str | None = None
    """``alert`` or ``support``."""
    environment: str | None = None
    level: str | None = None
    release: str | None = None


class Route(msgspec.Struct, frozen=True):
    """One rule, with the ids of its destinations."""

    position: int
    match: Match
    destinations: tuple[int, ...]
    continues: bool = False


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
