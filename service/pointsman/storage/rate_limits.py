"""How fast a credential may be used: buckets of tokens that all replicas share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pointsman.storage.db import Database, Row
from pointsman.storage.queries import queries
from pointsman.storage.queue import seconds

SQL = queries("rate_limits")


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket as it shall be. ``rate`` is in tokens a second; ``kept`` are left to what is urgent."""

    credential: bytes
    scope: str
    rate: float
    burst: float
    kept: float


class AcquiredTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken out of a bucket, how it stands then, and for how many seconds it gives nothing at all."""

    for_urgent: int
    for_others: int
    tokens: float
    rate: float
    rest_seconds: float


async def acquire(database: Database, bucket: Bucket, *, urgent: int, others: int, advance: int) -> AcquiredTokens:
    """Take tokens for so many, and up to ``advance`` more if the bucket has enough; makes a bucket that is missing."""
    while True:
        row = await database.fetchrow(
            SQL["take_tokens"],
            bucket.credential,
            bucket.scope,
            bucket.rate,
            bucket.burst,
            bucket.kept,
            urgent,
            others,
            advance,
        )
        if row is not None:
            return AcquiredTokens(
                for_urgent=row["for_urgent"],
                for_others=row["for_others"],
                tokens=row["tokens"],
                rate=row["rate"],
                rest_seconds=row["rest"],
            )
        await database.execute(SQL["insert_rate_limit"], bucket.credential, bucket.scope, bucket.rate, bucket.burst)


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
    """A tracker asked to wait: lower a bucket, and hold all destinations of the credential back.

    ``rate`` and ``burst`` are for a bucket that is not there yet; a rate of 0 only remembers the wait.
    """
    await database.fetch(
        SQL["reduce_rate"], credential, scope, rate, burst, seconds(wait_seconds), destination_id
    )


async def list_status(database: Database) -> Sequence[Row]:
    """Every bucket: ``scope``, ``destinations`` (slugs), ``tokens``, ``burst``, ``rate``, ``declared_rate``,
    ``limited_until`` (None if nobody asked to wait) and ``limited_count``.
    """
    return await database.fetch(SQL["rate_limit_status"])


async def record_credentials(database: Database, digests: Mapping[int, bytes | None]) -> None:
    """Remember by which credential each destination is used."""
    changed = await database.fetch(SQL["record_credentials"], list(digests), list(digests.values()))
    if changed:
        await database.execute(SQL["delete_unused_rate_limits"])
