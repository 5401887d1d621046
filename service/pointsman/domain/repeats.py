"""Decide whether a report with a known key is a repeat, or news because the problem changed in between.

Sources and networks send reports more than once: a request is retried, each member of a high-availability pair sends its
own copy, and a level-triggered source such as Alertmanager reports the same alert for as long as it fires. The *basis* of a
report's key says how much the key proves; ``docs/sources.md`` has the complete state table.
"""

from __future__ import annotations

import enum

import msgspec

from pointsman.domain.ticket import NON_OCCURRENCES, RESOLVED_ACTION

SETTLE_SECONDS = 180
"""Within this time after a change of state, the same words are a late copy or a retry. It is shorter than Alertmanager's
default ``group_interval`` of five minutes, which is the earliest time at which Alertmanager reports an alert anew."""


class KeyBasis(enum.Enum):
    """What the key of a report identifies."""

    REQUEST = "request"
    """One request or event: the same key is a repeat, whatever happened since."""
    STATE = "state"
    """A state that the source reports repeatedly: a repeat until the source reported the opposite state."""
    BODY = "body"
    """Only equal bytes: a repeat until the ticket was closed or the source reported the opposite state."""


class ProblemState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a problem at the time of a report whose key is known."""

    is_open: bool
    resolved: bool
    """The source's last word was that the problem is over."""
    waits_for_issue: bool = False
    """The ticket is throttled, or no route took it: it has no issue, and may get one."""
    state_seconds: float = 0.0
    """Seconds since the source last changed between 'open' and 'resolved'."""
    closed_seconds: float = 0.0
    """Seconds since the ticket was closed, if it is closed."""
    key_seconds: float = 0.0
    """Seconds since the key was seen last."""


def is_news(
    action: str,
    basis: KeyBasis,
    problem: ProblemState | None,
    settle_seconds: float,
    *,
    has_route: bool = False,
) -> bool:
    """Return whether a report whose key is known counts as a new report.

    ``problem`` is None if the problem has no ticket. ``has_route``: a route takes the report, or may take it.
    """
    if problem is None or basis is KeyBasis.REQUEST or action == "test":
        return False
    if action == RESOLVED_ACTION:
        return _is_resolved_again(basis, problem, settle_seconds)
    if action in NON_OCCURRENCES:
        return False
    if problem.resolved:
        # without a key of its own, a sender that reports each change once would lose a quick second failure
        return basis is KeyBasis.BODY or problem.state_seconds >= settle_seconds
    if problem.is_open and problem.waits_for_issue and has_route:
        # a source that only repeats what lasts would never get an issue for it otherwise
        return True
    return basis is KeyBasis.BODY and not problem.is_open and problem.closed_seconds >= settle_seconds


def _is_resolved_again(basis: KeyBasis, problem: ProblemState, settle_seconds: float) -> bool:
    if problem.resolved:
        return False
    return basis is KeyBasis.BODY or problem.key_seconds >= settle_seconds
