"""What each test of the suite works with: the case, a stage, the watch over secrets, notes for the report card."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

import pytest

from pointsman.testing.conformance.faults import every, everyday
from pointsman.testing.conformance.harness import Stage, canaries
from pointsman.testing.conformance.log_capture import shown_by, watching
from pointsman.testing.conformance.matrix import Aspect, Cell, Grid, try_all
from pointsman.testing.conformance.operations import CALLS, Call
from pointsman.testing.conformance.spec import TrackerCase
from pointsman.testing.report import identity

T = TypeVar("T")

_SUITE = __name__.rpartition(".")[0]


class Trial:
    """One test's view of the case. ``wanted`` is what the test wants, in words.

    ``memory`` is shared by the tests of one class, ``note`` writes on the card.
    """

    def __init__(
        self,
        case: TrackerCase,
        *,
        wanted: str,
        note: Callable[[str, Any], None],
        memory: dict[str, Grid],
        all_cells: bool,
    ) -> None:
        self.case = case
        self.tracker = case.tracker
        self.capabilities = case.tracker.capabilities
        self._wanted = wanted
        self._note = note
        self._memory = memory
        self._all_cells = all_cells
        note("tracker", identity(case.tracker))

    # -- what does not apply -----------------------------------------------------------------------------------------

    def declared(self, capability: str) -> None:
        """Skip the test if the tracker says that it can't."""
        if not getattr(self.capabilities, capability):
            pytest.skip(f"not declared: {capability}")

    def shown(self, ability: str, *, proves: str = "") -> None:
        """Skip the test if the double can't do something; ``proves`` is the capability that stays unproven."""
        if not self.case.shows(ability):
            if proves:
                self._note("unproven", proves)
            pytest.skip(f"the double has no {ability}")

    def unsigned(self) -> None:
        """Say on the card that nothing vouches for the body of a webhook."""
        self._note("unsigned", True)

    # -- doing -------------------------------------------------------------------------------------------------------

    def run(self, play: Callable[[Stage], Awaitable[T]]) -> T:
        """Play something on a stage of its own. What it raises or logs must hold no secret of the settings."""
        hidden: frozenset[str] = frozenset()

        async def on_stage() -> T:
            nonlocal hidden
            async with Stage.open(self.case) as stage:
                hidden = canaries(self.case, stage.settings)
                return await play(stage)

        with watching() as watch:
            try:
                value = asyncio.run(on_stage())
            except Exception as error:
                if _any_in(hidden, [shown_by(error)]):
                    # without the error, which would print the secret
                    self._fail(f"a secret shows in {type(error).__name__}")
                if isinstance(error, AssertionError) and _is_ours(error):
                    self._fail(str(error))
                raise
        if _any_in(hidden, watch.lines):
            self._fail("a secret shows in the log")
        return value

    def _fail(self, why: str) -> NoReturn:
        pytest.fail(f"{why}\n\nWanted: {self._wanted}", pytrace=False)

    def cells(self, name: str, aspect: Aspect) -> None:
        """Try all cells of one call, once for all tests of the class, and fail with the problems of one aspect."""
        call = CALLS[name]
        why = call.lacks(self.case)
        if why:
            pytest.skip(why)
        if name not in self._memory:
            self._memory[name] = self._try(call)
            self._note("cells", [told(cell) for cell in self._memory[name].cells])
        grid = self._memory[name]
        if grid.broken and aspect != "class":
            pytest.skip("not tried: the call fails without any trouble")
        if grid.broken:
            self._fail(grid.broken)
        problems = [line for cell in grid.cells for line in cell.says(aspect)]
        if aspect == "secret":
            problems += grid.logged
        if problems:
            more = f"\n... and {len(problems) - 30} more" if len(problems) > 30 else ""
            self._fail("\n".join(problems[:30]) + more)

    def _try(self, call: Call) -> Grid:
        async def look(stage: Stage) -> tuple[bool, frozenset[str]]:
            return self.tracker.connection(stage.settings) is not None, canaries(self.case, stage.settings)

        speaks_http, hidden = self.run(look)
        if not speaks_http:
            pytest.skip("no HTTP: the tracker declared no connection, so no request can fail")
        with watching() as watch:
            grid = asyncio.run(try_all(self.case, call, every() if self._all_cells else everyday()))
        if _any_in(hidden, watch.lines):
            grid.logged.append("a secret shows in the log")
        return grid


def told(cell: Cell) -> dict[str, Any]:
    """A cell as the report tells it."""
    return {
        "call": cell.call,
        "request": cell.request,
        "trouble": str(cell.trouble),
        "applied": cell.applied,
        "class": cell.outcome,
        "error": cell.error,
        "sent": cell.sends,
        "problems": [why for _, why in cell.problems],
    }


def _any_in(hidden: frozenset[str], lines: Iterable[str]) -> bool:
    return any(secret in line for line in lines for secret in hidden)


def _is_ours(error: AssertionError) -> bool:
    """Whether the suite asserted it, and not the plugin or its double."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and str(last.tb_frame.f_globals.get("__name__", "")).startswith(_SUITE)
