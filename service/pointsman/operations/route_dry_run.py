"""Evaluate the routes of a configuration file for a request: nothing is stored or sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pointsman.content import fingerprint_template
from pointsman.content.fingerprint_template import FingerprintResult
from pointsman.content.sanitize import one_line
from pointsman.domain.quiet_hours import quiet_hours_for
from pointsman.domain.routing import QuietHours, RecurrenceRule, evaluate_history, facts_of, prefilter
from pointsman.operations.route_file import RouteFile, read_request
from pointsman.operations.route_results import RouteResult, evaluate_routes
from pointsman.plugin_api import Report

NO_TICKET = {
    "test": "it is a test message, which is only stored",
    "resolved": "the open ticket of its problem, if there is one, is marked as resolved",
    "commented": "the ticket of its problem gets a comment",
}
"""Actions that open no ticket, and their effect."""


class TargetResult(msgspec.Struct, frozen=True, kw_only=True):
    """A destination that was chosen, and its quiet hours."""

    slug: str
    quiet_hours: QuietHours | None = None


class ReportResult(msgspec.Struct, frozen=True, kw_only=True):
    """A report of the request, and where the routes send it. ``below_threshold``: it is only counted."""

    action: str
    kind: str
    title: str
    fingerprint: str
    fingerprint_origin: str
    environment: str
    level: str
    release: str
    tags: tuple[tuple[str, str], ...]
    routes: tuple[RouteResult, ...]
    destinations: tuple[TargetResult, ...]
    below_threshold: bool
    recurrence: Sequence[RecurrenceRule]


def evaluate_request(
    routes: RouteFile, slug: str | None, headers: Sequence[str], raw: bytes
) -> list[ReportResult]:
    """Return where the routes send each report in a request. Raises ConfigError if it can't be read."""
    source, reports = read_request(routes, slug, headers, raw)
    assert source.plugin is not None
    return [_evaluate(routes, source.slug, source.plugin.ticket_kind, report) for report in reports]


def _evaluate(routes: RouteFile, source: str, kind: str, report: Report) -> ReportResult:
    facts = facts_of(source, kind, report)
    candidates = prefilter(routes.routes, facts)
    choice = evaluate_history(candidates, met=kind == "support")
    fingerprint = (
        fingerprint_template.compute_fingerprint(candidates, source, kind, report)
        if kind == "alert"
        else FingerprintResult("")
    )
    return ReportResult(
        action=report.action,
        kind=kind,
        title=report.title,
        fingerprint=fingerprint.fingerprint,
        fingerprint_origin=_fingerprint_origin(fingerprint),
        environment=report.environment,
        level=report.level,
        release=report.release,
        tags=report.facts,
        routes=tuple(evaluate_routes(routes.routes, dict(enumerate(routes.slugs)), facts)),
        destinations=tuple(
            TargetResult(slug=routes.slugs[index], quiet_hours=quiet_hours_for(choice.routes, index))
            for index in choice.destinations
        ),
        below_threshold=choice.below_threshold,
        recurrence=choice.options.recurrence,
    )


def _fingerprint_origin(fingerprint: FingerprintResult) -> str:
    if fingerprint.position is None:
        return (
            "the source's kind" if fingerprint.fingerprint else "nothing: each report is a problem of its own"
        )
    if fingerprint.problem:
        template = f"the template of route {fingerprint.position}"
        return f"the source's kind, because {template} failed: {fingerprint.problem}"
    return f"route {fingerprint.position}"


# -- text --------------------------------------------------------------------------------------------------------


def lines(results: Sequence[ReportResult], *, explain: bool) -> Iterator[str]:
    """Render results as lines of text. ``explain``: with the fields of each report and the result of each route."""
    if not results:
        yield "the request is valid and contains no report: nothing would be stored"
    for number, result in enumerate(results, 1):
        if len(results) > 1:
            yield f"report {number} of {len(results)}"
        if explain:
            yield from _fields(result)
            for route in result.routes:
                name = f" ({route.name})" if route.name else ""
                yield f"route {route.position}{name} {one_line(route.message, 300)}"
        yield from _conclusion(result)


def _fields(result: ReportResult) -> Iterator[str]:
    for label, value in (
        ("action", result.action),
        ("kind", result.kind),
        ("title", result.title),
        ("fingerprint", f"{result.fingerprint or '-'} (by {result.fingerprint_origin})"),
        ("environment", result.environment),
        ("level", result.level),
        ("release", result.release),
        *((f"tags.{name}", value) for name, value in result.tags if value),
    ):
        yield f"{one_line(label, 40):<14}  {one_line(value, 200) or '-'}"


def _conclusion(result: ReportResult) -> Iterator[str]:
    if result.action in NO_TICKET:
        yield f"opens no ticket: {NO_TICKET[result.action]}"
        return
    if result.below_threshold:
        yield "goes to no destination yet: it is counted until a threshold is reached"
    elif not result.destinations:
        yield "goes to no destination"
    for target in result.destinations:
        yield f"goes to {target.slug}{_quiet_hours(target.quiet_hours)}"
    if result.destinations and result.kind == "alert":
        rules = "; ".join(map(_recurrence, result.recurrence))
        yield f"if it recurs: {rules or 'the default rule applies'}"


def _quiet_hours(hours: QuietHours | None) -> str:
    if hours is None:
        return ""
    days = ", ".join(hours.days) or "every day"
    return f", but not from {hours.start} to {hours.end} {hours.zone} ({days})"


def _recurrence(rule: RecurrenceRule) -> str:
    reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason or []
    conditions = [
        *([f"closed as {' or '.join(reasons)}"] if reasons else []),
        *([f"closed for {rule.closed_for}"] if rule.closed_for is not None else []),
        *([f"in the {rule.release} release"] if rule.release is not None else []),
    ]
    return f"{rule.then} if {' and '.join(conditions)}" if conditions else rule.then
