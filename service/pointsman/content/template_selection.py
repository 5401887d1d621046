"""In whose words a draft is: the templates of the rule that sends a ticket there, or the built-in ones. Pure.

A template that fails costs nobody a report: the built-in words take its place, and the draft says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pointsman.content import templates
from pointsman.content.templates import TemplateContext, TemplateName
from pointsman.domain.routing import Facts, Options, Route, match_route

DEFAULT_OPTIONS = Options()


class Rule(msgspec.Struct, frozen=True):
    """A rule that has a say in how a ticket is told, by its name."""

    name: str
    options: Options = DEFAULT_OPTIONS


NO_RULE = Rule("")


def has_templates(route: Route) -> bool:
    """Whether a rule says anything of how tickets are told."""
    return route.options.templates != DEFAULT_OPTIONS.templates or route.options.requester


def rule_for(routes: Sequence[Route], facts: Facts, destination_id: int | None) -> Rule:
    """The first rule that fits a ticket and names the destination; None: whichever it names. Thresholds are not asked: the
    ticket is there already.
    """
    for route in routes:
        if destination_id is not None and destination_id not in route.destinations:
            continue
        result = match_route(route, facts)
        if result.matched or result.pending:
            return Rule(route.options.name or f"number {route.position}", route.options)
    return NO_RULE


class TemplateSelector:
    """The words of one draft. ``problems``: templates that failed, with line and cause."""

    def __init__(self, rule: Rule, given: Callable[[], TemplateContext]) -> None:
        self._rule = rule
        self._make_context = given
        self._context: TemplateContext | None = None
        self.problems: list[str] = []

    def render(self, what: TemplateName, built_in: Callable[[], str]) -> str:
        """One text of the draft."""
        source = getattr(self._rule.options.templates, what)
        if source is None:
            return built_in()
        try:
            if self._context is None:
                self._context = self._make_context()
            return templates.render(what, source, self._context)
        except Exception as error:  # noqa: BLE001 - a report is worth more than its template
            cause = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"template {what} of route {self._rule.name} failed: {str(cause)[:300]}")
            return built_in()
