"""Read values out of untrusted JSON. A value of another type gives None or an empty value, never an exception."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pointsman.plugin_api.helpers.texts import clean_text, short_text
from pointsman.plugin_api.values import Actor, CommentRef, IssueRef

_LONGEST_URL = 2000


def text_at(raw: object, *keys: str) -> str:
    """Return the text at a path of keys, empty if there is none."""
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, str) else ""


def objects_at(raw: object, key: str) -> list[dict[str, Any]]:
    """Return the objects in the list at a key."""
    items = raw.get(key) if isinstance(raw, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def positive_int(raw: object, key: str) -> int | None:
    """Return the positive number at a key; true and numbers above 63 bits do not count."""
    value = raw.get(key) if isinstance(raw, dict) else None
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
    return value if fits else None


def web_url(value: object) -> str:
    """Return an http or https URL, empty for anything else."""
    if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= _LONGEST_URL:
        return clean_text(value)
    return ""


def parse_time(value: object) -> dt.datetime | None:
    """Return an ISO 8601 time in UTC.

    A time without a zone is taken as UTC, ``2017-09-15 16:50:55 UTC`` is understood, and a year before 1970 is no time: some
    servers write their zero value so.
    """
    if not isinstance(value, str):
        return None
    try:
        time = dt.datetime.fromisoformat(value.removesuffix(" UTC"))
        time = time.astimezone(dt.UTC) if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None
    return time if time.year >= 1970 else None


def format_time(time: dt.datetime) -> str:
    """Return a time as ISO 8601 in UTC, rounded down to the second: ``2026-03-01T09:00:00Z``."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def account(raw: object, *name_keys: str) -> Actor | None:
    """Return the account of a JSON object with an ``id``; without an id the name identifies it.

    ``name_keys`` are the keys of the name, the first that is present counts.
    """
    if not isinstance(raw, dict):
        return None
    name = next((text for key in name_keys if (text := short_text(raw.get(key), 100))), "")
    number = positive_int(raw, "id")
    if number is not None:
        return Actor(str(number), name)
    return Actor(name, name) if name else None


def issue_ref(raw: object, number_key: str, *url_keys: str, prefix: str = "") -> IssueRef | None:
    """Return the reference of an issue whose number never changes; ``prefix`` is written before it for people."""
    number = positive_int(raw, number_key)
    if number is None:
        return None
    return IssueRef(remote_id=str(number), key=f"{prefix}{number}", url=_first_url(raw, url_keys))


def comment_ref(raw: object, *url_keys: str) -> CommentRef | None:
    """Return the reference of a comment with an ``id``."""
    number = positive_int(raw, "id")
    return None if number is None else CommentRef(remote_id=str(number), url=_first_url(raw, url_keys))


def _first_url(raw: object, keys: tuple[str, ...]) -> str:
    return next((url for key in keys if (url := web_url(text_at(raw, key)))), "")
