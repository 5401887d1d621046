"""Bugsink: its messaging service kind *custom* posts one JSON object an alert.

Fields are only ever added from version to version, so unknown ones are ignored and missing ones are done without.
Described at https://www.bugsink.com/docs/alerts/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pointsman.plugin_api import Action, PluginSettings, Report, Source, Unreadable

_ACTIONS: Mapping[str, Action] = {
    "NEW": "opened",
    "REGRESSED": "regressed",
    "UNMUTED": "unmuted",
    "TEST": "test",
}


class BugsinkSettings(PluginSettings, frozen=True, kw_only=True):
    """There is nothing to set yet."""


class Bugsink(Source):
    """One Bugsink project."""

    kind: ClassVar[str] = "bugsink"
    title: ClassVar[str] = "Bugsink"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = BugsinkSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """One alert. The test button's body is constants, its project number included: the reason is read first."""
        del headers, body
        if not isinstance(decoded, dict):
            raise Unreadable("a Bugsink alert is a JSON object")
        reason = _text(decoded, "alert_reason")
        if not reason:
            raise Unreadable("is missing: set the messaging service's kind to 'custom'", field="alert_reason")
        issue = _text(decoded, "id")
        if not issue:
            raise Unreadable("is missing: it names the Bugsink issue", field="id")
        action = _ACTIONS.get(reason)
        if action is None:
            raise ValueError(f"alert_reason {reason!r} is not one we know")
        title = _text(decoded, "title") or _text(decoded, "calculated_type") or "(no title)"
        if action == "test":
            return [Report(action="test", fingerprint="test", title=title, dedupe=None)]
        url = _text(decoded, "url")
        origin = _origin(url)
        releases = decoded.get("events_at")
        releases = (
            [one for one in releases if isinstance(one, str) and one] if isinstance(releases, list) else []
        )
        # NEW comes once in the life of a Bugsink issue; the others once for each change
        said = (
            [origin, issue, reason]
            if action == "opened"
            else [origin, issue, reason, _text(decoded, "last_seen")]
        )
        return [
            Report(
                action=action,
                fingerprint=f"{origin} {issue}",
                title=title,
                text=_text(decoded, "unmute_reason"),
                facts=(
                    ("Type", _text(decoded, "calculated_type")),
                    ("Value", _text(decoded, "calculated_value")),
                    ("Where", _text(decoded, "transaction")),
                    ("Project", _text(decoded, "project_name")),
                    ("Bugsink issue", _text(decoded, "friendly_id")),
                    ("Releases", ", ".join(releases[:20])),
                    ("First seen", _text(decoded, "first_seen")),
                    ("Last seen", _text(decoded, "last_seen")),
                    ("Events", _number(decoded, "digested_event_count")),
                ),
                url=url,
                release=releases[-1] if releases else "",
                dedupe="\n".join(said),
            )
        ]


def _text(decoded: Mapping[str, Any], key: str) -> str:
    value = decoded.get(key)
    return value if isinstance(value, str) else ""


def _number(decoded: Mapping[str, Any], key: str) -> str:
    value = decoded.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _origin(url: str) -> str:
    """Which Bugsink instance: the same id at two instances is two issues."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower() if parts.netloc else ""
