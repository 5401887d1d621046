"""Parse Bugsink's alerts: bodies of the kinds *Custom* and *Slack*, and of our messaging app inside Bugsink. Pure.

New versions only add fields, so unknown fields are ignored and missing ones are tolerated.
https://www.bugsink.com/docs/alerts/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import Action, Report, Unreadable
from pointsman.plugin_api.helpers import text_at
from pointsman.sources.json_access import time

BACKFILLED = "pointsman:seen"
"""Our own reason for an issue found by backfill: it occurred again, and nothing else is known."""

ACTIONS: Mapping[str, Action] = {
    "NEW": "opened",
    "REGRESSED": "regressed",
    "UNMUTED": "unmuted",
    "TEST": "test",
    BACKFILLED: "recurred",
}

_SLACK_REASON = re.compile(r"([A-Z]{3,20}) issue")
_SLACK_LINK = re.compile(r"<(https?://[^\s|<>]{1,2000})\|([^<>]*)>")
_SLACK_PROJECT = re.compile(r"\*project\*: (.*)", re.DOTALL)
_ISSUE_IN_URL = re.compile(r"/issues/issue/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")
_PLAIN_ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?(?=[/?#]|\Z)")
_UNESCAPED = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
CODE_LIMIT = 16_000
ID_LIMIT = 200
ORIGIN_LIMIT = 300


def read(decoded: Any) -> Report:
    """Return the report of one alert. Raises Unreadable if it is none, and ValueError for an unknown reason."""
    if not isinstance(decoded, dict):
        raise Unreadable("a Bugsink alert is a JSON object")
    if "alert_reason" not in decoded and isinstance(decoded.get("blocks"), list):
        return _slack(decoded)
    return _custom(decoded)


def _action(reason: str) -> Action:
    action = ACTIONS.get(reason)
    if action is None:
        raise ValueError(f"alert_reason {reason!r} is not one we know")
    return action


def _custom(decoded: Mapping[str, Any]) -> Report:
    """Return the report of a body of the kinds *Custom* and *Pointsman*.

    The reason is read first, since the test button sends constants, a fixed project number included.
    """
    reason = text_at(decoded, "alert_reason")
    if not reason:
        raise Unreadable("is missing: set the messaging service's kind to 'Custom'", field="alert_reason")
    issue = text_at(decoded, "id")
    if not issue:
        raise Unreadable("is missing: it names the Bugsink issue", field="id")
    if len(issue) > ID_LIMIT:
        raise Unreadable(f"has more than {ID_LIMIT} characters: no Bugsink issue's has", field="id")
    if issue in (".", ".."):
        raise Unreadable("is a step in a path: no Bugsink issue's is", field="id")
    action = _action(reason)
    title = text_at(decoded, "title") or text_at(decoded, "calculated_type") or "(no title)"
    if action == "test":
        return Report(action="test", fingerprint="test", title=title)
    url = text_at(decoded, "url")
    origin = instance_of(url)
    events_at = decoded.get("events_at")
    releases = (
        [name for name in events_at if isinstance(name, str) and name] if isinstance(events_at, list) else []
    )
    event = _event(decoded)
    release = text_at(event, "release") or (releases[-1] if releases else "")
    seen = time(decoded, "last_seen")
    # Bugsink sends NEW once for an issue, and other reasons once for each change
    identity = (
        [origin, issue, reason]
        if action == "opened"
        else [origin, issue, reason, seen.isoformat() if seen is not None else text_at(decoded, "last_seen")]
    )
    return Report(
        action=action,
        fingerprint=f"{origin} {issue}",
        title=title,
        text=text_at(decoded, "unmute_reason"),
        code=text_at(event, "stacktrace")[:CODE_LIMIT],
        facts=(
            ("Type", text_at(decoded, "calculated_type")),
            ("Value", text_at(decoded, "calculated_value")),
            ("Where", text_at(decoded, "transaction")),
            ("Project", text_at(decoded, "project_name")),
            ("Bugsink issue", text_at(decoded, "friendly_id")),
            ("Releases", ", ".join(releases[-20:])),
            ("First seen", text_at(decoded, "first_seen")),
            ("Last seen", text_at(decoded, "last_seen")),
            ("Events", _number(decoded, "digested_event_count")),
            *(_event_facts(event) if event else ()),
        ),
        url=url,
        level=text_at(event, "level"),
        environment=text_at(event, "environment"),
        release=release,
        dedupe="\n".join(identity),
        problem_id=issue,
        event_id=text_at(event, "id") or text_at(decoded, "pointsman_event"),
        seen_at=seen,
    )


def _event(decoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the event that our messaging app adds; empty for Bugsink's own kinds."""
    ours = decoded.get("pointsman")
    event = ours.get("event") if isinstance(ours, dict) else None
    return event if isinstance(event, dict) else {}


def _event_facts(event: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return event_facts(
        environment=text_at(event, "environment"),
        level=text_at(event, "level"),
        server=text_at(event, "server_name"),
        tags=tags_of(event.get("tags")),
    )


def event_facts(
    *, environment: str, level: str, server: str, tags: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return an event's data as facts, in the same form for alerts and enrichment."""
    return (
        ("Environment", environment),
        ("Level", level),
        ("Server", server),
        ("Tags", ", ".join(f"{name}={value}" for name, value in tags)),
    )


def tags_of(value: Any) -> tuple[tuple[str, str], ...]:
    """Return at most thirty tags from a mapping or a list of pairs, without personal and long ones."""
    pairs: Any = value.items() if isinstance(value, dict) else value if isinstance(value, list) else ()
    tags: dict[str, str] = {}
    for pair in pairs:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            continue
        name, tag = pair
        if isinstance(tag, (bool, int)):
            tag = str(tag).lower()
        if not (isinstance(name, str) and isinstance(tag, str) and name and tag):
            continue
        low = name.lower()
        if low.startswith(("user", "trace", "ip_address", "url")) or len(name) > 64 or len(tag) > 200:
            continue
        tags.setdefault(name, tag)
    return tuple(sorted(tags.items())[:30])


# -- the kind Slack, for Bugsink before 2.5.1 ------------------------------------------------------------------------


def _slack(decoded: Mapping[str, Any]) -> Report:
    """Return the report of a body of the kind *Slack*: title, reason and a link with the issue's id.

    Before 2.0.7 the header has the reason and the link's text is the title.
    """
    texts = list(_slack_texts(decoded["blocks"]))
    reasons = [
        match[1] for block_text in texts if (match := _SLACK_REASON.fullmatch(block_text.strip())) is not None
    ]
    if not reasons:
        raise Unreadable("no block says '... issue': this is no alert of Bugsink", field="blocks")
    action = _action(reasons[0])
    title = text_at(decoded, "text") or "(no title)"
    if action == "test":
        return Report(action="test", fingerprint="test", title=title)
    url, issue = "", ""
    for block_text in texts:
        for link in _SLACK_LINK.finditer(block_text):
            if (match := _ISSUE_IN_URL.search(link[1])) is not None:
                url, issue = link[1], match[1]
                if link[2] not in ("", "view on Bugsink"):
                    title = _unescape(link[2])
    if not issue:
        raise Unreadable("no block links to the Bugsink issue", field="blocks")
    origin = instance_of(url)
    known = {
        title,
        *(
            block_text
            for block_text in texts
            if _SLACK_REASON.fullmatch(block_text.strip()) or "|view on Bugsink>" in block_text
        ),
    }
    project = next(
        (match[1] for block_text in texts if (match := _SLACK_PROJECT.fullmatch(block_text)) is not None), ""
    )
    why = [
        block_text
        for block_text in texts
        if block_text not in known
        and "*project*" not in block_text
        and _SLACK_LINK.search(block_text) is None
    ]
    return Report(
        action=action,
        fingerprint=f"{origin} {issue}",
        title=title,
        text=_unescape(why[0]) if action == "unmuted" and why and why[0] != text_at(decoded, "text") else "",
        facts=(("Project", _unescape(project)),),
        url=url,
        # the body of a second regression equals the first one's byte for byte, and Bugsink sends each once
        dedupe="\n".join([origin, issue, reasons[0]]) if action == "opened" else "",
        problem_id=issue,
    )


def _slack_texts(blocks: Sequence[Any]) -> Sequence[str]:
    texts: list[str] = []
    for block in blocks[:50]:
        if not isinstance(block, dict):
            continue
        fields = block.get("fields")
        parts = [block.get("text"), *(fields[:20] if isinstance(fields, list) else ())]
        texts += [text_at(part, "text")[:20_000] for part in parts if isinstance(part, dict)]
    return [block_text for block_text in texts if block_text]


def _unescape(escaped: str) -> str:
    for coded, sign in _UNESCAPED:
        escaped = escaped.replace(coded, sign)
    return escaped.strip()


# -- values ----------------------------------------------------------------------------------------------------------


def _number(decoded: Mapping[str, Any], key: str) -> str:
    value = decoded.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def instance_of(url: str) -> str:
    """Return scheme and host of the Bugsink instance: the same id at two instances means two issues."""
    # the fast path for nearly all URLs: 1.5 µs instead of 15 µs with urlsplit
    if (plain := _PLAIN_ORIGIN.match(url)) is not None:
        return plain[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()[:ORIGIN_LIMIT] if parts.netloc else ""
    )
