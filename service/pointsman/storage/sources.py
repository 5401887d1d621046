"""Sources that are asked and told: their turns, how far it went, what they said, and which problem a ticket is there."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman.plugin_api import EnrichmentResult
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.delivery_writer import as_json
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("sources")



class Turn(NamedTuple):
    """A turn at asking: the database's time now, up to when all is known, and since when the source is in use."""

    asked_at: dt.datetime
    polled_to: dt.datetime | None
    started_at: dt.datetime


# -- in use ----------------------------------------------------------------------------------------------------------


async def settle(
    database: Database, *, with_api: Sequence[int], told: Sequence[int], as_they_are: Sequence[int]
) -> bool:
    """See to it that sources with an API have their row, and those that are told, and no other, a destination for that.
    Whether any destination changed.
    """
    if with_api:
        await database.execute(SQL["insert_source_states"], list(with_api))
    backs = await database.fetch(SQL["list_feedback_destinations"])
    active = {row["source_id"]: row["id"] for row in backs if row["active"]}
    for source_id in told:
        if source_id not in active:
            await database.execute(SQL["enable_feedback"], source_id)
    for source_id, destination_id in active.items():
        if source_id not in told and source_id not in as_they_are:
            await database.execute(SQL["disable_feedback"], destination_id)
    return set(active) - set(as_they_are) != set(told)


async def standing(database: Database, source_id: int) -> Row | None:
    """How asking a source goes, and when it was last heard."""
    return await database.fetchrow(SQL["source_status"], source_id)


# -- asking for what was lost ------------------------------------------------------------------------------------------


async def take_turn(database: Database, source_id: int, lasts_seconds: float) -> Turn | None:
    """Win the right to ask a source for so long; None while somebody else has it."""
    row = await database.fetchrow(SQL["acquire_source_poll"], source_id, seconds(lasts_seconds))
    return Turn(*row) if row is not None else None


async def turn_after(database: Database, source_id: int) -> float:
    """In how many seconds the turn at a source is over."""
    return float(await database.fetchval(SQL["source_poll_wait_seconds"], source_id) or 0.0)


async def give_back(database: Database, source_ids: Sequence[int]) -> None:
    """Let others have the turns that are ours."""
    if source_ids:
        await database.execute(SQL["release_source_polls"], list(source_ids))


async def polled(database: Database, source_id: int, up_to: dt.datetime) -> None:
    """Everything up to a time was asked for, and asking works."""
    await database.execute(SQL["record_source_poll"], source_id, up_to)


async def poll_failed(database: Database, source_id: int, why: str) -> None:
    """Asking failed."""
    await database.execute(SQL["record_source_poll_failure"], source_id, why)


async def last_problem(database: Database, source_id: int) -> Row | None:
    """The problem that was reported last: ``problem`` and ``url``."""
    return await database.fetchrow(SQL["last_problem"], source_id)


async def known_tickets(database: Database, source_id: int, fingerprints: Sequence[str]) -> Mapping[str, Row]:
    """How the tickets of these problems stand, by fingerprint."""
    rows = await database.fetch(SQL["current_tickets"], source_id, list(fingerprints))
    return {row["fingerprint"]: row for row in rows}


async def seen_since(
    database: Database, asked: Sequence[tuple[uuid.UUID, str, dt.datetime]]
) -> set[tuple[uuid.UUID, str, dt.datetime]]:
    """Those of the reports asked about (ticket, action, the source's time) that were heard already, or a later one alike."""
    if not asked:
        return set()
    rows = await database.fetch(SQL["events_seen_since"], *map(list, zip(*asked, strict=True)))
    return {(row["ticket_id"], row["action"], row["at"]) for row in rows}


# -- telling -----------------------------------------------------------------------------------------------------------


async def linked_to(database: Database, source_ids: Sequence[int]) -> Mapping[int, dt.datetime]:
    """Up to when each source was told of issues."""
    rows = await database.fetch(SQL["feedback_positions"], list(source_ids))
    return {row["source_id"]: row["linked_to"] for row in rows}


async def new_links(database: Database, source_id: int, since: dt.datetime, limit: int) -> Sequence[Row]:
    """Issues of a source's tickets that it was not told of."""
    return await database.fetch(SQL["unannounced_links"], source_id, since, limit)


async def told_of(con: Connection, ticket_id: uuid.UUID, lane_id: int) -> bool:
    """Whether an issue is in its ticket's events; the ticket is locked."""
    told: bool = await con.fetchval(SQL["has_linked_event"], ticket_id, lane_id)
    return told


async def move_linked_to(database: Database, source_id: int, up_to: dt.datetime | None) -> None:
    """A source was told of all issues up to then; None: up to now."""
    await database.execute(SQL["advance_feedback_position"], source_id, up_to)


async def problem_of(con: Connection, ticket_id: uuid.UUID, destination_id: int) -> Row | None:
    """What the source calls a ticket's problem (``problem``, ``url``); None if it has none, or has it no more."""
    return await con.fetchrow(SQL["problems_of_tickets"], [ticket_id], destination_id)


async def problems_of(con: Connection, ticket_ids: Sequence[uuid.UUID], destination_id: int) -> Sequence[Row]:
    """The same of many, with their ``ticket_id``."""
    rows: Sequence[Row] = await con.fetch(SQL["problems_of_tickets"], ticket_ids, destination_id)
    return rows


async def link_back(con: Connection, destination_id: int, problems: Sequence[Row]) -> None:
    """Let the lanes by which a source is told name the problems."""
    columns = [[one[name] for one in problems] for name in ("ticket_id", "problem", "url")]
    await con.execute(SQL["link_feedback_lanes"], columns[0], destination_id, *columns[1:])


# -- asking for more ---------------------------------------------------------------------------------------------------


async def enrichment(database: Database, ticket_id: uuid.UUID, event_n: int) -> Row | None:
    """What is known beyond a report: ``state`` and ``data``."""
    return await database.fetchrow(SQL["enrichment_of_event"], ticket_id, event_n)


async def keep_enrichment(
    database: Database | Connection,
    ticket_id: uuid.UUID,
    event_n: int,
    source_id: int,
    enriched: EnrichmentResult,
    *,
    said: bool,
) -> None:
    """Keep what a source said; ``said``: it is about to stand in an issue or comment."""
    await database.execute(
        SQL["store_enrichment"],
        ticket_id,
        event_n,
        source_id,
        as_json(enriched),
        said,
        enriched.environment,
        enriched.level,
        enriched.release,
    )


async def want_enrichment(
    database: Database, ticket_id: uuid.UUID, event_n: int, source_id: int, why: str, after_seconds: float
) -> None:
    """Remember that a source is to be asked again."""
    await database.execute(SQL["schedule_enrichment"], ticket_id, event_n, source_id, why, seconds(after_seconds))


async def due_enrichments(database: Database, source_ids: Sequence[int], limit: int) -> Sequence[Row]:
    """What sources are to be asked for now; each row is ours for a minute."""
    return await database.fetch(SQL["claim_due_enrichments"], list(source_ids), limit)


async def postpone_enrichment(
    database: Database, ticket_id: uuid.UUID, event_n: int, why: str, after_seconds: float
) -> None:
    """It failed again."""
    await database.execute(SQL["postpone_enrichment"], ticket_id, event_n, why, seconds(after_seconds))


async def end_enrichment(database: Database, ticket_id: uuid.UUID, event_n: int, why: str) -> None:
    """No more is to come."""
    await database.execute(SQL["end_enrichment"], ticket_id, event_n, why)


async def unsaid(con: Connection, ticket_id: uuid.UUID) -> Sequence[Row]:
    """What came to be known after an issue was made, the newest first; the ticket is locked."""
    rows: Sequence[Row] = await con.fetch(SQL["unposted_enrichments"], ticket_id)
    return rows


async def mark_said(con: Connection, ticket_id: uuid.UUID, numbers: Sequence[int]) -> None:
    """It is said, or part of something newer that is."""
    await con.execute(SQL["mark_enrichments_posted"], ticket_id, list(numbers))
