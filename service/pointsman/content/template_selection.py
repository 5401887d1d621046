"""Choose the texts of a draft: templates of the route that sends the ticket there, or the built-in texts. Pure.

A template that fails is replaced by the built-in text, and the draft records the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pointsman.content import templates
from pointsman.content.templates import TemplateContext, TemplateName
from pointsman.domain.routing import Facts, Options, Route, match_route

DEFAULT_OPTIONS = Options()


class Rule(msgspec.Struct, frozen=True):
    """Name and options of the route whose templates apply."""

    name: str
    options: Options = DEFAULT_OPTIONS


NO_RULE = Rule("")


def has_templates(route: Route) -> bool:
    """Return whether a route changes the texts of its tickets."""
    return route.options.templates != DEFAULT_OPTIONS.templates or route.options.requester


def rule_for(routes: Sequence[Route], facts: Facts, destination_id: int | None) -> Rule:
    """Return the first route that matches a ticket and names the destination; NO_RULE if there is none.

    ``destination_id`` None accepts every destination. Thresholds are ignored, since the ticket already exists.
    """
    for route in routes:
        if destination_id is not None and destination_id not in route.destinations:
            continue
        result = match_route(route, facts)
        if result.matched or result.pending:
            return Rule(route.options.name or f"number {route.position}", route.options)
    return NO_RULE


class TemplateSelector:
    """Renderer of one draft's texts. ``problems`` lists templates that failed, with line and cause."""

    def __init__(self, rule: Rule, make_context: Callable[[], TemplateContext]) -> None:
        self._rule = rule
        self._make_context = make_context
        self._context: TemplateContext | None = None
        self.problems: list[str] = []

    def render(self, name: TemplateName, built_in: Callable[[], str]) -> str:
        """Return one text of the draft, from the route's template or from ``built_in``."""
        source = getattr(self._rule.options.templates, name)
        if source is None:
            return built_in()
        try:
            if self._context is None:
                self._context = self._make_context()
            return templates.render(name, source, self._context)
        except Exception as error:  # noqa: BLE001 - a failing template must not lose the report
            cause = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"template {name} of route {self._rule.name} failed: {str(cause)[:300]}")
            return built_in()
