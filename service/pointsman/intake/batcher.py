"""Accepting reports: whatever waits shares one transaction, and an answer is given only after it is committed.

What came in one request is accepted together or not at all.

A flusher takes the first waiting report and whatever else is already waiting. It never lingers: under load batches grow
by themselves. A replica has two, so that one batch is made ready while the database works on the other; on the same ticket
they wait for each other there, as two replicas do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from pointsman.content.fingerprint_template import made
from pointsman.crypto import sha256
from pointsman.domain.recurrence import verdict
from pointsman.domain.routing import Choice, Facts, Route, asks, candidates, weigh
from pointsman.domain.ticket import Decided, Places, Ticket, TicketKind, on_report
from pointsman.domain.ticket_throttle import NEW_TICKETS_PER_MINUTE
from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake import transaction as store
from pointsman.intake.errors import describe_failure
from pointsman.intake.request_parser import PART_HEADER
from pointsman.intake.transaction import Accepted, Incoming
from pointsman.logs import logger, scrub
from pointsman.plugin_api import Report
from pointsman.plugin_host.snapshot import Catalog, CatalogKeeper, LiveSource
from pointsman.storage.db import AGAIN, LOST, Database, uuid7
from pointsman.storage.delivery_writer import restore, standing

log = logger("acceptance")

BATCH_ROWS = 256
BATCH_BYTES = 4 * 2**20
WAITING_ROWS = 2000
WAITING_BYTES = 32 * 2**20
ROUTED_KEPT = 1000
FLUSHERS = 2  # while one waits for the database, the other takes what came meanwhile
_KINDS = {one.name.lower(): one for one in TicketKind}
WAITING_SECONDS = 5.0
"""A report that is in no transaction by then is refused; senders wait about as long."""
SLOW_SECONDS = 2.0
"""While a sender has been waiting for longer, no more reports are taken."""


def decide(ticket: Ticket, incoming: Incoming, places: Places, decided: Decided) -> None:
    """Apply one report to its ticket; a fault of ours parks the report and leaves the ticket as it was."""
    assert incoming.report is not None
    events, promises = len(decided.events), len(decided.promises)
    before = standing(ticket)
    try:
        then = verdict(ticket, incoming.report, incoming.rules)
        on_report(ticket, incoming.report, incoming.report_id, places, decided, then)
    except Exception as error:  # noqa: BLE001 - nothing accepted is lost to a bug
        del decided.events[events:], decided.promises[promises:]
        restore(ticket, before)
        incoming.report, incoming.error = None, describe_failure(error)


def allowed(source: LiveSource, kind: TicketKind) -> int:
    """How many tickets a source may open in a minute; 0: any number. People are never held back."""
    if kind is not TicketKind.ALERT:
        return 0
    wanted = source.new_tickets_per_minute
    return NEW_TICKETS_PER_MINUTE if wanted is None else wanted


@dataclass(slots=True)
class Waiting:
    """The reports of one request, and who waits for them."""

    reports: Sequence[Incoming]
    future: asyncio.Future[list[Accepted]]

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(len(one.body) for one in self.reports)


class Acceptance:
    """The queue before the database and its flushers."""

    def __init__(
        self, database: Database, catalog: CatalogKeeper, *, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._waiting: deque[Waiting] = deque()
        self._unanswered: dict[asyncio.Future[list[Accepted]], float] = {}
        """Since when each sender waits, the longest first, in seconds of the loop's clock."""
        self._waiting_rows = self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._on_commit = on_commit
        self._routed_by: Catalog | None = None
        self._asked: frozenset[str] = frozenset()
        self._routed: dict[Facts, tuple[Route, ...]] = {}
        self._useless: set[int | None] = set()
        """The rules whose template failed; each is said once for each state of the configuration."""
        self.observe: Callable[[int], None] = lambda _: None
        self.on_storm: Callable[[str], None] = lambda _: None

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
        part: int = 0,
    ) -> Incoming:
        """A report made ready. ``key`` is the sender's idempotency key; without one the report's own sign counts,
        then, for alerts, the body's digest.

        ``part`` counts the reports of one request. The first is kept with the request's body, the others with what was
        read of them.
        """
        new_id = uuid7()
        digest = sha256(body)
        ticket_kind = kind or _KINDS[source.reader.ticket_kind if source.reader else "alert"]
        if key is not None:
            key_hash = sha256(b"key\n" + key.encode("utf-8", "surrogateescape"))
        elif report is not None and report.dedupe:
            key_hash = sha256(b"dedupe\n" + report.dedupe.encode("utf-8", "replace"))
        elif report is not None and (source.owns_tickets or report.action == "test" or report.dedupe == ""):
            key_hash = sha256(b"unique\n" + new_id.bytes)
        else:
            key_hash = sha256(b"body\n" + digest)
        if part and (key is not None or report is None or report.dedupe is None):
            key_hash = sha256(b"part %d\n" % part + key_hash)
        if part:
            body, headers = msgspec.json.encode(report), {**headers, PART_HEADER: str(part)}
        choice = Choice()
        fit: tuple[Route, ...] = ()
        ticket_id = uuid7()
        if report is not None:
            fit = self._fit(source, ticket_kind, report)
            choice = weigh(fit)
            if choice.pending and ticket_kind is TicketKind.SUPPORT:
                # what people ask of us is never held back
                choice = weigh(fit, met=True)
            report = self._named(source, ticket_kind, fit, report)
            if not report.fingerprint:
                report = _with_fingerprint(report, str(ticket_id))
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
            routed=choice.destinations,
            took=choice.routes or choice.pending,
            fit=fit if choice.pending else (),
            new_ticket_id=ticket_id,
            source=source.slug,
            allowed=allowed(source, ticket_kind),
        )

    def _fit(self, source: LiveSource, kind: TicketKind, report: Report) -> tuple[Route, ...]:
        """The rules that may take a report. A few facts come again and again, and the rules are asked once for them;
        titles and tags differ too much for that.
        """
        catalog = self._catalog.current
        if catalog is not self._routed_by:
            self._routed_by, self._routed, self._useless = catalog, {}, set()
            self._asked = asks(catalog.routes)
        facts = Facts(
            source.slug,
            kind.name.lower(),
            report.environment if "environment" in self._asked else "",
            report.level if "level" in self._asked else "",
            report.release if "release" in self._asked else "",
        )
        if not self._asked.isdisjoint(("title", "tags")):
            return candidates(catalog.routes, replace(facts, title=report.title, tags=report.facts))
        found = self._routed.get(facts)
        if found is None:
            if len(self._routed) >= ROUTED_KEPT:
                self._routed.clear()
            found = self._routed[facts] = candidates(catalog.routes, facts)
        return found

    def fingerprint_of(self, source: LiveSource, report: Report) -> str:
        """By which name its ticket is known, where it has one."""
        kind = _KINDS[source.reader.ticket_kind if source.reader else "alert"]
        return self._named(source, kind, self._fit(source, kind, report), report).fingerprint

    def _named(self, source: LiveSource, kind: TicketKind, fit: Sequence[Route], report: Report) -> Report:
        """The report with the fingerprint that a rule gives it. Of people each asks for a thing of their own."""
        if source.owns_tickets or kind is not TicketKind.ALERT:
            return report
        said = made(fit, source.slug, kind.name.lower(), report)
        if said.problem and said.position not in self._useless:
            self._useless.add(said.position)
            log.warning(
                "a fingerprint template is of no use: the source's own counts",
                route=said.position,
                name=said.name,
                source=source.slug,
                error=scrub(said.problem),
            )
        return (
            _with_fingerprint(report, said.fingerprint) if said.fingerprint != report.fingerprint else report
        )

    @property
    def full(self) -> bool:
        """Whether too much waits already to take more."""
        return (
            self._waiting_rows >= WAITING_ROWS
            or self._waiting_bytes >= WAITING_BYTES
            or self._oldest_seconds() >= SLOW_SECONDS
        )

    def _oldest_seconds(self) -> float:
        now = asyncio.get_running_loop().time()
        return now - next(iter(self._unanswered.values()), now)

    async def submit(self, incoming: Incoming) -> Accepted:
        """Wait until a report is committed. Raises Overloaded or DatabaseError, and then nothing was promised."""
        [accepted] = await self.submit_all([incoming])
        return accepted

    async def submit_all(self, incoming: Sequence[Incoming]) -> list[Accepted]:
        """Wait until the reports of one request are committed, all in one transaction. Raises as ``submit`` does."""
        if self.full:
            raise Overloaded("too many reports wait for the database")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Accepted]] = loop.create_future()
        since = self._unanswered[future] = loop.time()
        for one in incoming:
            one.since = since
        waiting = Waiting(incoming, future)
        self._waiting.append(waiting)
        self._waiting_rows += len(incoming)
        self._waiting_bytes += waiting.size
        self._wake.set()
        try:
            # a sender that goes away takes only this future along, not its report
            return await future
        finally:
            del self._unanswered[future]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flush until the end; what waits then is flushed first."""
        tasks = [
            *(asyncio.create_task(self._flush_forever(), name="acceptance") for _ in range(FLUSHERS)),
            asyncio.create_task(self._refuse_forever(), name="acceptance: waited too long"),
        ]
        try:
            yield
        finally:
            for _ in range(200):
                if not self._unanswered:
                    break
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _refuse_forever(self) -> None:
        """Let nobody wait for a database that does not come; what is refused here is in no transaction."""
        while True:
            await asyncio.sleep(WAITING_SECONDS / 20)
            late = asyncio.get_running_loop().time() - WAITING_SECONDS
            while self._waiting and self._waiting[0].reports[0].since <= late:
                one = self._waiting.popleft()
                self._waiting_rows -= len(one.reports)
                self._waiting_bytes -= one.size
                _fail([one], Overloaded(f"it waited for the database for {WAITING_SECONDS:g} s"))

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        rows = size = 0
        while self._waiting and rows < BATCH_ROWS and size < BATCH_BYTES:
            one = self._waiting.popleft()
            rows += len(one.reports)
            size += one.size
            batch.append(one)
        self._waiting_rows -= rows
        self._waiting_bytes -= size
        return batch

    async def _flush_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                rows = sum(len(one.reports) for one in batch)
                self.observe(rows)
                try:
                    await self._flush(batch)
                except asyncio.CancelledError:
                    _fail(batch, DatabaseError("shutting down"))
                    raise
                except Exception as error:
                    log.exception("a batch could not be accepted", rows=rows)
                    _fail(batch, error)

    async def _flush(self, batch: list[Waiting]) -> None:
        for tries in range(4):
            try:
                answers = iter(await self._accept([report for one in batch for report in one.reports]))
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
            for one in batch:
                answer = [next(answers) for _ in one.reports]
                if not one.future.done():
                    one.future.set_result(answer)
            self._on_commit()
            return

    async def _accept(self, incoming: list[Incoming]) -> list[Accepted]:
        catalog = self._catalog.current
        return await store.accept(
            self._database, incoming, decide, catalog.marker_of, catalog.mail_id, on_storm=self._storm
        )

    def _storm(self, source: str) -> None:
        log.warning("a storm of new problems: the surplus shares one issue", source=source)
        self.on_storm(source)

    async def _park(self, one: Waiting, error: Exception) -> None:
        """What the database refuses is kept for the operator; of several reports only those that it refuses."""
        if len(one.reports) > 1:
            parts = [Waiting([report], asyncio.get_running_loop().create_future()) for report in one.reports]
            for part in parts:
                await self._flush([part])
            failed = [why for part in parts if (why := part.future.exception()) is not None]
            if failed:
                _fail([one], failed[0])
            elif not one.future.done():
                one.future.set_result([answer for part in parts for answer in part.future.result()])
            return
        [incoming] = one.reports
        if incoming.report is None:
            _fail([one], error)
            return
        log.error("report parked", report=str(incoming.report_id), error=describe_failure(error))
        incoming.report, incoming.error = None, describe_failure(error)
        await self._flush([one])


def _with_fingerprint(report: Report, fingerprint: str) -> Report:
    return replace(report, fingerprint=fingerprint)


def _fail(batch: Sequence[Waiting], error: BaseException) -> None:
    for one in batch:
        if not one.future.done():
            one.future.set_exception(error)
            # a sender that went away does not ask
            one.future.exception()
