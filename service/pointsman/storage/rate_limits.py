"""Store rate limits: buckets of tokens of a credential, shared by all replicas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from pointsman.storage.db import Database, seconds
from pointsman.storage.queries import queries
from pointsman.storage.rows import row_of, rows_of

SQL = queries("rate_limits")

MAIL_SCOPE = "@mail"
"""Scope of the limits of mail addresses, which are not limits of a tracker."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket as it is configured: tokens per second, its size, and the tokens reserved for priority writes."""

    credential: bytes
    scope: str
    rate: float
    burst: float
    priority_tokens: float


class AcquiredTokens(NamedTuple):
    """Tokens taken out of a bucket for priority and normal writes, and the state of the bucket afterwards.

    ``blocked_seconds``: for so long there are no tokens, because the tracker asked to wait.
    """

    priority: int
    normal: int
    tokens: float
    rate: float
    blocked_seconds: float


class RateLimitStatus(NamedTuple):
    """A rate limit with the slugs of the destinations that share it."""

    scope: str
    destinations: Sequence[str]
    tokens: float
    burst: float
    rate: float
    declared_rate: float
    limited_until: dt.datetime | None
    limited_count: int


async def acquire(
    database: Database, bucket: Bucket, *, priority: int, normal: int, prefetch: int
) -> AcquiredTokens:
    """Take tokens for waiting writes, and up to ``prefetch`` more if there are enough. A missing bucket is created."""
    while True:
        record = await database.fetchrow(
            SQL["take_tokens"],
            bucket.credential,
            bucket.scope,
            bucket.rate,
            bucket.burst,
            bucket.priority_tokens,
            priority,
            normal,
            prefetch,
        )
        acquired = row_of(AcquiredTokens, record)
        if acquired is not None:
            return acquired
        await database.execute(
            SQL["insert_rate_limit"], bucket.credential, bucket.scope, bucket.rate, bucket.burst
        )


async def slow_down(
    database: Database,
    destination_id: int,
    credential: bytes,
    scope: str,
    *,
    rate: float,
    burst: float,
    wait_seconds: float,
) -> None:
    """Reduce a rate because the tracker asked to wait, and block all destinations of the credential for so long.

    ``rate`` and ``burst`` are for a bucket that does not exist yet; with a rate of 0 only the wait is stored.
    """
    await database.fetch(
        SQL["reduce_rate"], credential, scope, rate, burst, seconds(wait_seconds), destination_id
    )


async def list_status(database: Database) -> list[RateLimitStatus]:
    """Return every rate limit with its current tokens and rate."""
    return rows_of(RateLimitStatus, await database.fetch(SQL["rate_limit_status"]))


async def record_credentials(database: Database, digests: Mapping[int, bytes | None]) -> None:
    """Store the credential of each destination, and delete the rate limits of those that are not used any more."""
    changed = await database.fetch(SQL["record_credentials"], list(digests), list(digests.values()))
    if changed:
        await database.execute(SQL["delete_unused_rate_limits"])


async def acquire_mail(database: Database, address: bytes, *, per_hour: int) -> float:
    """Take the token of one mail to an address, given by its digest. Return 0, or the seconds until there is a token."""
    rate = per_hour / 3600
    bucket = Bucket(credential=address, scope=MAIL_SCOPE, rate=rate, burst=per_hour, priority_tokens=0.0)
    acquired = await acquire(database, bucket, priority=0, normal=1, prefetch=0)
    return 0.0 if acquired.normal else max(1.0, (1.0 - acquired.tokens) / rate)


async def delete_old_mail_limits(database: Database) -> None:
    """Delete the limits of addresses to which nothing was sent for a day."""
    await database.execute(SQL["delete_old_mail_limits"])
