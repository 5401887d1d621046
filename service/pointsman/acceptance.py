"""Accepting reports: whatever waits shares one transaction, and an answer is given only after it is committed.

One flusher per replica takes the first waiting report and whatever else is already waiting. It never lingers: under
load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from msgspec.structs import replace

from pointsman.catalog import CatalogKeeper, LiveSource
from pointsman.errors import DatabaseError, Overloaded
from pointsman.logs import logger, scrub
from pointsman.plugin_api import Report
from pointsman.signing import sha256
from pointsman.storage import accept as store
from pointsman.storage.accept import Accepted, Incoming
from pointsman.storage.db import AGAIN, LOST, Database, uuid7
from pointsman.tickets.routes import Facts, choose
from pointsman.tickets.ticket import Decided, Places, Ticket, TicketKind, on_report

log = logger("acceptance")

BATCH_ROWS = 256
BATCH_BYTES = 4 * 2**20
WAITING_ROWS = 2000
WAITING_BYTES = 32 * 2**20


def decide(ticket: Ticket, incoming: Incoming, places: Places, decided: Decided) -> None:
    """Apply one report to its ticket; a fault of ours parks the report and leaves the ticket as it was."""
    assert incoming.report is not None
    events, promises = len(decided.events), len(decided.promises)
    before = ticket.status, ticket.close_reason, ticket.next_event
    try:
        on_report(ticket, incoming.report, incoming.report_id, places, decided)
    except Exception as error:  # noqa: BLE001 - nothing accepted is lost to a bug
        del decided.events[events:], decided.promises[promises:]
        ticket.status, ticket.close_reason, ticket.next_event = before
        incoming.report, incoming.error = None, fault(error)


def fault(error: BaseException) -> str:
    """What went wrong in our own code, with the place, for the operator."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return scrub(f"{type(error).__name__}: {error}{place}")


class Acceptance:
    """The queue before the database and its one flusher."""

    def __init__(
        self, database: Database, catalog: CatalogKeeper, *, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._waiting: deque[tuple[Incoming, asyncio.Future[Accepted]]] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._on_commit = on_commit
        self.observe: Callable[[int], None] = lambda _: None

    def incoming(
        self,
        source: LiveSource,
        report: Report | None,
        body: bytes,
        headers: dict[str, str],
        *,
        key: str | None = None,
        kind: TicketKind | None = None,
        error: str | None = None,
    ) -> Incoming:
        """A report made ready. ``key`` is the sender's idempotency key; without one the report's own sign counts,
        then, for alerts, the body's digest.
        """
        new_id = uuid7()
        digest = sha256(body)
        ticket_kind = kind or TicketKind[(source.reader.ticket_kind if source.reader else "alert").upper()]
        if key is not None:
            key_hash = sha256(b"key\n" + key.encode("utf-8", "surrogateescape"))
        elif report is not None and report.dedupe is not None:
            key_hash = sha256(b"dedupe\n" + report.dedupe.encode("utf-8", "replace"))
        elif report is not None and (source.owns_tickets or report.action == "test"):
            key_hash = sha256(b"unique\n" + new_id.bytes)
        else:
            key_hash = sha256(b"body\n" + digest)
        routed: tuple[int, ...] = ()
        ticket_id = uuid7()
        if report is not None:
            if not report.fingerprint:
                report = _with_fingerprint(report, ticket_id)
            facts = Facts(
                source.slug, ticket_kind.name.lower(), report.environment, report.level, report.release
            )
            routed = choose(self._catalog.current.routes, facts)
        return Incoming(
            report_id=new_id,
            source_id=source.id,
            key_hash=key_hash,
            body=body,
            body_sha256=digest,
            headers=headers,
            ticket_kind=ticket_kind,
            report=report,
            error=error,
            routed=routed,
            new_ticket_id=ticket_id,
        )

    @property
    def full(self) -> bool:
        """Whether too much waits already to take more."""
        return len(self._waiting) >= WAITING_ROWS or self._waiting_bytes >= WAITING_BYTES

    async def submit(self, incoming: Incoming) -> Accepted:
        """Wait until a report is committed. Raises Overloaded or DatabaseError, and then nothing was promised."""
        if self.full:
            raise Overloaded("too many reports wait for the database")
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append((incoming, future))
        self._waiting_bytes += len(incoming.body)
        self._wake.set()
        # a sender that goes away does not take its report along
        return await asyncio.shield(future)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flush until the end; what waits then is flushed first."""
        task = asyncio.create_task(self._flush_forever(), name="acceptance")
        try:
            yield
        finally:
            for _ in range(200):
                if not self._waiting:
                    break
                await asyncio.sleep(0.02)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _take(self) -> list[tuple[Incoming, asyncio.Future[Accepted]]]:
        batch: list[tuple[Incoming, asyncio.Future[Accepted]]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_ROWS and size < BATCH_BYTES:
            one = self._waiting.popleft()
            size += len(one[0].body)
            batch.append(one)
        self._waiting_bytes -= size
        return batch

    async def _flush_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                self.observe(len(batch))
                try:
                    await self._flush(batch)
                except asyncio.CancelledError:
                    _fail(batch, DatabaseError("shutting down"))
                    raise
                except Exception as error:
                    log.exception("a batch could not be accepted", rows=len(batch))
                    _fail(batch, error)

    async def _flush(self, batch: list[tuple[Incoming, asyncio.Future[Accepted]]]) -> None:
        for tries in range(4):
            try:
                answers = await self._accept([incoming for incoming, _ in batch])
            except AGAIN as error:
                if tries == 3:
                    _fail(batch, DatabaseError(f"the database was too busy: {error}"))
                    return
                continue
            except LOST as error:
                _fail(batch, DatabaseError(f"the database went away: {type(error).__name__}"))
                return
            except Exception as error:  # noqa: BLE001 - answered to each sender
                if len(batch) == 1:
                    await self._park(batch[0], error)
                    return
                # one report that the database refuses fails only itself
                for one in batch:
                    await self._flush([one])
                return
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
            self._on_commit()
            return

    async def _accept(self, incoming: list[Incoming]) -> list[Accepted]:
        catalog = self._catalog.current
        return await store.accept(self._database, incoming, decide, catalog.marker_of, catalog.mail_id)

    async def _park(self, one: tuple[Incoming, asyncio.Future[Accepted]], error: Exception) -> None:
        incoming, future = one
        if incoming.report is None:
            _fail([one], error)
            return
        log.error("report parked", report=str(incoming.report_id), error=fault(error))
        incoming.report, incoming.error = None, fault(error)
        await self._flush([(incoming, future)])


def _with_fingerprint(report: Report, ticket_id: uuid.UUID) -> Report:
    return replace(report, fingerprint=str(ticket_id))


def _fail(batch: list[tuple[Incoming, asyncio.Future[Any]]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            # a sender that went away does not ask
            future.exception()
