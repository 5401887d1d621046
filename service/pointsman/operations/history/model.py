"""Define a ticket's history: what happened, why there is an issue or none, and the next step.

Renderers: ``text`` for terminals, ``timeline`` for chronological lists, and ``msgspec.to_builtins`` for JSON.
"""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec

from pointsman.operations.outcomes import StatusMessage
from pointsman.operations.route_results import RouteResult


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as stored. ``kind`` is "alert" or "support", ``status`` "open" or "closed"."""

    id: uuid.UUID
    kind: str
    status: str
    close_reason: str
    source: str
    title: str
    description: str
    url: str
    level: str
    environment: str
    release: str
    reporter_name: str
    reporter_email: str
    opened_at: dt.datetime
    last_seen_at: dt.datetime
    closed_at: dt.datetime | None
    occurrences: int
    fingerprint: str
    generation: int
    summary_ticket_id: uuid.UUID | None
    """The summary ticket that lists this ticket, which then has no issue of its own."""
    below_threshold: bool
    """It is only counted, and has no issue yet."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report that the history was requested by, and its effect."""

    id: str
    received_at: dt.datetime
    source: str
    message: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the ticket. ``text``, ``code`` and ``facts`` are untrusted text without control characters."""

    number: int
    kind: str
    at: dt.datetime
    title: str
    message: str = ""
    actor: str = ""
    """Who or which destination caused it."""
    report: str = ""
    """The id of the report that caused it."""
    text: str = ""
    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at a delivery, or ``count`` consecutive attempts with the same outcome and error."""

    started_at: dt.datetime
    ended_at: dt.datetime
    outcome: str
    status: StatusMessage
    http_status: int | None = None
    error: str = ""
    count: int = 1
    last_started_at: dt.datetime | None = None
    """When the last of several attempts started."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery and its attempts, oldest first.

    ``state`` is "pending", "done", "dead", or "removed" if only its attempts are still stored.
    """

    id: str
    kind: str
    action: str
    state: str
    status: StatusMessage
    outcome: str = ""
    outcome_unknown: bool = False
    event_number: int | None = None
    counted_attempts: int = 0
    created_at: dt.datetime | None = None
    due_at: dt.datetime | None = None
    """When it is retried; None if that is not scheduled."""
    done_at: dt.datetime | None = None
    """When it succeeded or was given up."""
    expires_at: dt.datetime | None = None
    resent_at: dt.datetime | None = None
    passed: bool = False
    """It was given up, and its lane continued with the next delivery."""
    blocked: bool = False
    """It waits for an earlier delivery of its lane."""
    notes: tuple[str, ...] = ()
    command: str = ""
    """The command that replays it, if that is possible."""
    attempts: tuple[Attempt, ...] = ()


class DestinationHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's issue and lane at one destination. ``kind`` is "tracker", "mail" or "source"."""

    destination: str
    kind: str
    tracker: str
    issue: str
    """The issue's key; empty if there is no issue yet."""
    url: str
    issue_state: str
    """"open", "closed", or empty if unknown."""
    status: StatusMessage
    reason: str
    """Why there is an issue or none, in one sentence."""
    waits_for: tuple[str, ...]
    """Everything that delays the lane now."""
    next_step: str
    """What an operator should do; empty if nothing is wrong."""
    error: str = ""
    """The last error of the delivery that the lane waits for."""
    next_attempt_at: dt.datetime | None = None
    command: str = ""
    """The command that replays the delivery that the lane is parked with."""
    deliveries: tuple[Delivery, ...] = ()


class TicketHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The whole history. Without a ticket (a parked report, a test message) only the first three fields are set."""

    report: Report | None = None
    reasons: tuple[str, ...] = ()
    """Why there is an issue or none."""
    next_step: str = ""
    """What to do about a report without a ticket; otherwise see ``destinations``."""
    ticket: Ticket | None = None
    events: tuple[Event, ...] = ()
    routes: tuple[RouteResult, ...] = ()
    """The current routes; a ticket keeps the destinations it got when it was opened."""
    destinations: tuple[DestinationHistory, ...] = ()
    truncated: bool = False
    """There are more events, deliveries or attempts than are read."""
    older_events: int | None = None
    """The number of the oldest event here, if there are older ones."""
