"""Map any JSON to reports with JMESPath expressions. Pure.

https://jmespath.org/specification.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

import jmespath
import msgspec
from jmespath.exceptions import ArityError, JMESPathError, UnknownFunctionError
from msgspec import Meta

from pointsman.plugin_api import Action, CloseReason, Report, Unreadable
from pointsman.sources.json_access import fingerprint, scalar_text
from pointsman.sources.signature_settings import AnySignedSettings

ACTIONS: tuple[str, ...] = get_args(Action)
IGNORE, OTHERWISE = "ignore", "*"
NEVER = "none"
"""The value of ``dedupe`` with which every request counts."""
FACTS_LIMIT = 30
TEXTS = ("title", "text", "code", "fingerprint", "url", "level", "environment", "release", "action", "dedupe")


class MappingSettings(AnySignedSettings, frozen=True, kw_only=True):
    """Expressions for the fields of a report. An empty expression selects nothing."""

    reports: Annotated[
        str, Meta(description="A list in the body whose items are reports; empty: the body is one report")
    ] = ""
    title: Annotated[str, Meta(description="The title of the problem")] = ""
    text: Annotated[str, Meta(description="What happened, as prose")] = ""
    code: Annotated[str, Meta(description="Text shown as code, such as a stack trace")] = ""
    fingerprint: Annotated[
        str,
        Meta(
            description="Identifies the problem: reports with the same value share a ticket; empty: the title"
        ),
    ] = ""
    url: Annotated[str, Meta(description="The problem's page")] = ""
    level: Annotated[str, Meta(description="The severity, for routes")] = ""
    environment: Annotated[str, Meta(description="The environment, for routes")] = ""
    release: Annotated[str, Meta(description="The version, for routes")] = ""
    action: Annotated[
        str, Meta(description="What happened; its value is looked up in actions. Empty: opened")
    ] = ""
    actions: Annotated[
        dict[str, str],
        Meta(
            description="The meaning of each value of action: opened, resolved, ..., ignore; * is any other value"
        ),
    ] = msgspec.field(default_factory=dict)
    dedupe: Annotated[
        str,
        Meta(
            description="Identifies a repeated report; empty: the whole body; the word none: every request counts"
        ),
    ] = ""
    facts: Annotated[
        dict[str, str], Meta(description="Additional facts: expressions by label", max_length=FACTS_LIMIT)
    ] = msgspec.field(default_factory=dict)
    close_on_resolved: Annotated[
        bool, Meta(description="Whether a ticket is closed by a report with the action resolved")
    ] = False

    def __post_init__(self) -> None:
        """Refuse invalid expressions and unknown actions."""
        super().__post_init__()
        for name in ("reports", *TEXTS):
            _compile(name, getattr(self, name))
        for label, expression in self.facts.items():
            _compile(f"facts.{label}", expression)
        for value, action in self.actions.items():
            if action not in (*ACTIONS, IGNORE):
                raise ValueError(
                    f"actions.{value}: {action!r} is no action; there are {', '.join((*ACTIONS, IGNORE))}"
                )


class FieldMapper:
    """Reader of reports with the expressions of one source."""

    def __init__(self, settings: MappingSettings, defaults: Mapping[str, str] | None = None) -> None:
        expressions = {name: getattr(settings, name) or (defaults or {}).get(name, "") for name in TEXTS}
        self._never_repeated = expressions["dedupe"] == NEVER
        if self._never_repeated:
            del expressions["dedupe"]
        self._fields = {
            name: _compile(name, expression) for name, expression in expressions.items() if expression
        }
        self._reports = _compile("reports", settings.reports) if settings.reports else None
        self._facts = [
            (label, _compile(label, expression)) for label, expression in settings.facts.items() if expression
        ]
        self._actions = settings.actions
        self._reason: CloseReason | None = "completed" if settings.close_on_resolved else None

    def read(self, decoded: Any) -> Sequence[Report]:
        """Return the reports of a body. Raises Unreadable without a title, a fingerprint or a known action."""
        if self._reports is None:
            return [report for report in [self._read_item(decoded, "")] if report is not None]
        listed = _search(self._reports, decoded, "reports")
        if not isinstance(listed, list):
            raise Unreadable("finds no list: the setting `reports` does not fit this body", field="reports")
        reports = [self._read_item(item, f"reports[{number}].") for number, item in enumerate(listed)]
        return [report for report in reports if report is not None]

    def _read_item(self, item: Any, path_prefix: str) -> Report | None:
        picked = {
            name: _text(_search(expression, item, f"{path_prefix}{name}"))
            for name, expression in self._fields.items()
        }
        action = self._action(picked, path_prefix)
        if action is None:
            return None
        title = picked.get("title", "")
        if not title.strip():
            raise Unreadable(
                "finds nothing: the setting `title` does not fit this body", field=f"{path_prefix}title"
            )
        named = picked.get("fingerprint", title)
        if not named.strip():
            raise Unreadable(
                "finds nothing: the setting `fingerprint` does not fit this body",
                field=f"{path_prefix}fingerprint",
            )
        return Report(
            action=action,
            fingerprint=fingerprint(named),
            title=title,
            text=picked.get("text", ""),
            code=picked.get("code", ""),
            facts=tuple(
                (label, value)
                for label, expression in self._facts
                if (value := _text(_search(expression, item, f"{path_prefix}facts.{label}")))
            ),
            url=picked.get("url", ""),
            level=picked.get("level", ""),
            environment=picked.get("environment", ""),
            release=picked.get("release", ""),
            dedupe="" if self._never_repeated else picked.get("dedupe") or None,
            dedupe_by="state" if picked.get("dedupe") else "request",
            close_reason=self._reason if action == "resolved" else None,
        )

    def _action(self, picked: Mapping[str, str], path_prefix: str) -> Action | None:
        if "action" not in picked:
            return "opened"
        value = picked["action"]
        meant = self._actions.get(value, self._actions.get(OTHERWISE))
        if meant is None and not self._actions:
            meant = value
        if meant == IGNORE:
            return None
        if meant not in ACTIONS:
            raise Unreadable(
                f"is {value[:100]!r}, which the setting `actions` does not know; give it a meaning there, or `*`",
                field=f"{path_prefix}action",
            )
        return meant  # type: ignore[return-value]  # it is one of them


def _compile(name: str, expression: str) -> Any:
    if not expression:
        return None
    try:
        compiled = jmespath.compile(expression)
    except JMESPathError as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"{name}: {expression!r} is no JMESPath expression: {why}") from None
    try:
        compiled.search({})
    except (UnknownFunctionError, ArityError) as error:
        raise ValueError(f"{name}: {expression!r} can't work: {error}") from None
    except Exception:  # noqa: BLE001, S110 - other errors may come from the empty body alone
        pass
    return compiled


def _search(expression: Any, item: Any, field: str) -> Any:
    try:
        return expression.search(item)
    except Exception as error:  # noqa: BLE001 - the library's, and Python's for odd values
        why = str(error).partition("\n")[0][:200]
        raise Unreadable(f"can't be picked from this body: {why}", field=field) from None


def _text(value: Any) -> str:
    """Return texts and numbers as text, lists of them joined by spaces, other values as JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(item is None or isinstance(item, (str, int, float)) for item in value):
        return " ".join(word for item in value if (word := scalar_text(item)))
    if isinstance(value, (list, dict)):
        return msgspec.json.encode(value, order="sorted").decode()
    return scalar_text(value)
