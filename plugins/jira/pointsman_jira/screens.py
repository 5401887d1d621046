"""Compare the create screen of an issue type with the settings: no I/O.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-issuetypeid-get
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Finding
from pointsman_jira.settings import JiraSettings
from pointsman_jira.transitions import described
from pointsman_jira.wire import at, items_at, text_at

# Jira fills in the reporter by itself.
_SENT = {"project", "issuetype", "summary", "description", "labels", "reporter"}
_BREAKS = "issues can't be made"


def check(settings: JiraSettings, fields: Sequence[Any]) -> list[Finding]:
    """Return the findings about the fields that Jira shows for the issue type. If it shows none, nothing is known."""
    there = {name: field for field in fields if (name := text_at(field, "fieldId") or text_at(field, "key"))}
    if not there:
        return []
    named = {name: text_at(field, "name") for name, field in there.items()}
    configured = set(settings.fields) | {name for name in ("priority", "assignee") if getattr(settings, name)}
    findings = [_off_screen(name, named) for name in ("labels", "description") if name not in there]
    findings += [_off_screen(name, named) for name in sorted(configured - there.keys())]
    if settings.priority and "priority" in there:
        findings += _priority(settings.priority, there["priority"])
    for name, field in there.items():
        demanded = at(field, "required") is True and at(field, "hasDefaultValue") is not True
        if demanded and name not in _SENT | configured:
            findings.append(_not_covered(name, field))
    return findings


def _off_screen(name: str, named: Mapping[str, str]) -> Finding:
    meant = next((key for key, called in named.items() if called.casefold() == name.casefold()), "")
    if meant:
        return Finding(
            level="error",
            message=f"fields.{name} is a field's name, and Jira knows fields by their ids",
            impact=_BREAKS,
            remedy=f"write fields.{meant}",
        )
    return Finding(
        level="warning" if name == "assignee" else "error",
        message=f"the field {name} can't be set",
        impact="issues are made without their assignee" if name == "assignee" else _BREAKS,
        remedy=f"put the field {name} on the project's create screen",
    )


def _priority(wanted: str, field: Any) -> list[Finding]:
    names = [text_at(value, "name") for value in items_at(field, "allowedValues") if text_at(value, "name")]
    if not names or wanted.strip().casefold() in {name.casefold() for name in names}:
        return []
    remedy = f"set priority to one of: {', '.join(names)}"
    return [Finding(level="error", message=f"there is no priority {wanted}", impact=_BREAKS, remedy=remedy)]


def _not_covered(name: str, field: Any) -> Finding:
    """Return the finding about a required field, with the form of its value if the field's kind tells."""
    return Finding(
        level="error",
        message=f"the field {described(name, field)} is required and has no default",
        impact=_BREAKS,
        remedy=f"set it in the settings: fields.{name} = {_example(field)}. Or give it a default, or make it optional",
    )


def _example(field: Any) -> str:
    kind, items = text_at(field, "schema", "type"), text_at(field, "schema", "items")
    allowed = items_at(field, "allowedValues")
    key = "value" if allowed and text_at(allowed[0], "value") else "name" if allowed else ""
    example = f'{{ {key} = "{text_at(allowed[0], key)}" }}' if key else '"..."'
    if kind == "user":
        return '{ id = "the account id" }'
    if kind == "array":
        return f"[{example}]" if key or items == "string" else "[...]"
    return {"number": "1", "date": '"2026-03-01"'}.get(kind, example)
