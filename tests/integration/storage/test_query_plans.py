"""The hot statements stay on their indexes, whatever the statistics say and however often they were run before.

100,000 lanes, of which 20,000 wait for a destination that is dead. A statement is planned with its values and without
(``force_generic_plan``: what the driver's prepared statements come to after five runs), for one lane and for many, with
fresh statistics and with some that are out of date. ``-rP`` shows how long each took.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from pointsman.storage.queries import queries

LANES, BLOCKED, ALIVE = 100_000, 20_000, 20
HOT = ("lane", "delivery", "ticket", "link", "marker_observation", "report_key", "report", "event", "attempt")
MANY = 128

# what the tables looked like when they were last analyzed
STATISTICS = ("fresh", "of a few rows", "of a calm day", "of many ready lanes", "none")

FILL = """
insert into source (slug, kind) values ('s', 'tickets');
insert into destination (slug, tracker) select 'd' || n, 'folder' from generate_series(0, {alive}) n;
insert into destination_state (destination_id, breaker, open_until, credential)
  select id, case slug when 'd0' then 2 else 0 end, now() + interval '1 hour', decode(md5(slug), 'hex')
  from destination where slug like 'd%';
"""

# lanes 1..blocked belong to the dead destination; of the others a few hundred are ready, later, leased, lapsed, parked
LANE = """
insert into ticket (id, source_id, kind, fingerprint, title, next_event)
  select md5(n::text)::uuid, (select id from source), 2, n::text, 'a title', 3 from generate_series({first}, {last}) n;
insert into event (ticket_id, n, kind)
  select md5(n::text)::uuid, 2, 'commented' from generate_series({first}, {last}) n;
insert into lane (ticket_id, destination_id, head_seq, next_seq)
  select md5(n::text)::uuid, d.id, 3, 3
  from generate_series({first}, {last}) n
  join destination d on d.slug = case when n <= {blocked} then 'd0' else 'd' || (1 + n % {alive}) end order by n;
insert into delivery (lane_id, seq, event_n, kind, marker, state, done_at, first_sent_at)
  select l.id, e, e, case e when 1 then 1 else 2 end, md5(l.id || 'm' || e)::uuid, 1, now(), now()
  from lane l, generate_series(1, 2) e where l.id between {first} and {last} order by l.id, e;
insert into link (lane_id, destination_id, remote_id, remote_key)
  select id, destination_id, id, id from lane where id between {first} and {last};
insert into marker_observation (destination_id, marker, remote_id, remote_key, seen_by)
  select destination_id, md5(id || 'm1')::uuid, id, id, 'answer' from lane where id between {first} and {last};
insert into report_key (source_id, key_hash, report_id, body_sha256)
  select (select id from source), decode(md5(n::text), 'hex'), md5(n::text)::uuid, '' from generate_series({first}, {last}) n;
insert into report (id, source_id, ticket_id, body, body_sha256)
  select md5(n::text)::uuid, (select id from source), md5(n::text)::uuid, 'x', '' from generate_series({first}, {last}, 5) n;
"""

# work arrives: the second delivery of each busy lane is to be done
BUSY = """
update lane set state = case
    when id <= {blocked} then 1 when id % 400 = 0 then 1 when id % 400 = 1 then 1
    when id % 400 = 2 then 2 when id % 1600 = 3 then 2 else 3 end,
  head_seq = 2,
  due_at = now() + case when id % 400 = 1 and id > {blocked} then interval '1 hour' else interval '-1 minute' end,
  lease_id = case when id > {blocked} and (id % 400 = 2 or id % 1600 = 3) then md5(id::text)::uuid end,
  lease_until = case when id > {blocked} and id % 400 = 2 then now() + interval '1 hour'
                     when id > {blocked} and id % 1600 = 3 then now() - interval '1 minute' end,
  park_reason = case when id > {blocked} and id % 400 = 4 then 'refused' end
where id <= {blocked} or id % 400 in (0, 1, 2, 4) or id % 1600 = 3;
update delivery d set state = 0, done_at = null, first_sent_at = null
  from lane l where l.id = d.lane_id and l.state <> 0 and d.seq >= l.head_seq;
update delivery set state = 2 where lane_id > {blocked} and lane_id % 1000 = 7 and seq = 2;
"""

MANY_READY = "update lane set state = 1 where id % 2 = 0"
NONE_READY = "update lane set state = 0 where state = 1"
DELETE_STATISTICS = "delete from pg_statistic; update pg_class set reltuples = -1, relpages = 0 where relkind in ('r', 'i', 'p')"


def _named(dsn: str, name: str) -> str:
    head, _, query = dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    con = await asyncpg.connect(dsn)
    try:
        yield con
    finally:
        await con.close()


@pytest.fixture(scope="module")
def filled(server_dsn: str, template: str) -> Iterator[dict[str, str]]:
    """A database for each kind of statistics."""
    names = {kind: f"plans_{uuid.uuid4().hex[:12]}" for kind in STATISTICS}
    numbers = {"alive": ALIVE, "blocked": BLOCKED}

    async def on(kind: str, *scripts: str) -> None:
        async with _connected(_named(server_dsn, names[kind])) as con:
            for script in scripts:
                await con.execute(script)

    async def clone(kind: str, of: str) -> None:
        async with _connected(server_dsn) as con:
            await con.execute(
                f"create database {names[kind]} template {names.get(of, of)} strategy file_copy"
            )

    async def fill() -> None:
        await clone("of a few rows", template)
        still = "; ".join(
            f"alter table {table} set (autovacuum_enabled = off)"
            for table in (*HOT, "destination_state")
            if table not in ("report", "attempt")
        )
        quick = "set session_replication_role = replica; set synchronous_commit = off;"
        first, rest = (LANE.format(first=a, last=b, **numbers) for a, b in ((1, 100), (101, LANES)))
        busy = quick + BUSY.format(**numbers)
        await on("of a few rows", still, FILL.format(**numbers), quick + first, "analyze", quick + rest)
        await clone("of many ready lanes", "of a few rows")
        await on("of many ready lanes", MANY_READY, "vacuum analyze lane", NONE_READY, busy)
        await clone("of a calm day", "of a few rows")
        await on("of a calm day", "analyze", busy)
        await on("of a few rows", busy)
        await clone("fresh", "of a few rows")
        await on("fresh", "analyze")
        await clone("none", "of a few rows")
        await on("none", DELETE_STATISTICS)

    async def drop() -> None:
        async with _connected(server_dsn) as con:
            for name in names.values():
                await con.execute(f"drop database if exists {name} with (force)")

    try:
        asyncio.run(fill())
        yield {kind: _named(server_dsn, name) for kind, name in names.items()}
    finally:
        asyncio.run(drop())


@dataclass
class FilledRows:
    """What statements are called with."""

    alive: list[int]
    leased: list[tuple[int, uuid.UUID, int]]
    """Lane, lease and destination of lanes in somebody's hands."""
    tickets: list[uuid.UUID]


async def _select_rows(con: Any) -> FilledRows:
    return FilledRows(
        alive=[
            row[0]
            for row in await con.fetch("select id from destination where slug like 'd%' and slug <> 'd0'")
        ],
        leased=[
            tuple(row)
            for row in await con.fetch(
                "select id, lease_id, destination_id from lane where state = 2 and lease_until > now() order by id"
            )
        ],
        tickets=[
            row[0]
            for row in await con.fetch("select ticket_id from lane where id > 50000 order by id limit 128")
        ],
    )


NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
ME = uuid.UUID(int=7)
Args = Callable[[FilledRows, int], list[Any]]


def _per_lane(*constants: Any) -> Args:
    """Columns for lanes in our hands: lane, lease, and constants for the rest; "id" is a text of its own."""

    def args(rows: FilledRows, many: int) -> list[Any]:
        lanes = rows.leased[:many]
        arguments: list[Any] = [[lane[0] for lane in lanes], [lane[1] for lane in lanes]]
        return arguments + [[f"new {lane[0]}" if c == "id" else c for lane in lanes] for c in constants]

    return args


def _hash(n: int) -> bytes:
    return n.to_bytes(16, "big")


# statement: its arguments, whether it may read more than what it was asked for
STATEMENTS: dict[tuple[str, str], tuple[Args, bool]] = {
    ("queue", "has_due_work"): (lambda g, n: [], False),
    ("queue", "release_expired_leases"): (lambda g, n: [], False),
    ("queue", "lock_claimable_destinations"): (lambda g, n: [64, None], False),
    ("queue", "claim_lanes"): (lambda g, n: [ME, n, 60 * SECOND, g.alive], False),
    ("queue", "renew_leases"): (lambda g, n: [*_per_lane()(g, n), SECOND], False),
    ("queue", "release_lane"): (lambda g, n: [*g.leased[0][:2], SECOND], False),
    ("queue", "load_next_deliveries"): (_per_lane(), False),
    ("queue", "lock_lane"): (lambda g, n: [*g.leased[0][:2]], False),
    ("queue", "record_intents"): (_per_lane(2, True, SECOND, "{}"), False),
    ("queue", "finish_deliveries"): (
        lambda g, n: [*_per_lane(2, True, "done", None, "id", "id", "url", NOW, 2, NOW, "note")(g, n), ME],
        False,
    ),
    ("queue", "missing_comments"): (lambda g, n: [g.leased[0][0], 2], False),
    ("queue", "schedule_retry"): (
        lambda g, n: [
            *g.leased[0][:2], 2, SECOND, True, True, 1, SECOND, "unknown", "error", NOW, ME, 500,
        ],
        False,
    ),
    ("queue", "confirm_not_applied"): (lambda g, n: [*g.leased[0][:2], 2], False),
    ("queue", "dead_letter_delivery"): (
        lambda g, n: [*g.leased[0][:2], 2, True, "refused", "error", NOW, ME, 422, True],
        False,
    ),
    ("queue", "park_lane"): (
        lambda g, n: [*g.leased[0][:2], "why", True, "orphan", "gone", 404, NOW, uuid.UUID(int=6)],
        False,
    ),
    ("marker_observations", "insert_marker_observations"): (
        lambda g, n: [
            [lane[2] for lane in g.leased[:n]],
            [uuid.UUID(int=lane[0]) for lane in g.leased[:n]],
            *[[f"{c}{lane[0]}" for lane in g.leased[:n]] for c in "iku"],
            ["answer"] * len(g.leased[:n]),
        ],
        False,
    ),
    ("marker_observations", "issues_with_marker"): (lambda g, n: [g.leased[0][2], uuid.UUID(int=5)], False),
    ("webhooks", "issues_with_waiting_webhooks"): (
        lambda g, n: [
            [lane[2] for lane in g.leased[:n]],
            *[[f"{c}{lane[0]}" for lane in g.leased[:n]] for c in "ik"],
        ],
        False,
    ),
    ("queue", "replay_parked"): (lambda g, n: [20404, 2, False], False),
    ("queue", "replay_passed"): (lambda g, n: [21007, 2, False], False),
    ("destinations", "record_failure"): (
        lambda g, n: [g.alive[0], "T", "m", 500, "", None, True, False, 5, 30 * SECOND, 900 * SECOND, "delivery"],
        False,
    ),
    ("intake", "insert_report_keys"): (
        lambda g, n: [[1] * n, [_hash(i) for i in range(n)], [uuid.UUID(int=i) for i in range(n)], [b""] * n],
        False,
    ),
    ("intake", "upsert_tickets"): (
        lambda g, n: [
            [uuid.UUID(int=i) for i in range(n)], [1] * n, [2] * n, [str(50000 + i) for i in range(n)],
            *[["x"] * n for _ in range(8)], [1] * n, True,
        ],
        False,
    ),
    ("intake", "close_generation"): (lambda g, n: [g.tickets[0], 1, True], False),
    ("intake", "count_occurrences"): (lambda g, n: [g.tickets[:n], [600, 86400]], False),
    ("intake", "record_occurrences"): (lambda g, n: [g.tickets[:n], [1] * n, [5] * n, [600] * n], False),
    ("delivery_writer", "lock_ticket"): (lambda g, n: [g.tickets[0]], False),
    ("delivery_writer", "lock_lanes_of_tickets"): (lambda g, n: [g.tickets[:n]], False),
    ("delivery_writer", "update_tickets"): (
        lambda g, n: [
            g.tickets[:n], [1] * n, [None] * n, [5] * n, [None] * n, [False] * n, [False] * n, ["x"] * n,
            [False] * n, [False] * n,
        ],
        False,
    ),
    ("delivery_writer", "coalesce_deliveries"): (
        lambda g, n: [
            g.tickets[:n], [g.alive[0]] * n, ["recurrence"] * n, [5] * n, [uuid.UUID(int=i) for i in range(n)], [0] * n,
            [True] * n,
        ],
        False,
    ),
    ("delivery_writer", "insert_changes"): (
        lambda g, n: [
            *[[]] * 14, g.tickets[:n], [g.alive[0]] * n, [1] * n, [None] * n, g.tickets[:n], [g.alive[0]] * n, [1] * n, [9] * n,
            [2] * n, [uuid.uuid4() for _ in range(n)], [None] * n, [0] * n,
        ],
        False,
    ),
    ("delivery_writer", "close_throttled_tickets"): (lambda g, n: [g.tickets[0], "completed", "{}", n], False),
    ("sources", "problems_of_tickets"): (lambda g, n: [g.tickets[:n], g.alive[0]], False),
    ("sources", "link_feedback_lanes"): (lambda g, n: [g.tickets[:n], g.alive[0], ["p"] * n, ["u"] * n], False),
    ("ticket_throttle", "destinations_with_unsent_summary"): (lambda g, n: [g.tickets[0]], False),
    ("metrics", "destination_metrics"): (lambda g, n: [], True),
    ("metrics", "dead_letter_metrics"): (lambda g, n: [], True),
}  # fmt: skip


def _literal(value: Any) -> str:
    """A value as a literal without a type: the statement gives it one."""
    if value is None:
        return "null"
    return "'" + _text(value).replace("'", "''") + "'"


def _text(value: Any) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case dt.timedelta():
            return f"{value.total_seconds()} s"
        case dt.datetime():
            return value.isoformat()
        case list():
            quoted = (
                "null"
                if element is None
                else '"' + _text(element).replace("\\", "\\\\").replace('"', '\\"') + '"'
                for element in value
            )
            return "{" + ",".join(quoted) + "}"
        case _:
            return str(value)


def _scans(node: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Every scan of a hot table: kind, table, rows read by the index or the table."""
    table = node.get("Relation Name", "")
    for hot in HOT:
        if table == hot or (hot in ("report", "attempt") and table.startswith(f"{hot}_2")):
            read = node["Actual Rows"] + sum(
                node.get(f"Rows Removed by {reason}", 0)
                for reason in ("Filter", "Index Recheck", "Join Filter")
            )
            if node["Node Type"] != "ModifyTable":
                yield node["Node Type"], table, round(read * node["Actual Loops"])
    for inner in node.get("Plans", ()):
        yield from _scans(inner)


async def explain(con: Any, sql: str, args: list[Any], mode: str) -> dict[str, Any]:
    """The plan of a statement as it ran, rolled back."""
    transaction = con.transaction()
    await transaction.start()
    try:
        await con.execute(f"set local plan_cache_mode = {mode}")
        await con.execute(f"prepare it as {sql}")
        arguments = f"({', '.join(map(_literal, args))})" if args else ""
        plan = await con.fetchval(f"explain (analyze, buffers off, format json) execute it{arguments}")
    finally:
        await transaction.rollback()
        await con.execute("deallocate it")
    return json.loads(plan)[0]


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("file", "name"), STATEMENTS)
async def test_a_hot_statement_stays_on_its_index(filled, file: str, name: str, statistics: str):
    args, reads_more = STATEMENTS[file, name]
    bad = []
    async with _connected(filled[statistics]) as con:
        filled_rows = await _select_rows(con)
        for mode in ("force_custom_plan", "force_generic_plan"):
            for many in (1, MANY):
                plan = await explain(con, queries(file)[name], args(filled_rows, many), mode)
                scans = list(_scans(plan["Plan"]))
                case = f"{name}, statistics {statistics}, {mode}, {many} asked for"
                print(f"{plan['Execution Time']:8.2f} ms  {plan['Planning Time']:6.2f} ms to plan  {case}")
                bad += [f"{case}: Seq Scan on {table}" for kind, table, _ in scans if kind == "Seq Scan"]
                if not reads_more:
                    bad += [
                        f"{case}: {kind} read {rows} rows of {table}"
                        for kind, table, rows in scans
                        if rows > 20 * MANY
                    ]
    assert not bad, "\n".join(bad)
