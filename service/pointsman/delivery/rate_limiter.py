"""Keeping within a tracker's limits: before each write a token of every budget is taken, and complaints slow us down.

Budgets belong to the credential, not to the destination, and all replicas share them: rows of ``budget``. Only those of
single issues are kept in memory, since one replica at a time works on an issue.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import TypeAlias

from pointsman.domain.states import DeliveryKind
from pointsman.domain.token_bucket import (
    PER_ISSUE,
    LocalTokens,
    PerIssueLimits,
    RateLimit,
    WaiterSchedule,
    wait_seconds,
)
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.storage import rate_limits as rows
from pointsman.storage.db import Database, Row

URGENT = frozenset({DeliveryKind.CREATE, DeliveryKind.CLOSE, DeliveryKind.REOPEN})
LONGEST_LIMIT_SECONDS = 3600.0
ALL = "all"

_Waiting: TypeAlias = "tuple[bool, asyncio.Future[float]]"
"""Whether it is urgent, and who waits for the answer."""


class RateLimiter:
    """The budgets of all destinations, as one replica uses them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shares: dict[tuple[bytes, str], SharedBucket] = {}
        self._lanes = PerIssueLimits()

    async def acquire(self, destination: LiveDestination, kind: DeliveryKind, lane_id: int) -> float:
        """Take what one write needs. 0.0: it may go; else nothing is taken, and so many seconds are to be waited.

        Creates, closes and reopens go first when it is short. Without budgets nothing is asked.
        """
        if not destination.rate_limits:
            return 0.0
        own = [pace for pace in destination.rate_limits if pace.per_issue]
        if wait := self._lanes.wait_seconds(lane_id, own, time.monotonic()):
            return wait
        urgent = kind in URGENT
        taken: list[SharedBucket] = []
        try:
            for pace in destination.rate_limits:
                if pace.per_issue:
                    continue
                share = self._share(_key(destination), pace)
                if wait := await share.take(urgent=urgent):
                    return wait
                taken.append(share)
            taken.clear()
        finally:
            # somebody else on this replica may use what was taken in vain
            for share in taken:
                share.give_back(urgent=urgent)
        self._lanes.acquire(lane_id, own, time.monotonic())
        return 0.0

    def until_next(self, destination: LiveDestination) -> float:
        """After a refusal: seconds until the next token, for which no other lane of the destination need be claimed.

        The wait that ``take`` gave may be longer, since those that wait come one after the other; 0.0 where only the
        lane itself has to wait.
        """
        now, credential = time.monotonic(), _key(destination)
        shares = (self._shares.get((credential, pace.scope)) for pace in destination.rate_limits)
        return max(
            (share.next_at - now for share in shares if share is not None and share.next_at > now),
            default=0.0,
        )

    async def slow_down(self, destination: LiveDestination, scope: str, retry_after_seconds: float) -> None:
        """The tracker asked to wait. Unless it is about one issue, whose lane waits alone, no replica works on any
        destination of the credential for so long, and the scope's rate is halved afterwards, to climb back by and by.

        A scope that is not among the destination's budgets counts as ``all``.
        """
        if scope.startswith(PER_ISSUE):
            return
        known = {pace.scope: pace for pace in destination.rate_limits}
        pace = known.get(scope.partition(":")[0]) or known.get(ALL) or RateLimit(ALL, 0.0, 1.0)
        credential = _key(destination)
        for (whose, _), share in self._shares.items():
            if whose == credential:
                share.held.clear()
        await rows.slow_down(
            self._database,
            destination.id,
            credential,
            pace.scope,
            rate=pace.rate,
            burst=pace.burst,
            wait_seconds=_reasonable(retry_after_seconds),
        )

    async def list_status(self) -> Sequence[Row]:
        """Every budget as it stands; see ``storage.budgets.standing``."""
        return await rows.list_status(self._database)

    def _share(self, credential: bytes, pace: RateLimit) -> SharedBucket:
        share = self._shares.get((credential, pace.scope))
        if share is None or share.pace != pace:
            share = self._shares[credential, pace.scope] = SharedBucket(self._database, credential, pace)
        return share


class SharedBucket:
    """One budget as one replica uses it: those who come while a statement is under way share the next one."""

    def __init__(self, database: Database, credential: bytes, pace: RateLimit) -> None:
        self.pace = pace
        self.held = LocalTokens(pace)
        self.next_at = 0.0
        self._database = database
        self._bucket = rows.Bucket(
            credential=credential,
            scope=pace.scope,
            rate=pace.rate,
            burst=pace.burst,
            kept=pace.priority_tokens,
        )
        self._waiting: list[_Waiting] = []
        self._asking: asyncio.Task[None] | None = None
        self._queues = {True: WaiterSchedule(), False: WaiterSchedule()}

    async def take(self, *, urgent: bool) -> float:
        """One token; 0.0, or the seconds to wait for one."""
        if self.held.acquire(time.monotonic(), priority=urgent):
            return 0.0
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((urgent, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and not answer.exception() and not answer.result():
                self.give_back(urgent=urgent)
            raise

    def give_back(self, *, urgent: bool) -> None:
        """A token was not used: it stays with this replica."""
        self.held.add(time.monotonic(), 1, priority=urgent)

    async def _ask(self) -> None:
        while self._waiting:
            batch = [one for one in self._waiting if not one[1].done()]
            self._waiting = []
            if not batch:
                break
            urgent = [answer for is_urgent, answer in batch if is_urgent]
            others = [answer for is_urgent, answer in batch if not is_urgent]
            try:
                given = await rows.acquire(
                    self._database,
                    self._bucket,
                    urgent=len(urgent),
                    others=len(others),
                    advance=max(0, self.pace.prefetch_limit - self.held.count - len(batch)),
                )
                self._hand_out(given, urgent, others)
            except asyncio.CancelledError:
                self._fail(batch, None)
                raise
            except Exception as error:  # noqa: BLE001 - those who wait raise it
                self._fail(batch, error)
                return
        self._asking = None

    def _fail(self, batch: list[_Waiting], error: Exception | None) -> None:
        self._asking = None
        for _, answer in batch + self._waiting:
            if answer.done():
                continue
            if error is None:
                answer.cancel()
            else:
                answer.set_exception(error)
        self._waiting = []

    def _hand_out(
        self,
        given: rows.AcquiredTokens,
        urgent: list[asyncio.Future[float]],
        others: list[asyncio.Future[float]],
    ) -> None:
        now = time.monotonic()
        if given.rest_seconds:
            self.held.clear()
        self.held.add(now, max(0, given.for_others - len(others)))
        short_urgent, short_others = urgent[given.for_urgent :], others[given.for_others :]
        for is_urgent, answers in ((True, urgent[: given.for_urgent]), (False, others[: given.for_others])):
            for answer in answers:
                if answer.done():
                    self.held.add(now, 1, priority=is_urgent)
                else:
                    answer.set_result(0.0)
        lacking = max(0.0, 1.0 - given.tokens) / given.rate
        self.next_at = now + given.rest_seconds + lacking if short_urgent or given.rest_seconds else 0.0
        until = wait_seconds(
            rate=given.rate,
            priority_tokens=self.pace.priority_tokens,
            tokens=given.tokens,
            priority=len(short_urgent),
            normal=len(short_others),
        )
        for is_urgent, answers, seconds in (
            (True, short_urgent, until[0]),
            (False, short_others, until[1]),
        ):
            queue = self._queues[is_urgent]
            for answer, wait in zip(answers, seconds, strict=True):
                if not answer.done():
                    answer.set_result(queue.wait_seconds(now, given.rest_seconds + wait, given.rate))


def _reasonable(seconds: float) -> float:
    """A wait that a tracker may ask for; a minute if it is no number."""
    return 60.0 if math.isnan(seconds) else max(1.0, min(seconds, LONGEST_LIMIT_SECONDS))


def _key(destination: LiveDestination) -> bytes:
    """Whose budget: the credential's; that of the destination alone if it has none."""
    return destination.credential or f"destination {destination.id}".encode()
