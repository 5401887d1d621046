"""One PostgreSQL database for many examples, and the comparison of its tables with the model's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import asyncpg

from pointsman.storage.db import Database
from simulation.memory import Memory
from simulation.rows import check

SLACK_SECONDS = 40.0
"""Allowed difference of times; all intervals in use are multiples of 100 s, and time is shifted by 50 s or more."""

TICKETS, DESTINATIONS = 3, 2

#: Everything that is compared; times are seconds from now.
SELECT_ALL = """
select (select coalesce(json_agg(l), '[]') from (
          select id, destination_id, state, extract(epoch from due_at - now()) as due, lease_id,
                 extract(epoch from lease_until - now()) as lease, holder, epoch, head_seq, next_seq, park_reason
          from lane order by id) l) as lanes,
       (select coalesce(json_agg(d), '[]') from (
          select lane_id, seq, event_n, kind, marker, state, attempts, outcome_unknown, verify_attempts, draft::text, last_outcome, last_error,
                 remote_id, extract(epoch from verify_after - now()) as verify_after, extract(epoch from expires_at - now()) as expires,
                 extract(epoch from first_sent_at - now()) as sent, extract(epoch from resent_at - now()) as resent,
                 extract(epoch from done_at - now()) as done
          from delivery order by lane_id, seq) d) as deliveries,
       (select coalesce(json_agg(s), '[]') from (
          select destination_id, breaker, failures, breaker_failures, breaker_opened, pause_reason,
                 extract(epoch from open_until - now()) as open, extract(epoch from probe_until - now()) as probe,
                 extract(epoch from blocked_until - now()) as blocked, extract(epoch from failed_at - now()) as failed
          from destination_state where destination_id = any ($1) order by destination_id) s) as destinations,
       (select coalesce(json_agg(k), '[]') from (
          select lane_id, remote_id, remote_key, url, state, remote_state from link order by lane_id) k) as links,
       (select coalesce(json_agg(s), '[]') from (
          select destination_id, marker, remote_id, is_duplicate from marker_observation order by destination_id, marker, remote_id) s)
          as observations,
       (select count(*) from attempt) as attempts
"""

SHIFT_TIMES = """
update lane set due_at = due_at - {by}, lease_until = lease_until - {by};
update delivery set verify_after = verify_after - {by}, expires_at = expires_at - {by}, first_sent_at = first_sent_at - {by},
                    resent_at = resent_at - {by}, done_at = done_at - {by};
update destination_state set open_until = open_until - {by}, probe_until = probe_until - {by},
                             blocked_until = blocked_until - {by}, failed_at = failed_at - {by};
update marker_observation set at = at - {by}
"""

CLEAR = """
delete from attempt; delete from marker_observation; delete from link; delete from delivery; delete from event; delete from lane;
update destination_state set breaker = 0, failures = 0, failed_at = null, breaker_failures = 0, breaker_opened = 0,
  open_until = null, probe_until = null, blocked_until = null, pause_reason = null, max_inflight = 2
"""


class ModelDatabase:
    """Implementation of ``Database`` that runs statements on the model."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        return self.memory.run(sql, args)

    async def fetchrow(self, sql: str, *args: Any) -> dict[str, Any] | None:
        return next(iter(self.memory.run(sql, args)), None)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = await self.fetchrow(sql, *args)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any) -> None:
        self.memory.run(sql, args)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[ModelDatabase]:
        yield self


class Environment:
    """Event loop and database that all examples share."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = self.run(self._pool(dsn))
        self.database = Database(self.pool, dsn)
        self.destinations: list[int] = []
        self.tickets: list[uuid.UUID] = []
        self.run(self._insert_rows())

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable to its end and return its result."""
        return self.loop.run_until_complete(awaitable)

    @staticmethod
    async def _pool(dsn: str) -> Any:
        quick = {"synchronous_commit": "off"}
        return await asyncpg.create_pool(dsn, min_size=1, max_size=2, server_settings=quick)

    async def _insert_rows(self) -> None:
        source = await self.database.fetchval(
            "insert into source (slug, kind) values ('s', 'tickets') returning id"
        )
        for n in range(DESTINATIONS):
            destination = await self.database.fetchval(
                "insert into destination (slug, tracker) values ($1, 'folder') returning id", f"d{n}"
            )
            await self.database.execute(
                "insert into destination_state (destination_id) values ($1)", destination
            )
            self.destinations.append(destination)
        for n in range(TICKETS):
            self.tickets.append(uuid.UUID(int=n + 1))
            await self.database.execute(
                "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 2, $3, 't')",
                self.tickets[-1],
                source,
                str(n),
            )

    def close(self) -> None:
        self.run(self.pool.close())
        self.loop.close()


def compare(row: Any, memory: Memory, attempts: int) -> None:
    """Compare the row of SELECT_ALL with the model's tables; raise AssertionError if they differ."""
    real = {name: json.loads(text) for name, text in row.items() if name != "attempts"}
    check(
        (
            (o["id"], o["state"], o["head_seq"], o["next_seq"], o["lease_id"] is not None)
            for o in real["lanes"]
        ),
        ((o["lane_id"], o["seq"], o["state"]) for o in real["deliveries"]),
    )
    for name, rows in _model_rows(memory).items():
        assert len(real[name]) == len(rows), f"{name}: {real[name]} and {rows}"
        for mine, models in zip(real[name], rows, strict=True):
            _assert_equal(name, mine, models)
    assert row["attempts"] == attempts


def _model_rows(memory: Memory) -> dict[str, list[dict[str, Any]]]:
    """Return the model's tables in the form of SELECT_ALL."""
    m = memory

    def left(moment: float | None) -> float | None:
        return None if moment is None else moment - m.now()

    return {
        "lanes": [
            {"id": o.id, "destination_id": o.destination_id, "state": o.state, "due": left(o.due_at),
             "lease_id": o.lease_id, "lease": left(o.lease_until), "holder": o.holder, "epoch": o.epoch,
             "head_seq": o.head_seq, "next_seq": o.next_seq, "park_reason": o.park_reason}
            for o in sorted(m.lanes.values(), key=lambda o: o.id)
        ],
        "deliveries": [
            {"lane_id": o.lane_id, "seq": o.seq, "event_n": o.event_n, "kind": o.kind, "marker": o.marker,
             "state": o.state, "attempts": o.attempts, "outcome_unknown": o.outcome_unknown, "verify_attempts": o.verify_attempts, "draft": o.draft,
             "last_outcome": o.last_outcome, "last_error": o.last_error, "remote_id": o.remote_id,
             "verify_after": left(o.verify_after), "expires": left(o.expires_at), "sent": left(o.first_sent_at),
             "resent": left(o.resent_at), "done": left(o.done_at)}
            for _, o in sorted(m.deliveries.items())
        ],
        "destinations": [
            {"destination_id": o.destination_id, "breaker": o.breaker, "failures": o.failures,
             "breaker_failures": o.breaker_failures, "breaker_opened": o.breaker_opened, "pause_reason": o.pause_reason,
             "open": left(o.open_until), "probe": left(o.probe_until),
             "blocked": left(o.blocked_until), "failed": left(o.failed_at)}
            for _, o in sorted(m.destinations.items())
        ],
        "links": [
            {"lane_id": o.lane_id, "remote_id": o.remote_id, "remote_key": o.remote_key, "url": o.url,
             "state": o.state, "remote_state": o.remote_state}
            for _, o in sorted(m.links.items())
        ],
        "observations": sorted(
            ({"destination_id": destination, "marker": marker, "remote_id": o.remote_id, "is_duplicate": o.is_duplicate}
             for (destination, marker), seen in m.observations.items() for o in seen),
            key=lambda o: (o["destination_id"], o["marker"], o["remote_id"]),
        ),
    }  # fmt: skip


def _assert_equal(table: str, real: dict[str, Any], model: dict[str, Any]) -> None:
    for name, value in model.items():
        actual = real[name]
        if isinstance(value, uuid.UUID):
            value = str(value)
        if isinstance(value, float) and actual is not None:
            assert abs(actual - value) < SLACK_SECONDS, (
                f"{table}.{name}: {actual} s, the model says {value} s"
            )
        else:
            assert actual == value, f"{table}.{name}: {actual!r}, the model says {value!r}\n{real}\n{model}"


@contextlib.contextmanager
def open_environment(server_dsn: str, template: str) -> Iterator[Environment]:
    """Create a database from a migrated template for the time of the context."""
    name = f"model_{uuid.uuid4().hex[:12]}"

    async def on_server(sql: str) -> None:
        con = await asyncpg.connect(server_dsn)
        try:
            await con.execute(sql)
        finally:
            await con.close()

    asyncio.run(on_server(f"create database {name} template {template}"))
    head, _, query = server_dsn.partition("?")
    environment = Environment(f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}")
    try:
        yield environment
    finally:
        environment.close()
        asyncio.run(on_server(f"drop database {name} with (force)"))
