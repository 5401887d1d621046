"""The report card of a kind of source: its declarations, the results, and a grade. Values in, text out."""

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
    """The results of the suite for one case."""

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
    """The results of one kind after a run of the suite with each of its cases."""

    suite: str
    tried: Sequence[SourceRun]

    @property
    def kind(self) -> str:
        """Return the source's kind, or the test class if the source is not known."""
        return next((run.kind for run in self.tried if run.kind), self.suite)

    @property
    def known(self) -> Sequence[Mapping[str, Any]]:
        """Return the facts of the cases that are known."""
        return [run.facts for run in self.tried if run.facts]

    def _all(self, name: str) -> list[str]:
        """Return the texts of all cases, without repetitions."""
        return list(dict.fromkeys(text for facts in self.known for text in facts[name]))

    def can(self, capability: str) -> str:
        """Return the best degree of a capability among the cases."""
        return max(
            (facts["capabilities"][capability] for facts in self.known), key=_DEGREES.index, default=NO
        )

    @property
    def written_back(self) -> str:
        """Return what the source is told about the issue."""
        can = {word: self.can(name) for word, name in (("state", "set_state"), ("comment", "comment"))}
        updates = [word for word, degree in can.items() if degree == YES]
        if updates:
            return ", ".join(updates)
        if any(facts["asks"] for facts in self.known):
            return "it asks"
        return max(can.values(), key=_DEGREES.index)

    @property
    def passed(self) -> int:
        """Return how many tests passed."""
        return sum(len(run.passed.difference(run.failed)) for run in self.tried)

    @property
    def failed(self) -> list[str]:
        """Return the tests that failed."""
        return sorted(name for run in self.tried for name in run.failed)

    @property
    def skipped(self) -> dict[str, str]:
        """Return the tests that do not concern this kind, with the reasons."""
        return {name: why for run in self.tried for name, why in run.skipped.items()}

    @property
    def left_out(self) -> int:
        """Return how many of the suite's tests neither ran nor were skipped by the suite itself."""
        return sum(len(run.expected - run.seen) for run in self.tried)

    @property
    def unproven(self) -> list[str]:
        """Return what is declared and no case shows."""
        shown = self._all("shown")
        return [name for name in self._all("declared") if name not in shown]

    @property
    def grade(self) -> str:
        """Return A, B or F; "?" for a run without all tests."""
        if self.failed:
            return "F"
        if self.left_out or not self.known:
            return "?"
        return "B" if self.unproven else "A"

    def remarks(self) -> list[str]:
        """Return the reasons for the grade, a line each."""
        lines = [f"failed: {name}" for name in self.failed]
        if self.left_out and not self.failed:
            lines.append(f"not graded: {self.left_out} tests of the suite were left out")
        return lines + [f"not shown: {name}; {_WHY_NOT[name]}" for name in self.unproven]

    def as_json(self) -> dict[str, Any]:
        """Return the card for machines."""
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
        """Return the card as a row of the table."""
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
    """Collects the results of each test, in any order and from any process, and makes the cards."""

    def __init__(self) -> None:
        self._tried: dict[tuple[str, str], SourceRun] = {}

    def open(self, suite: str, case: str, tests: Collection[str], cases: Mapping[str, str]) -> SourceRun:
        """Return the run of a case. ``cases`` are all of the suite, selected to run or not, with their kinds where
        these are known.
        """
        for name, kind in cases.items():
            self._tried.setdefault((suite, name), SourceRun(frozenset(tests), kind))
        # a test that a subclass adds may have parameters of its own: of those nothing is expected
        return self._tried.setdefault((suite, case), SourceRun(frozenset()))

    def cards(self) -> list[SourceCard]:
        """Return one card for each kind in each suite of which anything ran, by their names."""
        runs: dict[tuple[str, str], list[SourceRun]] = {}
        for (suite, _), run in self._tried.items():
            runs.setdefault((run.kind or suite, suite), []).append(run)
        return [
            SourceCard(suite, tried)
            for (_, suite), tried in sorted(runs.items(), key=lambda run: run[0])
            if any(run.seen or run.passed or run.failed for run in tried)
        ]


def source_table(cards: Iterable[SourceCard]) -> list[str]:
    """Return the cards as a small table, followed by the remarks."""
    head = (
        *("source", "authenticated", "deduplicated", "pulled", "written back"),
        *("tests", "skipped", "grade"),
    )
    shown = list(cards)
    remarks = [f"{card.kind}: {remark}" for card in shown for remark in card.remarks()]
    return grid([head, *(card.row() for card in shown)]) + remarks
