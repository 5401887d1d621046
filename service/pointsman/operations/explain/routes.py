"""What the routes of today say of a ticket, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman.content.sanitize import one_line
from pointsman.domain.routing import NOTHING, UNKNOWN, Facts, Route, Verdict, verdict


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a route of today says of the ticket."""

    position: int
    matches: bool
    says: str


def rules(routes: Sequence[Route], slugs: Mapping[int, str], facts: Facts) -> Iterator[Rule]:
    """Each route in its order. ``slugs``: destinations by id."""
    taken = None
    for route in routes:
        if taken is not None:
            yield Rule(
                position=route.position, matches=False, says=f"is not asked: route {taken} took the ticket"
            )
            continue
        said = verdict(route, facts)
        if said.matched:
            named = ", ".join(slugs.get(one, f"destination {one}") for one in route.destinations)
            goes_on = ", and the next route is asked too" if route.continues else ""
            yield Rule(
                position=route.position, matches=True, says=f"matches: to {named or 'nowhere'}{goes_on}"
            )
            taken = None if route.continues else route.position
        else:
            yield Rule(position=route.position, matches=False, says=against(said))


def against(said: Verdict) -> str:
    """Why a rule does not take a ticket."""
    wanted, got = one_line(said.wanted, 120), one_line(said.got, 120)
    if said.pending:
        return f"matches once its threshold is met: {said.against} {wanted}"
    known = {NOTHING: "the ticket has none", UNKNOWN: "what the ticket has is not kept"}
    has = known.get(got, f"the ticket's is {got}")
    return f"does not match: {said.against} {wanted}, and {has}"
