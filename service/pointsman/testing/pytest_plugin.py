"""The pytest plugin ``pointsman.testing``: the fixture of the conformance suite and its report cards.

It is loaded by its entry point, or by ``pytest_plugins = ["pointsman.testing.pytest_plugin"]``.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import to_builtins

from pointsman.testing.report import ReportCard, table, write_report
from pointsman.testing.source_report import SourceRuns, source_table

if TYPE_CHECKING:
    from pointsman.testing.conformance.case_runner import CaseRunner

_SUITE = "pointsman.testing.conformance"
_SOURCES = "pointsman_source_conformance"
_NOTE = "pointsman"
_MEMORY = pytest.StashKey["dict[str, dict[str, Any]]"]()

if _SUITE not in sys.modules:
    pytest.register_assert_rewrite(_SUITE)  # so that failed assertions show the values


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("pointsman", "Pointsman: conformance of plugins")
    group.addoption(
        "--pointsman-report",
        metavar="FILE",
        help="write the report cards of trackers and sources into FILE, as JSON",
    )
    group.addoption(
        "--pointsman-all-cells",
        action="store_true",
        help="try the full product of statuses, moments and contents, thousands of cells a tracker",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Create one ledger per session."""
    config.stash[_MEMORY] = {}
    config.pluginmanager.register(Ledger(config), "pointsman-ledger")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the suite's tests, so that every report names its suite, from another process too."""
    _mark_sources(items)
    names: dict[type, list[str]] = {}
    for item in items:
        kind = getattr(item, "cls", None)
        if kind is None or not getattr(kind, "pointsman_conformance", False):
            continue
        if kind not in names:
            names[kind] = sorted(name for name in dir(kind) if name.startswith("test_"))
        item.user_properties.append((_NOTE, ["suite", [_suite_of(item), names[kind]]]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Note the kind of source under test, which its fixture reveals."""
    case = getattr(item, "funcargs", {}).get("source_case")
    if case is None or not _tries_sources(item):
        return
    from pointsman.testing.conformance.source_facts import describe_source  # noqa: PLC0415 - most runs of pytest need it not

    item.user_properties.append((_NOTE, ["source", describe_source(case)]))


@pytest.fixture
def pointsman_runner(request: pytest.FixtureRequest) -> CaseRunner:
    """Return the runner that the suite's tests use, for the fixture ``tracker_case``."""
    from pointsman.testing.conformance.case_runner import CaseRunner  # noqa: PLC0415 - most runs of pytest need it not

    item = request.node
    memory = request.config.stash[_MEMORY].setdefault(_suite_of(item), {})
    return CaseRunner(
        request.getfixturevalue("tracker_case"),
        expectation=inspect.cleandoc(item.function.__doc__ or item.name),
        note=lambda key, value: item.user_properties.append((_NOTE, [key, to_builtins(value)])),
        grids=memory,
        all_cells=request.config.getoption("--pointsman-all-cells"),
    )


class Ledger:
    """Collects the reports of the suite's tests and prints the cards at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cards: dict[str, ReportCard] = {}
        self._sources = SourceRuns()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record one phase of one test."""
        properties: list[tuple[str, Any]] = list(report.user_properties)
        notes = [value for name, value in properties if name == _NOTE]
        suites = [value for key, value in notes if key == "suite"]
        if not suites:
            _take_source(self._sources, report, notes)
            return
        suite, expected = suites[0]
        card = self._cards.setdefault(suite, ReportCard(suite, frozenset(expected)))
        name = report.nodeid.removeprefix(f"{suite}::")
        card.seen.add(name.partition("[")[0])
        if report.when == "call":
            for key, value in notes:
                card.note(key, value)
        if report.failed:
            if name not in card.failed:
                card.failed.append(name)
        elif report.skipped:
            card.skipped[name] = _reason(report)
        elif report.when == "call":
            card.passed += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the cards, and write them to the report file if there is one."""
        cards = sorted(self._cards.values(), key=lambda card: (card.kind, card.suite))
        sources = self._sources.cards()
        if not cards and not sources:
            return
        if cards:
            terminalreporter.section("Pointsman: conformance of trackers")
            for line in table(cards):
                terminalreporter.line(line)
        if sources:
            terminalreporter.section("Pointsman: conformance of sources")
            for line in source_table(sources):
                terminalreporter.line(line)
        path = self._config.getoption("--pointsman-report")
        if path:
            write_report(path, cards, sources)
            terminalreporter.line(f"report: {path}")


def _mark_sources(items: list[pytest.Item]) -> None:
    """Mark the tests of the source suite. Results are kept by case: a kind may have several cases."""
    marked = [item for item in items if _tries_sources(item)]
    cases: dict[str, dict[str, str]] = {}
    tests: dict[str, list[str]] = {}
    for item in marked:
        suite, (name, case) = _suite_of(item), _test_and_case(item)
        kind = item.cls  # type: ignore[attr-defined]  # it has one, see above
        base = next(name for name in kind.__mro__ if _SOURCES in vars(name))
        tests[suite] = sorted(name for name in dir(base) if name.startswith("test_"))
        if name in tests[suite]:
            cases.setdefault(suite, {})[case] = _kind_of(item)
    for item in marked:
        suite = _suite_of(item)
        about = [suite, _test_and_case(item)[1], tests[suite], cases.get(suite, {})]
        item.user_properties.append((_NOTE, ["sources", about]))


def _tries_sources(item: pytest.Item) -> bool:
    return getattr(getattr(item, "cls", None), _SOURCES, False) is True


def _test_and_case(item: pytest.Item) -> tuple[str, str]:
    """Return a test's name, and the parameters that identify the case."""
    name, _, case = item.name.partition("[")
    return name, case.removesuffix("]")


def _kind_of(item: pytest.Item) -> str:
    """Return the kind if the case itself is the parameter; so it is known for tests that do not run, too."""
    from pointsman.testing.conformance.source_case import SourceCase  # noqa: PLC0415 - the suite is loaded already
    from pointsman.testing.conformance.source_facts import kind_of  # noqa: PLC0415

    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((kind_of(value) for value in values if isinstance(value, SourceCase)), "")


def _take_source(book: SourceRuns, report: pytest.TestReport, notes: list[Any]) -> None:
    """Record one phase of one test, if it belongs to the source suite."""
    marks = [value for key, value in notes if key == "sources"]
    if not marks:
        return
    suite, case, tests, cases = marks[0]
    tried = book.open(suite, case, tests, cases)
    name = report.nodeid.removeprefix(f"{suite}::")
    for key, value in notes:
        if key == "source":
            tried.facts, tried.kind = value, value["kind"]
    # skipped by a mark or a fixture means left out; expected to fail counts as failed
    if report.failed or (report.skipped and hasattr(report, "wasxfail")):
        if name not in tried.failed:
            tried.failed.append(name)
    elif report.when != "call":
        return
    elif report.skipped:
        tried.skipped[name] = _reason(report)
    else:
        tried.passed.add(name)
    tried.seen.add(name.partition("[")[0])


def _suite_of(item: pytest.Item) -> str:
    """Return the id of the item's class. A test's parameters may contain colons."""
    return item.nodeid.partition("[")[0].rpartition("::")[0]


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(reason).removeprefix("Skipped: ")
