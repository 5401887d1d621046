"""Pulling reports: what a source sent while nobody heard it is found by asking, and accepted as if it had come by itself."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

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
from pointsman.plugin_host.snapshot import ConfigReloader, LiveSource
from pointsman.plugin_host.validate import checked
from pointsman.storage import sources as store
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable

log = logger("pull")

OVERLAP = dt.timedelta(minutes=10)
GRACE = dt.timedelta(seconds=30)
"""What happened so lately may still come by itself, and is left to it until the next time."""
LOOK_SECONDS = 1.0
AT_MOST_SECONDS = 120.0
BODIES = 10_000
HEADERS = {"content-type": "application/json", "user-agent": "pointsman (found by asking)"}


class Intake(Protocol):
    """The part of the batcher that is used here."""

    async def submit(self, incoming: Incoming) -> ReportResult:
        """Wait until a report is committed."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """A report that a source gave when it was asked, with the body it was read from."""

    report: Report
    body: bytes


class SourceBackfill:
    """Asks each source in its turn. One replica at a time has the turn; how far it got stands in the database."""

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
        self._database = database
        self._reloader = reloader
        self._preparer = preparer
        self._intake = intake
        self._signals = signals or Signals()
        self._grace = grace
        self._due: dict[int, float] = {}
        self._ours: set[int] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask until the end."""
        task = asyncio.create_task(self._forever(), name="pull")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(DatabaseUnavailable):
                await store.give_back(self._database, list(self._ours))

    async def _forever(self) -> None:
        clock = asyncio.get_running_loop().time
        running: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for one in list(self._reloader.current.sources.values()):
                    if not one.capabilities.backfill or one.id in running:
                        continue
                    if self._due.get(one.id, 0.0) > clock():
                        continue
                    task = asyncio.create_task(self._turn(one), name=f"pull-{one.slug}")
                    running[one.id] = task
                    task.add_done_callback(lambda _, key=one.id: running.pop(key, None))  # type: ignore[misc]
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in list(running.values()):
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _turn(self, source: LiveSource) -> None:
        """One source; its faults are its own."""
        clock = asyncio.get_running_loop().time
        every = max(source.capabilities.poll_seconds, 1.0)
        self._due[source.id] = clock() + every
        try:
            turn = await store.take_turn(self._database, source.id, every * 0.9)
            if turn is None:
                self._due[source.id] = clock() + await store.turn_after(self._database, source.id) + 1.0
                return
            self._ours.add(source.id)
            await self.ask(source, turn)
        except DatabaseUnavailable:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code
            why = scrub(f"{type(error).__name__}: {error}")[:1000]
            log.warning("asking a source failed", source=source.slug, error=why)
            with contextlib.suppress(DatabaseUnavailable):
                await store.poll_failed(self._database, source.id, why)

    async def ask(self, source: LiveSource, turn: store.Turn) -> int:
        """Ask for what was lost and have it accepted; how many reports were."""
        assert source.plugin is not None
        since = turn.started_at if turn.polled_to is None else max(turn.polled_to - OVERLAP, turn.started_at)
        last = await store.last_problem(self._database, source.id)
        known = Problem(id=last["problem"], url=last["url"] or "") if last is not None else None
        missed = await _missed(source.plugin, since, known)
        until = min(turn.asked_at - self._grace, missed.complete_until or turn.asked_at)
        found = [one for one in self._read(source, missed.bodies[:BODIES]) if _before(one.report, until)]
        news = await self._news(source, found)
        for one in news:
            accepted = await self._accept(source, one)
            if not accepted.repeated:
                self._signals.emit(ReportBackfilled(source.slug))
                log.info(
                    "found by asking",
                    source=source.slug,
                    action=one.report.action,
                    report=str(accepted.report_id),
                    ticket=str(accepted.ticket_id) if accepted.ticket_id else None,
                )
        # the grace is short of the overlap, so what was left out comes again
        await store.polled(self._database, source.id, min(turn.asked_at, missed.complete_until or turn.asked_at))
        return len(news)

    def _read(self, source: LiveSource, bodies: Sequence[Any]) -> list[Asked]:
        """The reports in what came; what the source can't read itself is left out, and said."""
        assert source.plugin is not None
        found: list[Asked] = []
        failed: Exception | None = None
        for decoded in bodies:
            try:
                raw = msgspec.json.encode(decoded)
                found += [Asked(report, raw) for report in source.plugin.read_report(HEADERS, raw, decoded)]
            except Exception as error:  # noqa: BLE001 - a stranger's code, or a stranger's words
                failed = error
        if failed is not None:
            why = scrub(f"{type(failed).__name__}: {failed}")[:500]
            log.warning("a report found by asking can't be read", source=source.slug, error=why)
        return found

    async def _news(self, source: LiveSource, found: Sequence[Asked]) -> list[Asked]:
        """What is not known by its ticket. What came by itself may have come under a later time than it happened."""
        names = [self._preparer.fingerprint_of(source, one.report) for one in found]
        tickets = await store.known_tickets(self._database, source.id, names)
        asked = [
            (tickets[name]["id"], one.report.action, one.report.seen_at)
            for name, one in zip(names, found, strict=True)
            if name in tickets and one.report.seen_at is not None
        ]
        heard = await store.seen_since(self._database, asked)
        return [
            one
            for name, one in zip(names, found, strict=True)
            if _is_news(one.report, tickets.get(name), heard)
        ]

    async def _accept(self, source: LiveSource, one: Asked) -> ReportResult:
        """Through the door for all reports; while that is full, wait a little."""
        for _ in range(60):
            try:
                incoming = self._preparer.prepare(source, one.report, one.body, dict(HEADERS))
                return await self._intake.submit(incoming)
            except PointsmanError as error:
                log.info("a report found by asking waits", source=source.slug, error=str(error))
                await asyncio.sleep(1.0)
        raise TimeoutError("no room for reports in a minute")


async def _missed(reader: Source, since: dt.datetime, known: Problem | None) -> BackfillResult:
    """What a source says it sent. Whatever else its code does is no fault of the database."""
    try:
        async with asyncio.timeout(AT_MOST_SECONDS):
            found: BackfillResult = checked(await reader.backfill(since, known), BackfillResult)
    except PluginError:
        raise
    except TimeoutError:
        raise Unavailable(f"no end within {AT_MOST_SECONDS:g} s") from None
    except (Exception, SystemExit) as error:
        raise UnknownOutcome(f"the plugin failed: {type(error).__name__}: {error}") from error
    return found


def _before(report: Report, until: dt.datetime) -> bool:
    return report.seen_at is None or report.seen_at <= until


def _is_news(report: Report, ticket: Any, heard: set[tuple[Any, str, dt.datetime]]) -> bool:
    """Whether a report that was found by asking says anything that its ticket does not know."""
    at = report.seen_at
    if report.action == "test":
        return False
    if ticket is None:
        return report.action != "recurred"
    if report.action == "opened":
        return False
    if at is not None and (ticket["id"], report.action, at) in heard:
        return False
    if ticket["status"] == TicketStatus.CLOSED:
        return at is None or ticket["closed_at"] is None or at > ticket["closed_at"]
    return report.action != "recurred"
