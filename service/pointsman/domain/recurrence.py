"""What is done with a problem of a source of alerts that comes back after its ticket was closed. Pure.

People differ here, so a route may say it: by how the ticket was closed, how long ago, and by release. What they ask of us as
customers never passes through this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pointsman.domain.duration import seconds
from pointsman.domain.routing import Again
from pointsman.domain.ticket import QUIET, REPEATS, RESOLVED, Status, Ticket, TicketKind
from pointsman.plugin_api import Report

Then = Literal["reopen", "new", "comment", "ignore"]

DEFAULT: Sequence[Again] = (
    Again(then="ignore", reason="not_planned"),
    Again(then="comment", reason="duplicate"),
    Again(then="reopen"),
)
"""What is done where no rule of the route fits."""


def policy(
    rules: Sequence[Again], reason: str | None, closed_seconds: float, *, same_release: bool | None
) -> Then:
    """What the first rule that fits says. ``same_release``: None if either release is not known, which fits neither."""
    for rule in (*rules, *DEFAULT):
        if _fits(rule, reason or "completed", closed_seconds, same_release=same_release):
            return rule.then
    return "reopen"


def _fits(rule: Again, reason: str, closed_seconds: float, *, same_release: bool | None) -> bool:
    reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason
    if reasons is not None and reason not in reasons:
        return False
    if rule.closed_for is not None and closed_seconds < seconds(rule.closed_for):
        return False
    return rule.release is None or same_release is (rule.release == "same")


def same_release(was: str, now: str) -> bool | None:
    """Whether two releases are the same; None if one is not known."""
    return was == now if was and now else None


def verdict(ticket: Ticket, report: Report, rules: Sequence[Again]) -> Then:
    """What a report does to its ticket if it comes back by it. ``new`` of a ticket that never had an issue is ``reopen``."""
    if ticket.status is not Status.CLOSED or ticket.kind is not TicketKind.ALERT or report.action in QUIET:
        return "reopen"
    same = same_release(ticket.release, report.release)
    then = policy(rules, ticket.close_reason, ticket.closed_seconds, same_release=same)
    return "reopen" if then == "new" and _without_issue(ticket) else then


def stays_silent(ticket: Ticket, report: Report, rules: Sequence[Again]) -> bool:
    """Whether a report by which a problem comes back says nothing to anybody."""
    match verdict(ticket, report, rules):
        case "ignore":
            return True
        case "comment":
            return ticket.noted and report.action in REPEATS
        case _:
            return False


def _without_issue(ticket: Ticket) -> bool:
    return ticket.held or ticket.storm_parent is not None


def generations(ticket: Ticket, reports: Sequence[tuple[Report, Sequence[Again]]]) -> list[int]:
    """Which of a row of reports on one problem begin a new ticket each: those by which it comes back under a rule that says
    ``new``. A source may say in the same row that the problem is over.
    """
    begins: list[int] = []
    if ticket.kind is not TicketKind.ALERT or _without_issue(ticket):
        return begins
    closed, reason = ticket.status is Status.CLOSED, ticket.close_reason
    age, release = ticket.closed_seconds, ticket.release
    for i, (report, rules) in enumerate(reports):
        if report.action in QUIET:
            if report.action == RESOLVED and report.close_reason is not None and not closed:
                closed, reason, age = True, report.close_reason, 0.0
            continue
        if closed:
            then = policy(rules, reason, age, same_release=same_release(release, report.release))
            if then == "new":
                begins.append(i)
            closed = then in ("comment", "ignore")
        if not closed and report.release:
            release = report.release
    return begins
