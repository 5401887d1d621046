"""What each test of the suite works with: the case, a stage, the watch over secrets, notes for the report card."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import pytest

from pointsman.testing import report
from pointsman.testing.conformance.calls import CALLS, Call, Scene
from pointsman.testing.conformance.case import TrackerCase
from pointsman.testing.conformance.cells import Cell, Grid, try_all
from pointsman.testing.conformance.stage import Stage, canaries
from pointsman.testing.conformance.troubles import every, everyday
from pointsman.testing.conformance.watch import shown_by, watching

T = TypeVar("T")


class Trial:
    """One test's view of the case. ``memory`` is shared by the tests of one class."""

    def __init__(
        self,
        case: TrackerCase,
        *,
        note: Callable[[str, Any], None],
        memory: dict[str, Grid],
        all_cells: bool,
    ) -> None:
        self.case = case
        self.tracker = case.tracker
        self.capabilities = case.tracker.capabilities
        self._note = note
        self._memory = memory
        self._all_cells = all_cells
        note("tracker", report.identity(case.tracker))

    # -- what does not apply -----------------------------------------------------------------------------------------

    def declared(self, capability: str) -> None:
        """Skip the test if the tracker says that it can't."""
        if not getattr(self.capabilities, capability):
            pytest.skip(f"not declared: {capability}")

    def has(self, method: str) -> None:
        """Skip the test if the tracker has no such method of its own."""
        if not self.case.can(method):
            pytest.skip(f"the tracker has no {method}")

    def shown(self, ability: str, *, proves: str = "") -> None:
        """Skip the test if the double can't do something; ``proves`` is the capability that stays unproven."""
        if not self.case.shows(ability):
            if proves:
                self._note("unproven", proves)
            pytest.skip(f"the double has no {ability}")

    # -- doing -------------------------------------------------------------------------------------------------------

    def run(self, play: Callable[[Stage], Awaitable[T]]) -> T:
        """Play something on a stage of its own. Whatever it raises, logs or gives back must hold no secret."""

        async def on_stage() -> T:
            async with self._stage() as stage:
                return await play(stage)

        return asyncio.run(on_stage())

    @asynccontextmanager
    async def _stage(self) -> AsyncIterator[Stage]:
        async with Stage.open(self.case) as stage:
            hidden = canaries(self.case, stage.settings)
            with watching() as watch:
                try:
                    yield stage
                except Exception as error:
                    # the error itself would print the secret
                    if any(secret in shown_by(error) for secret in hidden):
                        raise AssertionError(f"a secret shows in {type(error).__name__}") from None
                    raise
            assert not any(secret in line for line in watch.lines for secret in hidden), (
                "a secret shows in the log"
            )

    def grid(self, name: str) -> Grid:
        """All cells of one call, tried once for all tests of the class."""
        call = CALLS[name]
        why = call.lacks(self.case)
        if why:
            pytest.skip(why)
        if name not in self._memory:
            self._memory[name] = self._try(call)
            self._note("cells", [_told(cell) for cell in self._memory[name].cells])
        grid = self._memory[name]
        if grid.broken:
            pytest.fail(grid.broken, pytrace=False)
        return grid

    def _try(self, call: Call) -> Grid:
        async def all_of_it() -> Grid:
            async with self.case.double() as double:
                stage_settings = double.settings()
                if double.fake is None:
                    return Grid()
            hidden = [value for value in stage_settings.values() if isinstance(value, str)]
            del hidden
            return await try_all(self.case, call, every() if self._all_cells else everyday())

        with watching() as watch:
            grid = asyncio.run(all_of_it())
        grid.lines = watch.lines
        return grid
