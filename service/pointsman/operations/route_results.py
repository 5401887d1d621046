"""Evaluate routes for display: which match a report or ticket, and the first condition that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman.content.sanitize import one_line
from pointsman.domain.routing import Facts, Route, match_route


class RouteResult(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluation of one route. ``failed_field``, ``expected`` and ``actual`` name the first mismatch."""

    position: int
    name: str = ""
    matches: bool
    message: str
    failed_field: str = ""
    expected: str = ""
    actual: str = ""


def evaluate_routes(routes: Sequence[Route], slugs: Mapping[int, str], facts: Facts) -> Iterator[RouteResult]:
    """Yield the result of each route in order. ``slugs``: destinations by id.

    Routes after the first match that does not continue are not evaluated. Thresholds count as not reached.
    """
    taken_by = None
    for route in routes:
        position, name = route.position, one_line(route.options.name, 60)
        if taken_by is not None:
            message = f"is not evaluated: route {taken_by} took it"
            yield RouteResult(position=position, name=name, matches=False, message=message)
            continue
        result = match_route(route, facts)
        expected, actual = one_line(result.expected, 120), one_line(result.actual, 120)
        if result.matched:
            names = ", ".join(slugs.get(key, f"destination {key}") for key in route.destinations)
            following = ", and the next route is evaluated too" if route.continues else ""
            message = f"matches: to {names or 'no destination'}{following}"
            taken_by = None if route.continues else position
        elif result.pending:
            message = f"matches once its threshold is reached: {result.failed_field} {expected}"
        else:
            message = f"does not match: {result.failed_field}: wanted {expected}, got {actual}"
        yield RouteResult(
            position=position,
            name=name,
            matches=result.matched,
            message=message,
            failed_field=result.failed_field,
            expected=expected,
            actual=actual,
        )
