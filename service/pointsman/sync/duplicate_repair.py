"""Find and repair issues and comments that were created twice.

A process that was paused between its last check and its write, or a tracker that applied a request long after it was given up,
can create an issue or a comment twice. A second issue with the same marker is noticed by whoever observes it; what was sent
again is searched for once more when the tracker's lists are up to date. Every step can be repeated, and run by two replicas at
the same time.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar, Literal, TypeVar

from pointsman.bus.periodic import PeriodicService
from pointsman.bus.signals import DuplicateFound, Signals
from pointsman.delivery.outcome_verification import VERIFICATION_TIMEOUT_FACTOR
from pointsman.domain.states import DeliveryKind, DeliveryState, LaneState, TicketStatus
from pointsman.logs import logger, scrub
from pointsman.plugin_api import CommentRef, IssueRef, Marker, Misconfigured, NotFound, Refused
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.plugin_host.validate import validated
from pointsman.storage import duplicates as store
from pointsman.storage.db import Database
from pointsman.storage.duplicates import DuplicateMarker, ResentDelivery
from pointsman.storage.leases import Lease, acquire_lease, is_held
from pointsman.storage.marker_observations import issues_with_marker, record_marker
from pointsman.sync.duplicates import MarkedIssue, choose, find_marked_issues

log = logger("duplicates")

INTERVAL_SECONDS = 20.0
LEASE_SECONDS = 600.0
KNOWN_LEASE_SECONDS = 60.0
TIMEOUT_SECONDS = 300.0
SETTLED_SECONDS = 600.0
ROWS = 200
MAX_FAILURES = 3
"""After this many failures the rest of a destination's work is left to the next run."""
CLOCK_MARGIN = dt.timedelta(minutes=5)

RowT = TypeVar("RowT", DuplicateMarker, ResentDelivery)


class DuplicateRepair(PeriodicService):
    """Runs every ten minutes on one replica, and within a minute after an issue was seen twice.

    ``settled_seconds`` after it was done, a delivery that was sent twice is checked: longer than any tracker's lists lag.
    """

    name: ClassVar[str] = "duplicate-repair"
    jitter: ClassVar[float] = 0.2

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        holder: uuid.UUID,
        *,
        signals: Signals | None = None,
        settled_seconds: float = SETTLED_SECONDS,
    ) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._database = database
        self._reloader = reloader
        self._holder = holder
        self._signals = signals or Signals()
        self._settled_seconds = settled_seconds

    async def run_once(self) -> None:
        """Run the repair that is due, if any."""
        due = await store.repair_due(self._database)
        if due.full_check:
            await self.run_full_check()
        elif due.known_duplicates:
            await self.repair_known()

    async def run_full_check(self) -> bool:
        """Check deliveries that were sent again, and repair all duplicates. Return False if another replica did."""
        lease = await acquire_lease(self._database, "duplicate_repair", self._holder, LEASE_SECONDS)
        if lease is None:
            return False
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await store.release_loop_parked_lanes(self._database)
            await store.mark_duplicates(self._database)
            resent = await store.list_resent_deliveries(self._database, self._settled_seconds, ROWS)
            await self._for_each(lease, resent, self._check_resent)
            await self._repair_all(lease)
        return True

    async def repair_known(self) -> bool:
        """Repair issues that were seen twice. Return False if another replica did."""
        lease = await acquire_lease(
            self._database, "duplicate_repair_known", self._holder, KNOWN_LEASE_SECONDS
        )
        if lease is None:
            return False
        async with asyncio.timeout(KNOWN_LEASE_SECONDS):
            await self._repair_all(lease)
        return True

    async def _repair_all(self, lease: Lease) -> None:
        duplicates = await store.list_duplicates(self._database, ROWS)
        await self._for_each(lease, duplicates, self._repair)

    async def _for_each(
        self,
        lease: Lease,
        rows: Sequence[RowT],
        work: Callable[[LiveDestination, RowT], Awaitable[None]],
    ) -> None:
        """Work on all rows: those of one destination in order, all destinations at once."""
        by_destination: dict[int, list[RowT]] = {}
        for row in rows:
            by_destination.setdefault(row.destination_id, []).append(row)
        destinations = self._reloader.current.destinations
        await asyncio.gather(
            *(
                self._repair_destination(
                    lease, destination, [partial(work, destination, row) for row in of_destination]
                )
                for destination_id, of_destination in by_destination.items()
                if (destination := destinations.get(destination_id)) is not None
                and destination.tracker is not None
            )
        )

    async def _repair_destination(
        self, lease: Lease, destination: LiveDestination, jobs: Sequence[Callable[[], Awaitable[None]]]
    ) -> None:
        """Do the work at one destination. What fails is tried again in the next run."""
        failures = 0
        for job in jobs:
            if failures >= MAX_FAILURES or not await is_held(self._database, lease):
                return
            try:
                timeout = destination.capabilities.request_timeout_seconds * VERIFICATION_TIMEOUT_FACTOR
                async with asyncio.timeout(timeout):
                    await job()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code
                failures += 1
                log.warning(
                    "duplicate repair failed, and is tried again",
                    destination=destination.slug,
                    error=f"{type(error).__name__}: {scrub(str(error))}",
                )

    # -- deliveries that were sent again ---------------------------------------------------------------------------

    async def _check_resent(self, destination: LiveDestination, row: ResentDelivery) -> None:
        """Search once more for a delivery that was sent again after all verifications found nothing."""
        tracker = destination.require_tracker()
        kept_id: str | None = None
        duplicates: list[tuple[CommentRef, bool]] = []
        if tracker.capabilities.find:
            marker = Marker(self._reloader.current.marker_text(row.marker))
            since = row.first_sent_at - CLOCK_MARGIN
            if row.kind == DeliveryKind.CREATE:
                for ref in await tracker.find_issue(marker, since):
                    await self._record(destination, row.marker, validated(ref, IssueRef))
            elif row.remote_id is not None:
                issue = IssueRef(row.remote_id, row.remote_key or "", row.url or "")
                kept_id, duplicates = await self._keep_oldest_comment(destination, issue, marker, since)
        if await store.mark_duplicates_checked(
            self._database, row.lane_id, row.seq, kept_id if duplicates else None
        ):
            for comment, is_deleted in duplicates:
                self._report(destination, "comment", comment.url or comment.remote_id, repaired=is_deleted)

    async def _keep_oldest_comment(
        self, destination: LiveDestination, issue: IssueRef, marker: Marker, since: dt.datetime
    ) -> tuple[str | None, list[tuple[CommentRef, bool]]]:
        """Delete all but the oldest comment with a marker.

        Return the id of the oldest one, and each duplicate with whether it was deleted.
        """
        tracker = destination.require_tracker()
        try:
            comments = [
                validated(comment, CommentRef) for comment in await tracker.find_comment(issue, marker, since)
            ]
        except NotFound:
            return None, []
        duplicates = [
            (comment, await _delete_comment(destination, issue, comment)) for comment in comments[1:]
        ]
        return comments[0].remote_id if comments else None, duplicates

    # -- issues that were created twice ----------------------------------------------------------------------------

    async def _repair(self, destination: LiveDestination, row: DuplicateMarker) -> None:
        """Keep one of the issues that carry a marker, and close the others as its duplicates."""
        marker = Marker(self._reloader.current.marker_text(row.marker))
        since = min(row.first_sent_at or row.first_at, row.first_at) - CLOCK_MARGIN
        observed = [
            IssueRef(*issue) for issue in await issues_with_marker(self._database, destination.id, row.marker)
        ]
        issues = await find_marked_issues(destination, marker, since, observed)
        for issue in issues.existing:
            await self._record(destination, row.marker, issue.ref)
        duplicates: list[MarkedIssue] = []
        if issues.existing:
            status = TicketStatus(row.status) if row.status is not None else None
            kept = choose(issues.existing, status)
            await store.set_canonical(self._database, destination.id, row.marker, kept.ref.remote_id)
            if row.delivery_state == DeliveryState.PENDING and row.lane_state != LaneState.PARKED:
                return  # its lane verifies the unknown outcome first, and finds the issue that is kept
            duplicates = [issue for issue in issues.existing if issue is not kept]
            if row.linked in issues.removed | {issue.ref.remote_id for issue in duplicates}:
                await self._move_link(row, kept)
        closed = [
            (issue, await self._close(destination, issue, kept, row.marker, since)) for issue in duplicates
        ]
        if await store.mark_repaired(self._database, destination.id, row.marker):
            for issue, is_closed in closed:
                self._report(destination, "issue", issue.ref.url or issue.ref.key, repaired=is_closed)

    async def _record(self, destination: LiveDestination, marker: uuid.UUID, ref: IssueRef) -> None:
        issue = (ref.remote_id, ref.key, ref.url)
        await record_marker(self._database, destination.id, marker, issue, "duplicate_repair")

    async def _move_link(self, row: DuplicateMarker, kept: MarkedIssue) -> None:
        """Link the ticket to the kept issue before the others are closed: their closing must not close the ticket."""
        assert row.lane_id is not None
        assert row.linked is not None
        await store.move_link(
            self._database,
            row.lane_id,
            row.linked,
            (kept.ref.remote_id, kept.ref.key, kept.ref.url),
            TicketStatus.CLOSED if kept.is_closed else TicketStatus.OPEN,
            kept.state.version if kept.state is not None else None,
        )

    async def _close(
        self,
        destination: LiveDestination,
        issue: MarkedIssue,
        kept: MarkedIssue,
        marker_id: uuid.UUID,
        since: dt.datetime,
    ) -> bool:
        """Comment on an issue what it is a duplicate of, once, and close it. Return False if the tracker refuses."""
        tracker = destination.require_tracker()
        can_find = tracker.capabilities.find
        # the same marker in every replica and attempt, so that there is one comment
        notice = Marker(self._reloader.current.marker_text(uuid.uuid5(marker_id, issue.ref.remote_id)))
        name = f"[{kept.ref.key}]({kept.ref.url})" if kept.ref.url.startswith("http") else kept.ref.key
        try:
            comments = await tracker.find_comment(issue.ref, notice, since) if can_find else ()
            if not comments and not (issue.is_closed and not can_find):
                text = f"Duplicate of {name}, created twice by mistake. Please continue there."
                await tracker.add_comment(issue.ref, text, notice)
            if can_find:
                await self._keep_oldest_comment(destination, issue.ref, notice, since)
            if not issue.is_closed:
                reason: Literal["duplicate"] | None = (
                    "duplicate" if tracker.capabilities.close_reasons else None
                )
                await tracker.set_state(issue.ref, "closed", reason)
        except NotFound:
            return True
        except Refused as error:
            log.warning("closing a duplicate failed", destination=destination.slug, error=scrub(str(error)))
            return False
        return True

    def _report(
        self,
        destination: LiveDestination,
        subject: Literal["issue", "comment"],
        duplicate: str,
        *,
        repaired: bool,
    ) -> None:
        self._signals.emit(DuplicateFound(destination.slug, subject, repaired))
        if repaired:
            log.warning(
                "duplicate repaired", destination=destination.slug, subject=subject, duplicate=duplicate
            )
        else:
            log.error(
                "duplicate can't be repaired",
                destination=destination.slug,
                subject=subject,
                duplicate=duplicate,
                next_step="close or delete it by hand",
            )


async def _delete_comment(destination: LiveDestination, issue: IssueRef, comment: CommentRef) -> bool:
    """Delete a comment of ours. Return False if the tracker can't or refuses."""
    tracker = destination.require_tracker()
    if not tracker.capabilities.delete_comment:
        return False
    try:
        await tracker.delete_comment(issue, comment)
    except NotFound:
        return True
    except (Misconfigured, Refused):
        return False
    return True
