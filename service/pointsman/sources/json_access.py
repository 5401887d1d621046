"""Read values from untrusted JSON. Only ``require_object`` raises."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Unreadable
from pointsman.plugin_api.helpers import text_at

FINGERPRINT_LIMIT = 500
_KEPT = 400


def require_object(decoded: Any, subject: str) -> Mapping[str, Any]:
    """Return the body as an object. Raises Unreadable if it is none."""
    if not isinstance(decoded, dict):
        raise Unreadable(f"{subject} is a JSON object")
    return decoded


def nested(decoded: Any, *keys: str) -> Mapping[str, Any]:
    """Return a nested object, empty if it is missing or of another type."""
    for key in keys:
        decoded = decoded.get(key) if isinstance(decoded, dict) else None
    return decoded if isinstance(decoded, dict) else {}


def items(decoded: Any, key: str) -> Sequence[Any]:
    """Return a list, empty if it is missing or of another type."""
    value = decoded.get(key) if isinstance(decoded, dict) else None
    return value if isinstance(value, list) else ()


def text(decoded: Any, *keys: str) -> str:
    """Return the first of these values that is a number or a non-blank text, as text; empty if there is none."""
    for key in keys:
        if isinstance(decoded, dict) and (value := scalar_text(decoded.get(key))).strip():
            return value
    return ""


def scalar_text(value: Any) -> str:
    """Return a text, number or boolean as text; empty for other types."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else ""


def time(decoded: Mapping[str, Any], key: str) -> dt.datetime | None:
    """Return a time in UTC, None if it is missing, of another type, or without a time zone."""
    try:
        value = dt.datetime.fromisoformat(text_at(decoded, key))
        return value.astimezone(dt.UTC) if value.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def fingerprint(*parts: str) -> str:
    """Return one fingerprint from several texts. A digest replaces the end of a long fingerprint."""
    whole = " ".join(" ".join(parts).split())
    if len(whole) <= FINGERPRINT_LIMIT:
        return whole
    return f"{whole[:_KEPT]} {hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()}"
