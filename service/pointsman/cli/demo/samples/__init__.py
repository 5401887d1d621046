"""Real alerts, recorded; see README.md beside them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal


def bugsink(name: Literal["new", "regressed"]) -> dict[str, Any]:
    """What Bugsink posted for a new issue, and when the same issue came back."""
    body: dict[str, Any] = json.loads(files(__name__).joinpath(f"bugsink-{name}.json").read_bytes())
    return body
