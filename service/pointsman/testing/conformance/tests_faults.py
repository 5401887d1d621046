"""Tests of what a plugin makes of fault_case: every call, every request of it, every fault_case of the standard list."""

from __future__ import annotations

import pytest

from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.operations import OPERATIONS

_every_call = pytest.mark.parametrize("call", OPERATIONS)
_every_write = pytest.mark.parametrize("call", [name for name, call in OPERATIONS.items() if call.writes])


class FaultTests:
    """Refused and cut connections, silence, errors, limits, redirects, answers that are none."""

    @_every_call
    def test_trouble_is_named_rightly(self, pointsman_runner: CaseRunner, call: str) -> None:
        """The error says what is known and no more: what may have been done is never called surely not done, and
        what was not done is never called done.
        """
        pointsman_runner.check_cells(call, "class")

    @_every_write
    def test_trouble_leaves_one_effect(self, pointsman_runner: CaseRunner, call: str) -> None:
        """After the fault_case the marker is found as often as the thing is there, and when the core has gone on (look
        if in doubt, then do again what was not found) it is there exactly once.
        """
        pointsman_runner.check_cells(call, "once")

    @_every_call
    def test_nothing_is_retried(self, pointsman_runner: CaseRunner, call: str) -> None:
        """A request is sent once: retries are the core's, which looks before it sends again. A plainer form may
        follow a 400, 413, 415 or 422, which prove that nothing was done.
        """
        pointsman_runner.check_cells(call, "retry")

    @_every_call
    def test_trouble_shows_no_secret(self, pointsman_runner: CaseRunner, call: str) -> None:
        """No secret of the settings is in an error, in its causes, in a returned value or in a log line."""
        pointsman_runner.check_cells(call, "secret")
