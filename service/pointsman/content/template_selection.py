"""In whose words a draft is: the templates of the rule that sends a ticket there, or the built-in ones. Pure.

A template that fails costs nobody a report: the built-in words take its place, and the draft says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from pointsman.content import templates
from pointsman.content.templates import TemplateContext, What
from pointsman.domain.routing import Facts, Options, Route, match_route

PLAIN = Options()


class Rule(msgspec.Struct, frozen=True):
    """A rule that has a say in how a ticket is told, by its name."""

    name: str
    options: Options = PLAIN


NO_RULE = Rule("")


def has_templates(route: Route) -> bool:
    """Whether a rule says anything of how tickets are told."""
    return route.options.templates != PLAIN.templates or route.options.requester


def rule_for(routes: Sequence[Route], facts: Facts, destination_id: int | None) -> Rule:
    """The first rule that fits a ticket and names the destination; None: whichever it names. Thresholds are not asked: the
    ticket is there already.
    """
    for route in routes:
        if destination_id is not None and destination_id not in route.destinations:
            continue
        said = match_route(route, facts)
        if said.matched or said.pending:
            return Rule(route.options.name or f"number {route.position}", route.options)
    return NO_RULE


class TemplateSelector:
    """The words of one draft. ``problems``: templates that failed, with line and cause."""

    def __init__(self, rule: Rule, given: Callable[[], TemplateContext]) -> None:
        self._rule = rule
        self._make_given = given
        self._given: TemplateContext | None = None
        self.problems: list[str] = []

    def render(self, what: What, built_in: Callable[[], str]) -> str:
        """One text of the draft."""
        source = getattr(self._rule.options.templates, what)
        if source is None:
            return built_in()
        try:
            if self._given is None:
                self._given = self._make_given()
            return templates.render(what, source, self._given)
        except Exception as error:  # noqa: BLE001 - a report is worth more than its template
            cause = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"template {what} of route {self._rule.name} failed: {str(cause)[:300]}")
            return built_in()
