"""Convert between the contract's values and Jira's JSON, as pure functions.

Responses of the REST API: https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pointsman.plugin_api import Actor, CloseReason, IssueRef, IssueState, State
from pointsman_jira import adf

PROPERTY = "pointsman"
SUMMARY_LIMIT = 255
LABEL_LIMIT = 255
FIELDS = ("status", "resolution", "updated", "labels", "project", "creator", "reporter")

_MARKER = re.compile(r"pm[0-9]+-\S+")
_NOT_PLANNED = re.compile(
    r"won.?t|not planned|not do|declin|reject|cancel|obsolete|invalid|abandon|cannot reproduce|can't reproduce",
    re.IGNORECASE,
)
_DUPLICATE = re.compile(r"duplicate", re.IGNORECASE)


# -- out -------------------------------------------------------------------------------------------------------


def summary(title: str) -> str:
    """Return a title as Jira takes it: one line, 255 characters (counted as UTF-16, to be safe), not empty."""
    line = " ".join(adf.clean(title).split()) or "(no title)"
    if _utf16(line) <= SUMMARY_LIMIT:
        return line
    kept = line[: SUMMARY_LIMIT - 1]
    while _utf16(kept) >= SUMMARY_LIMIT:
        kept = kept[:-1]
    return kept.rstrip() + "\u2026"


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def labels(names: Iterable[str], marker: str = "") -> list[str]:
    """Return labels as Jira takes them, without spaces and repetitions; the marker is one of them."""
    cleaned = ("_".join(adf.clean(name).split())[:LABEL_LIMIT] for name in names)
    return list(dict.fromkeys(name for name in (*cleaned, marker) if name))


def marker_property(marker: str) -> dict[str, Any]:
    """Return the entity property that contains the marker, for issues and comments."""
    return {"key": PROPERTY, "value": {"marker": marker}}


def quoted(text: str) -> str:
    """Return a text as a JQL string. https://support.atlassian.com/jira-software-cloud/docs/jql-strings-and-keywords/"""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def minutes_ago(since: dt.datetime, now: dt.datetime) -> int:
    """Return how many minutes ago ``since`` is, with a margin of two.

    JQL reads a date in the time zone of the account, so only the relative form is unambiguous.
    """
    return max(0, int((now - since).total_seconds()) // 60 + 1) + 2


# -- in --------------------------------------------------------------------------------------------------------


def at(value: Any, *keys: str) -> Any:
    """Return the value at a path of keys, None if the path breaks."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text_at(value: Any, *keys: str) -> str:
    """Return the text at a path of keys, empty if there is none."""
    text = at(value, *keys)
    return text if isinstance(text, str) else ""


def items_at(value: Any, *keys: str) -> list[Any]:
    """Return the list at a path of keys, empty if there is none."""
    items = at(value, *keys)
    return items if isinstance(items, list) else []


def time_of(value: Any) -> dt.datetime | None:
    """Return a time as Jira writes it, ``2026-03-01T10:00:00.000+0100``; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        when = dt.datetime.fromisoformat(value)
        return when.astimezone(dt.UTC) if when.tzinfo else None
    except (ValueError, OverflowError):
        return None


def state_of(fields: Any) -> State | None:
    """Return the state by the status category, whose keys are fixed while names are translated and renamed.

    Without a category only a resolution tells; None if there is neither.
    """
    category = text_at(fields, "status", "statusCategory", "key")
    if category:
        return "closed" if category == "done" else "open"
    return "closed" if isinstance(at(fields, "resolution"), Mapping) else None


def reason_of(fields: Any, reasons: Mapping[CloseReason, str] | None = None) -> CloseReason:
    """Return why an issue is closed, as far as the names of its resolution or status clearly say.

    Some workflows set the resolution "Done" with every closed status, so that it alone does not mean completed.
    ``reasons`` are the names in the settings. Otherwise English names are understood.
    """
    called = {name.strip().casefold(): reason for reason, name in (reasons or {}).items()}
    for name in (text_at(fields, "resolution", "name"), text_at(fields, "status", "name")):
        reason = called.get(name.strip().casefold()) or _reason_by(name)
        if reason != "completed":
            return reason
    return "completed"


def _reason_by(name: str) -> CloseReason:
    if _DUPLICATE.search(name):
        return "duplicate"
    return "not_planned" if _NOT_PLANNED.search(name) else "completed"


def closeness(names: str, reason: CloseReason | None) -> int:
    """Return how well the name of a status or resolution fits a reason, 0 being best.

    A duplicate fits "won't do" better than done.
    """
    duplicate, not_planned = bool(_DUPLICATE.search(names)), bool(_NOT_PLANNED.search(names))
    if reason == "duplicate":
        return 0 if duplicate else 1 if not_planned else 2
    if reason == "not_planned":
        return 0 if not_planned else 2 if duplicate else 1
    return 1 if duplicate or not_planned else 0


def markers_of(fields: Any) -> tuple[str, ...]:
    """Return the markers among the labels. A clone of an issue copies its labels, so they alone prove nothing."""
    texts = (label for label in items_at(fields, "labels") if isinstance(label, str))
    return tuple(label for label in texts if _MARKER.fullmatch(label))


def author_of(fields: Any) -> Actor | None:
    """Return the author of an issue. The creator can't be changed afterwards, the reporter can."""
    return actor_of(at(fields, "creator")) or actor_of(at(fields, "reporter"))


def ref_of(issue: Any, site: str) -> IssueRef | None:
    """Return the reference of an issue in an object of the API or of a webhook."""
    remote_id, key = at(issue, "id"), text_at(issue, "key")
    if isinstance(remote_id, int) and not isinstance(remote_id, bool):
        remote_id = str(remote_id)
    if not (
        isinstance(remote_id, str) and remote_id.isascii() and remote_id.isdigit() and len(remote_id) < 20
    ):
        return None
    return IssueRef(remote_id=remote_id, key=key, url=f"{site}/browse/{key}" if key else "")


def project_of(issue: Any) -> str:
    """Return the key of the project an issue is in, in upper case; empty if it is unknown."""
    key = text_at(issue, "fields", "project", "key") or text_at(issue, "key").rpartition("-")[0]
    return key.upper()


def actor_of(user: Any) -> Actor | None:
    """Return an account; None for an automation without an account. Data Center has no account ids, but permanent
    keys.
    """
    account_id = text_at(user, "accountId") or text_at(user, "key") or text_at(user, "name")
    return Actor(account_id, text_at(user, "displayName")) if account_id else None


def seen(
    issue: Any,
    site: str,
    actor: Actor | None = None,
    reasons: Mapping[CloseReason, str] | None = None,
) -> IssueState | None:
    """Return the state of an issue; None if the object does not contain it."""
    ref, fields = ref_of(issue, site), at(issue, "fields")
    state = state_of(fields)
    if ref is None or state is None:
        return None
    return IssueState(
        ref=ref,
        state=state,
        close_reason=reason_of(fields, reasons) if state == "closed" else None,
        version=time_of(at(fields, "updated")),
        actor=actor,
        author=author_of(fields),
        markers=markers_of(fields),
    )
