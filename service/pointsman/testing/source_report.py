"""The report card of a kind of source: what it says of itself, what was seen of that, and a grade. Values in, text out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.testing.report import grid

CAPABILITIES = ("enrich", "backfill", "set_state", "comment")
NO, BY_SETTINGS, YES = "no", "by settings", "yes"
"""Whether a source can do something: not at all, with other settings than the cases have, or with theirs."""
_DEGREES = (NO, BY_SETTINGS, YES)
_WHY_NOT = {
    "signature": "no case has `sign`",
    "dedupe": "no example has `later`",
    **dict.fromkeys(CAPABILITIES, "the suite asks no API"),
}


@dataclass(slots=True)
class SourceRun:
    """What became of the suite with one case."""

    expected: frozenset[str]
    """The names of the suite's tests; a card with fewer is not graded."""
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceCard:
    """All that is known of one kind after a run of the suite with each of its cases."""

    suite: str
    tried: Sequence[SourceRun]

    @property
    def kind(self) -> str:
        """The source's kind, or the test class if the source never came to light."""
        return next((one.kind for one in self.tried if one.kind), self.suite)

    @property
    def known(self) -> Sequence[Mapping[str, Any]]:
        """The facts of the cases that came to light."""
        return [one.facts for one in self.tried if one.facts]

    def _all(self, name: str) -> list[str]:
        """The texts that any case has there, each once."""
        return list(dict.fromkeys(text for one in self.known for text in one[name]))

    def can(self, capability: str) -> str:
        """The most that any case says of a capability."""
        return max((one["capabilities"][capability] for one in self.known), key=_DEGREES.index, default=NO)

    @property
    def written_back(self) -> str:
        """What the source is told of the issue."""
        can = {word: self.can(name) for word, name in (("state", "set_state"), ("comment", "comment"))}
        told = [word for word, degree in can.items() if degree == YES]
        if told:
            return ", ".join(told)
        if any(one["asks"] for one in self.known):
            return "it asks"
        return max(can.values(), key=_DEGREES.index)

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(len(one.passed.difference(one.failed)) for one in self.tried)

    @property
    def failed(self) -> list[str]:
        """The tests that failed."""
        return sorted(name for one in self.tried for name in one.failed)

    @property
    def skipped(self) -> dict[str, str]:
        """What does not concern this kind, and why."""
        return {name: why for one in self.tried for name, why in one.skipped.items()}

    @property
    def left_out(self) -> int:
        """How many of the suite's tests neither ran nor were skipped by the suite itself."""
        return sum(len(one.expected - one.seen) for one in self.tried)

    @property
    def unproven(self) -> list[str]:
        """What is declared, and no case shows."""
        shown = self._all("shown")
        return [name for name in self._all("declared") if name not in shown]

    @property
    def grade(self) -> str:
        """A, B or F; "?" for a run that left tests out."""
        if self.failed:
            return "F"
        if self.left_out or not self.known:
            return "?"
        return "B" if self.unproven else "A"

    def remarks(self) -> list[str]:
        """What stands behind the grade, a line each."""
        found = [f"failed: {name}" for name in self.failed]
        if self.left_out and not self.failed:
            found.append(f"not graded: {self.left_out} tests of the suite were left out")
        return found + [f"not shown: {name}; {_WHY_NOT[name]}" for name in self.unproven]

    def as_json(self) -> dict[str, Any]:
        """The card for machines."""
        first = self.known[0] if self.known else {}
        return {
            "kind": self.kind,
            **{name: first.get(name) for name in ("title", "class", "version", "api_version")},
            "capabilities": {name: self.can(name) for name in CAPABILITIES},
            "authenticated": self._all("authenticated"),
            "deduplicated": self._all("deduplicated"),
            "pulled": self.can("backfill"),
            "written_back": self.written_back,
            "suite": self.suite,
            "grade": self.grade,
            "remarks": self.remarks(),
            "tests": {"passed": self.passed, "failed": self.failed, "skipped": self.skipped},
        }

    def row(self) -> tuple[str, ...]:
        """The card as a line of the table."""
        return (
            self.kind,
            ", ".join(self._all("authenticated")) or "-",
            ", ".join(self._all("deduplicated")) or "-",
            self.can("backfill"),
            self.written_back,
            f"{self.passed} of {self.passed + len(self.failed)}",
            str(len(self.skipped)),
            self.grade,
        )


class SourceRuns:
    """Takes what became of each test, in any order and from any process, and makes the cards."""

    def __init__(self) -> None:
        self._tried: dict[tuple[str, str], SourceRun] = {}

    def open(self, suite: str, case: str, tests: Collection[str], cases: Mapping[str, str]) -> SourceRun:
        """The case's page. ``cases`` are all of the suite, chosen to run or not, with their kinds where these are known."""
        for name, kind in cases.items():
            self._tried.setdefault((suite, name), SourceRun(frozenset(tests), kind))
        # a test that a subclass adds may have parameters of its own: of those nothing is expected
        return self._tried.setdefault((suite, case), SourceRun(frozenset()))

    def cards(self) -> list[SourceCard]:
        """One card for each kind in each suite of which anything ran, by their names."""
        found: dict[tuple[str, str], list[SourceRun]] = {}
        for (suite, _), one in self._tried.items():
            found.setdefault((one.kind or suite, suite), []).append(one)
        return [
            SourceCard(suite, tried)
            for (_, suite), tried in sorted(found.items(), key=lambda one: one[0])
            if any(one.seen or one.passed or one.failed for one in tried)
        ]


def source_table(cards: Iterable[SourceCard]) -> list[str]:
    """The cards as a small table, with the remarks below."""
    head = (
        *("source", "authenticated", "deduplicated", "pulled", "written back"),
        *("tests", "skipped", "grade"),
    )
    shown = list(cards)
    remarks = [f"{card.kind}: {one}" for card in shown for one in card.remarks()]
    return grid([head, *(card.row() for card in shown)]) + remarks
