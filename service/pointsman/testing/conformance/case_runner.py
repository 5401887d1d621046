"""Tools of the suite's tests: the case, a harness, the search for secrets, notes for the report card."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

import pytest

from pointsman.testing.conformance.faults import all_faults, standard_faults
from pointsman.testing.conformance.harness import Harness, canaries
from pointsman.testing.conformance.log_capture import capture_logs, visible_text
from pointsman.testing.conformance.matrix import Aspect, Cell, Grid, run_matrix
from pointsman.testing.conformance.operations import OPERATIONS, Operation
from pointsman.testing.conformance.spec import TrackerCase
from pointsman.testing.report import describe_tracker

T = TypeVar("T")

_SUITE = __name__.rpartition(".")[0]


class CaseRunner:
    """One test's view of the case.

    ``expectation`` is what the test wants, as a sentence. ``grids`` is shared by the tests of one class, ``note``
    adds to the card.
    """

    def __init__(
        self,
        case: TrackerCase,
        *,
        expectation: str,
        note: Callable[[str, Any], None],
        grids: dict[str, Grid],
        all_cells: bool,
    ) -> None:
        self.case = case
        self.tracker = case.tracker
        self.capabilities = case.tracker.capabilities
        self._expectation = expectation
        self._note = note
        self._grids = grids
        self._all_cells = all_cells
        note("tracker", describe_tracker(case.tracker))

    # -- what does not apply -----------------------------------------------------------------------------------------

    def require_capability(self, capability: str) -> None:
        """Skip the test if the tracker does not declare the capability."""
        if not getattr(self.capabilities, capability):
            pytest.skip(f"not declared: {capability}")

    def require_double(self, ability: str, *, proves: str = "") -> None:
        """Skip the test if the double lacks an ability; ``proves`` is the capability that stays unproven."""
        if not self.case.double_supports(ability):
            if proves:
                self._note("unproven", proves)
            pytest.skip(f"the double has no {ability}")

    def note_unsigned(self) -> None:
        """Note on the card that a webhook's body is not authenticated."""
        self._note("unsigned", True)

    # -- doing -------------------------------------------------------------------------------------------------------

    def run(self, scenario: Callable[[Harness], Awaitable[T]]) -> T:
        """Run a scenario on a harness of its own. Its errors and log lines must not contain a secret of the settings."""
        hidden: frozenset[str] = frozenset()

        async def on_stage() -> T:
            nonlocal hidden
            async with Harness.open(self.case) as harness:
                hidden = canaries(self.case, harness.settings)
                return await scenario(harness)

        with capture_logs() as watch:
            try:
                value = asyncio.run(on_stage())
            except Exception as error:
                if _any_in(hidden, [visible_text(error)]):
                    # without the error, which would print the secret
                    self._fail(f"a secret shows in {type(error).__name__}")
                if isinstance(error, AssertionError) and _is_ours(error):
                    self._fail(str(error))
                raise
        if _any_in(hidden, watch.lines):
            self._fail("a secret shows in the log")
        return value

    def _fail(self, why: str) -> NoReturn:
        pytest.fail(f"{why}\n\nWanted: {self._expectation}", pytrace=False)

    def check_cells(self, name: str, aspect: Aspect) -> None:
        """Run all cells of one operation, once for all tests of the class, and fail with the problems of one aspect."""
        call = OPERATIONS[name]
        why = call.not_applicable(self.case)
        if why:
            pytest.skip(why)
        if name not in self._grids:
            self._grids[name] = self._run_matrix(call)
            self._note("cells", [cell_report(cell) for cell in self._grids[name].cells])
        grid = self._grids[name]
        if grid.broken and aspect != "outcome":
            pytest.skip("not tried: the call fails without any fault")
        if grid.broken:
            self._fail(grid.broken)
        problems = [line for cell in grid.cells for line in cell.problem_lines(aspect)]
        if aspect == "secret":
            problems += grid.logged
        if problems:
            more = f"\n... and {len(problems) - 30} more" if len(problems) > 30 else ""
            self._fail("\n".join(problems[:30]) + more)

    def _run_matrix(self, call: Operation) -> Grid:
        async def look(harness: Harness) -> tuple[bool, frozenset[str]]:
            return self.tracker.connection(harness.settings) is not None, canaries(
                self.case, harness.settings
            )

        speaks_http, hidden = self.run(look)
        if not speaks_http:
            pytest.skip("no HTTP: the tracker declared no connection, so no request can fail")
        with capture_logs() as watch:
            grid = asyncio.run(
                run_matrix(self.case, call, all_faults() if self._all_cells else standard_faults())
            )
        if _any_in(hidden, watch.lines):
            grid.logged.append("a secret shows in the log")
        return grid


def cell_report(cell: Cell) -> dict[str, Any]:
    """Return a cell as it is written into the report."""
    return {
        "operation": cell.operation,
        "request": cell.request,
        "fault": str(cell.fault),
        "applied": cell.applied,
        "outcome": cell.outcome,
        "error": cell.error,
        "sent": cell.sends,
        "problems": [why for _, why in cell.problems],
    }


def _any_in(hidden: frozenset[str], lines: Iterable[str]) -> bool:
    return any(secret in line for line in lines for secret in hidden)


def _is_ours(error: AssertionError) -> bool:
    """Return whether the suite asserted it, and not the plugin or its double."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and str(last.tb_frame.f_globals.get("__name__", "")).startswith(_SUITE)
