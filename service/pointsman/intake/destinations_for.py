"""What comes of a batch of reports: where its tickets go, and when."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.domain.quiet_hours import hours_at, quiet_until
from pointsman.domain.recurrence import stays_silent
from pointsman.domain.routing import Route
from pointsman.domain.ticket import Decided, Kind, DeliveryTargets, PlannedDelivery, Ticket, may_plan_deliveries
from pointsman.intake import throttle
from pointsman.intake.generations import Part
from pointsman.intake.incoming import Incoming
from pointsman.storage.db import Connection
from pointsman.storage.delivery_writer import TicketState, lock_tracker_destinations


class Outcome(msgspec.Struct):
    """What was decided over a batch: the tickets, how they stood before, and which report belongs to which."""

    decided: Decided
    now: dt.datetime | None = None
    """The database's time, if a report asks for it."""
    tickets: dict[uuid.UUID, Ticket] = {}
    stood: dict[uuid.UUID, TicketState] = {}
    ticket_of: dict[uuid.UUID, uuid.UUID] = {}
    ends_at: dict[uuid.UUID, dt.datetime] = {}
    storms: list[str] = []
    begins: dict[uuid.UUID, Part] = {}
    """The parts that begin in the midst of a batch, by the report with which they do."""
    posts: dict[uuid.UUID, DeliveryTargets] = {}
    """Where tickets that reach their threshold go, by the report with which they do."""


async def places_for(
    con: Connection, outcome: Outcome, parts: Sequence[Part], mail_id: int | None
) -> dict[uuid.UUID, DeliveryTargets]:
    """Where each ticket's deliveries go, with what a storm holds back. What promises nothing is not asked."""
    places: dict[uuid.UUID, DeliveryTargets] = {}
    ask: list[uuid.UUID] = []
    wants = _Wants([], [], {})
    for part in parts:
        ticket, reports = part.ticket, part.reports
        places[ticket.id] = DeliveryTargets((), mail_id)
        if part.is_new:
            first = reports[0]
            places[ticket.id] = DeliveryTargets(first.routed, mail_id, below_threshold=first.held)
            if first.allowed and first.routed:
                wants.new.append(wants.asking(ticket, first))
        elif ticket.summary_ticket_id is not None:
            back = [one for one in reports if one.routed and one.counts]
            wants.again += [wants.asking(ticket, one) for one in back[:1]]
        elif any(_may_promise(ticket, one) for one in reports):
            ask.append(ticket.id)
        if (post := part.posted_by) is not None:
            wants.again.append(wants.asking(ticket, post))
    if ask:
        for ticket_id, trackers in (await lock_tracker_destinations(con, ask)).items():
            places[ticket_id] = DeliveryTargets(trackers, mail_id)
    if wants.new or wants.again:
        answer = await throttle.admit(con, wants.new, wants.again, outcome.decided, mail_id)
        _heed(answer, outcome, places, mail_id, wants)
    return places


class _Wants(msgspec.Struct):
    """Who wants an issue of its own: new tickets, those held before, and the report by which each does."""

    new: list[throttle.Asking]
    again: list[throttle.Asking]
    by: dict[uuid.UUID, Incoming]

    def asking(self, ticket: Ticket, one: Incoming) -> throttle.Asking:
        """A ticket that wants one by this report."""
        self.by[ticket.id] = one
        return throttle.Asking(ticket, one.source, one.allowed, one.routed)


def _may_promise(ticket: Ticket, one: Incoming) -> bool:
    report = one.report
    return report is not None and may_plan_deliveries(ticket, report) and not stays_silent(ticket, report, one.rules)


def _heed(
    answer: throttle.Answer,
    outcome: Outcome,
    places: dict[uuid.UUID, DeliveryTargets],
    mail_id: int | None,
    wants: _Wants,
) -> None:
    """Do as a storm's rules say: what is held goes nowhere, what is singled out goes where it should have gone."""
    for one in wants.new:
        if one.ticket.id in answer.held:
            places[one.ticket.id] = DeliveryTargets((), mail_id, one.routed)
    for one in wants.again:
        if one.ticket.id not in answer.singled_out:
            continue
        if one.ticket.summary_ticket_id is not None:
            places[one.ticket.id] = DeliveryTargets(one.routed, mail_id)
        else:
            by = wants.by[one.ticket.id]
            outcome.posts[by.report_id] = DeliveryTargets(one.routed, mail_id, occurrences=by.times)
    for number, promise in enumerate(outcome.decided.promises if answer.held else ()):
        # a storm's own issue keeps to the hours of the first that is listed in it
        first = next((one for one in wants.new if one.ticket.summary_ticket_id == promise.ticket_id), None)
        if first is not None:
            took = wants.by[first.ticket.id].took
            outcome.decided.promises[number] = _later(promise, took, outcome.now)
    outcome.tickets.update({one.id: one for one in answer.parents})
    outcome.stood.update(answer.stood)
    outcome.ends_at, outcome.storms = answer.ends_at, answer.began


def delay(outcome: Outcome, begin: int, took: Sequence[Route]) -> None:
    """Let promises from ``begin`` on wait for the end of the quiet hours of their destinations."""
    promises = outcome.decided.promises
    if any(route.options.quiet_hours is not None for route in took):
        promises[begin:] = [_later(one, took, outcome.now) for one in promises[begin:]]


def _later(promise: PlannedDelivery, took: Sequence[Route], now: dt.datetime | None) -> PlannedDelivery:
    if now is None or promise.kind not in (Kind.CREATE, Kind.COMMENT, Kind.REOPEN):
        return promise
    hours = hours_at(took, promise.destination_id)
    try:
        until = quiet_until(hours, now) if hours is not None else None
    except ValueError:
        # a zone that is known where the configuration was applied, and not here: better too early than not at all
        return promise
    return msgspec.structs.replace(promise, due_at=until) if until is not None else promise
