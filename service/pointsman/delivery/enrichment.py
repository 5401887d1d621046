"""Ask sources for details that their reports lack: before an issue is created, or later in a comment.

A delivery waits a few seconds at most. An issue that was created without the details gets one comment with them once the
source has answered; its body stays as it is, since people may have edited it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from pointsman.bus.periodic import PeriodicService
from pointsman.bus.publish import publish
from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.domain.states import DeliveryKind, EnrichmentState
from pointsman.domain.ticket import Changes, Event, PlannedDelivery
from pointsman.logs import logger, scrub
from pointsman.plugin_api import EnrichmentResult, NotFound, Problem
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import validated
from pointsman.storage import enrichments as store
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.enrichments import DueEnrichment
from pointsman.storage.queue_values import NextDelivery

log = logger("enrichment")

TIMEOUT_SECONDS = 4.0
RETRY_SECONDS = 30.0
"""A source that has just failed is not waited for; it is asked later."""
MAX_RETRY_SECONDS = 3600.0
INTERVAL_SECONDS = 10.0
BATCH_SIZE = 50
MAX_AGE = dt.timedelta(hours=24)
DETAILS = "details"
"""The event that carries details which came too late for their issue."""
ENRICHED_EVENTS = frozenset(
    {"opened", "released", "threshold_reached", "routed", "regressed", "recurred", "unmuted"}
)


class _NoAnswer(Exception):
    """A source failed, or did not answer in time."""


class Enricher(PeriodicService):
    """Asks sources for details before a delivery, and again later where they did not answer in time."""

    name: ClassVar[str] = "enrichment"

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        *,
        signals: Signals | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        super().__init__(min(INTERVAL_SECONDS, retry_seconds))
        self._database = database
        self._reloader = reloader
        self._signals = signals or Signals()
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        self._retry_at: dict[int, float] = {}

    # -- before a delivery -------------------------------------------------------------------------------------

    async def enrich(self, delivery: NextDelivery, kind: DeliveryKind) -> Mapping[str, Any] | None:
        """Return the details that the report of a delivery lacks, None if there are none or not in time."""
        if (
            kind not in (DeliveryKind.CREATE, DeliveryKind.COMMENT)
            or delivery.event_kind not in ENRICHED_EVENTS
        ):
            return None
        source = self._reloader.current.sources.get(delivery.source)
        if source is None or not source.capabilities.enrich:
            return None
        data = json.loads(delivery.event_data)
        if not data.get("problem_id") or data.get("code"):
            return None
        ticket_id, n = delivery.ticket_id, delivery.event_n
        stored = await store.enrichment_of_event(self._database, ticket_id, n)
        if stored is not None:
            return json.loads(stored.data or "null") if stored.state == EnrichmentState.KNOWN else None
        try:
            enrichment = await self._ask(source, data)
        except NotFound:
            return None
        except _NoAnswer as error:
            await store.schedule_enrichment(
                self._database, ticket_id, n, source.id, str(error), self._retry_seconds
            )
            return None
        await store.store_enrichment(self._database, ticket_id, n, source.id, enrichment, posted=True)
        return msgspec.to_builtins(enrichment)  # type: ignore[no-any-return]

    async def _ask(self, source: LiveSource, data: Mapping[str, Any]) -> EnrichmentResult:
        """Ask a source about the problem of an event. Raises NotFound or _NoAnswer."""
        assert source.plugin is not None
        clock = asyncio.get_running_loop().time
        if self._retry_at.get(source.id, 0.0) > clock():
            raise _NoAnswer("it failed just now")
        problem = Problem(
            id=data["problem_id"],
            event_id=data.get("event_id", ""),
            action=data.get("action", "opened"),
            url=data.get("url", ""),
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                enrichment: EnrichmentResult = validated(
                    await source.plugin.enrich(problem), EnrichmentResult
                )
        except NotFound:
            raise
        except (Exception, SystemExit) as error:
            reason = scrub(f"{type(error).__name__}: {error}")[:500]
            log.warning("source enrichment failed", source=source.slug, error=reason)
            self._retry_at[source.id] = clock() + self._retry_seconds
            raise _NoAnswer(reason) from error
        return enrichment

    # -- later -------------------------------------------------------------------------------------------------

    async def run_once(self) -> None:
        """Ask for all enrichments that are due, and comment what the sources answer."""
        while await self._complete_batch() == BATCH_SIZE:
            pass

    async def _complete_batch(self) -> int:
        """Ask for some due enrichments. Return their number."""
        sources = {
            source.id: source
            for source in self._reloader.current.sources.values()
            if source.capabilities.enrich
        }
        if not sources:
            return 0
        due = await store.claim_due_enrichments(self._database, list(sources), BATCH_SIZE)
        ticket_ids: set[uuid.UUID] = set()
        for enrichment in due:
            if await self._complete(sources[enrichment.source_id], enrichment):
                ticket_ids.add(enrichment.ticket_id)
        for ticket_id in ticket_ids:
            await self._database.run_transaction(
                lambda con, ticket_id=ticket_id: self._publish_details(con, ticket_id)  # type: ignore[misc]
            )
        if ticket_ids:
            self._signals.emit(WorkAvailable())
        return len(due)

    async def _complete(self, source: LiveSource, due: DueEnrichment) -> bool:
        """Ask for one enrichment and store the answer. Return whether there is one."""
        event = due.ticket_id, due.event_n
        try:
            enrichment = await self._ask(source, json.loads(due.event_data))
        except NotFound as error:
            await store.end_enrichment(self._database, *event, str(error)[:500])
            return False
        except _NoAnswer as error:
            if dt.datetime.now(dt.UTC) - due.created_at > MAX_AGE:
                await store.end_enrichment(self._database, *event, str(error))
            else:
                delay = min(self._retry_seconds * 2.0 ** min(due.tries, 10), MAX_RETRY_SECONDS)
                await store.postpone_enrichment(self._database, *event, str(error), delay)
            return False
        await store.store_enrichment(self._database, *event, source.id, enrichment, posted=False)
        return True

    async def _publish_details(self, con: Connection, ticket_id: uuid.UUID) -> None:
        """Publish one comment with the newest details that came late, unless the issue will contain them itself."""
        ticket = await lock_ticket(con, ticket_id)
        if ticket is None:
            return
        unposted = await store.unposted_enrichments(con, ticket_id)
        late = [enrichment for enrichment in unposted if enrichment.sent]
        if late:
            data = {**json.loads(late[0].data), "of": late[0].event_n}
            changes = Changes()
            n = ticket.next_event
            changes.events.append(Event(ticket_id, n, DETAILS, data))
            for destination_id in (await lock_tracker_destinations(con, [ticket_id]))[ticket_id]:
                changes.deliveries.append(PlannedDelivery(ticket_id, destination_id, n, DeliveryKind.COMMENT))
            ticket.next_event += 1
            await publish(con, changes, {ticket_id: ticket}, self._reloader.current.marker_of)
        await store.mark_posted(con, ticket_id, [enrichment.event_n for enrichment in unposted])


def merge_details(data: Mapping[str, Any], details: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the data of an event together with its source's details. Where both have a value, the report's counts."""
    merged = dict(data)
    if not details:
        return merged
    for name in ("code", "level", "environment", "release"):
        if details.get(name) and not merged.get(name):
            merged[name] = details[name]
    if details.get("facts"):
        facts = [list(fact) for fact in merged.get("facts", ())]
        names = {fact[0] for fact in facts if fact[1]}
        merged["facts"] = facts + [
            list(fact) for fact in details["facts"] if fact[1] and fact[0] not in names
        ]
    return merged
