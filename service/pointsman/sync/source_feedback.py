"""Tell sources about their problems: closed, reopened, and where the issue was created.

Feedback is delivered along a lane of its own, like deliveries to trackers: ordered, retried and verified. The lane starts with
the first feedback of a ticket; routes can't name its destination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from pointsman.bus.periodic import PeriodicService
from pointsman.bus.publish import MarkerOf, publish
from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.domain.states import DeliveryKind
from pointsman.domain.ticket import Changes, Event, PlannedDelivery, Ticket
from pointsman.plugin_api import Source, State
from pointsman.storage import sources as store
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.sources import UnannouncedLink

INTERVAL_SECONDS = 20.0
GATHER_SECONDS = 0.2
"""Issues that are created within this time are announced together."""
LINKS_PER_QUERY = 200
TICKETS_PER_STATEMENT = 500
"""Tickets closed together with their summary are announced in parts, so that others are served in between."""
LINKED_EVENT = "linked"
"""Kind of the event that announces an issue to the ticket's source."""


def plan_state_change(
    ticket: Ticket, changes: Changes, state: State, destination_id: int, source: Source | None
) -> bool:
    """Add the delivery that tells a ticket's source of its last event. Return False if the source can't be told."""
    if source is None or not source.capabilities.set_state or not changes.events:
        return False
    kind = DeliveryKind.CLOSE if state == "closed" else DeliveryKind.REOPEN
    changes.deliveries.append(PlannedDelivery(ticket.id, destination_id, changes.events[-1].n, kind))
    return True


async def plan_closed_tickets(
    con: Connection, closed: Sequence[Ticket], destination_id: int, source: Source | None, marker_of: MarkerOf
) -> None:
    """Publish the feedback about tickets that were closed together with their summary ticket."""
    if source is None or not source.capabilities.set_state:
        return
    tickets = {ticket.id: ticket for ticket in closed}
    # locks the existing lanes in the order of their ids, as all transactions do
    await lock_tracker_destinations(con, list(tickets))
    for start in range(0, len(closed), TICKETS_PER_STATEMENT):
        ticket_ids = [ticket.id for ticket in closed[start : start + TICKETS_PER_STATEMENT]]
        problems = await store.problems_of_tickets(con, ticket_ids, destination_id)
        changes = Changes()
        for problem in problems:
            ticket = tickets[problem.ticket_id]
            changes.deliveries.append(
                PlannedDelivery(ticket.id, destination_id, ticket.next_event - 1, DeliveryKind.CLOSE)
            )
        await publish(con, changes, tickets, marker_of)
        await store.link_feedback_lanes(con, destination_id, problems)


class FeedbackConfig(Protocol):
    """The part of the configuration that is used here."""

    @property
    def feedback_destinations(self) -> Mapping[int, int]:
        """Return the destination of each source's feedback, by source id."""
        ...

    @property
    def marker_of(self) -> MarkerOf:
        """Return the function that computes the marker of a delivery."""
        ...

    def sources_wanting_comments(self) -> Sequence[int]:
        """Return the ids of the sources to which issues are announced."""
        ...


class SourceFeedback(PeriodicService):
    """Announces created issues to the sources of their tickets. Every replica does; the lock of a ticket decides."""

    name: ClassVar[str] = "source-feedback"
    gather_seconds: ClassVar[float] = GATHER_SECONDS

    def __init__(
        self, database: Database, config: Callable[[], FeedbackConfig], *, signals: Signals | None = None
    ) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._database = database
        self._config = config
        self._signals = signals or Signals()

    async def run_once(self) -> None:
        """Announce all created issues."""
        while await self.announce():
            pass

    async def announce(self) -> bool:
        """Announce created issues, up to LINKS_PER_QUERY of each source. Return whether there may be more."""
        config = self._config()
        source_ids = config.sources_wanting_comments()
        if not source_ids:
            return False
        more = False
        positions = await store.feedback_positions(self._database, source_ids)
        for source_id, position in positions.items():
            links = await store.unannounced_links(self._database, source_id, position, LINKS_PER_QUERY)
            for link in links:
                await self._announce(link, config)
            if links:
                self._signals.emit(WorkAvailable())
            full = len(links) == LINKS_PER_QUERY
            more = more or full
            up_to = links[-1].linked_at if full else None
            await store.advance_feedback_position(self._database, source_id, up_to)
        return more

    async def _announce(self, link: UnannouncedLink, config: FeedbackConfig) -> None:
        await self._database.run_transaction(lambda con: _publish_link(con, link, config))


async def _publish_link(con: Connection, link: UnannouncedLink, config: FeedbackConfig) -> None:
    destination_id = config.feedback_destinations[link.source_id]
    ticket = await lock_ticket(con, link.ticket_id)
    if ticket is None or await store.has_linked_event(con, ticket.id, link.lane_id):
        return
    problem = await store.problem_of_ticket(con, ticket.id, destination_id)
    data = {
        "lane": link.lane_id,
        "destination": link.destination,
        "key": link.remote_key,
        "url": link.url,
    }
    changes = Changes()
    number = ticket.next_event
    ticket.next_event += 1
    changes.events.append(Event(ticket.id, number, LINKED_EVENT, data))
    if problem is not None:
        changes.deliveries.append(PlannedDelivery(ticket.id, destination_id, number, DeliveryKind.COMMENT))
    await publish(con, changes, {ticket.id: ticket}, config.marker_of)
    if problem is not None:
        await store.link_feedback_lanes(con, destination_id, [problem])
