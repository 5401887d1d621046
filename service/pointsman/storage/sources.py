"""State of sources with an API: their polls, and the feedback about their problems."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman.storage.batching import columns
from pointsman.storage.db import Connection, Database, seconds
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("sources")


class SourcePoll(NamedTuple):
    """The right to poll a source: the database's time, up to when its reports are known, and when its use started."""

    asked_at: dt.datetime
    polled_to: dt.datetime | None
    started_at: dt.datetime


class SourceStatus(NamedTuple):
    """The state of polling a source, and when its last report was received."""

    slug: str
    polled_to: dt.datetime | None
    failures: int | None
    failed_at: dt.datetime | None
    failure: str | None
    heard_at: dt.datetime | None


class LastProblem(NamedTuple):
    """The problem of a source that was reported last, by the source's own id."""

    problem: str
    url: str | None


class CurrentTicket(NamedTuple):
    """The current ticket of a fingerprint."""

    fingerprint: str
    id: uuid.UUID
    status: int
    closed_at: dt.datetime | None


class UnannouncedLink(NamedTuple):
    """An issue that its ticket's source was not told of."""

    lane_id: int
    ticket_id: uuid.UUID
    source_id: int
    destination: str
    remote_key: str
    url: str
    linked_at: dt.datetime


class TicketProblem(NamedTuple):
    """The problem of a ticket, by the source's own id."""

    ticket_id: uuid.UUID
    problem: str
    url: str


async def configure_feedback(
    database: Database, *, with_api: Sequence[int], with_feedback: Sequence[int], unchanged: Sequence[int]
) -> bool:
    """Insert the rows of sources ``with_api``, and enable the feedback to those ``with_feedback`` alone.

    ``unchanged`` are sources whose capabilities are unknown now. Return whether a destination was enabled or disabled.
    """
    if with_api:
        await database.execute(SQL["insert_source_states"], list(with_api))
    records = await database.fetch(SQL["list_feedback_destinations"])
    active = {record["source_id"]: record["id"] for record in records if record["active"]}
    for source_id in with_feedback:
        if source_id not in active:
            await database.execute(SQL["enable_feedback"], source_id)
    for source_id, destination_id in active.items():
        if source_id not in with_feedback and source_id not in unchanged:
            await database.execute(SQL["disable_feedback"], destination_id)
    return set(active) - set(unchanged) != set(with_feedback)


async def source_status(database: Database, source_id: int) -> SourceStatus | None:
    """Return the state of polling a source, and when its last report was received."""
    return row_of(SourceStatus, await database.fetchrow(SQL["source_status"], source_id))


# -- backfill ----------------------------------------------------------------------------------------------------------


async def acquire_poll(database: Database, source_id: int, lease_seconds: float) -> SourcePoll | None:
    """Acquire the right to poll a source for a while. Return None while another replica has it."""
    record = await database.fetchrow(SQL["acquire_source_poll"], source_id, seconds(lease_seconds))
    return row_of(SourcePoll, record)


async def poll_wait_seconds(database: Database, source_id: int) -> float:
    """Return in how many seconds the poll of a source is free."""
    return float(await database.fetchval(SQL["source_poll_wait_seconds"], source_id) or 0.0)


async def release_polls(database: Database, source_ids: Sequence[int]) -> None:
    """Release polls before their time, so that other replicas can poll."""
    if source_ids:
        await database.execute(SQL["release_source_polls"], list(source_ids))


async def record_poll(database: Database, source_id: int, up_to: dt.datetime) -> None:
    """Record that everything up to a time was asked for; clears the failure of an earlier poll."""
    await database.execute(SQL["record_source_poll"], source_id, up_to)


async def record_poll_failure(database: Database, source_id: int, reason: str) -> None:
    """Record that polling a source failed."""
    await database.execute(SQL["record_source_poll_failure"], source_id, reason)


async def last_problem(database: Database, source_id: int) -> LastProblem | None:
    """Return the problem of a source that was reported last."""
    return row_of(LastProblem, await database.fetchrow(SQL["last_problem"], source_id))


async def current_tickets(
    database: Database, source_id: int, fingerprints: Sequence[str]
) -> Mapping[str, CurrentTicket]:
    """Return the current tickets of fingerprints, by fingerprint."""
    records = await database.fetch(SQL["current_tickets"], source_id, list(fingerprints))
    return {row.fingerprint: row for row in rows_of(CurrentTicket, records)}


async def events_seen_since(
    database: Database, reports: Sequence[tuple[uuid.UUID, str, dt.datetime]]
) -> set[tuple[uuid.UUID, str, dt.datetime]]:
    """Return those of the reports (ticket, action, the source's time) for which an event of that time or later exists."""
    if not reports:
        return set()
    records = await database.fetch(SQL["events_seen_since"], *columns(reports))
    return {(record["ticket_id"], record["action"], record["at"]) for record in records}


# -- feedback ----------------------------------------------------------------------------------------------------------


async def feedback_positions(database: Database, source_ids: Sequence[int]) -> Mapping[int, dt.datetime]:
    """Return up to when issues were announced to each source."""
    records = await database.fetch(SQL["feedback_positions"], list(source_ids))
    return {record["source_id"]: record["linked_to"] for record in records}


async def unannounced_links(
    database: Database, source_id: int, since: dt.datetime, limit: int
) -> list[UnannouncedLink]:
    """Return issues of a source's tickets that were not announced to it, oldest first."""
    return rows_of(UnannouncedLink, await database.fetch(SQL["unannounced_links"], source_id, since, limit))


async def has_linked_event(con: Connection, ticket_id: uuid.UUID, lane_id: int) -> bool:
    """Return whether a locked ticket has the event of a link."""
    exists: bool = await con.fetchval(SQL["has_linked_event"], ticket_id, lane_id)
    return exists


async def advance_feedback_position(database: Database, source_id: int, up_to: dt.datetime | None) -> None:
    """Record that issues up to a time were announced; None: up to now."""
    await database.execute(SQL["advance_feedback_position"], source_id, up_to)


async def problem_of_ticket(
    con: Connection, ticket_id: uuid.UUID, destination_id: int
) -> TicketProblem | None:
    """Return the problem of a ticket; None if it has none, or if the source no longer has it."""
    record = await con.fetchrow(SQL["problems_of_tickets"], [ticket_id], destination_id)
    return row_of(TicketProblem, record)


async def problems_of_tickets(
    con: Connection, ticket_ids: Sequence[uuid.UUID], destination_id: int
) -> list[TicketProblem]:
    """Return the problems of tickets that the source still has."""
    return rows_of(TicketProblem, await con.fetch(SQL["problems_of_tickets"], ticket_ids, destination_id))


async def link_feedback_lanes(
    con: Connection, destination_id: int, problems: Sequence[TicketProblem]
) -> None:
    """Link the feedback lanes of tickets to the source's problems."""
    await con.execute(
        SQL["link_feedback_lanes"],
        [row.ticket_id for row in problems],
        destination_id,
        [row.problem for row in problems],
        [row.url for row in problems],
    )
