"""Store webhooks, and the last known state of the issues they are about."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman.crypto import sha256
from pointsman.domain.change_origin import LastStateWrite
from pointsman.domain.states import DeliveryKind, LinkState, TicketStatus, WebhookKeyKind, WebhookState
from pointsman.storage.batching import columns
from pointsman.storage.db import Connection, Database
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("webhooks")


class IssueLink(NamedTuple):
    """The link of an issue, with the issue's last known state."""

    lane_id: int
    ticket_id: uuid.UUID
    remote_id: str
    remote_key: str
    remote_state: int
    remote_version: dt.datetime | None
    state: int


class KnownIssue(NamedTuple):
    """The last known state of one of several issues."""

    remote_id: str
    remote_key: str
    ticket_id: uuid.UUID
    remote_state: int
    remote_version: dt.datetime | None
    state: int

    @property
    def is_active(self) -> bool:
        """Return whether the issue was at its place when it was last observed."""
        return self.state == LinkState.ACTIVE


class KnownState(NamedTuple):
    """The last known state of an issue whose link is locked."""

    remote_state: int
    remote_version: dt.datetime | None
    state: int

    @property
    def is_active(self) -> bool:
        """Return whether the issue was at its place when it was last observed."""
        return self.state == LinkState.ACTIVE


class WaitingWebhook(NamedTuple):
    """A webhook that arrived before the link of its issue; ``headers`` is JSON."""

    received_at: dt.datetime
    id: uuid.UUID
    headers: str
    body: bytes


class ParkedWebhook(NamedTuple):
    """A webhook that its plugin could not read; ``headers`` is JSON."""

    received_at: dt.datetime
    id: uuid.UUID
    destination_id: int
    destination: str
    headers: str
    body: bytes
    bytes: int
    note: str


async def claim_keys(
    con: Connection, destination_id: int, webhook_id: uuid.UUID, delivery_id: str | None, body: bytes
) -> bool:
    """Claim a webhook's delivery id and body digest. Return False if either was received before."""
    keys = [(WebhookKeyKind.BODY_DIGEST, sha256(body))]
    if delivery_id:
        keys.append((WebhookKeyKind.DELIVERY_ID, sha256(delivery_id.encode("utf-8", "surrogateescape"))))
    rows = await con.fetch(
        SQL["insert_webhook_keys"],
        destination_id,
        [kind for kind, _ in keys],
        [key_hash for _, key_hash in keys],
        webhook_id,
    )
    return len(rows) == len(keys)


async def insert_webhook(
    con: Connection,
    destination_id: int,
    webhook_id: uuid.UUID,
    *,
    delivery_id: str | None,
    headers: Mapping[str, str],
    body: bytes,
    remote_id: str | None,
    remote_key: str | None,
    state: WebhookState,
    note: str,
) -> None:
    """Insert a webhook unchanged, with its result."""
    await con.execute(
        SQL["insert_webhook"],
        webhook_id,
        destination_id,
        delivery_id,
        json.dumps(dict(headers)),
        body,
        sha256(body),
        remote_id,
        remote_key,
        state,
        note,
    )


async def update_webhook(
    database: Database, received_at: dt.datetime, webhook_id: uuid.UUID, state: WebhookState, note: str
) -> None:
    """Store the result of a webhook that waited or was parked."""
    await database.execute(SQL["update_webhook"], received_at, webhook_id, state, note)


async def waiting_webhooks(
    database: Database, destination_id: int, remote_id: str, key: str
) -> list[WaitingWebhook]:
    """Return the webhooks that arrived before their issue was linked, oldest first."""
    return rows_of(
        WaitingWebhook, await database.fetch(SQL["waiting_webhooks"], destination_id, remote_id, key)
    )


async def issues_with_waiting_webhooks(
    database: Database, issues: Sequence[tuple[int, str, str]]
) -> set[tuple[int, str]]:
    """Return which issues (destination, id, key) have waiting webhooks, as destinations and ids."""
    rows = await database.fetch(SQL["issues_with_waiting_webhooks"], *columns(issues))
    return {(row["destination_id"], row["remote_id"]) for row in rows}


async def parked_webhooks(database: Database, limit: int) -> list[ParkedWebhook]:
    """Return webhooks that their plugin could not read, oldest first."""
    return rows_of(ParkedWebhook, await database.fetch(SQL["parked_webhooks"], limit, within_seconds=60.0))


async def link_of_issue(
    con: Connection | Database, destination_id: int, remote_id: str, key: str
) -> IssueLink | None:
    """Return the link of an issue; None if the issue is not linked (yet)."""
    return row_of(IssueLink, await con.fetchrow(SQL["link_of_issue"], destination_id, remote_id, key))


async def links_of_issues(
    database: Database, destination_id: int, issues: Sequence[tuple[str, str]]
) -> list[KnownIssue | None]:
    """Return what is known of each issue (id, key); None for an issue that is not linked (yet)."""
    records = await database.fetch(
        SQL["links_of_issues"],
        destination_id,
        [remote_id for remote_id, _ in issues],
        [key for _, key in issues],
    )
    rows = rows_of(KnownIssue, records)
    by_id = {row.remote_id: row for row in rows}
    by_key = {row.remote_key: row for row in rows}
    return [by_id.get(remote_id) or by_key.get(key) for remote_id, key in issues]


async def lock_link(con: Connection, lane_id: int) -> KnownState | None:
    """Lock a link. Return the last known state of its issue."""
    return row_of(KnownState, await con.fetchrow(SQL["lock_link"], lane_id))


async def update_issue_state(
    con: Connection,
    lane_id: int,
    *,
    remote_state: TicketStatus,
    version: dt.datetime | None,
    key: str,
    url: str,
) -> bool:
    """Store the state of an issue. Return False if a newer one is known."""
    row = await con.fetchval(SQL["update_issue_state"], lane_id, remote_state, version, key, url)
    return row is not None


async def orphan_link(con: Connection, lane_id: int) -> None:
    """Mark the link of an issue that was deleted or moved away as orphaned."""
    await con.execute(SQL["orphan_link"], lane_id)


async def last_state_write(con: Connection, lane_id: int, kind: DeliveryKind) -> LastStateWrite | None:
    """Return the last close or reopen that was sent to an issue."""
    record = await con.fetchrow(SQL["last_state_write"], lane_id, kind)
    return LastStateWrite(*record.values()) if record is not None else None


async def count_automatic_changes(con: Connection, ticket_id: uuid.UUID) -> int:
    """Return how often trackers and reports closed or reopened a ticket in the last ten minutes."""
    count: int = await con.fetchval(SQL["count_automatic_changes"], ticket_id)
    return count


async def park_lanes_of_ticket(con: Connection, ticket_id: uuid.UUID, reason: str) -> list[str]:
    """Park all tracker lanes of a ticket. Return the slugs of the destinations whose lane was not parked before."""
    rows = await con.fetch(SQL["park_lanes_of_ticket"], ticket_id, reason)
    return [row["slug"] for row in rows]
