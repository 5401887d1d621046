"""Asking sources for more: what stands in no report is read before an issue is made, or said in it later.

An issue never waits long for that. One that was made without gets one comment with the details, once the source has told
them; its body stays as people may have edited it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from pointsman.bus.publish import publish
from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.domain.states import DeliveryKind, EnrichmentState
from pointsman.domain.ticket import Changes, Event, PlannedDelivery
from pointsman.logs import logger, scrub
from pointsman.plugin_api import EnrichmentResult, NotFound, Problem
from pointsman.plugin_host.snapshot import ConfigReloader, LiveSource
from pointsman.plugin_host.validate import checked
from pointsman.storage import enrichments as store
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.enrichments import DueEnrichment
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.queue import NextDelivery

log = logger("enrich")

PATIENCE_SECONDS = 4.0
REST_SECONDS = 30.0
"""A source that just failed is not waited for again; what it has is asked for later."""
LOOK_SECONDS = 10.0
ROWS = 50
ASK_FOR = dt.timedelta(hours=24)
DETAILS = "details"
"""The event that brings what came too late for the issue."""
ENRICHED_EVENTS = frozenset({"opened", "singled_out", "posted", "regressed", "recurred", "unmuted"})


class _Silent(Exception):
    """A source could not say more, or not in time."""


class Enricher:
    """Asks before a delivery, and again later where that was in vain."""

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        *,
        signals: Signals | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        again_seconds: float = REST_SECONDS,
    ) -> None:
        self._database = database
        self._reloader = reloader
        self._signals = signals or Signals()
        self._patience = patience_seconds
        self._again = again_seconds
        self._rests: dict[int, float] = {}

    # -- before a delivery -------------------------------------------------------------------------------------

    async def enrich(self, head: NextDelivery, kind: DeliveryKind) -> Mapping[str, Any] | None:
        """What the source says beyond the report that a delivery is about; None if it has none, or not in time."""
        if kind not in (DeliveryKind.CREATE, DeliveryKind.COMMENT) or head.event_kind not in ENRICHED_EVENTS:
            return None
        source = self._reloader.current.sources.get(head.source)
        if source is None or not source.capabilities.enrich:
            return None
        data = json.loads(head.event_data)
        if not data.get("problem_id") or data.get("code"):
            return None
        ticket_id, n = head.ticket_id, head.event_n
        known = await store.enrichment_of_event(self._database, ticket_id, n)
        if known is not None:
            return json.loads(known.data or "null") if known.state == EnrichmentState.KNOWN else None
        try:
            found = await self._ask(source, data)
        except NotFound:
            return None
        except _Silent as silent:
            await store.schedule_enrichment(self._database, ticket_id, n, source.id, str(silent), self._again)
            return None
        await store.store_enrichment(self._database, ticket_id, n, source.id, found, posted=True)
        return msgspec.to_builtins(found)  # type: ignore[no-any-return]

    async def _ask(self, source: LiveSource, data: Mapping[str, Any]) -> EnrichmentResult:
        assert source.plugin is not None
        clock = asyncio.get_running_loop().time
        if self._rests.get(source.id, 0.0) > clock():
            raise _Silent("it failed just now")
        problem = Problem(
            id=data["problem_id"],
            event_id=data.get("event_id", ""),
            action=data.get("action", "opened"),
            url=data.get("url", ""),
        )
        try:
            async with asyncio.timeout(self._patience):
                found: EnrichmentResult = checked(await source.plugin.enrich(problem), EnrichmentResult)
        except NotFound:
            raise
        except (Exception, SystemExit) as error:
            why = scrub(f"{type(error).__name__}: {error}")[:500]
            log.warning("a source could not say more in time", source=source.slug, error=why)
            self._rests[source.id] = clock() + self._again
            raise _Silent(why) from error
        return found

    # -- later -------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask again until the end."""
        task = asyncio.create_task(self._forever(), name="enrich")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._again))
            try:
                while await self.complete() == ROWS:
                    pass
            except DatabaseUnavailable:
                continue
            except Exception:
                log.exception("completing issues failed")

    async def complete(self) -> int:
        """Ask for what is due; how much was."""
        sources = {one.id: one for one in self._reloader.current.sources.values() if one.capabilities.enrich}
        if not sources:
            return 0
        rows = await store.claim_due_enrichments(self._database, list(sources), ROWS)
        told: set[uuid.UUID] = set()
        for row in rows:
            if await self._complete(sources[row.source_id], row):
                told.add(row.ticket_id)
        for ticket_id in told:
            await self._say(ticket_id)
        if told:
            self._signals.emit(WorkAvailable())
        return len(rows)

    async def _complete(self, source: LiveSource, row: DueEnrichment) -> bool:
        place = row.ticket_id, row.event_n
        try:
            found = await self._ask(source, json.loads(row.event_data))
        except NotFound as gone:
            await store.end_enrichment(self._database, *place, str(gone)[:500])
            return False
        except _Silent as silent:
            why = str(silent)
            if dt.datetime.now(dt.UTC) - row.created_at > ASK_FOR:
                await store.end_enrichment(self._database, *place, why)
            else:
                after = min(self._again * 2.0 ** min(row.tries, 10), 3600.0)
                await store.postpone_enrichment(self._database, *place, why, after)
            return False
        await store.store_enrichment(self._database, *place, source.id, found, posted=False)
        return True

    async def _say(self, ticket_id: uuid.UUID) -> None:
        await self._database.run_transaction(lambda con: self._details(con, ticket_id))

    async def _details(self, con: Connection, ticket_id: uuid.UUID) -> None:
        """One comment for all that came late, with the newest of it; none where the issue will have it itself."""
        ticket = await lock_ticket(con, ticket_id)
        if ticket is None:
            return
        rows = await store.unposted_enrichments(con, ticket_id)
        sent = [row for row in rows if row.sent]
        if sent:
            data = {**json.loads(sent[0].data), "of": sent[0].event_n}
            decided = Changes()
            n = ticket.next_event
            decided.events.append(Event(ticket_id, n, DETAILS, data))
            for destination_id in (await lock_tracker_destinations(con, [ticket_id]))[ticket_id]:
                decided.deliveries.append(PlannedDelivery(ticket_id, destination_id, n, DeliveryKind.COMMENT))
            ticket.next_event += 1
            await publish(con, decided, {ticket_id: ticket}, self._reloader.current.marker_of)
        await store.mark_posted(con, ticket_id, [row.event_n for row in rows])


def with_more(data: Mapping[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """A report's own words with what its source said beyond them; where both speak, the report's stand."""
    merged = dict(data)
    for name in ("code", "level", "environment", "release"):
        if more and more.get(name) and not merged.get(name):
            merged[name] = more[name]
    if more and more.get("facts"):
        facts = [list(fact) for fact in merged.get("facts", ())]
        said = {fact[0] for fact in facts if fact[1]}
        merged["facts"] = facts + [list(fact) for fact in more["facts"] if fact[1] and fact[0] not in said]
    return merged
