"""The pytest plugin ``pointsman.testing``: the fixture of the conformance suite, and the report card at the end.

It is loaded by its entry point, or by ``pytest_plugins = ["pointsman.testing.pytest_plugin"]``.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import to_builtins

from pointsman.testing.report import Card, table, write

if TYPE_CHECKING:
    from pointsman.testing.conformance.trial import Trial

_SUITE = "pointsman.testing.conformance"
_NOTE = "pointsman"
_MEMORY = pytest.StashKey["dict[str, dict[str, Any]]"]()

if _SUITE not in sys.modules:
    pytest.register_assert_rewrite(_SUITE)  # so that its assertions say what was there


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("pointsman", "Pointsman: conformance of tracker plugins")
    group.addoption(
        "--pointsman-report", metavar="FILE", help="write the report cards of the trackers into FILE, as JSON"
    )
    group.addoption(
        "--pointsman-all-cells",
        action="store_true",
        help="try the full product of statuses, moments and contents, thousands of cells a tracker",
    )


def pytest_configure(config: pytest.Config) -> None:
    """One ledger a session."""
    config.stash[_MEMORY] = {}
    config.pluginmanager.register(Ledger(config), "pointsman-ledger")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the suite's tests, so that every report of theirs tells where it belongs, from another process too."""
    names: dict[type, list[str]] = {}
    for item in items:
        kind = getattr(item, "cls", None)
        if kind is None or not getattr(kind, "pointsman_conformance", False):
            continue
        if kind not in names:
            names[kind] = sorted(name for name in dir(kind) if name.startswith("test_"))
        item.user_properties.append((_NOTE, ["suite", [_suite_of(item), names[kind]]]))


@pytest.fixture
def pointsman_trial(request: pytest.FixtureRequest) -> Trial:
    """What the suite's tests work with, made from the fixture ``tracker_case``."""
    from pointsman.testing.conformance.trial import Trial  # noqa: PLC0415 - most runs of pytest need it not

    item = request.node
    memory = request.config.stash[_MEMORY].setdefault(_suite_of(item), {})
    return Trial(
        request.getfixturevalue("tracker_case"),
        wanted=inspect.cleandoc(item.function.__doc__ or item.name),
        note=lambda what, value: item.user_properties.append((_NOTE, [what, to_builtins(value)])),
        memory=memory,
        all_cells=request.config.getoption("--pointsman-all-cells"),
    )


class Ledger:
    """Takes the reports of the suite's tests, and shows the cards in the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cards: dict[str, Card] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        properties: list[tuple[str, Any]] = list(report.user_properties)
        notes = [value for name, value in properties if name == _NOTE]
        suites = [value for what, value in notes if what == "suite"]
        if not suites:
            return
        suite, expected = suites[0]
        card = self._cards.setdefault(suite, Card(suite, frozenset(expected)))
        name = report.nodeid.removeprefix(f"{suite}::")
        card.seen.add(name.partition("[")[0])
        if report.when == "call":
            for what, value in notes:
                card.note(what, value)
        if report.failed:
            if name not in card.failed:
                card.failed.append(name)
        elif report.skipped:
            card.skipped[name] = _reason(report)
        elif report.when == "call":
            card.passed += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The cards, for people, and for machines if a file is named."""
        cards = sorted(self._cards.values(), key=lambda card: (card.kind, card.suite))
        if not cards:
            return
        terminalreporter.section("Pointsman: conformance of trackers")
        for line in table(cards):
            terminalreporter.line(line)
        path = self._config.getoption("--pointsman-report")
        if path:
            write(path, cards)
            terminalreporter.line(f"report: {path}")


def _suite_of(item: pytest.Item) -> str:
    """Where the item's class stands. A test's parameters may hold colons."""
    return item.nodeid.partition("[")[0].rpartition("::")[0]


def _reason(report: pytest.TestReport) -> str:
    said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(said).removeprefix("Skipped: ")
