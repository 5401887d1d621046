"""What the runs with real Bugsinks share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def step(capsys) -> Callable[[str], None]:
    """Tell what happened, and when."""
    began = time.monotonic()

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - began:6.1f} s  {text}")

    with capsys.disabled():
        print()
    return say
