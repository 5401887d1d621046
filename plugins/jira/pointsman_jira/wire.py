"""What Jira says and what is said to it, as values: no I/O.

Answers of the REST API v3: https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.plugin_api import (
    Actor,
    Answer,
    AuthFailed,
    CloseReason,
    IssueRef,
    IssueSeen,
    Misconfigured,
    PluginError,
    RateLimited,
    Refused,
    State,
)
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
_FORMAT = re.compile(
    r"too long|exceeds the allowed limit|limit_exceeded|invalid_input|document format|\badf\b", re.IGNORECASE
)
_LIMITS = {"jira-per-issue-on-write": "issue", "jira-burst-based": "endpoint"}
_MAX_WAIT_SECONDS = 3600.0


# -- out -------------------------------------------------------------------------------------------------------


def summary(title: str) -> str:
    """A title as Jira takes it: one line, 255 characters (counted as UTF-16, to be on the safe side), not empty."""
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
    """Labels as Jira takes them: no spaces, no doubles; the marker is one of them."""
    made = ("_".join(adf.clean(name).split())[:LABEL_LIMIT] for name in names)
    return list(dict.fromkeys(name for name in (*made, marker) if name))


def marker_property(marker: str) -> dict[str, Any]:
    """The entity property that holds the marker, of issues and comments alike."""
    return {"key": PROPERTY, "value": {"marker": marker}}


def quoted(text: str) -> str:
    """A text as a JQL string. https://support.atlassian.com/jira-software-cloud/docs/jql-strings-and-keywords/"""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def minutes_ago(since: dt.datetime, now: dt.datetime) -> int:
    """How far back to ask, in whole minutes with two to spare.

    JQL reads a date in the time zone of the account that asks, so only the relative form says what is meant.
    """
    return max(0, int((now - since).total_seconds()) // 60 + 1) + 2


# -- in --------------------------------------------------------------------------------------------------------


def at(value: Any, *keys: str) -> Any:
    """The value at a path of keys, None wherever the path breaks."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text_at(value: Any, *keys: str) -> str:
    """The text at a path of keys, empty if there is none."""
    found = at(value, *keys)
    return found if isinstance(found, str) else ""


def items_at(value: Any, *keys: str) -> list[Any]:
    """The list at a path of keys, empty if there is none."""
    found = at(value, *keys)
    return found if isinstance(found, list) else []


def time_of(value: Any) -> dt.datetime | None:
    """A time as Jira writes it, ``2026-03-01T10:00:00.000+0100``; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        when = dt.datetime.fromisoformat(value)
        return when.astimezone(dt.UTC) if when.tzinfo else None
    except (ValueError, OverflowError):
        return None


def state_of(fields: Any) -> State | None:
    """Open or closed by the status category, whose keys are fixed while names are translated and renamed.

    Without a category only a resolution tells; None if there is neither.
    """
    category = text_at(fields, "status", "statusCategory", "key")
    if category:
        return "closed" if category == "done" else "open"
    return "closed" if isinstance(at(fields, "resolution"), Mapping) else None


def reason_of(fields: Any) -> CloseReason:
    """Why an issue is closed, as far as the resolution's name (else the status') clearly says so."""
    name = text_at(fields, "resolution", "name") or text_at(fields, "status", "name")
    if _DUPLICATE.search(name):
        return "duplicate"
    return "not_planned" if _NOT_PLANNED.search(name) else "completed"


def markers_of(fields: Any) -> tuple[str, ...]:
    """The markers among the labels. A clone of an issue copies its labels, so they alone prove nothing."""
    found = (label for label in items_at(fields, "labels") if isinstance(label, str))
    return tuple(label for label in found if _MARKER.fullmatch(label))


def author_of(fields: Any) -> Actor | None:
    """Who made an issue. The creator can't be changed afterwards, as the reporter can."""
    return actor_of(at(fields, "creator")) or actor_of(at(fields, "reporter"))


def ref_of(issue: Any, site: str) -> IssueRef | None:
    """Which issue an object of the API or of a webhook means."""
    remote_id, key = at(issue, "id"), text_at(issue, "key")
    if isinstance(remote_id, int) and not isinstance(remote_id, bool):
        remote_id = str(remote_id)
    if not (
        isinstance(remote_id, str) and remote_id.isascii() and remote_id.isdigit() and len(remote_id) < 20
    ):
        return None
    return IssueRef(remote_id=remote_id, key=key, url=f"{site}/browse/{key}" if key else "")


def project_of(issue: Any) -> str:
    """The key of the project an issue is in, upper case; empty if it can't be told."""
    key = text_at(issue, "fields", "project", "key") or text_at(issue, "key").rpartition("-")[0]
    return key.upper()


def actor_of(user: Any) -> Actor | None:
    """Who did it; None for an automation without an account."""
    account_id = text_at(user, "accountId")
    return Actor(account_id, text_at(user, "displayName")) if account_id else None


def seen(issue: Any, site: str, actor: Actor | None = None) -> IssueSeen | None:
    """An issue as it stands; None if the object does not say enough."""
    ref, fields = ref_of(issue, site), at(issue, "fields")
    state = state_of(fields)
    if ref is None or state is None:
        return None
    return IssueSeen(
        ref=ref,
        state=state,
        close_reason=reason_of(fields) if state == "closed" else None,
        version=time_of(at(fields, "updated")),
        actor=actor,
        author=author_of(fields),
        markers=markers_of(fields),
    )


# -- transitions -----------------------------------------------------------------------------------------------


class Transition(NamedTuple):
    """One way an issue may go now. ``missing`` are the fields it demands and has no default for."""

    id: str
    name: str
    status: str
    category: str
    missing: tuple[str, ...]
    resolutions: tuple[tuple[str, str], ...]


def transitions(answer: Any) -> list[Transition]:
    """The transitions that the account may use.

    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-get
    """
    found = []
    for item in items_at(answer, "transitions"):
        if not text_at(item, "id") or at(item, "isAvailable") is False:
            continue
        fields = at(item, "fields")
        fields = fields if isinstance(fields, Mapping) else {}
        missing = (
            name
            for name, field in fields.items()
            if at(field, "required") is True and at(field, "hasDefaultValue") is not True
        )
        allowed = items_at(fields, "resolution", "allowedValues")
        found.append(
            Transition(
                id=text_at(item, "id"),
                name=text_at(item, "name"),
                status=text_at(item, "to", "name"),
                category=text_at(item, "to", "statusCategory", "key"),
                missing=tuple(str(name) for name in missing),
                resolutions=tuple(
                    (text_at(one, "id"), text_at(one, "name")) for one in allowed if text_at(one, "id")
                ),
            )
        )
    return found


def choose_transition(
    found: Sequence[Transition], state: State, reason: CloseReason | None, preferred: str
) -> tuple[Transition, dict[str, Any]]:
    """The way to go and the fields to send with it. Misconfigured, with the names there are, if there is none."""
    wanted = ("done",) if state == "closed" else ("new", "indeterminate")
    candidates = [item for item in found if item.category in wanted]
    usable = [
        item for item in candidates if set(item.missing) <= ({"resolution"} if item.resolutions else set())
    ]
    if not usable:
        raise Misconfigured(_no_way(found, candidates, state))

    def rank(item: Transition) -> tuple[bool, bool, int, int]:
        named = bool(preferred) and preferred.casefold() in {item.name.casefold(), item.status.casefold()}
        fit = _fit(f"{item.name} {item.status}", reason) if state == "closed" else 0
        return not named, bool(item.missing), wanted.index(item.category), fit

    best = min(usable, key=rank)
    fields: dict[str, Any] = {}
    if "resolution" in best.missing:
        fields["resolution"] = {"id": min(best.resolutions, key=lambda one: _fit(one[1], reason))[0]}
    return best, fields


def _fit(names: str, reason: CloseReason | None) -> int:
    """How well a status or resolution fits a reason by its name, 0 being best.

    A duplicate is sooner "won't do" than done.
    """
    duplicate, not_planned = bool(_DUPLICATE.search(names)), bool(_NOT_PLANNED.search(names))
    if reason == "duplicate":
        return 0 if duplicate else 1 if not_planned else 2
    if reason == "not_planned":
        return 0 if not_planned else 2 if duplicate else 1
    return 1 if duplicate or not_planned else 0


def _no_way(found: Sequence[Transition], candidates: Sequence[Transition], state: State) -> str:
    word = "a status of the category done" if state == "closed" else "an open status"
    if not found:
        return (
            "the account may not move this issue to another status: give it the permission Transition issues"
        )
    if candidates:
        fields = ", ".join(sorted({name for item in candidates for name in item.missing}))
        return f"every transition to {word} demands fields that have no default: {fields}"
    names = ", ".join(f"{item.name} (to {item.status})" for item in found)
    return f"no transition leads to {word}; there are: {names}"


# -- errors ----------------------------------------------------------------------------------------------------


def said(answer: Answer) -> tuple[dict[str, str], str]:
    """The fields Jira complains about, and all of its words: ``{"errorMessages": [...], "errors": {...}}``."""
    try:
        body = answer.json()
    except PluginError:
        return {}, answer.text()
    errors = at(body, "errors")
    fields = {str(key): str(value) for key, value in errors.items()} if isinstance(errors, Mapping) else {}
    messages = [str(message) for message in items_at(body, "errorMessages")]
    return fields, "; ".join([*messages, *(f"{key}: {value}" for key, value in fields.items())])


def is_about_format(answer: Answer) -> bool:
    """Whether a refusal is about how a text is written or how long it is, and about nothing else."""
    if answer.status != 400:
        return False
    fields, words = said(answer)
    if set(fields) - {"description", "comment", "body"} or "screen" in words.casefold():
        return False
    return bool(fields) or _FORMAT.search(words) is not None


def problem(answer: Answer, what: str, *, now: dt.datetime) -> PluginError:
    """The error that an answer stands for, Jira's own signs first."""
    fields, words = said(answer)
    message = f"{what}: {words[:500]}" if words else what
    shown: dict[str, Any] = {"status": answer.status, "excerpt": answer.text()}
    if answer.status == 429:
        return RateLimited(
            f"{what}: Jira asks to wait", retry_after=_wait(answer, now), scope=_scope(answer), **shown
        )
    # With a wrong token Jira answers some calls as it would answer a stranger, and says so here only.
    # https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
    login = answer.headers.get("x-seraph-loginreason", "").upper()
    if answer.status in {400, 403, 404} and (
        "AUTHENTICATED_FAILED" in login or "AUTHENTICATION_DENIED" in login
    ):
        return AuthFailed(f"{what}: Jira does not accept the token ({login.strip()})", **shown)
    if answer.status == 401:
        return AuthFailed(
            f"{message}: the token is wrong or has ended; one with scopes needs api_url", **shown
        )
    if answer.status == 400 and "labels" in fields and "screen" in fields["labels"].casefold():
        return Refused(
            f"{what}: put the field Labels on the project's create screen, Pointsman's marker needs it",
            fields=fields,
            **shown,
        )
    if answer.status == 400 and set(fields) & {"project", "issuetype", "pid"}:
        return Misconfigured(message, **shown)
    return answer.problem(message, fields=fields)


def _scope(answer: Answer) -> str:
    """https://developer.atlassian.com/cloud/jira/platform/rate-limiting/"""
    return _LIMITS.get(answer.headers.get("ratelimit-reason", "").strip().lower(), "all")


def _wait(answer: Answer, now: dt.datetime) -> float | None:
    """Seconds to wait: Retry-After, else the time in X-RateLimit-Reset, which Jira writes in ISO 8601."""
    seconds = answer.retry_after()
    if seconds is not None:
        return seconds
    reset = time_of(answer.headers.get("x-ratelimit-reset", "").replace("Z", "+00:00"))
    return min(max(0.0, (reset - now).total_seconds()), _MAX_WAIT_SECONDS) if reset else None
