"""Claim the keys of reports, upsert their tickets, and read reports that could not be processed."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.domain.repeats import ProblemState
from pointsman.domain.states import TicketStatus
from pointsman.domain.ticket import Ticket
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import ticket_from
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("intake")


class ReportKey(NamedTuple):
    """The idempotency key of a report, with the report that claims it."""

    source_id: int
    key_hash: bytes
    report_id: uuid.UUID
    body_sha256: bytes


class KnownReport(NamedTuple):
    """The last report that was accepted with a key, and the state of the current ticket of the fingerprint.

    Without such a ticket, the columns from ``status`` on are None.
    """

    source_id: int
    key_hash: bytes
    report_id: uuid.UUID
    body_sha256: bytes
    ticket_id: uuid.UUID | None
    state: int | None
    key_seconds: float
    status: int | None
    reported_resolved: bool | None
    unrouted: bool | None
    throttled: bool | None
    state_seconds: float | None
    closed_seconds: float | None

    @property
    def problem(self) -> ProblemState | None:
        """Return the state of the problem, None if it has no ticket."""
        if self.status is None:
            return None
        return ProblemState(
            is_open=self.status == TicketStatus.OPEN,
            resolved=bool(self.reported_resolved),
            waits_for_issue=bool(self.unrouted or self.throttled),
            state_seconds=self.state_seconds or 0.0,
            closed_seconds=self.closed_seconds or 0.0,
            key_seconds=self.key_seconds,
        )


class NewTicket(NamedTuple):
    """A ticket to be inserted, or whose occurrences are to be added to the current ticket of the fingerprint."""

    id: uuid.UUID
    source_id: int
    kind: int
    fingerprint: str
    title: str
    description: str
    url: str
    level: str
    environment: str
    release: str
    reporter_email: str
    reporter_name: str
    occurrences: int


class UpsertedTicket(NamedTuple):
    """A locked ticket as it was before the batch. The times are None unless they were asked for."""

    ticket: Ticket
    inserted: bool
    now: dt.datetime | None
    unseen_seconds: float | None
    """Seconds since the previous report; None for a new ticket."""


class Occurrences(NamedTuple):
    """Reports of a ticket below its threshold: how many to record, how many to keep at most, and for how long."""

    ticket_id: uuid.UUID
    report_count: int
    limit: int
    span_seconds: int


class ParkedReport(NamedTuple):
    """A report that could not be processed, for operators."""

    id: uuid.UUID
    received_at: dt.datetime
    source: str
    error: str | None
    bytes: int


class StoredReport(NamedTuple):
    """A parked report as it was received; ``headers`` is JSON."""

    id: uuid.UUID
    received_at: dt.datetime
    source_id: int
    headers: str
    body: bytes
    body_sha256: bytes


async def claim_keys(con: Connection, keys: Sequence[ReportKey]) -> set[uuid.UUID]:
    """Claim idempotency keys. Return the ids of the reports whose key is new."""
    records = await con.fetch(SQL["insert_report_keys"], *_columns(keys))
    return {record["report_id"] for record in records}


async def known_reports(
    con: Connection, keys: Sequence[tuple[int, bytes, str, bytes | None]]
) -> Mapping[tuple[int, bytes], KnownReport]:
    """Return the last report of each claimed key.

    Each is asked for with source, hash, the fingerprint of its ticket, and the alert within that ticket, if it has several.
    """
    records = await con.fetch(SQL["known_report_keys"], *_columns(keys))
    return {(row.source_id, row.key_hash): row for row in rows_of(KnownReport, records)}


async def renew_keys(con: Connection, keys: Sequence[tuple[ReportKey, uuid.UUID]]) -> set[uuid.UUID]:
    """Give known keys to new reports, each unless its former report lost the key meanwhile. Return the ids of reports."""
    columns = _columns([(*key, former_id) for key, former_id in keys])
    return {record["report_id"] for record in await con.fetch(SQL["renew_report_keys"], *columns)}


async def refresh_keys(con: Connection, keys: Sequence[tuple[int, bytes]]) -> None:
    """Record that keys (source and hash) were seen again."""
    await con.execute(SQL["refresh_report_keys"], *_columns(keys))


class TicketMember(NamedTuple):
    """An alert of a ticket that stands for several, and whether the source said that it is over."""

    source_id: int
    fingerprint: str
    member: bytes
    resolved: bool


async def firing_members(
    con: Connection, tickets: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], set[bytes]]:
    """Return the alerts that fire of each locked ticket (source and fingerprint)."""
    members: dict[tuple[int, str], set[bytes]] = {ticket: set() for ticket in tickets}
    for record in await con.fetch(SQL["ticket_members"], *_columns(tickets)):
        members[record["source_id"], record["fingerprint"]].add(record["member"])
    return members


async def write_members(con: Connection, members: Sequence[TicketMember]) -> None:
    """Store whether alerts of locked tickets fire; each alert once."""
    await con.execute(SQL["upsert_ticket_members"], *_columns(members))


async def upsert_tickets(
    con: Connection, tickets: Sequence[NewTicket], *, with_times: bool
) -> list[UpsertedTicket]:
    """Insert or lock the current ticket of each fingerprint, all in the same order in every transaction.

    ``with_times`` asks for the database's time and the time since the previous report.
    """
    records = await con.fetch(SQL["upsert_tickets"], *_columns(tickets), with_times)
    rows = []
    for record in records:
        ticket = ticket_from(record)
        ticket.closed_seconds = record["closed_seconds"] or 0.0
        rows.append(UpsertedTicket(ticket, record["inserted"], record["at"], record["unseen_seconds"]))
    return rows


async def existing_fingerprints(
    con: Connection, fingerprints: Sequence[tuple[int, str]]
) -> set[tuple[int, str]]:
    """Return which fingerprints (source and fingerprint) have a current ticket."""
    records = await con.fetch(SQL["known_fingerprints"], *_columns(fingerprints))
    return {(record["source_id"], record["fingerprint"]) for record in records}


async def close_generation(
    con: Connection, ticket_id: uuid.UUID, moved_occurrences: int, *, all_moved: bool
) -> dict[str, Any]:
    """End the generation of a ticket, so that its fingerprint can get a new ticket. Return its issues by destination id.

    ``moved_occurrences`` were counted for it and belong to the new ticket; ``all_moved``: this batch has no others.
    """
    issues = await con.fetchval(SQL["close_generation"], ticket_id, moved_occurrences, all_moved)
    return json.loads(issues) if issues else {}


async def insert_generation(con: Connection, ticket: NewTicket, generation: int) -> None:
    """Insert the ticket of a next generation; its opening event is counted already."""
    await con.execute(SQL["insert_generation"], *ticket, generation)


async def count_occurrences(
    con: Connection, ticket_ids: Sequence[uuid.UUID], spans: Sequence[int]
) -> dict[uuid.UUID, dict[int, int]]:
    """Return how often locked tickets below their threshold were reported within the last ``spans`` seconds."""
    counts: dict[uuid.UUID, dict[int, int]] = {}
    for record in await con.fetch(SQL["count_occurrences"], ticket_ids, spans):
        counts.setdefault(record["ticket_id"], {})[record["seconds"]] = record["times"]
    return counts


async def record_occurrences(con: Connection, occurrences: Sequence[Occurrences]) -> None:
    """Record that tickets below their threshold were reported now."""
    if occurrences:
        await con.execute(SQL["record_occurrences"], *_columns(occurrences))


async def parked_reports(database: Database, limit: int) -> list[ParkedReport]:
    """Return reports that could not be processed, oldest first."""
    return rows_of(ParkedReport, await database.fetch(SQL["list_parked_reports"], limit))


async def lock_parked_report(con: Connection, report_id: uuid.UUID) -> StoredReport | None:
    """Lock one parked report, so that one process reprocesses it."""
    return row_of(StoredReport, await con.fetchrow(SQL["lock_parked_report"], report_id))


async def unpark_report(
    con: Connection, report: StoredReport, ticket_id: uuid.UUID | None, action: str
) -> None:
    """Mark a parked report as processed, as part of a ticket."""
    await con.execute(SQL["unpark_report"], report.received_at, report.id, ticket_id, action)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
