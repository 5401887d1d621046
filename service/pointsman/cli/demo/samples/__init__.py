"""Recorded alerts of a real Bugsink; see README.md in this folder."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal


def bugsink(name: Literal["new", "regressed"]) -> dict[str, Any]:
    """Return the alert that Bugsink posted for a new issue, or for its regression."""
    body: dict[str, Any] = json.loads(files(__name__).joinpath(f"bugsink-{name}.json").read_bytes())
    return body
