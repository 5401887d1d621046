"""Decide what happens when a problem recurs after its ticket was closed.

Routes have rules for this: by the reason and the age of the closing, and by release. They apply to alerts, never to support
tickets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pointsman.domain.duration import parse_duration
from pointsman.domain.routing import RecurrenceRule
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import NON_OCCURRENCES, REPEAT_ACTIONS, RESOLVED_ACTION, Ticket, is_without_issue
from pointsman.plugin_api import Report

RecurrenceAction = Literal["reopen", "new", "comment", "ignore"]

DEFAULT_RULES: Sequence[RecurrenceRule] = (
    RecurrenceRule(then="ignore", reason="not_planned"),
    RecurrenceRule(then="comment", reason="duplicate"),
    RecurrenceRule(then="reopen"),
)
"""Applied where no rule of the route matches."""


def first_matching_action(
    rules: Sequence[RecurrenceRule], reason: str | None, closed_seconds: float, *, same_release: bool | None
) -> RecurrenceAction:
    """Return the action of the first matching rule.

    ``same_release`` is None if either release is unknown; then no rule about releases matches.
    """
    for rule in (*rules, *DEFAULT_RULES):
        if _matches(rule, reason or "completed", closed_seconds, same_release=same_release):
            return rule.then
    return "reopen"


def _matches(rule: RecurrenceRule, reason: str, closed_seconds: float, *, same_release: bool | None) -> bool:
    reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason
    if reasons is not None and reason not in reasons:
        return False
    if rule.closed_for is not None and closed_seconds < parse_duration(rule.closed_for):
        return False
    return rule.release is None or same_release is (rule.release == "same")


def is_same_release(last: str, reported: str) -> bool | None:
    """Return whether two releases are the same; None if one is unknown."""
    return last == reported if last and reported else None


def recurrence_action(ticket: Ticket, report: Report, rules: Sequence[RecurrenceRule]) -> RecurrenceAction:
    """Return what a report does to its ticket if the problem recurs by it.

    ``new`` becomes ``reopen`` for a ticket that never had an issue.
    """
    if (
        ticket.status is not TicketStatus.CLOSED
        or ticket.kind is not TicketKind.ALERT
        or report.action in NON_OCCURRENCES
    ):
        return "reopen"
    same_release = is_same_release(ticket.release, report.release)
    action = first_matching_action(
        rules, ticket.close_reason, ticket.closed_seconds, same_release=same_release
    )
    return "reopen" if action == "new" and is_without_issue(ticket) else action


def is_silent(ticket: Ticket, report: Report, rules: Sequence[RecurrenceRule]) -> bool:
    """Return whether a recurrence leads to no delivery."""
    match recurrence_action(ticket, report, rules):
        case "ignore":
            return True
        case "comment":
            return ticket.recurrence_announced and report.action in REPEAT_ACTIONS
        case _:
            return False


def generation_starts(
    ticket: Ticket, reports: Sequence[tuple[Report, Sequence[RecurrenceRule]]]
) -> list[int]:
    """Return the indexes of the reports that start a new ticket each, under a rule that says ``new``.

    The reports are those of one fingerprint, in order; 'resolved' reports among them can close the ticket.
    """
    starts: list[int] = []
    if ticket.kind is not TicketKind.ALERT or is_without_issue(ticket):
        return starts
    closed, reason = ticket.status is TicketStatus.CLOSED, ticket.close_reason
    closed_seconds, release = ticket.closed_seconds, ticket.release
    for index, (report, rules) in enumerate(reports):
        if report.action in NON_OCCURRENCES:
            if report.action == RESOLVED_ACTION and report.close_reason is not None and not closed:
                closed, reason, closed_seconds = True, report.close_reason, 0.0
            continue
        if closed:
            same_release = is_same_release(release, report.release)
            action = first_matching_action(rules, reason, closed_seconds, same_release=same_release)
            if action == "new":
                starts.append(index)
            closed = action in ("comment", "ignore")
        if not closed and report.release:
            release = report.release
    return starts
