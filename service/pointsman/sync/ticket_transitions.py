"""Close or reopen a ticket, and publish that to its other issues, its reporter and its source."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.bus.publish import publish
from pointsman.domain.states import WebhookState
from pointsman.domain.ticket import Changes, DeliveryTargets, Ticket, apply_state
from pointsman.logs import logger
from pointsman.plugin_api import CloseReason, State
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import sources, webhooks
from pointsman.storage.db import Connection
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.sources import TicketProblem
from pointsman.sync.source_feedback import plan_closed_tickets, plan_state_change

log = logger("sync")

LOOP_CHANGES = 6
"""A ticket that trackers and reports close and reopen more often in ten minutes is in an update loop."""


class UpdateResult(msgspec.Struct, frozen=True):
    """The result of an update; ``note`` explains it to operators."""

    state: WebhookState
    note: str
    ticket_id: uuid.UUID | None = None
    changed: bool = False
    """Whether the status of the ticket changed."""
    parked: tuple[str, ...] = ()
    """Destinations whose lanes of the ticket were parked because of an update loop."""


def nothing_to_do(note: str, ticket_id: uuid.UUID | None = None) -> UpdateResult:
    """Return the result of an update that changes nothing."""
    return UpdateResult(WebhookState.NOTHING_TO_DO, note, ticket_id)


class TicketTransitions:
    """Closes and reopens tickets within transactions of its callers."""

    def __init__(self, reloader: ConfigReloader) -> None:
        self._reloader = reloader

    async def apply(
        self,
        con: Connection,
        ticket_id: uuid.UUID,
        state: State,
        reason: CloseReason | None,
        *,
        changed_at: int | None,
        actor: Mapping[str, Any],
    ) -> UpdateResult:
        """Close or reopen a ticket. ``changed_at`` is the destination whose issue changed, None if a person asked here."""
        ticket = await lock_ticket(con, ticket_id)
        if ticket is None:
            return nothing_to_do("no such ticket")
        snapshot = self._reloader.current
        trackers = (await lock_tracker_destinations(con, [ticket_id]))[ticket_id]
        changes = Changes()
        changed = apply_state(
            ticket,
            state,
            reason,
            DeliveryTargets(trackers, snapshot.mail_id),
            changes,
            except_destination=changed_at,
            actor=dict(actor),
        )
        problem = await self._plan_feedback(con, ticket, state, changes) if changed else None
        closed = await publish(con, changes, {ticket.id: ticket}, snapshot.marker_of)
        feedback_id = snapshot.feedback_destinations.get(ticket.source_id)
        source = snapshot.source_of(ticket.source_id)
        if problem is not None and feedback_id is not None:
            await sources.link_feedback_lanes(con, feedback_id, [problem])
        if closed and feedback_id is not None and source is not None:
            await plan_closed_tickets(con, closed, feedback_id, source.plugin, snapshot.marker_of)
        if not changed:
            return nothing_to_do(f"ticket is {state} already", ticket_id)
        parked = await _stop_loop(con, ticket_id) if changed_at is not None else ()
        verb = "closed" if state == "closed" else "reopened"
        note = f"ticket {verb}{'; its lanes are parked: loop' if parked else ''}"
        return UpdateResult(WebhookState.APPLIED, note, ticket_id, changed, parked)

    async def _plan_feedback(
        self, con: Connection, ticket: Ticket, state: State, changes: Changes
    ) -> TicketProblem | None:
        """Add the feedback to the ticket's source. Return the source's problem; None if it gets no feedback."""
        snapshot = self._reloader.current
        feedback_id = snapshot.feedback_destinations.get(ticket.source_id)
        source = snapshot.source_of(ticket.source_id)
        if feedback_id is None or source is None:
            return None
        problem = await sources.problem_of_ticket(con, ticket.id, feedback_id)
        if problem is None or not plan_state_change(ticket, changes, state, feedback_id, source.plugin):
            return None
        return problem


async def _stop_loop(con: Connection, ticket_id: uuid.UUID) -> tuple[str, ...]:
    """Park a ticket's lanes if it is in an update loop. Return the destinations whose lanes were parked now."""
    count = await webhooks.count_automatic_changes(con, ticket_id)
    if count <= LOOP_CHANGES:
        return ()
    reason = f"loop: closed and reopened {count} times in ten minutes, and by nobody here"
    return tuple(await webhooks.park_lanes_of_ticket(con, ticket_id, reason))


def log_loop(result: UpdateResult) -> None:
    """Log that a ticket's lanes were parked because of an update loop; called after the commit."""
    if result.parked:
        log.error(
            "update loop: the lanes of the ticket are parked",
            ticket=str(result.ticket_id),
            destinations=list(result.parked),
            next_step="find what answers every change with another one, stop it, then"
            " `pointsman deliveries --state parked` and `pointsman replay`",
        )
