"""Sweeping: what was made twice in spite of everything is found, repaired and counted.

A process that was paused between its last check and its write, or a tracker that applied a request long after it was given
up, can make an issue or a comment twice. A second issue of one marker is noticed by whoever sees it; what was sent again
is looked for once more when the tracker's lists have settled. Every step can be repeated, by two replicas at once too.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from pointsman.bus.signals import DuplicateFound, Signals
from pointsman.delivery.outcome_verification import REQUESTS_OF_A_LOOK
from pointsman.domain.states import DeliveryKind, DeliveryState, LaneState, TicketStatus
from pointsman.logs import logger, scrub
from pointsman.plugin_api import CommentRef, IssueRef, Marker, Misconfigured, NotFound, Refused
from pointsman.plugin_host.snapshot import ConfigReloader, LiveDestination
from pointsman.plugin_host.validate import checked
from pointsman.storage import duplicates as store
from pointsman.storage.db import Database, Row
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.leases import Turn, is_ours, take_turn
from pointsman.storage.marker_observations import sight
from pointsman.sync.duplicates import Copy, choose, confirm

log = logger("sweep")

LOOK_SECONDS = 20.0
TURN_SECONDS = 600.0
TWINS_SECONDS = 60.0
AT_MOST_SECONDS = 300.0
SETTLED_SECONDS = 600.0
ROWS = 200
TROUBLES = 3
MARGIN = dt.timedelta(minutes=5)


class DuplicateRepair:
    """One replica at a time has its turn every ten minutes, and within a minute once an issue was seen twice.

    ``settled_seconds`` after it was done a delivery that was sent twice is looked after: longer than any tracker's lists
    lag behind.
    """

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        holder: uuid.UUID,
        *,
        signals: Signals | None = None,
        settled_seconds: float = SETTLED_SECONDS,
    ) -> None:
        self._database = database
        self._reloader = reloader
        self._holder = holder
        self._signals = signals or Signals()
        self._settled_seconds = settled_seconds

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take turns until the end."""
        task = asyncio.create_task(self._forever(), name="sweep")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - replicas spread out
            try:
                turn, twins = await store.due(self._database)
                if turn:
                    await self.take_turn()
                elif twins:
                    await self.take_twins()
            except DatabaseUnavailable:
                continue
            except Exception:
                log.exception("sweep failed")

    async def take_turn(self) -> bool:
        """Look after all that may have been made twice; False if another replica did lately."""
        turn = await take_turn(self._database, "duplicate_repair", self._holder, TURN_SECONDS)
        if turn is None:
            return False
        async with asyncio.timeout(AT_MOST_SECONDS):
            await store.free_quiet_lanes(self._database)
            await store.mark_twins(self._database)
            resent = await store.resent(self._database, self._settled_seconds, ROWS)
            await self._each(turn, resent, self._look_again)
            await self._each(turn, await store.twins(self._database, ROWS), self._repair)
        return True

    async def take_twins(self) -> bool:
        """Look after issues that were seen twice; False if another replica did just now."""
        turn = await take_turn(self._database, "duplicate_repair_known", self._holder, TWINS_SECONDS)
        if turn is None:
            return False
        async with asyncio.timeout(TWINS_SECONDS):
            await self._each(turn, await store.twins(self._database, ROWS), self._repair)
        return True

    async def _each(
        self, turn: Turn, rows: Sequence[Row], work: Callable[[LiveDestination, Row], Awaitable[None]]
    ) -> None:
        """The rows of each destination in turn, all destinations at once: one's trouble is its own."""
        of: dict[int, list[Row]] = {}
        for row in rows:
            of.setdefault(row["destination_id"], []).append(row)
        destinations = self._reloader.current.destinations
        await asyncio.gather(
            *(
                self._of_one(
                    turn, destinations[place], [partial(work, destinations[place], row) for row in mine]
                )
                for place, mine in of.items()
                if place in destinations and destinations[place].tracker is not None
            )
        )

    async def _of_one(
        self, turn: Turn, destination: LiveDestination, jobs: Sequence[Callable[[], Awaitable[None]]]
    ) -> None:
        """The work at one destination. What fails is tried again in the next turn; often enough, and all of it waits."""
        troubles = 0
        for job in jobs:
            if troubles >= TROUBLES or not await is_ours(self._database, turn):
                return
            try:
                timeout = destination.capabilities.request_timeout_seconds * REQUESTS_OF_A_LOOK
                async with asyncio.timeout(timeout):
                    await job()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code
                troubles += 1
                said = f"{type(error).__name__}: {scrub(str(error))}"
                log.warning("sweep failed, and is tried again", destination=destination.slug, error=said)

    # -- sent again ----------------------------------------------------------------------------------------------

    async def _look_again(self, destination: LiveDestination, row: Row) -> None:
        """Look once more for what was sent again after every look had found nothing."""
        tracker = destination.require_tracker()
        kept: str | None = None
        doubles: list[tuple[CommentRef, bool]] = []
        if tracker.capabilities.find:
            marker = Marker(self._reloader.current.marker_text(row["marker"]))
            since = row["first_sent_at"] - MARGIN
            if row["kind"] == DeliveryKind.CREATE:
                for each in await tracker.find_issue(marker, since):
                    ref = checked(each, IssueRef)
                    place = (ref.remote_id, ref.key, ref.url)
                    await sight(self._database, destination.id, row["marker"], place, "sweep")
            elif row["remote_id"] is not None:
                issue = IssueRef(row["remote_id"], row["remote_key"], row["url"])
                kept, doubles = await self._one_comment(destination, issue, marker, since)
        if await store.swept(self._database, row["lane_id"], row["seq"], kept if doubles else None):
            for comment, is_away in doubles:
                self._say(destination, "comment", comment.url or comment.remote_id, repaired=is_away)

    async def _one_comment(
        self, destination: LiveDestination, issue: IssueRef, marker: Marker, since: dt.datetime
    ) -> tuple[str | None, list[tuple[CommentRef, bool]]]:
        """Keep the oldest of our comments with a marker; its id, and each other one with whether it is away."""
        tracker = destination.require_tracker()
        try:
            found = [checked(each, CommentRef) for each in await tracker.find_comment(issue, marker, since)]
        except NotFound:
            return None, []
        doubles = [(one, await _take_away(destination, issue, one)) for one in found[1:]]
        return found[0].remote_id if found else None, doubles

    # -- issues made twice ---------------------------------------------------------------------------------------

    async def _repair(self, destination: LiveDestination, row: Row) -> None:
        """Keep one of the issues that carry a marker, and close the others as its duplicates."""
        marker_id = row["marker"]
        marker = Marker(self._reloader.current.marker_text(marker_id))
        since = min(row["first_sent_at"] or row["first_at"], row["first_at"]) - MARGIN
        known = [IssueRef(*one) for one in await store.issues_of(self._database, destination.id, marker_id)]
        copies = await confirm(destination, marker, since, known)
        for one in copies.there:
            place = (one.ref.remote_id, one.ref.key, one.ref.url)
            await sight(self._database, destination.id, marker_id, place, "sweep")
        others: list[Copy] = []
        if copies.there:
            kept = choose(copies.there, TicketStatus(row["status"]) if row["status"] is not None else None)
            await store.prefer(self._database, destination.id, marker_id, kept.ref.remote_id)
            if row["delivery_state"] == DeliveryState.PENDING and row["lane_state"] != LaneState.PARKED:
                return  # its lane settles the doubt first, and takes the one that is kept
            others = [one for one in copies.there if one is not kept]
            if row["linked"] in copies.gone | {one.ref.remote_id for one in others}:
                await self._move_link(row, kept)
        closed = [(one, await self._close(destination, one, kept, marker_id, since)) for one in others]
        if await store.repaired(self._database, destination.id, marker_id):
            for one, is_closed in closed:
                self._say(destination, "issue", one.ref.url or one.ref.key, repaired=is_closed)

    async def _move_link(self, row: Row, kept: Copy) -> None:
        """Before the others are closed: the news of that must not close the ticket."""
        ref = kept.ref
        await store.move_link(
            self._database,
            row["lane_id"],
            row["linked"],
            (ref.remote_id, ref.key, ref.url),
            int(TicketStatus.CLOSED if kept.is_closed else TicketStatus.OPEN),
            kept.seen.version if kept.seen is not None else None,
        )

    async def _close(
        self, destination: LiveDestination, one: Copy, kept: Copy, marker_id: uuid.UUID, since: dt.datetime
    ) -> bool:
        """Say in an issue what it is a duplicate of, once, and close it; False if the tracker refuses."""
        tracker = destination.require_tracker()
        # the same for every replica and every try, so that it is said once
        notice = Marker(self._reloader.current.marker_text(uuid.uuid5(marker_id, one.ref.remote_id)))
        name = f"[{kept.ref.key}]({kept.ref.url})" if kept.ref.url.startswith("http") else kept.ref.key
        try:
            said = await tracker.find_comment(one.ref, notice, since) if tracker.capabilities.find else ()
            if not said and not (one.is_closed and not tracker.capabilities.find):
                text = f"Duplicate of {name}, made twice by mistake. It goes on there."
                await tracker.add_comment(one.ref, text, notice)
            if tracker.capabilities.find:
                await self._one_comment(destination, one.ref, notice, since)
            if not one.is_closed:
                reason = "duplicate" if tracker.capabilities.close_reasons else None
                await tracker.set_state(one.ref, "closed", reason)  # type: ignore[arg-type]
        except NotFound:
            return True
        except Refused as error:
            log.warning("a duplicate can't be closed", destination=destination.slug, error=scrub(str(error)))
            return False
        return True

    def _say(self, destination: LiveDestination, what: Literal["issue", "comment"], where: str, *, repaired: bool) -> None:
        self._signals.emit(DuplicateFound(destination.slug, what, repaired))
        if repaired:
            log.warning("made twice, repaired", destination=destination.slug, what=what, duplicate=where)
        else:
            log.error(
                "made twice, and can't be repaired here",
                destination=destination.slug,
                what=what,
                duplicate=where,
                next_step="close or delete it by hand",
            )


async def _take_away(destination: LiveDestination, issue: IssueRef, comment: CommentRef) -> bool:
    """Delete a comment of ours; False if the tracker can't or won't."""
    try:
        await destination.require_tracker().delete_comment(issue, comment)
    except NotFound:
        return True
    except (NotImplementedError, Misconfigured, Refused):
        return False
    return True
