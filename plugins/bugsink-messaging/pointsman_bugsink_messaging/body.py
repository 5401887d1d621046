"""The body of a post: the fields of Bugsink's kind "custom", and the object ``pointsman``. Pure; see README.md."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pointsman_bugsink_messaging.trace import mapping, plain, shortened, stack_trace

VERSION = 1
"""The version of the object ``pointsman``. Fields may be added without a new number."""

LIMIT_BYTES = 64 * 1024
TAGS = 30
RELEASES = 20

# personal data must not reach the tracker; the rest is in other fields or has no meaning there
_PRIVATE = ("user", "ip_address", "trace")
_OTHER_FIELDS = ("environment", "release", "server_name", "transaction", "level", "url")


def alert_body(
    canonical: Mapping[str, Any],
    ours: Mapping[str, Any],
    event: Mapping[str, Any] | None,
    *,
    limit_bytes: int = LIMIT_BYTES,
) -> bytes:
    """Return the body as UTF-8. What makes it too large is left out, the most useful part last, and named in
    ``left_out``.
    """
    body = dict(canonical)
    about: dict[str, Any] | None = None if event is None else dict(event)
    left_out: list[str] = []

    def encoded() -> bytes:
        body["pointsman"] = {"version": VERSION, **ours, "event": about, "left_out": left_out}
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode("utf-8", "replace")

    created = encoded()
    if len(created) > limit_bytes:
        left_out.append("releases")
        for name in ("fixed_at", "events_at"):
            if isinstance(body.get(name), list):
                body[name] = body[name][-RELEASES:]
        created = encoded()
    if len(created) > limit_bytes and about is not None:
        left_out.append("tags")
        about["tags"] = []
        created = encoded()
    if len(created) > limit_bytes and about is not None:
        left_out.append("stacktrace")
        while len(created) > limit_bytes and about["stacktrace"]:
            about["stacktrace"] = shortened(about["stacktrace"], len(about["stacktrace"]) // 2)
            created = encoded()
    return created


def event_part(
    data: Any, *, ids: Mapping[str, str], columns: Mapping[str, Any], tags: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Return the object ``pointsman.event``.

    ``data`` is what the SDK sent, ``columns`` what Bugsink derived from it, and ``ids`` identify the event.
    """
    data = mapping(data)
    texts = {
        name: plain(columns.get(name) or data.get(name), length)
        for name, length in (
            ("level", 20),
            ("environment", 64),
            ("release", 250),
            ("server_name", 255),
            ("transaction", 200),
            ("platform", 64),
        )
    }
    return {**ids, **texts, "tags": event_tags(tags), "stacktrace": stack_trace(data)}


def event_tags(tags: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return pairs of key and value, without personal data and without what other fields contain; the first few by
    key.
    """
    kept = sorted(
        (key, value)
        for key, value in ((plain(key, 32), plain(value, 200)) for key, value in tags)
        if key and value and key.partition(".")[0] not in _PRIVATE and key not in _OTHER_FIELDS
    )
    return [[key, value] for key, value in kept[:TAGS]]


def body_of_test(*, project: int, project_name: str, url: str, ours: Mapping[str, Any]) -> bytes:
    """Return the body of the Test button: it belongs to no issue."""
    canonical = {
        "id": "00000000-0000-0000-0000-000000000000",
        "friendly_id": "TEST",
        "project": project,
        "title": "A test from Bugsink",
        "project_name": project_name,
        "url": url,
        "alert_reason": "TEST",
    }
    return alert_body(canonical, ours, None)


def stamp(moment: dt.datetime) -> str:
    """Return a time as Bugsink writes it: RFC 3339 in UTC, with a Z."""
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
