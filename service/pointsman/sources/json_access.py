"""Values out of a stranger's JSON, for the built-in kinds. Nothing here raises but ``need``."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Unreadable

FINGERPRINT_LIMIT = 500
_KEPT = 400


def require_object(decoded: Any, what: str) -> Mapping[str, Any]:
    """The body as an object. Raises Unreadable if it is none."""
    if not isinstance(decoded, dict):
        raise Unreadable(f"{what} is a JSON object")
    return decoded


def nested(decoded: Any, *keys: str) -> Mapping[str, Any]:
    """An object inside, empty if it is missing or something else."""
    for key in keys:
        decoded = decoded.get(key) if isinstance(decoded, dict) else None
    return decoded if isinstance(decoded, dict) else {}


def items(decoded: Any, key: str) -> Sequence[Any]:
    """A list inside, empty if it is missing or something else."""
    value = decoded.get(key) if isinstance(decoded, dict) else None
    return value if isinstance(value, list) else ()


def text(decoded: Any, *keys: str) -> str:
    """The first of these that is a text or a number, as text; one of nothing but white space says nothing."""
    for key in keys:
        if isinstance(decoded, dict) and (value := scalar_text(decoded.get(key))).strip():
            return value
    return ""


def scalar_text(value: Any) -> str:
    """A text or a number as text; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else ""


def time(decoded: Any, key: str) -> dt.datetime | None:
    """A time with its zone, None if it is missing or something else."""
    try:
        value = dt.datetime.fromisoformat(text(decoded, key))
        return value.astimezone(dt.UTC) if value.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def fingerprint(*parts: str) -> str:
    """One name of a problem from several texts. A long one keeps its beginning; a digest stands for the rest."""
    whole = " ".join(" ".join(parts).split())
    if len(whole) <= FINGERPRINT_LIMIT:
        return whole
    return f"{whole[:_KEPT]} {hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()}"
