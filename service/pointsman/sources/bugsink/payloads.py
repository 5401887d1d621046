"""What Bugsink's alerts say: the bodies of its kinds *Custom* and *Slack*, and of our own app inside it. Pure.

Fields are only ever added from version to version, so unknown ones are ignored and missing ones are done without.
Described at https://www.bugsink.com/docs/alerts/.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import Action, Report, Unreadable

BACKFILLED = "pointsman:seen"
"""Our own reason, of an issue that was found by asking: it happened again, and more is not known."""

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
    """One alert. Raises Unreadable for what is none, and ValueError for one of a later version."""
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
    """The body of the kinds *Custom* and *Pointsman*. The test button's is constants, its project number included, so the
    reason is read first.
    """
    reason = text(decoded, "alert_reason")
    if not reason:
        raise Unreadable("is missing: set the messaging service's kind to 'Custom'", field="alert_reason")
    issue = text(decoded, "id")
    if not issue:
        raise Unreadable("is missing: it names the Bugsink issue", field="id")
    if len(issue) > ID_LIMIT:
        raise Unreadable(f"has more than {ID_LIMIT} characters: no Bugsink issue's has", field="id")
    action = _action(reason)
    title = text(decoded, "title") or text(decoded, "calculated_type") or "(no title)"
    if action == "test":
        return Report(action="test", fingerprint="test", title=title)
    url = text(decoded, "url")
    origin = instance_of(url)
    events_at = decoded.get("events_at")
    releases = (
        [one for one in events_at if isinstance(one, str) and one] if isinstance(events_at, list) else []
    )
    event = _event(decoded)
    release = text(event, "release") or (releases[-1] if releases else "")
    seen = time(decoded, "last_seen")
    # NEW comes once in the life of a Bugsink issue; the others once for each change
    identity = (
        [origin, issue, reason]
        if action == "opened"
        else [origin, issue, reason, seen.isoformat() if seen is not None else text(decoded, "last_seen")]
    )
    return Report(
        action=action,
        fingerprint=f"{origin} {issue}",
        title=title,
        text=text(decoded, "unmute_reason"),
        code=text(event, "stacktrace")[:CODE_LIMIT],
        facts=(
            ("Type", text(decoded, "calculated_type")),
            ("Value", text(decoded, "calculated_value")),
            ("Where", text(decoded, "transaction")),
            ("Project", text(decoded, "project_name")),
            ("Bugsink issue", text(decoded, "friendly_id")),
            ("Releases", ", ".join(releases[-20:])),
            ("First seen", text(decoded, "first_seen")),
            ("Last seen", text(decoded, "last_seen")),
            ("Events", _number(decoded, "digested_event_count")),
            *(_event_facts(event) if event else ()),
        ),
        url=url,
        level=text(event, "level"),
        environment=text(event, "environment"),
        release=release,
        dedupe="\n".join(identity),
        problem_id=issue,
        event_id=text(event, "id") or text(decoded, "pointsman_event"),
        seen_at=seen,
    )


def _event(decoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event that our app adds; empty for Bugsink's own kinds."""
    ours = decoded.get("pointsman")
    event = ours.get("event") if isinstance(ours, dict) else None
    return event if isinstance(event, dict) else {}


def _event_facts(event: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return event_facts(
        environment=text(event, "environment"),
        level=text(event, "level"),
        server=text(event, "server_name"),
        tags=tags_of(event.get("tags")),
    )


def event_facts(
    *, environment: str, level: str, server: str, tags: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """What an event says, as facts; the same however it was learned."""
    return (
        ("Environment", environment),
        ("Level", level),
        ("Server", server),
        ("Tags", ", ".join(f"{name}={value}" for name, value in tags)),
    )


def tags_of(value: Any) -> tuple[tuple[str, str], ...]:
    """Tags from a mapping or a list of pairs, thirty at most. Those about people, and those that are long, are left out."""
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
    """The body of the kind *Slack*: title, reason and a link that has the issue's id; all else is to be asked for.

    Before 2.0.7 the header has the reason and the link's text is the title.
    """
    texts = list(_slack_texts(decoded["blocks"]))
    reasons = [match[1] for block_text in texts if (match := _SLACK_REASON.fullmatch(block_text.strip())) is not None]
    if not reasons:
        raise Unreadable("no block says '... issue': this is no alert of Bugsink", field="blocks")
    action = _action(reasons[0])
    title = text(decoded, "text") or "(no title)"
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
        *(block_text for block_text in texts if _SLACK_REASON.fullmatch(block_text.strip()) or "|view on Bugsink>" in block_text),
    }
    project = next((match[1] for block_text in texts if (match := _SLACK_PROJECT.fullmatch(block_text)) is not None), "")
    why = [
        block_text
        for block_text in texts
        if block_text not in known and "*project*" not in block_text and _SLACK_LINK.search(block_text) is None
    ]
    return Report(
        action=action,
        fingerprint=f"{origin} {issue}",
        title=title,
        text=_unescape(why[0]) if action == "unmuted" and why and why[0] != text(decoded, "text") else "",
        facts=(("Project", _unescape(project)),),
        url=url,
        # the body of a second regression is that of the first, byte for byte, and Bugsink sends each once
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
        texts += [text(part, "text")[:20_000] for part in parts if isinstance(part, dict)]
    return [block_text for block_text in texts if block_text]


def _unescape(escaped: str) -> str:
    for coded, sign in _UNESCAPED:
        escaped = escaped.replace(coded, sign)
    return escaped.strip()


# -- values ----------------------------------------------------------------------------------------------------------


def text(decoded: Mapping[str, Any], key: str) -> str:
    """A text, empty if it is missing or something else."""
    value = decoded.get(key)
    return value if isinstance(value, str) else ""


def time(decoded: Mapping[str, Any], key: str) -> dt.datetime | None:
    """A time with its zone, None if it is missing or something else."""
    try:
        value = dt.datetime.fromisoformat(text(decoded, key))
        return value.astimezone(dt.UTC) if value.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _number(decoded: Mapping[str, Any], key: str) -> str:
    value = decoded.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def instance_of(url: str) -> str:
    """Which Bugsink instance: the same id at two instances is two issues."""
    # nearly every address begins as simply as this, and taking it apart costs ten times as much
    if (plain := _PLAIN_ORIGIN.match(url)) is not None:
        return plain[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()[:ORIGIN_LIMIT] if parts.netloc else ""
    )
