"""Backfill reports: ask sources for what they sent while nobody received it, and accept it like any report."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from pointsman.bus.periodic import KeyedTasks, PeriodicService
from pointsman.bus.signals import ReportBackfilled, Signals
from pointsman.domain.states import TicketStatus
from pointsman.errors import PointsmanError
from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.intake.preparation import ReportPreparer
from pointsman.logs import logger, scrub
from pointsman.plugin_api import (
    BackfillResult,
    PluginError,
    Problem,
    Report,
    Source,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import validated
from pointsman.storage import sources as store
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.sources import CurrentTicket, SourcePoll

log = logger("backfill")

OVERLAP = dt.timedelta(minutes=10)
GRACE = dt.timedelta(seconds=30)
"""A report this young may still arrive by itself, and is left to the next poll."""
INTERVAL_SECONDS = 1.0
TIMEOUT_SECONDS = 120.0
MAX_BODIES = 10_000
HEADERS = {"content-type": "application/json", "user-agent": "pointsman (backfill)"}


class Intake(Protocol):
    """The part of the intake batcher that is used here."""

    async def submit(self, incoming: Incoming) -> ReportResult:
        """Wait until a report is committed."""
        ...


class BackfilledReport(msgspec.Struct, frozen=True):
    """A report that a source returned, with the body it was read from."""

    report: Report
    body: bytes


class SourceBackfill(PeriodicService):
    """Polls each source when it is due. One replica has the lease of a source; the position is in the database."""

    name: ClassVar[str] = "source-backfill"

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        preparer: ReportPreparer,
        intake: Intake,
        *,
        signals: Signals | None = None,
        grace: dt.timedelta = GRACE,
    ) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._database = database
        self._reloader = reloader
        self._preparer = preparer
        self._intake = intake
        self._signals = signals or Signals()
        self._grace = grace
        self._due: dict[int, float] = {}
        self._leased: set[int] = set()
        self._polls = KeyedTasks()

    async def started(self) -> None:
        """Start the first polls at once."""
        await self.run_once()

    async def run_once(self) -> None:
        """Start the polls that are due; at most one runs for each source."""
        now = asyncio.get_running_loop().time()
        for source in list(self._reloader.current.sources.values()):
            if not source.capabilities.backfill or source.id in self._polls:
                continue
            if self._due.get(source.id, 0.0) > now:
                continue
            self._polls.start(source.id, self._poll(source), name=f"backfill {source.slug}")

    async def stopped(self) -> None:
        """Cancel the running polls and release the leases."""
        await self._polls.cancel()
        await store.release_polls(self._database, list(self._leased))

    async def _poll(self, source: LiveSource) -> None:
        """Poll one source if this replica gets the lease. Failures are recorded, not raised."""
        clock = asyncio.get_running_loop().time
        interval = max(source.capabilities.poll_seconds, 1.0)
        self._due[source.id] = clock() + interval
        try:
            poll = await store.acquire_poll(self._database, source.id, interval * 0.9)
            if poll is None:
                wait = await store.poll_wait_seconds(self._database, source.id)
                self._due[source.id] = clock() + wait + 1.0
                return
            self._leased.add(source.id)
            await self.backfill(source, poll)
        except DatabaseUnavailable:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code
            reason = scrub(f"{type(error).__name__}: {error}")[:1000]
            log.warning("source backfill failed", source=source.slug, error=reason)
            with contextlib.suppress(DatabaseUnavailable):
                await store.record_poll_failure(self._database, source.id, reason)

    async def backfill(self, source: LiveSource, poll: SourcePoll) -> int:
        """Ask a source for reports since the last poll, and accept the missed ones. Return how many there were."""
        assert source.plugin is not None
        since = poll.started_at if poll.polled_to is None else max(poll.polled_to - OVERLAP, poll.started_at)
        last = await store.last_problem(self._database, source.id)
        known = Problem(id=last.problem, url=last.url or "") if last is not None else None
        result = await _ask(source.plugin, since, known)
        complete_until = min(poll.asked_at, result.complete_until or poll.asked_at)
        until = min(poll.asked_at - self._grace, result.complete_until or poll.asked_at)
        reports = [
            backfilled
            for backfilled in self._read(source, result.bodies[:MAX_BODIES])
            if backfilled.report.seen_at is None or backfilled.report.seen_at <= until
        ]
        missed = await self._missed(source, reports)
        for backfilled in missed:
            accepted = await self._accept(source, backfilled)
            if not accepted.repeated:
                self._signals.emit(ReportBackfilled(source.slug))
                log.info(
                    "report backfilled",
                    source=source.slug,
                    action=backfilled.report.action,
                    report=str(accepted.report_id),
                    ticket=str(accepted.ticket_id) if accepted.ticket_id else None,
                )
        # the grace is shorter than the overlap: reports that were left out are returned again
        await store.record_poll(self._database, source.id, complete_until)
        return len(missed)

    def _read(self, source: LiveSource, bodies: Sequence[Any]) -> list[BackfilledReport]:
        """Read the reports in bodies. Unreadable bodies are left out and logged."""
        assert source.plugin is not None
        reports: list[BackfilledReport] = []
        failure: Exception | None = None
        for decoded in bodies:
            try:
                raw = msgspec.json.encode(decoded)
                reports += [
                    BackfilledReport(report, raw)
                    for report in source.plugin.read_report(HEADERS, raw, decoded)
                ]
            except Exception as error:  # noqa: BLE001 - plugin code and untrusted data
                failure = error
        if failure is not None:
            reason = scrub(f"{type(failure).__name__}: {failure}")[:500]
            log.warning("a backfilled report can't be read", source=source.slug, error=reason)
        return reports

    async def _missed(
        self, source: LiveSource, reports: Sequence[BackfilledReport]
    ) -> list[BackfilledReport]:
        """Return the reports that their tickets do not know.

        A report that arrived by itself can have been stored with a later time than its own.
        """
        fingerprints = [self._preparer.fingerprint_of(source, backfilled.report) for backfilled in reports]
        tickets = await store.current_tickets(self._database, source.id, fingerprints)
        asked = [
            (tickets[fingerprint].id, backfilled.report.action, backfilled.report.seen_at)
            for fingerprint, backfilled in zip(fingerprints, reports, strict=True)
            if fingerprint in tickets and backfilled.report.seen_at is not None
        ]
        seen = await store.events_seen_since(self._database, asked)
        return [
            backfilled
            for fingerprint, backfilled in zip(fingerprints, reports, strict=True)
            if _is_missed(backfilled.report, tickets.get(fingerprint), seen)
        ]

    async def _accept(self, source: LiveSource, backfilled: BackfilledReport) -> ReportResult:
        """Submit a report to the intake; while that is overloaded, wait and try again."""
        for _ in range(60):
            try:
                incoming = self._preparer.prepare(source, backfilled.report, backfilled.body, dict(HEADERS))
                return await self._intake.submit(incoming)
            except PointsmanError as error:
                log.info("a backfilled report waits", source=source.slug, error=str(error))
                await asyncio.sleep(1.0)
        raise TimeoutError("the intake was overloaded for a minute")


async def _ask(plugin: Source, since: dt.datetime, known: Problem | None) -> BackfillResult:
    """Ask a source's plugin. Any other exception of the plugin becomes UnknownOutcome."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            result: BackfillResult = validated(await plugin.backfill(since, known), BackfillResult)
    except PluginError:
        raise
    except TimeoutError:
        raise Unavailable(f"no end within {TIMEOUT_SECONDS:g} s") from None
    except (Exception, SystemExit) as error:
        raise UnknownOutcome(f"the plugin failed: {type(error).__name__}: {error}") from error
    return result


def _is_missed(
    report: Report, ticket: CurrentTicket | None, seen: set[tuple[uuid.UUID, str, dt.datetime]]
) -> bool:
    """Return whether a report contains something that its ticket does not know."""
    if report.action == "test":
        return False
    if ticket is None:
        return report.action != "recurred"
    if report.action == "opened":
        return False
    if report.seen_at is not None and (ticket.id, report.action, report.seen_at) in seen:
        return False
    if ticket.status == TicketStatus.CLOSED:
        return report.seen_at is None or ticket.closed_at is None or report.seen_at > ticket.closed_at
    return report.action != "recurred"
