"""Keeping house: partitions, what is forgotten, alarms, and whether the database is still the one we knew."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

import asyncpg
import pytest

from pointsman.bus.signals import MaintenanceChecked, Signals
from pointsman.operations.housekeeping import Housekeeper
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import leases, maintenance
from pointsman.storage.db import Database
from pointsman.storage.leases import Lease


@pytest.fixture
async def lease(database: Database) -> Lease:
    won = await leases.acquire_lease(database, "housekeeping", uuid.uuid4(), 60)
    assert won is not None
    return won


async def _tables(database: Database, like: str) -> list[str]:
    rows = await database.fetch(
        "select relname from pg_class where relname ~ $1 and relkind = 'r' order by 1", like
    )
    return [row["relname"] for row in rows]


async def _old_partition(database: Database, parent: str = "report") -> None:
    await database.execute(
        f"create table {parent}_20200101 partition of {parent} for values from ('2020-01-01') to ('2020-01-02')"
    )


# -- turns -----------------------------------------------------------------------------------------------------------


async def test_a_lease_is_acquired_by_one_and_not_again_before_it_expires(database: Database):
    holders = [uuid.uuid4() for _ in range(5)]
    won = [
        holder
        for holder in await asyncio.gather(
            *(leases.acquire_lease(database, "x", holder, 60) for holder in holders)
        )
        if holder
    ]
    assert len(won) == 1 and await leases.is_held(database, won[0])
    assert await leases.acquire_lease(database, "x", won[0].holder, 60) is None
    assert await leases.acquire_lease(database, "y", holders[0], 60) is not None
    await database.execute("update lease set expires_at = now() where name = 'x'")
    assert not await leases.is_held(database, won[0])
    later = await leases.acquire_lease(database, "x", holders[0], 60)
    assert later is not None and later.epoch == won[0].epoch + 1


# -- partitions ------------------------------------------------------------------------------------------------------


async def test_missing_partitions_are_an_alarm_until_they_are_made(database: Database, lease: Lease):
    [*_, last_but_one, _last] = await _tables(database, r"^report_\d{8}$")
    await database.execute(f"drop table {last_but_one}")
    assert (await maintenance.maintenance_checks(database))["partition_missing"] == 1
    await maintenance.run_maintenance(database, lease)
    assert set((await maintenance.maintenance_checks(database)).values()) == {0}
    assert last_but_one in await _tables(database, r"^report_\d{8}$")
    await database.execute(
        "insert into report (id, source_id, body, body_sha256) values (gen_random_uuid(), 1, '', '')"
    )
    assert await database.fetchval("select count(*) from report_default") == 0


async def test_a_made_partition_is_like_the_others(database: Database, lease: Lease):
    [*_, last] = await _tables(database, r"^webhook_\d{8}$")
    shape = "select regexp_replace(indexdef, '_?[0-9]{8}', '', 'g') as d from pg_indexes where tablename = $1 order by 1"
    before = [row["d"] for row in await database.fetch(shape, last)]
    await database.execute(f"drop table {last}")
    await maintenance.run_maintenance(database, lease)
    assert [row["d"] for row in await database.fetch(shape, last)] == before


async def test_partitions_past_their_time_go(database: Database, lease: Lease):
    for parent in ("report", "attempt", "webhook"):
        await _old_partition(database, parent)
    await maintenance.run_maintenance(database, lease)
    assert await _tables(database, "_20200101$") == []
    assert len(await _tables(database, r"^(report|attempt|webhook)_\d{8}$")) == 12


async def test_a_drop_does_not_wait_and_nobody_waits_for_it(database: Database, dsn: str, lease: Lease):
    """A long read holds a partition: it is left for the next turn, the rest goes on, and writers do not notice."""
    await _old_partition(database)
    reader = await asyncpg.connect(dsn)
    await reader.execute("begin; select count(*) from report")
    began = time.monotonic()
    keeping = asyncio.create_task(maintenance.run_maintenance(database, lease))
    longest = 0.0
    while not keeping.done():
        before = time.monotonic()
        await database.execute(
            "insert into report (id, source_id, body, body_sha256) values (gen_random_uuid(), 1, '', '')"
        )
        longest = max(longest, time.monotonic() - before)
    await keeping
    assert time.monotonic() - began < 5 and longest < 1.5
    assert await _tables(database, "_20200101$") == ["report_20200101"]
    await reader.execute("rollback")
    await reader.close()
    await maintenance.run_maintenance(database, lease)
    assert await _tables(database, "_20200101$") == []


async def test_rows_without_a_partition_are_an_alarm(database: Database, lease: Lease):
    await database.execute(
        "insert into webhook (received_at, id, destination_id, body, body_sha256)"
        " values (now() + interval '100 days', gen_random_uuid(), 1, '', '')"
    )
    assert (await maintenance.maintenance_checks(database))["default_partition"] == 1


async def test_what_keeps_partitions_from_being_made_does_not_stop_the_rest(database: Database, lease: Lease):
    """Rows of a day in the default partition: the day can't be made, old ones go all the same."""
    [*_, last] = await _tables(database, r"^webhook_\d{8}$")
    await database.execute(f"drop table {last}")
    await database.execute(
        "insert into webhook (received_at, id, destination_id, body, body_sha256)"
        " values (now() + interval '3 days', gen_random_uuid(), 1, '', '')"
    )
    await _old_partition(database)
    await maintenance.run_maintenance(database, lease)
    assert await _tables(database, "_20200101$") == []


# -- what is forgotten -----------------------------------------------------------------------------------------------

OLD_AND_NEW = {
    "report_key": (
        "insert into report_key (source_id, key_hash, report_id, body_sha256, seen_at)"
        " select 1, int4send(n), gen_random_uuid(), '', now() - case when n <= 2500 then interval '8 days'"
        " else interval '6 days' end from generate_series(1, 2503) n"
    ),
    "webhook_key": (
        "insert into webhook_key (destination_id, kind, key_hash, webhook_id, received_at)"
        " select 1, 1 + n % 2, int4send(n), gen_random_uuid(), now() - case when n <= 2500 then interval '31 days'"
        " when n % 2 = 1 then interval '23 hours' else interval '29 days' end from generate_series(1, 2503) n"
    ),
    "marker_observation": (
        "insert into marker_observation (destination_id, marker, remote_id, remote_key, seen_by, at)"
        " select 1, gen_random_uuid(), n, n, 'answer', now() - case when n <= 2500 then interval '91 days'"
        " else interval '89 days' end from generate_series(1, 2503) n"
    ),
    "ticket_member": (
        "with s as (insert into source (slug, kind) values ('m', 'x') returning id)"
        " insert into ticket_member (source_id, fingerprint, member, resolved, changed_at)"
        " select s.id, 'f', int4send(n), n <> 2501,"
        " now() - case when n <= 2501 then interval '31 days' else interval '29 days' end"
        " from s, generate_series(1, 2503) n"
    ),
    "audit": (
        "insert into audit (actor, action, object, at)"
        " select 'x', 'x', 'x', now() - case when n <= 2500 then interval '13 months' else interval '11 months' end"
        " from generate_series(1, 2503) n"
    ),
    "below_threshold_ticket": (
        "with s as (insert into source (slug, kind) values ('h', 'x') returning id),"
        " t as (insert into ticket (id, source_id, kind, fingerprint, title, below_threshold)"
        "       select gen_random_uuid(), s.id, 1, n, 't', true from s, generate_series(1, 2503) n"
        "       returning id, fingerprint::integer as n)"
        " insert into below_threshold_ticket (ticket_id, occurred_at, span, counted_at)"
        " select id, '{}', interval '1 hour', now() - case when n <= 2500 then interval '61 minutes'"
        " else interval '59 minutes' end from t"
    ),
}


@pytest.mark.parametrize("table", OLD_AND_NEW)
async def test_all_that_is_old_goes_in_one_run_and_nothing_else(database: Database, lease: Lease, table: str):
    await database.execute(OLD_AND_NEW[table])
    await maintenance.run_maintenance(database, lease)
    assert await database.fetchval(f"select count(*) from {table}") == 3


async def test_finished_deliveries_go_after_thirty_days_and_dead_ones_stay(database: Database, lease: Lease):
    await _deliveries(database, 2504)
    await database.execute(
        "update delivery set state = case when seq = 2504 then 2 else 1 end,"
        " done_at = now() - case when seq <= 2500 or seq = 2504 then interval '31 days' else interval '29 days' end"
    )
    await maintenance.run_maintenance(database, lease)
    assert [row["seq"] for row in await database.fetch("select seq from delivery order by seq")] == [
        2501,
        2502,
        2503,
        2504,
    ]


async def _deliveries(database: Database, count: int) -> None:
    ticket, source = (
        uuid.uuid4(),
        await database.fetchval("insert into source (slug, kind) values ('s', 'x') returning id"),
    )
    place = await database.fetchval(
        "insert into destination (slug, tracker) values ('d', 'folder') returning id"
    )
    await database.execute("insert into destination_state (destination_id) values ($1)", place)
    await database.execute(
        "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 1, 'f', 't')",
        ticket,
        source,
    )
    lane = await database.fetchval(
        "insert into lane (ticket_id, destination_id, state, next_seq, head_seq) values ($1, $2, 0, $3, $3) returning id",
        ticket,
        place,
        count + 1,
    )
    await database.execute(
        "insert into delivery (lane_id, seq, event_n, kind, marker) select $1, n, n, 2, gen_random_uuid()"
        " from generate_series(1, $2::integer) n",
        lane,
        count,
    )


async def test_there_is_an_end_to_a_run_and_the_next_run_goes_on(database: Database, lease: Lease):
    await database.execute(OLD_AND_NEW["audit"])
    await maintenance.run_maintenance(database, lease, seconds_per_step=0.0)
    assert await database.fetchval("select count(*) from audit") == 1503
    await maintenance.run_maintenance(database, lease, seconds_per_step=0.0)
    await maintenance.run_maintenance(database, lease, seconds_per_step=0.0)
    assert await database.fetchval("select count(*) from audit") == 3


@pytest.mark.parametrize("name", ["create_partitions", "drop_expired_partition", *maintenance.DELETE_STEPS])
async def test_a_replica_paused_past_its_lease_does_nothing(database: Database, lease: Lease, name: str):
    """Every step says in itself whose turn it is."""
    for statement in OLD_AND_NEW.values():
        await database.execute(statement)
    await _deliveries(database, 1)
    await database.execute("update delivery set state = 1, done_at = now() - interval '31 days'")
    await _old_partition(database)
    [*_, last] = await _tables(database, r"^report_\d{8}$")
    await database.execute(f"drop table {last}")
    await database.execute("update lease set epoch = epoch + 1")
    assert not await database.fetchval(maintenance.SQL[name], *lease)
    await database.execute("update lease set epoch = epoch - 1, expires_at = now()")
    assert not await database.fetchval(maintenance.SQL[name], *lease)
    await database.execute("update lease set expires_at = now() + interval '1 minute'")
    assert await database.fetchval(maintenance.SQL[name], *lease)


async def test_dead_rows_that_pile_up_are_an_alarm(database: Database):
    await database.execute("alter table delivery set (autovacuum_enabled = off)")
    await _deliveries(database, 4000)
    async with database.pool.acquire() as con:
        for _ in range(3):
            await con.execute("update delivery set verify_attempts = verify_attempts + 1")
        await con.execute("select pg_stat_force_next_flush()")
        await con.execute("select 1")
    assert (await maintenance.maintenance_checks(database))["dead_rows"] == 1


async def test_each_replica_reports_its_metrics_and_one_runs_the_maintenance(database: Database):
    signals_received: list[tuple[str, float]] = []

    class Keeper(ConfigReloader):
        def __init__(self) -> None:
            pass

    signals = Signals()
    signals.subscribe(
        MaintenanceChecked, lambda signal: signals_received.append((signal.check, signal.value))
    )
    replicas = [Housekeeper(database, Keeper(), uuid.uuid4(), signals=signals) for _ in range(3)]
    won = await asyncio.gather(*(replica.run_maintenance() for replica in replicas))
    assert sorted(won) == [False, False, True]
    assert sorted(signals_received) == sorted([(name, 0.0) for name in maintenance.CHECKS] * 3)


# -- another cluster -------------------------------------------------------------------------------------------------


async def _careful(database: Database) -> bool:
    return await database.fetchval("select must_verify_writes()")


async def test_the_first_look_notes_the_cluster_and_is_no_alarm(database: Database):
    assert not await _careful(database)
    assert await maintenance.check_cluster_identity(database)
    noted = await database.fetchval("select cluster from installation")
    system, timeline = noted.split("/")
    assert system.isdigit() and timeline == "00000001"
    assert await maintenance.check_cluster_identity(database)
    assert await database.fetchval("select cluster from installation") == noted
    assert await maintenance.verify_writes_status(database) == (None, False)


@pytest.mark.parametrize(
    "change", ["'1/' || split_part(cluster, '/', 2)", "split_part(cluster, '/', 1) || '/00000007'"]
)
async def test_another_cluster_or_timeline_makes_careful_once(database: Database, change: str):
    await maintenance.check_cluster_identity(database)
    await database.execute(f"update installation set cluster = {change}")
    assert sorted(
        await asyncio.gather(*(maintenance.check_cluster_identity(database) for _ in range(4)))
    ) == [
        False,
        True,
        True,
        True,
    ]
    until, now = await maintenance.verify_writes_status(database)
    left = await database.fetchval("select extract(epoch from $1::timestamptz - now())", until)
    assert now and 3500 < left <= 3600
    assert await maintenance.check_cluster_identity(database)


async def test_a_new_timeline_counts_before_anybody_noticed(database: Database):
    """The first write after a failover may come before the first look."""
    await maintenance.check_cluster_identity(database)
    await database.execute("update installation set cluster = split_part(cluster, '/', 1) || '/00000007'")
    assert await _careful(database)
    await maintenance.check_cluster_identity(database)
    await database.execute("update installation set verify_writes_until = null")
    assert not await _careful(database)


async def test_what_could_not_be_read_before_is_not_compared(database: Database):
    await maintenance.check_cluster_identity(database)
    noted = await database.fetchval("select cluster from installation")
    system, _, timeline = noted.partition("/")
    for known in ("/", f"{system}/", f"/{timeline}"):
        await database.execute("update installation set cluster = $1", known)
        assert not await _careful(database)
        assert await maintenance.check_cluster_identity(database)
        assert await database.fetchval("select cluster from installation") == noted


async def test_an_account_that_may_not_ask_for_the_cluster_compares_timelines(database: Database, dsn: str):
    await maintenance.check_cluster_identity(database)
    noted = await database.fetchval("select cluster from installation")
    name = f"reader_{uuid.uuid4().hex[:8]}"
    await database.execute(f"create role {name} login")
    await database.execute(f"grant select, update on installation to {name}")
    await database.execute("revoke execute on function pg_control_system() from public")
    try:
        other = dsn.replace(dsn.split("//")[1].split("@", maxsplit=1)[0], name, 1) if "@" in dsn else None
        if other is None:
            pytest.skip("the address names no account")
        async with Database.open(other, size=1) as limited:
            assert await maintenance.check_cluster_identity(limited)
            assert await database.fetchval("select cluster from installation") == noted
            await database.execute(
                "update installation set cluster = split_part(cluster, '/', 1) || '/00000007'"
            )
            assert not await maintenance.check_cluster_identity(limited)
    finally:
        with contextlib.suppress(asyncpg.PostgresError):
            await database.execute(f"drop owned by {name}")
            await database.execute(f"drop role {name}")


async def test_an_operator_can_be_careful_and_stop_it(database: Database):
    await maintenance.set_verify_writes(database, 2)
    until, now = await maintenance.verify_writes_status(database)
    assert now and until is not None
    await maintenance.set_verify_writes(database, 0)
    assert await maintenance.verify_writes_status(database) == (None, False)
    assert await database.fetchval("select count(*) from audit where action = 'verify_writes'") == 2
