"""Choose the transition that closes or reopens an issue: no I/O.

Jira has no "close": it has transitions, whose ids depend on the workflow, the status and the account, and whose
screens may require fields.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-get
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.plugin_api import Blocked, CloseReason, State
from pointsman_jira.wire import at, closeness, items_at, text_at

_NAMES_SHOWN = 8


class Transition(NamedTuple):
    """One transition that is available now. ``fields`` are those of its screen, as Jira describes them."""

    id: str
    name: str
    status: str
    category: str
    fields: Mapping[str, Any]


class TransitionSettings(NamedTuple):
    """The settings: a status or transition to prefer, the names of reasons, fields for the screen."""

    setting: str = "close_fields"
    preferred: str = ""
    reasons: Mapping[CloseReason, str] = {}
    fields: Mapping[str, Any] = {}


class _Candidate(NamedTuple):
    way: Transition
    fields: dict[str, Any]
    missing: tuple[str, ...]


def read(answer: Any) -> list[Transition]:
    """Return the transitions that the account may use. The list is empty, with 200, if it may use none."""
    transitions = []
    for item in items_at(answer, "transitions"):
        if not text_at(item, "id") or at(item, "isAvailable") is False:
            continue
        fields = at(item, "fields")
        transitions.append(
            Transition(
                id=text_at(item, "id"),
                name=text_at(item, "name"),
                status=text_at(item, "to", "name"),
                category=text_at(item, "to", "statusCategory", "key"),
                fields=fields if isinstance(fields, Mapping) else {},
            )
        )
    return transitions


def choose(
    transitions: Sequence[Transition], state: State, reason: CloseReason | None, wish: TransitionSettings
) -> tuple[Transition, dict[str, Any]]:
    """Return the transition and the fields to send. Raises Blocked, with the existing names, if there is none."""
    wanted = ("done",) if state == "closed" else ("new", "indeterminate")
    candidates = [_filled(way, state, reason, wish) for way in transitions if way.category in wanted]
    usable = [item for item in candidates if not item.missing]
    if not usable:
        raise Blocked(_no_way(transitions, candidates, state, wish))
    meant = wish.reasons.get(reason or "completed", "") if state == "closed" else ""

    def rank(item: _Candidate) -> tuple[bool, bool, bool, int, int]:
        way = item.way
        fit = closeness(f"{way.name} {way.status}", reason) if state == "closed" else 0
        demands = any(at(field, "required") is True for field in way.fields.values())
        return (
            not _named(way, wish.preferred),
            not _named(way, meant),
            demands,
            wanted.index(way.category),
            fit,
        )

    best = min(usable, key=rank)
    return best.way, best.fields


def _named(way: Transition, name: str) -> bool:
    name = name.strip().casefold()
    return bool(name) and name in {way.name.strip().casefold(), way.status.strip().casefold()}


def _filled(
    way: Transition, state: State, reason: CloseReason | None, wish: TransitionSettings
) -> _Candidate:
    """Return the fields to send: the settings' fields that the screen has, and required fields whose value is clear.

    A field that is not on the screen is refused, so no other field is sent.
    """
    fields: dict[str, Any] = {}
    missing = []
    for name, field in way.fields.items():
        required = at(field, "required") is True
        value: Any = None
        if name in wish.fields:
            fields[name] = wish.fields[name]
        elif name == "resolution" and state == "closed":
            value = _resolution(field, reason, wish, required=required)
        elif name == "resolution" and not required:
            fields[name] = None  # otherwise the open issue would show a resolution
        elif required:
            value = _default(field)
        if value is not None:
            fields[name] = value
        elif name not in fields and required and at(field, "hasDefaultValue") is not True:
            missing.append(name)
    return _Candidate(way, fields, tuple(missing))


def _resolution(
    field: Any, reason: CloseReason | None, wish: TransitionSettings, *, required: bool
) -> dict[str, str] | None:
    """Return the resolution that the settings name for the reason; if one is required, the one that fits best."""
    allowed = [(text_at(value, "id"), text_at(value, "name")) for value in items_at(field, "allowedValues")]
    allowed = [value for value in allowed if value[0]]
    meant = wish.reasons.get(reason or "completed", "").strip().casefold()
    named = [value for value in allowed if meant and value[1].strip().casefold() == meant]
    if named and (reason or required):
        return {"id": named[0][0]}
    if allowed and required and at(field, "hasDefaultValue") is not True:
        return {"id": min(allowed, key=lambda value: closeness(value[1], reason))[0]}
    return None


def _default(field: Any) -> dict[str, str] | None:
    """Return the value of a required field: its own default among the allowed values, or the only allowed value."""
    allowed = [text_at(value, "id") for value in items_at(field, "allowedValues") if text_at(value, "id")]
    default = text_at(field, "defaultValue", "id")
    if default in allowed:
        return {"id": default}
    return {"id": allowed[0]} if len(allowed) == 1 else None


def _no_way(
    transitions: Sequence[Transition],
    candidates: Sequence[_Candidate],
    state: State,
    wish: TransitionSettings,
) -> str:
    word = "a status of the category done" if state == "closed" else "an open status"
    if not transitions:
        return (
            "the account may not move this issue to another status: give it the permission Transition issues"
        )
    if candidates:
        lacking = {name: item.way.fields[name] for item in candidates for name in item.missing}
        fields = "; ".join(described(name, field) for name, field in sorted(lacking.items()))
        return f"every transition to {word} demands fields that have no default: {fields}. Name them in {wish.setting}"
    names = ", ".join(f"{item.name} (to {item.status})" for item in transitions)
    return f"no transition leads to {word}; there are: {names}"


def described(name: str, field: Any) -> str:
    """Return a description of a field, as a person may look for it: its id, its name, and its allowed values."""
    called = text_at(field, "name")
    shown = f"{name} ({called})" if called and called != name else name
    allowed = [
        text_at(value, "name") or text_at(value, "value") for value in items_at(field, "allowedValues")
    ]
    allowed = [value for value in allowed if value]
    if not allowed:
        return shown
    more = ", ..." if len(allowed) > _NAMES_SHOWN else ""
    return f"{shown}, one of {', '.join(allowed[:_NAMES_SHOWN])}{more}"
