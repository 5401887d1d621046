"""Keep within the rate limits of trackers: a write takes a token of each limit, and a 429 reduces the rate.

Rate limits belong to a credential, not to a destination, and all replicas share them in the database. Only those of single
issues are kept in memory, since one replica at a time works on an issue.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import NamedTuple

from pointsman.domain.states import DeliveryKind
from pointsman.domain.token_bucket import (
    PER_ISSUE,
    LocalTokens,
    PerIssueLimits,
    RateLimit,
    WaiterSchedule,
    wait_seconds,
)
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage import rate_limits
from pointsman.storage.db import Database

PRIORITY_KINDS = frozenset({DeliveryKind.CREATE, DeliveryKind.CLOSE, DeliveryKind.REOPEN})
MAX_RETRY_AFTER_SECONDS = 3600.0
ALL = "all"


class RateLimiter:
    """The rate limits of all destinations, as one replica uses them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buckets: dict[tuple[bytes, str], SharedBucket] = {}
        self._per_issue = PerIssueLimits()

    async def acquire(self, destination: LiveDestination, kind: DeliveryKind, lane_id: int) -> float:
        """Take the tokens of one write. Return 0.0, or the seconds to wait; then no token is taken.

        Creates, closes and reopens have priority when tokens are scarce. A destination without limits needs no tokens.
        """
        if not destination.rate_limits:
            return 0.0
        per_issue = [limit for limit in destination.rate_limits if limit.per_issue]
        if wait := self._per_issue.wait_seconds(lane_id, per_issue, time.monotonic()):
            return wait
        priority = kind in PRIORITY_KINDS
        acquired: list[SharedBucket] = []
        try:
            for limit in destination.rate_limits:
                if limit.per_issue:
                    continue
                bucket = self._bucket(_credential(destination), limit)
                if wait := await bucket.acquire(priority=priority):
                    return wait
                acquired.append(bucket)
            acquired.clear()
        finally:
            # tokens that this write can't use stay with this replica
            for bucket in acquired:
                bucket.give_back(priority=priority)
        self._per_issue.acquire(lane_id, per_issue, time.monotonic())
        return 0.0

    def until_next(self, destination: LiveDestination) -> float:
        """Return, after a refusal, the seconds until the next token: no other lane need be claimed before.

        The wait that ``acquire`` returned may be longer, since waiting writes go one after the other. 0.0 if only the lane
        itself has to wait.
        """
        now, credential = time.monotonic(), _credential(destination)
        buckets = (self._buckets.get((credential, limit.scope)) for limit in destination.rate_limits)
        return max(
            (bucket.next_at - now for bucket in buckets if bucket is not None and bucket.next_at > now),
            default=0.0,
        )

    async def slow_down(self, destination: LiveDestination, scope: str, retry_after_seconds: float) -> None:
        """Reduce a rate because the tracker asked to wait.

        No replica works on any destination of the credential for so long, and the scope's rate is halved; it recovers over
        time. A limit on one issue concerns its lane alone. A scope that the destination does not declare counts as ``all``.
        """
        if scope.startswith(PER_ISSUE):
            return
        limits = {limit.scope: limit for limit in destination.rate_limits}
        limit = limits.get(scope.partition(":")[0]) or limits.get(ALL) or RateLimit(ALL, 0.0, 1.0)
        credential = _credential(destination)
        for (bucket_credential, bucket_scope), bucket in self._buckets.items():
            if bucket_credential == credential and bucket_scope == limit.scope:
                bucket.local.clear()
            elif bucket_credential == credential:
                bucket.local.clear_prefetched()
        await rate_limits.slow_down(
            self._database,
            destination.id,
            credential,
            limit.scope,
            rate=limit.rate,
            burst=limit.burst,
            wait_seconds=_within_reason(retry_after_seconds),
        )

    def _bucket(self, credential: bytes, limit: RateLimit) -> SharedBucket:
        bucket = self._buckets.get((credential, limit.scope))
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[credential, limit.scope] = SharedBucket(self._database, credential, limit)
        return bucket


class _Waiter(NamedTuple):
    """A write that waits for its token: 0.0, or the seconds to wait."""

    priority: bool
    future: asyncio.Future[float]


class SharedBucket:
    """A bucket that all replicas share. Writes that arrive while a statement runs share the next one."""

    def __init__(self, database: Database, credential: bytes, limit: RateLimit) -> None:
        self.limit = limit
        self.local = LocalTokens(limit)
        """Tokens taken in advance."""
        self.next_at = 0.0
        """When there will be a token again, on the monotonic clock."""
        self._database = database
        self._bucket = rate_limits.Bucket(
            credential=credential,
            scope=limit.scope,
            rate=limit.rate,
            burst=limit.burst,
            priority_tokens=limit.priority_tokens,
        )
        self._waiters: list[_Waiter] = []
        self._task: asyncio.Task[None] | None = None
        self._schedules = {True: WaiterSchedule(), False: WaiterSchedule()}

    async def acquire(self, *, priority: bool) -> float:
        """Take one token. Return 0.0, or the seconds to wait for one."""
        if self.local.acquire(time.monotonic(), priority=priority):
            return 0.0
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiters.append(_Waiter(priority, future))
        if self._task is None:
            self._task = asyncio.create_task(self._serve_waiters())
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception() and not future.result():
                self.give_back(priority=priority)
            raise

    def give_back(self, *, priority: bool) -> None:
        """Keep a token that was not used for the next write of this replica."""
        self.local.give_back(priority=priority)

    async def _serve_waiters(self) -> None:
        while self._waiters:
            batch = [waiter for waiter in self._waiters if not waiter.future.done()]
            self._waiters = []
            if not batch:
                break
            priority = [waiter.future for waiter in batch if waiter.priority]
            normal = [waiter.future for waiter in batch if not waiter.priority]
            try:
                acquired = await rate_limits.acquire(
                    self._database,
                    self._bucket,
                    priority=len(priority),
                    normal=len(normal),
                    prefetch=max(0, self.limit.prefetch_limit - self.local.count - len(batch)),
                )
                self._distribute(acquired, priority, normal)
            except asyncio.CancelledError:
                self._fail(batch, None)
                raise
            except Exception as error:  # noqa: BLE001 - raised to the waiting writes
                self._fail(batch, error)
                return
        self._task = None

    def _fail(self, batch: list[_Waiter], error: Exception | None) -> None:
        self._task = None
        for waiter in batch + self._waiters:
            if waiter.future.done():
                continue
            if error is None:
                waiter.future.cancel()
            else:
                waiter.future.set_exception(error)
        self._waiters = []

    def _distribute(
        self,
        acquired: rate_limits.AcquiredTokens,
        priority: list[asyncio.Future[float]],
        normal: list[asyncio.Future[float]],
    ) -> None:
        """Give the acquired tokens to the waiting writes, and tell the others how long to wait."""
        now = time.monotonic()
        if acquired.blocked_seconds:
            self.local.clear_prefetched()
        self.local.add(now, max(0, acquired.normal - len(normal)))
        self._give_tokens(priority[: acquired.priority], priority=True)
        self._give_tokens(normal[: acquired.normal], priority=False)
        refused_priority, refused_normal = priority[acquired.priority :], normal[acquired.normal :]
        until_token = max(0.0, 1.0 - acquired.tokens) / acquired.rate
        must_wait = refused_priority or acquired.blocked_seconds
        self.next_at = now + acquired.blocked_seconds + until_token if must_wait else 0.0
        priority_waits, normal_waits = wait_seconds(
            rate=acquired.rate,
            priority_tokens=self.limit.priority_tokens,
            tokens=acquired.tokens,
            priority=len(refused_priority),
            normal=len(refused_normal),
        )
        for schedule, futures, waits in (
            (self._schedules[True], refused_priority, priority_waits),
            (self._schedules[False], refused_normal, normal_waits),
        ):
            for future, wait in zip(futures, waits, strict=True):
                if not future.done():
                    future.set_result(
                        schedule.wait_seconds(now, acquired.blocked_seconds + wait, acquired.rate)
                    )

    def _give_tokens(self, futures: list[asyncio.Future[float]], *, priority: bool) -> None:
        for future in futures:
            if future.done():
                self.local.give_back(priority=priority)
            else:
                future.set_result(0.0)


def _within_reason(seconds: float) -> float:
    """Return the wait that a tracker asked for: at most an hour, and a minute if it is no number."""
    return 60.0 if math.isnan(seconds) else max(1.0, min(seconds, MAX_RETRY_AFTER_SECONDS))


def _credential(destination: LiveDestination) -> bytes:
    """Return the digest that tells whose rate limits count; a destination without a credential has its own."""
    return destination.credential or f"destination {destination.id}".encode()
