"""Fingerprints by template: a rule's own notion of which reports are one problem. Pure; nothing here is lost to an error.

A template sees the report's texts and nothing else, and neither loops nor calls chance: it is quick, and the same
report has the same fingerprint on every replica, today and tomorrow.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import msgspec
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pointsman.content.sanitize import clean_stored
from pointsman.domain.routing import Route
from pointsman.plugin_api import Report

VARIABLES = (
    "source",
    "kind",
    "title",
    "text",
    "level",
    "environment",
    "release",
    "problem",
    "fingerprint",
    "tags",
)
"""What a template may name; ``fingerprint`` is the one that the source's kind gives."""
TEMPLATE_PREFIX = "route:"
"""How fingerprints by template begin, so that none is taken for one that a kind gives."""
MAX_LENGTH = 400
"""So many characters of a fingerprint are kept; a digest stands for the rest."""
_FORBIDDEN = (
    nodes.For,
    nodes.Macro,
    nodes.CallBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Block,
    nodes.Mul,
    nodes.Pow,
)
# what differs each time, what makes a short text long, what is no text
_REMOVED_FILTERS = ("random", "urlize", "pprint", "center", "indent", "wordwrap", "map", "batch", "slice")


class FingerprintResult(msgspec.Struct, frozen=True):
    """A report's fingerprint, and the rule whose template it is by; ``problem`` says why that was of no use."""

    fingerprint: str
    position: int | None = None
    name: str = ""
    problem: str = ""


class _Tags:
    """A report's facts by their names; what it does not have is empty. Several of one name stand side by side."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Sequence[tuple[str, str]]) -> None:
        self._facts = facts

    def __getitem__(self, name: object) -> str:
        return ", ".join(value for fact, value in self._facts if fact == name)


def _check_output_value(value: object) -> object:
    """A value as it is written; what looks different each time is refused."""
    if isinstance(value, (str, int, float, jinja2.Undefined)):
        return value
    raise TypeError(
        f"a {type(value).__name__} is no text; a function is called with (), a tag is named: tags.service"
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.ChainableUndefined, finalize=_check_output_value, autoescape=False, cache_size=0
    )
    environment.globals.clear()
    for name in _REMOVED_FILTERS:
        environment.filters.pop(name, None)
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=500)
def _compiled(template: str) -> jinja2.Template:
    """The template, made ready once. Raises ValueError with line and cause."""
    try:
        tree = _ENVIRONMENT.parse(template)
        for node in tree.find_all(_FORBIDDEN):
            raise ValueError(f"line {node.lineno}: {type(node).__name__} is not for fingerprints")
        for unknown in sorted(meta.find_undeclared_variables(tree) - set(VARIABLES)):
            raise ValueError(f"line 1: there is no {unknown!r}; there are {', '.join(VARIABLES)}")
        return _ENVIRONMENT.from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from error
    except RecursionError as error:
        raise ValueError("line 1: it is nested too deeply") from error


def check(template: str) -> None:
    """Raises ValueError, with line and cause, for a template that can make no fingerprint."""
    _compiled(template)


def render(template: str, source: str, kind: str, report: Report) -> str:
    """The fingerprint of a report by a template. Raises ValueError for one that fails or comes out empty."""
    variables: Mapping[str, Any] = {
        "source": source,
        "kind": kind,
        "title": report.title,
        "text": report.text,
        "level": report.level,
        "environment": report.environment,
        "release": report.release,
        "problem": report.problem_id,
        "fingerprint": report.fingerprint,
        "tags": _Tags(report.facts),
    }
    compiled = _compiled(template)
    try:
        fingerprint = clean_stored(" ".join(compiled.render(variables).split()))
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not any(letter.isalnum() for letter in fingerprint):
        raise ValueError(f"it came out empty: {fingerprint[:50]!r}")
    if len(fingerprint) > MAX_LENGTH:
        fingerprint = f"{fingerprint[:MAX_LENGTH]} {hashlib.sha256(fingerprint.encode('utf-8', 'replace')).hexdigest()}"
    return TEMPLATE_PREFIX + fingerprint


def compute_fingerprint(fit: Sequence[Route], source: str, kind: str, report: Report) -> FingerprintResult:
    """A report's fingerprint by the first of the rules that fit it and have a template; else the one that it has."""
    for route in fit:
        template = route.options.fingerprint
        if template is None:
            continue
        fingerprint, problem = report.fingerprint, ""
        try:
            fingerprint = render(template, source, kind, report)
        except Exception as error:  # noqa: BLE001 - a report is worth more than its template
            problem = str(error)[:300]
        return FingerprintResult(fingerprint, route.position, route.options.name, problem)
    return FingerprintResult(report.fingerprint)
