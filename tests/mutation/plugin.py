"""For pytest (``-p mutation.plugin``): one statement of the queue is the mutant that the environment names."""

from __future__ import annotations

import json
import os

from mutation.statements import Mutant, mutated

_MUTATED = mutated(Mutant(*json.loads(os.environ["MUTANT"])))


def pytest_configure() -> None:
    _MUTATED.__enter__()
