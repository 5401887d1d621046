"""The report card of a tracker: the tests, their results, and a grade. Values in, text or JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

CAPABILITIES = ("find", "webhooks", "list_changes", "close_reasons")
FOR_AN_A = ("find", "webhooks", "list_changes")


def describe_tracker(tracker: Any) -> dict[str, Any]:
    """Return what a tracker class declares about itself."""
    can = tracker.capabilities
    return {
        "kind": str(tracker.kind),
        "title": str(tracker.title),
        "class": f"{tracker.__module__}.{tracker.__qualname__}",
        "version": version_of(tracker.__module__.partition(".")[0]),
        "api_version": tracker.api_version,
        "capabilities": {name: bool(getattr(can, name)) for name in CAPABILITIES},
        "poll_seconds": can.poll_seconds,
        "settle_seconds": list(can.settle_seconds),
    }


def version_of(module: str) -> str:
    """Return the version of the plugin's distribution, if it is installed."""
    for point in entry_points(group="pointsman"):
        if point.module.partition(".")[0] == module and point.dist is not None:
            return point.dist.version
    return "?"


@dataclass(slots=True)
class ReportCard:
    """The results of one tracker after a run of the suite."""

    suite: str
    expected: frozenset[str]
    """The names of the suite's tests; a card with fewer is not graded."""
    tracker: dict[str, Any] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    unproven: set[str] = field(default_factory=set)
    unsigned: bool = False
    """Whether webhooks contain a secret that proves nothing about the body."""
    seen: set[str] = field(default_factory=set)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def note(self, key: str, value: Any) -> None:
        """Store one note of a test."""
        if key == "tracker":
            self.tracker = value
        elif key == "cells":
            self.cells += value
        elif key == "unproven":
            self.unproven.add(value)
        elif key == "unsigned":
            self.unsigned = bool(value)

    # -- what it comes to --------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """Return the tracker's kind, or the test class if the tracker is not known."""
        return str(self.tracker.get("kind") or self.suite)

    def can(self, capability: str) -> bool:
        """Return whether a capability is declared."""
        return bool(self.tracker.get("capabilities", {}).get(capability))

    @property
    def cells_passed(self) -> int:
        """Return how many cells have no problem."""
        return sum(not cell["problems"] for cell in self.cells)

    @property
    def complete(self) -> bool:
        """Return whether every test of the suite ran or was skipped by the suite itself."""
        return self.expected <= self.seen

    @property
    def grade(self) -> str:
        """Return A, B or F; "?" for a run without all tests."""
        if self.failed:
            return "F"
        if not self.complete:
            return "?"
        lacking = self.unproven or not all(self.can(name) for name in FOR_AN_A)
        return "B" if lacking else "A"

    def remarks(self) -> list[str]:
        """Return the reasons for the grade, a line each."""
        lines = [f"failed: {name}" for name in self.failed]
        if not self.complete and not self.failed:
            lines.append(f"not graded: {len(self.expected - self.seen)} tests of the suite were left out")
        if self.tracker:
            lines += effects_of_missing(self.tracker)
        if self.unsigned:
            lines.append("webhooks: the body is not signed")
        lines += [f"not shown: {name}; the double can't play it" for name in sorted(self.unproven)]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the card for machines."""
        return {
            **self.tracker,
            "suite": self.suite,
            "grade": self.grade,
            "remarks": self.remarks(),
            "tests": {"passed": self.passed, "failed": self.failed, "skipped": self.skipped},
            "cells": {"run": len(self.cells), "passed": self.cells_passed, "all": self.cells},
        }


def effects_of_missing(tracker: Mapping[str, Any]) -> list[str]:
    """Return what the core does without the capabilities that a tracker lacks."""
    can = tracker["capabilities"]
    effects = []
    if not can["find"]:
        effects.append(
            "no find: a create or comment whose answer was lost waits until a person looks and replays it"
        )
    if not can["webhooks"] and can["list_changes"]:
        effects.append(f"no webhooks: changes are asked for every {tracker['poll_seconds']:g} s")
    if can["webhooks"] and not can["list_changes"]:
        effects.append("no list_changes: a change whose webhook is lost is never heard of")
    if not can["webhooks"] and not can["list_changes"]:
        effects.append("no webhooks, no list_changes: what people do on the tracker is never heard of")
    return effects


def table(cards: Iterable[ReportCard]) -> list[str]:
    """Return the cards as a small table, followed by the remarks."""
    head = ("tracker", "version", "find", "webhooks", "list_changes", "tests", "cells", "grade")
    rows: list[tuple[str, ...]] = [head]
    remarks: list[str] = []
    for card in cards:
        ran = card.passed + len(card.failed)
        rows.append(
            (
                card.kind,
                str(card.tracker.get("version", "?")),
                *("yes" if card.can(name) else "no" for name in FOR_AN_A),
                f"{card.passed} of {ran}",
                f"{card.cells_passed} of {len(card.cells)}" if card.cells else "-",
                card.grade,
            )
        )
        remarks += [f"{card.kind}: {remark}" for remark in card.remarks()]
    return grid(rows) + remarks


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


class _Shown(Protocol):
    def as_json(self) -> dict[str, Any]: ...


def write_report(path: str, cards: Iterable[_Shown], sources: Sequence[_Shown] = ()) -> None:
    """Write all cards into one JSON file. Without sources there is no key ``sources``."""
    whole: dict[str, Any] = {"pointsman_conformance": 1, "trackers": [card.as_json() for card in cards]}
    if sources:
        whole["sources"] = [card.as_json() for card in sources]
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - the path is the caller's text
        json.dump(whole, file, indent=1, ensure_ascii=False)
        file.write("\n")
