"""Rate limits on a real Postgres: shared by many replicas, reduced by a 429 for all, with priority for urgent writes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.domain.states import DeliveryKind
from pointsman.domain.token_bucket import RateLimit, rate_limits_of
from pointsman.plugin_api import Quota
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage import rate_limits as rows
from pointsman.storage.db import Database

TOKEN = b"a credential's digest"
CREATE, COMMENT = DeliveryKind.CREATE, DeliveryKind.COMMENT


class Counting:
    """A database that counts its statements and can delay them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.count = 0
        self.may_run = asyncio.Event()
        self.may_run.set()
        self.fails: Exception | None = None

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        self.count += 1
        await self.may_run.wait()
        if self.fails is not None:
            raise self.fails
        return await self.database.fetchrow(sql, *args)

    async def fetch(self, sql: str, *args: Any) -> Any:
        self.count += 1
        return await self.database.fetch(sql, *args)

    async def execute(self, sql: str, *args: Any) -> None:
        self.count += 1
        await self.database.execute(sql, *args)


def destination(number: int = 1, *paces: RateLimit, credential: bytes | None = TOKEN) -> LiveDestination:
    return LiveDestination(
        number,
        f"place-{number}",
        1,
        "github",
        credential=credential,
        rate_limits=paces or (RateLimit("all", 10.0, 20.0),),
    )


async def create_destinations(database: Database, *credentials: bytes | None) -> list[int]:
    """Create destinations with these credentials. Return their ids."""
    ids = []
    for number, credential in enumerate(credentials):
        destination_id = await database.fetchval(
            "insert into destination (slug, tracker) values ($1, 'github') returning id", f"place-{number}"
        )
        await database.execute(
            "insert into destination_state (destination_id, credential) values ($1, $2)",
            destination_id,
            credential,
        )
        ids.append(destination_id)
    return ids


async def pass_time(database: Database, seconds: float) -> None:
    """Move all stored times into the past."""
    await database.execute(
        "update rate_limit set refilled_at = refilled_at - $1 * interval '1 s',"
        " limited_until = limited_until - $1 * interval '1 s'",
        seconds,
    )


async def row(database: Database, scope: str = "all") -> Any:
    return await database.fetchrow("select * from rate_limit where scope = $1", scope)


async def drain(budgets: RateLimiter, where: LiveDestination, kind: DeliveryKind, most: int = 1000) -> int:
    """Return how many writes are admitted at once."""
    for n in range(most):
        if await budgets.acquire(where, kind, 1):
            return n
    return most


SLOW = RateLimit("all", 0.001, 20.0)


# -- tokens of a bucket ---------------------------------------------------------------------------------------------


async def test_without_budgets_nothing_is_asked():
    """Without rate limits the database is not used."""
    nowhere = RateLimiter(None)  # type: ignore[arg-type]
    assert await nowhere.acquire(LiveDestination(1, "x", 1, "folder"), CREATE, 1) == 0.0


async def test_the_last_fifth_of_a_bucket_is_reserved_for_priority_writes(database: Database):
    budgets, where = RateLimiter(database), destination(1, SLOW)
    for kind in (DeliveryKind.COMMENT, DeliveryKind.UPDATE):
        await drain(budgets, where, kind)
    assert (await row(database))["tokens"] == pytest.approx(4, abs=0.1)
    assert [
        await budgets.acquire(where, kind, 1) for kind in (CREATE, DeliveryKind.CLOSE, DeliveryKind.REOPEN)
    ] == [0.0] * 3
    assert await budgets.acquire(where, COMMENT, 1) > 0
    assert await drain(budgets, where, CREATE) == 1


async def test_those_who_come_together_share_a_statement_and_the_urgent_ones_go_first(database: Database):
    counting = Counting(database)
    budgets, where = RateLimiter(counting), destination(1, SLOW)  # type: ignore[arg-type]
    await budgets.acquire(where, CREATE, 1)
    counting.count = 0
    counting.may_run.clear()
    first = asyncio.create_task(budgets.acquire(where, COMMENT, 1))
    await until_waiting(counting)
    rest = [asyncio.create_task(budgets.acquire(where, kind, 1)) for kind in [COMMENT] * 30 + [CREATE] * 10]
    await asyncio.sleep(0)
    counting.may_run.set()
    waits = await asyncio.gather(first, *rest)
    assert counting.count == 2
    assert waits[0] == 0.0 and waits[31:] == [0.0] * 10
    # 20, less 1 and 1 and 10, less the last 4
    assert waits[1:31].count(0.0) == 4
    later = [wait for wait in waits if wait]
    assert (later == sorted(later) and len(set(later)) > 1) or max(later) == 60.0


async def until_waiting(counting: Counting) -> None:
    while not counting.count:
        await asyncio.sleep(0)


async def test_a_wait_is_honest(database: Database):
    """After the wait there is a token, before there is none; waiting writes get different times."""
    budgets, where = RateLimiter(database), destination(1, RateLimit("all", 0.1, 5.0))
    await drain(budgets, where, CREATE)
    waits = await asyncio.gather(*(RateLimiter(database).acquire(where, CREATE, 1) for _ in range(2)))
    assert all(5 < wait <= 10 for wait in waits)
    limiter = RateLimiter(database)
    waits = sorted(await asyncio.gather(*(limiter.acquire(where, CREATE, 1) for _ in range(3))))
    assert [round(after - before) for before, after in itertools.pairwise(waits)] == [10, 10]
    await pass_time(database, waits[0] / 2)
    assert await RateLimiter(database).acquire(where, CREATE, 1) > 0
    await pass_time(database, waits[0] / 2 + 0.001)
    assert await RateLimiter(database).acquire(where, CREATE, 1) == 0.0
    assert await RateLimiter(database).acquire(where, CREATE, 1) > 0


async def test_the_time_until_the_next_token_is_known(database: Database):
    """It is the time of the first token, not of the last waiter; 0 for a limit on one issue."""
    budgets, where = RateLimiter(database), destination(1, RateLimit("all", 0.1, 1.0))
    assert budgets.until_next(where) == 0.0
    assert await budgets.acquire(where, CREATE, 1) == 0.0
    assert budgets.until_next(where) == 0.0
    for _ in range(4):
        await budgets.acquire(where, CREATE, 1)
        assert 9 < budgets.until_next(where) <= 10
    alone = destination(1, RateLimit("issue", 0.1, 1.0))
    await budgets.acquire(alone, CREATE, 1)
    assert await budgets.acquire(alone, CREATE, 1) > 9
    assert budgets.until_next(alone) == 0.0


async def test_a_fast_bucket_is_asked_once_a_second_not_once_a_write(database: Database):
    """At most the tokens of one second are taken in advance."""
    counting = Counting(database)
    budgets, where = RateLimiter(counting), destination(1, RateLimit("all", 50.0, 500.0))  # type: ignore[arg-type]
    await budgets.acquire(where, COMMENT, 1)
    counting.count = 0
    assert (await row(database))["tokens"] == pytest.approx(450, abs=1)
    for _ in range(40):
        assert await budgets.acquire(where, COMMENT, 1) == 0.0
    assert counting.count <= 1


async def test_a_scope_that_is_short_gives_back_what_was_taken_of_another(database: Database):
    hour, minute = RateLimit("hour", 0.0001, 3.0), RateLimit("minute", 0.001, 1.0)
    budgets, where = RateLimiter(database), destination(1, hour, minute)
    assert await budgets.acquire(where, CREATE, 1) == 0.0
    for _ in range(5):
        assert await budgets.acquire(where, CREATE, 1) > 0
    # the token of the slow limit stays with the replica, and is used by the next write
    assert (await row(database, "hour"))["tokens"] == pytest.approx(1, abs=0.1)
    await database.execute("update rate_limit set tokens = 1 where scope = 'minute'")
    assert await budgets.acquire(where, CREATE, 1) == 0.0
    assert (await row(database, "hour"))["tokens"] == pytest.approx(1, abs=0.1)


async def test_a_cancelled_write_leaves_its_token(database: Database):
    counting = Counting(database)
    budgets, where = RateLimiter(counting), destination(1, RateLimit("all", 0.001, 2.0))  # type: ignore[arg-type]
    counting.may_run.clear()
    gone = asyncio.create_task(budgets.acquire(where, CREATE, 1))
    await until_waiting(counting)
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    counting.may_run.set()
    assert [bool(await budgets.acquire(where, CREATE, 1)) for _ in range(3)] == [False, False, True]


async def test_a_failing_database_is_raised_to_all_waiting_writes(database: Database):
    counting = Counting(database)
    budgets, where = RateLimiter(counting), destination()  # type: ignore[arg-type]
    counting.fails = ConnectionError("gone")
    failed = await asyncio.gather(
        *(budgets.acquire(where, CREATE, 1) for _ in range(5)), return_exceptions=True
    )
    assert [type(error) for error in failed] == [ConnectionError] * 5
    counting.fails = None
    assert await budgets.acquire(where, CREATE, 1) == 0.0


async def test_300_waiting_creates_need_less_than_five_minutes_of_githubs_limits_and_no_refusal(
    database: Database,
):
    """Eight lanes ask at once, as they do for one destination; the model counts GitHub's sliding windows."""
    quotas = (Quota("content", 80, 60.0), Quota("content-hour", 500, 3600.0))
    limiter = RateLimiter(database)
    there = destination(1, *rate_limits_of(quotas, None))
    now, created = 0.0, []
    while len(created) < 300:
        waits = await asyncio.gather(*(limiter.acquire(there, CREATE, lane) for lane in range(8)))
        created += [now] * waits.count(0.0)
        if 0.0 not in waits:
            await pass_time(database, 1.0)
            now += 1.0
        assert now <= 300, f"{len(created)} of 300 after five minutes"
    for quota in quotas:
        for at in created:
            assert sum(at - quota.seconds < other <= at for other in created) <= quota.calls


async def test_rate_limits_of_single_issues_are_kept_in_memory(database: Database):
    where = destination(1, RateLimit("issue-long", 0.01, 3.0), RateLimit("issue", 0.1, 2.0))
    budgets = RateLimiter(database)
    assert [await budgets.acquire(where, CREATE, 1) for _ in range(2)] == [0.0, 0.0]
    assert await budgets.acquire(where, CREATE, 1) == pytest.approx(10, abs=0.1)
    assert await budgets.acquire(where, CREATE, 2) == 0.0
    await budgets.slow_down(where, "issue:10042", 60)
    assert await database.fetch("select * from rate_limit") == []


# -- many replicas ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def replicas(dsn: str, count: int) -> AsyncIterator[list[RateLimiter]]:
    """Open several databases with pools of their own."""
    async with contextlib.AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(Database.open(dsn, size=2)) for _ in range(4)]
        yield [RateLimiter(pools[n % 4]) for n in range(count)]


@pytest.mark.parametrize("rate", [0.5, 40.0])
async def test_eight_replicas_never_take_more_than_the_budget(database: Database, dsn: str, rate: float):
    """All use one credential at once, over two destinations: together they get the burst plus the refill."""
    pace = RateLimit("all", rate, 30.0)
    async with replicas(dsn, 8) as eight:
        began = await database.fetchval("select clock_timestamp()")

        async def hammer(budgets: RateLimiter, number: int) -> tuple[int, int]:
            dice, all_kinds, low = random.Random(number), 0, 0
            for _ in range(15):
                kinds = [
                    dice.choice([CREATE, COMMENT, DeliveryKind.UPDATE, DeliveryKind.CLOSE]) for _ in range(5)
                ]
                got = await asyncio.gather(
                    *(budgets.acquire(destination(1 + number % 2, pace), kind, 1) for kind in kinds)
                )
                all_kinds += got.count(0.0)
                low += sum(
                    not wait
                    for wait, kind in zip(got, kinds, strict=True)
                    if kind in (COMMENT, DeliveryKind.UPDATE)
                )
            return all_kinds, low

        counts = await asyncio.gather(*(hammer(budgets, n) for n, budgets in enumerate(eight)))
        seconds = (await database.fetchval("select clock_timestamp()") - began).total_seconds()
    taken, low = (sum(column) for column in zip(*counts, strict=True))
    left = (await row(database))["tokens"]
    allowed = pace.burst + rate * seconds
    assert 0 <= left <= pace.burst
    assert taken <= allowed, f"{taken} went in {seconds:.2f} s, {allowed:.1f} may"
    assert taken + left + 8 * max(1, rate) >= pace.burst - 1, "and none was lost but what is held"
    assert low <= pace.burst - pace.priority_tokens + rate * seconds


async def test_any_row_gives_what_it_has_and_stays_within_its_bounds(database: Database):
    """Random buckets: never below zero, never above the burst, the reserve only for priority writes."""
    dice = random.Random(7)
    for n in range(150):
        rate, burst = dice.choice([0.1, 1.0, 5.0, 60.0]), dice.choice([1.0, 1.4, 16.0, 100.0])
        limit = RateLimit("all", rate, burst)
        tokens, elapsed = dice.uniform(0, burst), dice.choice([-30.0, 0.0, 0.3, 20.0, 90_000.0])
        priority, normal, prefetch = (dice.choice([0, 1, 5, 50]) for _ in range(3))
        credential = str(n).encode()
        await database.execute(
            "insert into rate_limit (credential, scope, declared_rate, rate, burst, tokens, refilled_at)"
            " values ($1, 'all', $2, $2, $3, $4, now() - $5 * interval '1 s')",
            credential,
            rate,
            burst,
            tokens,
            elapsed,
        )
        bucket = rows.Bucket(
            credential=credential, scope="all", rate=rate, burst=burst, priority_tokens=limit.priority_tokens
        )
        acquired = await rows.acquire(database, bucket, priority=priority, normal=normal, prefetch=prefetch)
        full = min(burst, tokens + rate * max(0.0, elapsed))
        if elapsed < 0:
            assert (acquired.priority, acquired.normal) == (0, 0) and acquired.blocked_seconds > 29
            continue
        spare = 0.5 * rate + 1e-9  # a statement takes a moment
        assert 0 <= acquired.priority <= priority and 0 <= acquired.normal <= normal + min(prefetch, rate)
        assert acquired.priority + acquired.normal <= full + spare
        assert acquired.priority >= min(priority, int(full))
        assert not acquired.normal or acquired.tokens >= limit.priority_tokens - 1e-9
        assert acquired.tokens == pytest.approx(
            min(burst, full) - acquired.priority - acquired.normal, abs=spare
        )
        stored = await database.fetchrow(
            "select tokens, burst from rate_limit where credential = $1", credential
        )
        assert 0 <= stored["tokens"] <= stored["burst"]


# -- answers with a 429 ----------------------------------------------------------------------------------------------


async def blocked(database: Database) -> dict[int, float]:
    records = await database.fetch(
        "select destination_id, extract(epoch from blocked_until - now())::float8 as wait from destination_state"
        " where blocked_until > now()"
    )
    return {record["destination_id"]: record["wait"] for record in records}


async def test_a_complaint_reaches_every_destination_of_the_credential(database: Database):
    first, second, other = await create_destinations(database, TOKEN, TOKEN, b"another")
    await RateLimiter(database).slow_down(destination(first), "all", 120.0)
    waits = await blocked(database)
    assert waits.keys() == {first, second} and other not in waits
    assert all(115 < wait <= 120 for wait in waits.values())
    assert await RateLimiter(database).acquire(destination(second), CREATE, 1) == 60.0, (
        "asked again after a minute"
    )
    await RateLimiter(database).slow_down(destination(second), "all", 5.0)
    assert min((await blocked(database)).values()) > 110, "a shorter wait does not shorten a longer one"


async def test_a_complaint_about_one_scope_stops_the_others_too(database: Database):
    [there] = await create_destinations(database, TOKEN)
    where = destination(there, RateLimit("content", 1.0, 16.0), RateLimit("content-hour", 0.1, 100.0))
    budgets = RateLimiter(database)
    assert await budgets.acquire(where, CREATE, 1) == 0.0
    await budgets.slow_down(where, "content:what/ever", 30.0)
    assert (await row(database, "content"))["limited_count"] == 1
    assert (await row(database, "content-hour"))["limited_count"] == 0
    assert 25 < await budgets.acquire(where, CREATE, 1) <= 33


async def test_what_a_replica_holds_in_advance_is_void_after_a_complaint(database: Database):
    [there] = await create_destinations(database, TOKEN)
    budgets, where = RateLimiter(database), destination(there, RateLimit("all", 50.0, 500.0))
    assert await budgets.acquire(where, CREATE, 1) == 0.0
    await budgets.slow_down(where, "all", 30.0)
    assert await budgets.acquire(where, CREATE, 1) > 0


async def test_the_rate_is_halved_once_a_wait_and_climbs_back(database: Database):
    [there] = await create_destinations(database, TOKEN)
    pace = RateLimit("all", 8.0, 40.0)
    where = destination(there, pace)
    await RateLimiter(database).acquire(where, CREATE, 1)
    await asyncio.gather(*(RateLimiter(database).slow_down(where, "all", 10.0) for _ in range(8)))
    stored = await row(database)
    assert (stored["rate"], stored["tokens"], stored["limited_count"]) == (4.0, 0.0, 8)
    await pass_time(database, 10.0 + 60.0)
    assert await RateLimiter(database).acquire(where, CREATE, 1) == 0.0
    assert (await row(database))["rate"] == pytest.approx(4.4, abs=0.05)
    await database.execute("update rate_limit set tokens = 0")
    await pass_time(database, 1.0)
    assert (await row(database))["tokens"] == 0.0
    [shown] = await rows.list_status(database)
    assert shown.tokens == pytest.approx(4.4, abs=0.5)
    await pass_time(database, 3600.0)
    assert await RateLimiter(database).acquire(where, CREATE, 1) == 0.0
    assert (await row(database))["rate"] == 8.0


async def test_the_rate_never_falls_under_a_twentieth(database: Database):
    [there] = await create_destinations(database, TOKEN)
    where = destination(there, RateLimit("all", 8.0, 40.0))
    for _ in range(8):
        await RateLimiter(database).slow_down(where, "all", 10.0)
        await database.execute("update rate_limit set refilled_at = now(), limited_until = now()")
    assert (await row(database))["rate"] == pytest.approx(0.4, abs=0.01)


async def test_after_a_wait_the_bucket_starts_empty(database: Database):
    """The backlog of the wait must not be sent all at once."""
    [there] = await create_destinations(database, TOKEN)
    where = destination(there, RateLimit("all", 1.0, 40.0))
    await RateLimiter(database).slow_down(where, "all", 30.0)
    await pass_time(database, 30.0)
    assert await drain(RateLimiter(database), where, CREATE) == 0
    await pass_time(database, 4.0)
    assert 1 <= await drain(RateLimiter(database), where, CREATE) <= 3


async def test_an_undeclared_scope_counts_as_all(database: Database):
    [there] = await create_destinations(database, TOKEN)
    where = destination(there, RateLimit("content", 1.0, 16.0))
    for n in range(3):
        await RateLimiter(database).slow_down(where, f"endpoint:POST /{n}", 20.0)
    assert [status.scope for status in await rows.list_status(database)] == ["all"]
    assert await RateLimiter(database).acquire(where, CREATE, 1) > 10
    # a limit of the operator makes it a rate limit
    await pass_time(database, 60.0)
    limited = destination(there, RateLimit("all", 2.0, 10.0))
    assert await RateLimiter(database).acquire(limited, CREATE, 1) == 0.0
    assert (await row(database))["declared_rate"] == 2.0


@pytest.mark.parametrize(
    ("asked", "waits"), [(float("nan"), 60), (-5.0, 1), (1e12, 3600), (float("inf"), 3600)]
)
async def test_a_wait_that_is_none_is_made_one(database: Database, asked: float, waits: float):
    [there] = await create_destinations(database, TOKEN)
    await RateLimiter(database).slow_down(destination(there), "all", asked)
    [wait] = (await blocked(database)).values()
    assert waits - 5 < wait <= waits or waits == 1


async def test_a_destination_without_a_credential_is_on_its_own(database: Database):
    first, second = await create_destinations(database, None, None)
    alone, other = (destination(n, RateLimit("all", 0.001, 2.0), credential=None) for n in (first, second))
    budgets = RateLimiter(database)
    assert [await drain(budgets, alone, CREATE), await drain(budgets, other, CREATE)] == [2, 2]
    await budgets.slow_down(alone, "all", 30.0)
    assert (await blocked(database)).keys() == {first}


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_another_limit_takes_effect_and_keeps_what_was_learned(database: Database):
    """Two versions of a plugin may declare different limits for a while; the reduced rate is kept."""
    [there] = await create_destinations(database, TOKEN)
    old, new = RateLimit("all", 8.0, 40.0), RateLimit("all", 4.0, 10.0)
    await RateLimiter(database).acquire(destination(there, old), CREATE, 1)
    await RateLimiter(database).slow_down(destination(there, old), "all", 1.0)
    await pass_time(database, 11.0)
    assert await RateLimiter(database).acquire(destination(there, new), CREATE, 1) == 0.0
    stored = await row(database)
    assert (stored["declared_rate"], stored["burst"]) == (4.0, 10.0)
    assert stored["rate"] == pytest.approx(2.0, abs=0.1) and stored["tokens"] <= 10
    assert await RateLimiter(database).acquire(destination(there, old), CREATE, 1) == 0.0
    assert (await row(database))["rate"] == pytest.approx(4.0, abs=0.2)


async def test_rate_limits_are_listed_with_the_destinations_that_share_them(database: Database):
    first, _, third = await create_destinations(database, TOKEN, TOKEN, b"another")
    budgets = RateLimiter(database)
    await budgets.acquire(destination(first, RateLimit("content", 1.0, 16.0)), CREATE, 1)
    await budgets.acquire(destination(third, SLOW, credential=b"another"), CREATE, 1)
    await budgets.slow_down(destination(third, SLOW, credential=b"another"), "all", 30.0)
    shared, alone = await rows.list_status(database)
    assert (shared.scope, shared.destinations, shared.declared_rate) == (
        "content",
        ["place-0", "place-1"],
        1.0,
    )
    assert shared.limited_until is None and 14 < shared.tokens <= 16
    assert (alone.destinations, alone.tokens) == (["place-2"], 0.0)
    assert alone.limited_until is not None


async def test_changed_credentials_are_recorded_and_unused_rate_limits_deleted(database: Database):
    first, second = await create_destinations(database, None, b"old")
    await RateLimiter(database).acquire(destination(second, SLOW, credential=b"old"), CREATE, 1)
    await pass_time(database, 2 * 86400)
    counting = Counting(database)
    await rows.record_credentials(counting, {first: TOKEN, second: TOKEN})  # type: ignore[arg-type]
    noted = await database.fetch("select credential from destination_state where destination_id >= $1", first)
    assert [record["credential"] for record in noted] == [TOKEN, TOKEN]
    assert await database.fetch("select * from rate_limit") == []
    counting.count = 0
    await rows.record_credentials(counting, {first: TOKEN, second: TOKEN})  # type: ignore[arg-type]
    assert counting.count == 1
