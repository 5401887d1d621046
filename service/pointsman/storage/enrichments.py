"""Enrichments: what sources add to their reports when they are asked."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.plugin_api import EnrichmentResult
from pointsman.storage.db import Connection, Database, seconds
from pointsman.storage.delivery_writer import as_json
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("enrichments")


class Enrichment(NamedTuple):
    """The enrichment of an event; ``data`` is JSON."""

    state: int
    data: str | None


class DueEnrichment(NamedTuple):
    """An enrichment to ask for, claimed for a minute; ``event_data`` is JSON."""

    ticket_id: uuid.UUID
    event_n: int
    source_id: int
    tries: int
    created_at: dt.datetime
    event_data: str


class UnpostedEnrichment(NamedTuple):
    """An enrichment that is in no issue or comment; ``sent``: that of its event was sent without it."""

    event_n: int
    data: str
    sent: bool


async def enrichment_of_event(database: Database, ticket_id: uuid.UUID, event_n: int) -> Enrichment | None:
    """Return the enrichment of an event, None if the source was not asked."""
    return row_of(Enrichment, await database.fetchrow(SQL["enrichment_of_event"], ticket_id, event_n))


async def store_enrichment(
    database: Database | Connection,
    ticket_id: uuid.UUID,
    event_n: int,
    source_id: int,
    enrichment: EnrichmentResult,
    *,
    posted: bool,
) -> None:
    """Store an enrichment; ``posted``: an issue or comment is about to contain it."""
    await database.execute(
        SQL["store_enrichment"],
        ticket_id,
        event_n,
        source_id,
        as_json(enrichment),
        posted,
        enrichment.environment,
        enrichment.level,
        enrichment.release,
    )


async def schedule_enrichment(
    database: Database, ticket_id: uuid.UUID, event_n: int, source_id: int, reason: str, after_seconds: float
) -> None:
    """Schedule an enrichment that the source did not answer in time."""
    await database.execute(
        SQL["schedule_enrichment"], ticket_id, event_n, source_id, reason, seconds(after_seconds)
    )


async def claim_due_enrichments(
    database: Database, source_ids: Sequence[int], limit: int
) -> list[DueEnrichment]:
    """Claim the due enrichments of sources for a minute."""
    records = await database.fetch(SQL["claim_due_enrichments"], list(source_ids), limit)
    return rows_of(DueEnrichment, records)


async def postpone_enrichment(
    database: Database, ticket_id: uuid.UUID, event_n: int, reason: str, after_seconds: float
) -> None:
    """Postpone an enrichment that failed."""
    await database.execute(SQL["postpone_enrichment"], ticket_id, event_n, reason, seconds(after_seconds))


async def end_enrichment(database: Database, ticket_id: uuid.UUID, event_n: int, reason: str) -> None:
    """End an enrichment: the source has no more information, or did not answer for too long."""
    await database.execute(SQL["end_enrichment"], ticket_id, event_n, reason)


async def unposted_enrichments(con: Connection, ticket_id: uuid.UUID) -> list[UnpostedEnrichment]:
    """Lock and return the enrichments of a locked ticket that came too late, newest first."""
    return rows_of(UnpostedEnrichment, await con.fetch(SQL["unposted_enrichments"], ticket_id))


async def mark_posted(con: Connection, ticket_id: uuid.UUID, event_numbers: Sequence[int]) -> None:
    """Mark enrichments as posted, or as covered by newer ones."""
    await con.execute(SQL["mark_enrichments_posted"], ticket_id, list(event_numbers))
