"""Settings that refer to the ticket: any JSON value whose texts are Jinja2 templates over a draft's facts.

A template is written by the operator and runs in Jinja2's sandbox without functions and methods, with few filters.
The facts are untrusted; they are only ever values and never become templates.

https://jinja.palletsprojects.com/en/stable/sandbox/
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pointsman.plugin_api import Refused
from pointsman_jira import adf

FACTS = frozenset({"ticket", "kind", "source", "title", "level", "environment", "release", "url"})
"""The facts that a template may refer to, see ``Draft.facts``."""
SOURCE_LIMIT = 4_000
"""The most characters of a template."""
RESULT_LIMIT = 10_000
"""The most characters of a template's result."""
FACT_LIMIT = 2_000
"""The most characters of a fact that a template sees."""
NESTING_LIMIT = 10

_FILTERS = (
    "capitalize", "d", "default", "first", "float", "int", "join", "last", "length", "lower", "replace", "round",
    "string", "title", "trim", "truncate", "upper",
)  # fmt: skip
_FILE = "<template>"


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 without access to anything but the facts, and without operations that multiply text."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        raise SecurityError(f"the operator {operator} is not available")

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        return False

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ARG002
        return False


def _environment() -> _Environment:
    # What comes out is a JSON value and no page, so nothing is to be escaped.
    environment = _Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    return environment


_ENVIRONMENT = _environment()


def check(setting: str, values: Mapping[str, Any], facts: frozenset[str] = FACTS) -> None:
    """Refuse, with the name of the field, a value that is not JSON, not a template, or refers to an unknown fact."""
    for name, value in values.items():
        _check(f"{setting}.{name}", value, facts, NESTING_LIMIT)


def _check(place: str, value: Any, facts: frozenset[str], depth: int) -> None:
    if depth == 0:
        raise ValueError(f"{place}: lists and tables stand more than {NESTING_LIMIT} deep in one another")
    if isinstance(value, str):
        _check_text(place, value, facts)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check(f"{place}.{key}", inner, facts, depth - 1)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            _check(f"{place}[{number}]", inner, facts, depth - 1)
    elif isinstance(value, (dt.date, dt.time)):
        raise ValueError(f'{place}: write a date as a text, such as "2026-03-01"')  # noqa: TRY004
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} is no number that JSON knows")
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"{place}: must be a text, a number, true, false, a list or a table")


def _check_text(place: str, text: str, facts: frozenset[str]) -> None:
    if len(text) > SOURCE_LIMIT:
        raise ValueError(f"{place}: a template may have {SOURCE_LIMIT} characters at most")
    try:
        _compiled(text)
        tree = _ENVIRONMENT.parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{place}: line {error.lineno} of the template: {error.message}") from error
    except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
        raise ValueError(f"{place}: the template can't be read: {_cause(error)}") from error
    call = tree.find(nodes.Call)
    if call is not None:
        cure = "there are filters, such as {{ title | upper }}"
        raise ValueError(f"{place}: line {call.lineno} of the template: nothing can be called here; {cure}")
    if any(True for _ in meta.find_referenced_templates(tree)):
        raise ValueError(f"{place}: a template can't include another: there is none")
    unknown = meta.find_undeclared_variables(tree) - facts
    if unknown:
        there = ", ".join(sorted(facts)) or "none here"
        raise ValueError(f"{place}: there is no fact {', '.join(sorted(unknown))}; facts: {there}")


def fill(setting: str, values: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values with every template rendered. A field whose whole text renders empty is left out.

    Raises Refused, with the field, the line and the cause, for a template that fails.
    """
    known = {name: _fact(text) for name, text in facts.items()}
    filled = {name: _fill(name, f"{setting}.{name}", value, known) for name, value in values.items()}
    return {name: value for name, value in filled.items() if value != ""}


def _fact(text: str) -> str:
    return " ".join(adf.clean(text[:FACT_LIMIT]).split())


def _fill(field: str, place: str, value: Any, facts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _text(field, place, value, facts)
    if isinstance(value, Mapping):
        return {key: _fill(field, f"{place}.{key}", inner, facts) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fill(field, f"{place}[{number}]", inner, facts) for number, inner in enumerate(value)]
    return value


def _text(field: str, place: str, text: str, facts: Mapping[str, str]) -> str:
    pieces, size = [], 0
    try:
        for piece in _compiled(text).generate(facts):
            size += len(piece)
            if size > RESULT_LIMIT:
                raise ValueError(f"it makes more than {RESULT_LIMIT} characters")  # noqa: TRY301
            pieces.append(piece)
    except Exception as error:
        line = _line(error)
        where = f"{place}, line {line} of the template" if line else place
        raise Refused(f"{where}: {_cause(error)}", fields={field: _cause(error)}) from error
    return adf.clean("".join(pieces))


@functools.lru_cache(maxsize=512)
def _compiled(text: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(text)


def _line(error: BaseException) -> int:
    """Return the line of the template that failed, 0 if it is unknown. Jinja2 puts it into the traceback."""
    line, at = 0, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == _FILE:
            line = at.tb_lineno
        at = at.tb_next
    return line


def _cause(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:300]
