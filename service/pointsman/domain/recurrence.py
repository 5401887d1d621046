"""What is done with a problem of a source of alerts that comes back after its ticket was closed. Pure.

People differ here, so a route may say it: by how the ticket was closed, how long ago, and by release. What they ask of us as
customers never passes through this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pointsman.domain.duration import parse_duration
from pointsman.domain.routing import RecurrenceRule
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import NON_OCCURRENCES, REPEATS, RESOLVED, Ticket
from pointsman.plugin_api import Report

RecurrenceAction = Literal["reopen", "new", "comment", "ignore"]

DEFAULT: Sequence[RecurrenceRule] = (
    RecurrenceRule(then="ignore", reason="not_planned"),
    RecurrenceRule(then="comment", reason="duplicate"),
    RecurrenceRule(then="reopen"),
)
"""What is done where no rule of the route fits."""


def first_matching_action(
    rules: Sequence[RecurrenceRule], reason: str | None, closed_seconds: float, *, same_release: bool | None
) -> RecurrenceAction:
    """What the first rule that fits says. ``same_release``: None if either release is not known, which fits neither."""
    for rule in (*rules, *DEFAULT):
        if _fits(rule, reason or "completed", closed_seconds, same_release=same_release):
            return rule.then
    return "reopen"


def _fits(rule: RecurrenceRule, reason: str, closed_seconds: float, *, same_release: bool | None) -> bool:
    reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason
    if reasons is not None and reason not in reasons:
        return False
    if rule.closed_for is not None and closed_seconds < parse_duration(rule.closed_for):
        return False
    return rule.release is None or same_release is (rule.release == "same")


def same_release(was: str, now: str) -> bool | None:
    """Whether two releases are the same; None if one is not known."""
    return was == now if was and now else None


def recurrence_action(ticket: Ticket, report: Report, rules: Sequence[RecurrenceRule]) -> RecurrenceAction:
    """What a report does to its ticket if it comes back by it. ``new`` of a ticket that never had an issue is ``reopen``."""
    if ticket.status is not TicketStatus.CLOSED or ticket.kind is not TicketKind.ALERT or report.action in NON_OCCURRENCES:
        return "reopen"
    same = same_release(ticket.release, report.release)
    then = first_matching_action(rules, ticket.close_reason, ticket.closed_seconds, same_release=same)
    return "reopen" if then == "new" and _without_issue(ticket) else then


def is_silent(ticket: Ticket, report: Report, rules: Sequence[RecurrenceRule]) -> bool:
    """Whether a report by which a problem comes back says nothing to anybody."""
    match recurrence_action(ticket, report, rules):
        case "ignore":
            return True
        case "comment":
            return ticket.recurrence_announced and report.action in REPEATS
        case _:
            return False


def _without_issue(ticket: Ticket) -> bool:
    return ticket.below_threshold or ticket.summary_ticket_id is not None


def generation_starts(ticket: Ticket, reports: Sequence[tuple[Report, Sequence[RecurrenceRule]]]) -> list[int]:
    """Which of a row of reports on one problem begin a new ticket each: those by which it comes back under a rule that says
    ``new``. A source may say in the same row that the problem is over.
    """
    begins: list[int] = []
    if ticket.kind is not TicketKind.ALERT or _without_issue(ticket):
        return begins
    closed, reason = ticket.status is TicketStatus.CLOSED, ticket.close_reason
    age, release = ticket.closed_seconds, ticket.release
    for i, (report, rules) in enumerate(reports):
        if report.action in NON_OCCURRENCES:
            if report.action == RESOLVED and report.close_reason is not None and not closed:
                closed, reason, age = True, report.close_reason, 0.0
            continue
        if closed:
            then = first_matching_action(rules, reason, age, same_release=same_release(release, report.release))
            if then == "new":
                begins.append(i)
            closed = then in ("comment", "ignore")
        if not closed and report.release:
            release = report.release
    return begins
