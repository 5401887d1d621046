"""Publish events and their deliveries within the transaction that decided them (transactional outbox)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

from pointsman.domain.ticket import Changes, PlannedDelivery, Ticket, coalesce
from pointsman.domain.ticket_throttle import THROTTLE_KEY, is_summary
from pointsman.storage import delivery_writer
from pointsman.storage.db import Connection
from pointsman.storage.delivery_writer import (
    CoalescingDelivery,
    DeliveryRow,
    EventRow,
    LaneRow,
    ReportRow,
    TicketState,
    as_json,
    state_of,
)

MarkerOf = Callable[[Ticket, PlannedDelivery], uuid.UUID]
"""Compute the marker of a planned delivery."""

LaneKey = tuple[uuid.UUID, int]


async def publish(
    con: Connection,
    changes: Changes,
    tickets: Mapping[uuid.UUID, Ticket],
    marker_of: MarkerOf,
    *,
    stored_states: Mapping[uuid.UUID, TicketState] | None = None,
    reports: Sequence[ReportRow] = (),
) -> Sequence[Ticket]:
    """Write changed tickets, their events, the deliveries at the ends of their lanes, and reports.

    ``tickets`` are the locked tickets that the changes are about. ``stored_states`` tells how they are stored: those that
    did not change are not written; without it, each ticket with an event is. Return the tickets that were closed together
    with the summary ticket that lists them, each by its last event.
    """
    if stored_states is None:
        changed = [
            tickets[ticket_id] for ticket_id in dict.fromkeys(event.ticket_id for event in changes.events)
        ]
    else:
        changed = [ticket for ticket in tickets.values() if stored_states[ticket.id] != state_of(ticket)]
    if changed:
        await delivery_writer.write_tickets(con, changed)
    lanes = await _coalesce_with_unsent(con, changes.deliveries, tickets, marker_of)
    if reports or changes.events or lanes:
        await delivery_writer.append(
            con,
            reports,
            [
                EventRow(event.ticket_id, event.n, event.kind, as_json(event.data), event.report_id)
                for event in changes.events
            ],
            [LaneRow(*key, len(planned), planned[0].due_at) for key, planned in lanes.items()],
            [
                DeliveryRow(
                    *key,
                    len(planned) - index,
                    delivery.event_n,
                    delivery.kind,
                    marker_of(tickets[delivery.ticket_id], delivery),
                    delivery.coalesce_key,
                    delivery.coalesced_count,
                )
                for key, planned in lanes.items()
                for index, delivery in enumerate(planned)
            ],
        )
    return await _close_listed(con, changes, tickets)


async def _close_listed(
    con: Connection, changes: Changes, tickets: Mapping[uuid.UUID, Ticket]
) -> Sequence[Ticket]:
    """Close the throttled tickets of each summary ticket that is closed."""
    closed: list[Ticket] = []
    for event in changes.events:
        if event.kind == "closed" and is_summary(tickets[event.ticket_id]):
            data = as_json({**event.data, THROTTLE_KEY: str(event.ticket_id)})
            reason = event.data.get("reason") or "completed"
            closed += await delivery_writer.close_throttled(con, event.ticket_id, reason, data)
    return closed


async def _coalesce_with_unsent(
    con: Connection,
    deliveries: Sequence[PlannedDelivery],
    tickets: Mapping[uuid.UUID, Ticket],
    marker_of: MarkerOf,
) -> dict[LaneKey, list[PlannedDelivery]]:
    """Return the deliveries to append to each lane, without those that were coalesced into an unsent one."""
    lanes: dict[LaneKey, list[PlannedDelivery]] = {}
    may_coalesce = False
    for delivery in deliveries:
        lanes.setdefault((delivery.ticket_id, delivery.destination_id), []).append(delivery)
        may_coalesce = may_coalesce or delivery.coalesce_key is not None
    if not may_coalesce:
        return lanes
    coalescing: list[CoalescingDelivery] = []
    for key, planned in lanes.items():
        lanes[key] = coalesced = coalesce(planned)
        for delivery in coalesced:
            if delivery.coalesce_key is not None:
                marker = marker_of(tickets[delivery.ticket_id], delivery)
                coalescing.append(
                    CoalescingDelivery(
                        *key,
                        delivery.coalesce_key,
                        delivery.event_n,
                        marker,
                        delivery.coalesced_count,
                        delivery is coalesced[0],
                    )
                )
    for key in await delivery_writer.coalesce_unsent(con, coalescing):
        del lanes[key][0]
        if not lanes[key]:
            del lanes[key]
    return lanes
