"""Group-commit batcher: requests that wait share one transaction, and are answered after its commit.

The reports of one request are accepted together or not at all.

A flusher takes the first waiting request and all others that wait already; it never waits for more, so batches grow by
themselves under load. A replica has two flushers: one prepares its batch while the database works on the other. On the same
ticket they wait for each other's locks, as two replicas do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pointsman.bus.signals import BatchAccepted, Signals, ThrottleStarted, WorkAvailable
from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake import transaction
from pointsman.intake.batch import BatchResult, ReportResult
from pointsman.intake.errors import describe_failure
from pointsman.intake.incoming import Incoming
from pointsman.logs import logger
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage.db import Database, retry_conflicts
from pointsman.storage.errors import DatabaseUnavailable, TransactionConflict

log = logger("intake")

BATCH_REPORTS = 256
BATCH_BYTES = 4 * 2**20
QUEUE_REPORTS = 2000
QUEUE_BYTES = 32 * 2**20
FLUSHERS = 2
WAIT_SECONDS = 5.0
"""A report that is in no transaction by then is refused; senders' own timeouts are about as long."""
OVERLOADED_SECONDS = 2.0
"""While a sender has waited for longer, no more reports are taken."""


@dataclass(slots=True)
class PendingRequest:
    """The reports of one request, and the future of the request that waits for them."""

    reports: Sequence[Incoming]
    future: asyncio.Future[list[ReportResult]]

    @property
    def size(self) -> int:
        """Return the bytes of all bodies."""
        return sum(len(incoming.body) for incoming in self.reports)


class IntakeBatcher:
    """The queue of requests before the database, and its flushers."""

    def __init__(self, database: Database, config: ConfigReloader, signals: Signals | None = None) -> None:
        self._database = database
        self._config = config
        self._signals = signals or Signals()
        self._queue: deque[PendingRequest] = deque()
        self._enqueued_at: dict[asyncio.Future[list[ReportResult]], float] = {}
        """When each unanswered request was enqueued, oldest first, in seconds of the event loop's clock."""
        self._queued_reports = self._queued_bytes = 0
        self._wake = asyncio.Event()

    @property
    def queue_length(self) -> int:
        """Return the number of requests that are in no transaction yet."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Return whether new requests are refused."""
        return (
            self._queued_reports >= QUEUE_REPORTS
            or self._queued_bytes >= QUEUE_BYTES
            or self._oldest_seconds() >= OVERLOADED_SECONDS
        )

    def _oldest_seconds(self) -> float:
        now = asyncio.get_running_loop().time()
        return now - next(iter(self._enqueued_at.values()), now)

    async def submit(self, incoming: Incoming) -> ReportResult:
        """Wait until a report is committed. Raises Overloaded or DatabaseError if it is not accepted."""
        [accepted] = await self.submit_all([incoming])
        return accepted

    async def submit_all(self, reports: Sequence[Incoming]) -> list[ReportResult]:
        """Wait until the reports of one request are committed in one transaction. Raises as ``submit`` does."""
        if self.full:
            raise Overloaded("too many reports wait for the database")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[ReportResult]] = loop.create_future()
        now = self._enqueued_at[future] = loop.time()
        for incoming in reports:
            incoming.enqueued_at = now
        request = PendingRequest(reports, future)
        self._queue.append(request)
        self._queued_reports += len(reports)
        self._queued_bytes += request.size
        self._wake.set()
        try:
            # a sender that disconnects cancels this future; its report is accepted all the same
            return await future
        finally:
            del self._enqueued_at[future]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the flushers; at the end the queue is flushed first."""
        tasks = [
            *(asyncio.create_task(self._run_flusher(), name="intake flusher") for _ in range(FLUSHERS)),
            asyncio.create_task(self._refuse_expired(), name="intake timeouts"),
        ]
        try:
            yield
        finally:
            for _ in range(200):
                if not self._enqueued_at:
                    break
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _refuse_expired(self) -> None:
        """Refuse requests that waited too long; they are in no transaction yet."""
        while True:
            await asyncio.sleep(WAIT_SECONDS / 20)
            oldest_allowed = asyncio.get_running_loop().time() - WAIT_SECONDS
            while self._queue and self._queue[0].reports[0].enqueued_at <= oldest_allowed:
                request = self._queue.popleft()
                self._queued_reports -= len(request.reports)
                self._queued_bytes -= request.size
                _fail([request], Overloaded(f"it waited for the database for {WAIT_SECONDS:g} s"))

    def _next_batch(self) -> list[PendingRequest]:
        batch: list[PendingRequest] = []
        reports = size = 0
        while self._queue and reports < BATCH_REPORTS and size < BATCH_BYTES:
            request = self._queue.popleft()
            reports += len(request.reports)
            size += request.size
            batch.append(request)
        self._queued_reports -= reports
        self._queued_bytes -= size
        return batch

    async def _run_flusher(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                count = sum(len(request.reports) for request in batch)
                try:
                    await self._flush(batch)
                except asyncio.CancelledError:
                    _fail(batch, DatabaseError("shutting down"))
                    raise
                except Exception as error:
                    log.exception("accepting a batch failed", reports=count)
                    _fail(batch, error)

    async def _flush(self, batch: Sequence[PendingRequest]) -> None:
        reports = [incoming for request in batch for incoming in request.reports]
        try:
            accepted = await retry_conflicts(lambda: self._accept(reports))
        except TransactionConflict as error:
            _fail(batch, DatabaseError(f"the database was too busy: {error}"))
            return
        except DatabaseUnavailable as error:
            _fail(batch, DatabaseError(f"the database went away: {error.reason}"))
            return
        except Exception as error:  # noqa: BLE001 - answered to each sender
            if len(batch) == 1:
                await self._park(batch[0], error)
                return
            # a report that the database refuses must not fail other requests
            for request in batch:
                await self._flush([request])
            return
        self._signals.emit(BatchAccepted(len(reports)))
        results = iter(accepted.reports)
        for request in batch:
            answer = [next(results) for _ in request.reports]
            if not request.future.done():
                request.future.set_result(answer)
        for source in accepted.throttle_started:
            log.warning("too many new tickets: the surplus shares one summary ticket", source=source)
            self._signals.emit(ThrottleStarted(source))
        self._signals.emit(WorkAvailable())

    async def _accept(self, reports: Sequence[Incoming]) -> BatchResult:
        snapshot = self._config.current
        return await transaction.accept(self._database, reports, snapshot.marker_of, snapshot.mail_id)

    async def _park(self, request: PendingRequest, error: Exception) -> None:
        """Park what the database refuses; of several reports only those that it refuses."""
        if len(request.reports) > 1:
            await self._flush_separately(request)
            return
        [incoming] = request.reports
        if incoming.report is None:
            _fail([request], error)
            return
        log.error("report parked", report=str(incoming.report_id), error=describe_failure(error))
        incoming.report, incoming.error = None, describe_failure(error)
        await self._flush([request])

    async def _flush_separately(self, request: PendingRequest) -> None:
        loop = asyncio.get_running_loop()
        parts = [PendingRequest([incoming], loop.create_future()) for incoming in request.reports]
        for part in parts:
            await self._flush([part])
        errors = [error for part in parts if (error := part.future.exception()) is not None]
        if errors:
            _fail([request], errors[0])
        elif not request.future.done():
            request.future.set_result([accepted for part in parts for accepted in part.future.result()])


def _fail(batch: Sequence[PendingRequest], error: BaseException) -> None:
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)
            # marks the exception as retrieved: a sender that disconnected does not await the future
            request.future.exception()
