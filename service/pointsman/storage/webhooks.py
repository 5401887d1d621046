"""What trackers tell us, kept and known again."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence

from pointsman.crypto import sha256
from pointsman.domain.states import WebhookKeyKind
from pointsman.storage.batching import columns
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.queries import queries

SQL = queries("webhooks")



async def keep(
    con: Connection, destination_id: int, webhook_id: uuid.UUID, delivery_id: str | None, body: bytes
) -> bool:
    """Claim a webhook's delivery id and body digest; False if either was here before."""
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


async def write(
    con: Connection,
    destination_id: int,
    webhook_id: uuid.UUID,
    *,
    delivery_id: str | None,
    headers: Mapping[str, str],
    body: bytes,
    remote_id: str | None,
    remote_key: str | None,
    state: int,
    note: str,
) -> None:
    """Keep a webhook as it came, with what became of it."""
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


async def link_of(con: Connection | Database, destination_id: int, remote_id: str, key: str) -> Row | None:
    """The link of an issue, None if it is not one of ours (yet)."""
    return await con.fetchrow(SQL["link_of_issue"], destination_id, remote_id, key)


async def links_of(
    database: Database, destination_id: int, issues: Sequence[tuple[str, str]]
) -> list[Row | None]:
    """The links of many issues (id, key), None for each that is not one of ours (yet)."""
    rows = await database.fetch(
        SQL["links_of_issues"], destination_id, [one for one, _ in issues], [key for _, key in issues]
    )
    by_id = {row["remote_id"]: row for row in rows}
    by_key = {row["remote_key"]: row for row in rows}
    return [by_id.get(remote_id) or by_key.get(key) for remote_id, key in issues]


async def lock_link(con: Connection, lane_id: int) -> Row | None:
    """How we last knew an issue; locked."""
    return await con.fetchrow(SQL["lock_link"], lane_id)


async def see(
    con: Connection, lane_id: int, *, remote_state: int, version: dt.datetime | None, key: str, url: str
) -> bool:
    """Remember how an issue stands; False if we know something newer."""
    return await con.fetchval(SQL["update_issue_state"], lane_id, remote_state, version, key, url) is not None


async def orphan(con: Connection, lane_id: int) -> None:
    """The issue is gone."""
    await con.execute(queries("queue")["orphan_link"], lane_id)


async def last_state_sent(con: Connection, lane_id: int, kind: int) -> Row | None:
    """The last close, or reopen, that was sent to an issue: whether it was answered, lately, and superseded since."""
    return await con.fetchrow(SQL["last_state_write"], lane_id, kind)


async def automatic_changes(con: Connection, ticket_id: uuid.UUID) -> int:
    """How often trackers and reports closed or reopened a ticket in the last ten minutes."""
    count: int = await con.fetchval(SQL["count_automatic_changes"], ticket_id)
    return count


async def park_ticket(con: Connection, ticket_id: uuid.UUID, why: str) -> list[str]:
    """A ticket's lanes to trackers wait for a person; the slugs of their destinations."""
    return [row["slug"] for row in await con.fetch(SQL["park_lanes_of_ticket"], ticket_id, why)]


async def waiting(database: Database, destination_id: int, remote_id: str, key: str) -> Sequence[Row]:
    """Webhooks that came before their issue was linked."""
    return await database.fetch(SQL["waiting_webhooks"], destination_id, remote_id, key)


async def webhooks_waiting(
    database: Database, issues: Sequence[tuple[int, str, str]]
) -> set[tuple[int, str]]:
    """Which issues (destination, id, key) have webhooks that came before their link was known."""
    rows = await database.fetch(queries("queue")["issues_with_waiting_webhooks"], *columns(issues))
    return {(row["destination_id"], row["remote_id"]) for row in rows}


async def parked(database: Database, limit: int) -> Sequence[Row]:
    """Webhooks that their plugin could not read, oldest first."""
    return await database.fetch(SQL["parked_webhooks"], limit, within_seconds=60.0)


async def settle(
    database: Database, received_at: dt.datetime, webhook_id: uuid.UUID, state: int, note: str
) -> None:
    """A waiting webhook was looked at again."""
    await database.execute(SQL["update_webhook"], received_at, webhook_id, state, note)
