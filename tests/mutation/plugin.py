"""Plugin of pytest (``-p mutation.plugin``) that installs the statement mutant of the environment variable MUTANT."""

from __future__ import annotations

import json
import os

from mutation.statements import Mutant, mutated

_MUTATED = mutated(Mutant(*json.loads(os.environ["MUTANT"])))


def pytest_configure() -> None:
    _MUTATED.__enter__()
