"""Tests of a plugin's reaction to faults: every operation, every request of it, every fault of the standard list."""

from __future__ import annotations

import pytest

from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.operations import OPERATIONS

_every_call = pytest.mark.parametrize("call", OPERATIONS)
_every_write = pytest.mark.parametrize("call", [name for name, call in OPERATIONS.items() if call.writes])


class FaultTests:
    """Refused and cut connections, timeouts, errors, rate limits, redirects, foreign responses."""

    @_every_call
    def test_trouble_is_named_rightly(self, pointsman_runner: CaseRunner, call: str) -> None:
        """The error says what is known and no more: what may have been done is never reported as certainly not done,
        and what was not done is never reported as done.
        """
        pointsman_runner.check_cells(call, "outcome")

    @_every_write
    def test_trouble_leaves_one_effect(self, pointsman_runner: CaseRunner, call: str) -> None:
        """After the fault the marker is found as often as it exists, and after the core's next steps (verify an
        unknown outcome, repeat what was not done) it exists exactly once.
        """
        pointsman_runner.check_cells(call, "once")

    @_every_call
    def test_nothing_is_retried(self, pointsman_runner: CaseRunner, call: str) -> None:
        """A request is sent once: the core retries, after verification. A simpler form may follow a 400, 413, 415 or
        422, which prove that nothing was done.
        """
        pointsman_runner.check_cells(call, "retry")

    @_every_call
    def test_trouble_shows_no_secret(self, pointsman_runner: CaseRunner, call: str) -> None:
        """No secret of the settings is in an error, in its causes, in a returned value or in a log line."""
        pointsman_runner.check_cells(call, "secret")
