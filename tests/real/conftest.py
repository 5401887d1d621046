"""Fixtures of the tests with a real Bugsink."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def step(capsys) -> Callable[[str], None]:
    """Return a function that prints a step and the time."""
    started_at = time.monotonic()

    def print_step(text: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - started_at:6.1f} s  {text}")

    with capsys.disabled():
        print()
    return print_step
