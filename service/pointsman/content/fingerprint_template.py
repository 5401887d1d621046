"""Compute fingerprints from a route's template, which decides which reports belong to one ticket. Pure.

A template sees only the texts of the report, has no loops and no randomness: it is fast, and the same report gets the
same fingerprint on every replica at any time. An error in a template never loses a report.
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
"""Variables of a template; ``fingerprint`` is the fingerprint that the source's kind computed."""
TEMPLATE_PREFIX = "route:"
"""Prefix of fingerprints from templates, so that none equals a fingerprint of a source kind."""
MAX_LENGTH = 400
"""Number of characters of a fingerprint that are kept; a digest replaces the rest."""
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
# filters that are not deterministic, that make a short text long, or that return no text
_REMOVED_FILTERS = ("random", "urlize", "pprint", "center", "indent", "wordwrap", "map", "batch", "slice")


class FingerprintResult(msgspec.Struct, frozen=True):
    """Fingerprint of a report, with position and name of the route whose template applied.

    ``problem`` is the error of that template; the fingerprint is then the source kind's.
    """

    fingerprint: str
    position: int | None = None
    name: str = ""
    problem: str = ""


class _Tags:
    """Facts of a report by name: empty if there is none, joined by a comma if there are several."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Sequence[tuple[str, str]]) -> None:
        self._facts = facts

    def __getitem__(self, name: object) -> str:
        return ", ".join(value for fact, value in self._facts if fact == name)


def _check_output_value(value: object) -> object:
    """Return a value that may be output. Raises TypeError for objects whose text differs between runs."""
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
    """Return the compiled template, from a cache. Raises ValueError with line and cause."""
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
    """Check a template. Raises ValueError with line and cause."""
    _compiled(template)


def render(template: str, source: str, kind: str, report: Report) -> str:
    """Return the fingerprint of a report by a template. Raises ValueError if it fails or the result is empty."""
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
        fingerprint = (
            f"{fingerprint[:MAX_LENGTH]} {hashlib.sha256(fingerprint.encode('utf-8', 'replace')).hexdigest()}"
        )
    return TEMPLATE_PREFIX + fingerprint


def compute_fingerprint(routes: Sequence[Route], source: str, kind: str, report: Report) -> FingerprintResult:
    """Return a report's fingerprint by the first route with a template, else the source kind's.

    ``routes`` are the routes that match the report, in order.
    """
    for route in routes:
        template = route.options.fingerprint
        if template is None:
            continue
        fingerprint, problem = report.fingerprint, ""
        try:
            fingerprint = render(template, source, kind, report)
        except Exception as error:  # noqa: BLE001 - a failing template must not lose the report
            problem = str(error)[:300]
        return FingerprintResult(fingerprint, route.position, route.options.name, problem)
    return FingerprintResult(report.fingerprint)
