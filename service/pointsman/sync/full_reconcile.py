"""What operators do once in a while: compare every linked issue with its ticket, and mend what differs."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from pointsman.config.settings import Settings
from pointsman.domain.states import DestinationKind, TicketStatus
from pointsman.errors import PointsmanError
from pointsman.plugin_api import (
    AuthFailed,
    IssueRef,
    IssueRemoved,
    IssueState,
    Misconfigured,
    IssueMoved,
    NotFound,
    RateLimited,
    State,
    Unavailable,
)
from pointsman.plugin_host.account import learn_account
from pointsman.plugin_host.bootstrap import open_reloader
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.plugin_host.validate import checked
from pointsman.storage import destinations as standing
from pointsman.storage import reconcile as store
from pointsman.storage.db import Database, Row
from pointsman.sync.tracker_updates import TrackerUpdates

_PAGE = 100
_ALL_FAIL_ALIKE = (AuthFailed, Misconfigured, RateLimited, Unavailable)

Became = Literal["found", "applied", "waits", "stuck", "left", "failed", "stopped"]


_WORDS = {
    "found": "",
    "applied": "applied",
    "waits": "a delivery is about to change the issue",
    "stuck": "the delivery that should have changed the issue is dead",
    "left": "left alone",
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """An issue that does not stand as its ticket does, or that could not be compared, and what became of that.

    ``found``: only looked at. ``applied``: the ticket follows the issue. ``waits``: a delivery is about to change the issue.
    ``stuck``: the delivery that should have changed it is dead. ``left``: it changed meanwhile. ``failed``: the issue could
    not be read. ``stopped``: nor will the others of this destination be.
    """

    destination: str
    ticket: uuid.UUID | None
    issue: str
    ours: State | None
    theirs: str
    became: Became
    note: str = ""

    def __str__(self) -> str:
        if self.ours is None:
            return f"{self.destination} {self.issue} {self.became}: {self.note}".replace("  ", " ")
        said = f"{self.destination} {self.issue} is {self.theirs}, ticket {self.ticket} is {self.ours}"
        became = _WORDS[self.became]
        return ": ".join(part for part in (said, became, self.note) if part)

    @property
    def is_drift(self) -> bool:
        """Whether something is not as it should be, and will not be by itself."""
        return self.became in ("found", "stuck", "left")


class Summary(msgspec.Struct):
    """What a run came to."""

    checked: int = 0
    drift: int = 0
    applied: int = 0
    waits: int = 0
    failed: int = 0

    def __str__(self) -> str:
        said = [f"{self.checked} issues compared", f"{self.applied + self.drift} differ"]
        if self.applied:
            said.append(f"{self.applied} applied")
        if self.waits:
            said.append(f"{self.waits} wait for a delivery of ours")
        if self.failed:
            said.append(f"{self.failed} could not be compared")
        return ", ".join(said)

    def count(self, one: Difference) -> None:
        """Add a difference."""
        self.drift += one.is_drift
        self.applied += one.became == "applied"
        self.waits += one.became == "waits"
        self.failed += one.became in ("failed", "stopped")


async def reconcile(
    settings: Settings, database: Database, slug: str | None, *, dry_run: bool, summary: Summary
) -> AsyncIterator[Difference]:
    """Compare every active link of a destination, or of all, with what its tracker says; ``summary`` grows meanwhile.

    Without ``dry_run`` tickets follow their issues, as if a webhook had told it.
    """
    async with open_reloader(settings, database) as reloader:
        inbound = TrackerUpdates(database, reloader)
        every = [
            one for one in reloader.current.destinations.values() if one.kind == DestinationKind.TRACKER and not one.retired
        ]
        chosen = [one for one in every if slug in (None, one.slug)]
        if not chosen:
            which = f"there is no destination {slug}" if slug else "there are no destinations"
            raise PointsmanError(f"{which}: see `pointsman destinations`")
        for one in chosen:
            async for difference in _of_one(database, inbound, one, dry_run=dry_run, summary=summary):
                summary.count(difference)
                yield difference


async def _of_one(
    database: Database, inbound: TrackerUpdates, destination: LiveDestination, *, dry_run: bool, summary: Summary
) -> AsyncIterator[Difference]:
    await learn_account(destination)
    lane = 0
    while page := await store.links_page(database, destination.id, lane, _PAGE):
        for row in page:
            lane = row["lane_id"]
            try:
                asked_at = await store.clock(database)
                found = await _compare(inbound, destination, row, asked_at, dry_run=dry_run)
            except NotImplementedError:
                why = "its plugin can't read an issue"
                yield _trouble(destination, None, "stopped", why)
                return
            except Exception as error:  # noqa: BLE001 - a stranger's code
                failure = str(standing.Failure.of(error))
                if isinstance(error, _ALL_FAIL_ALIKE) or destination.tracker is None:
                    yield _trouble(
                        destination, None, "stopped", f"stopped after {summary.checked}: {failure}"
                    )
                    return
                yield _trouble(destination, row, "failed", failure)
                continue
            summary.checked += 1
            if found is not None:
                yield found


async def _compare(
    inbound: TrackerUpdates, destination: LiveDestination, row: Row, asked_at: dt.datetime, *, dry_run: bool
) -> Difference | None:
    """How one issue differs from its ticket, None if it does not."""
    tracker = destination.require_tracker()
    ref = IssueRef(row["remote_id"], row["remote_key"], row["url"])
    ours: State = "closed" if row["status"] == TicketStatus.CLOSED else "open"
    news: IssueState | IssueRemoved
    try:
        async with asyncio.timeout(tracker.capabilities.request_timeout_seconds):
            seen: IssueState = checked(await tracker.read_issue(ref), IssueState)
        news, theirs = seen, str(seen.state)
    except NotFound:
        news, theirs = IssueRemoved(ref=ref), "gone"
    except IssueMoved as error:
        news, theirs = IssueRemoved(ref=ref, moved_to=error.to), f"gone to {error.to}" if error.to else "gone"
    if theirs == ours:
        return None
    became: Became = "found"
    note = ""
    if isinstance(news, IssueState) and row["waits"]:
        became = "waits"
    elif isinstance(news, IssueState) and row["dead_seq"] is not None:
        became, note = "stuck", f"pointsman replay {row['lane_id']}/{row['dead_seq']}"
    elif not dry_run:
        heard = await inbound.found(destination, news, asked_at)
        applied = heard.changed or isinstance(news, IssueRemoved)
        became, note = ("applied", heard.note) if applied else ("left", heard.note)
    return Difference(
        destination=destination.slug,
        ticket=row["ticket_id"],
        issue=row["url"] or row["remote_key"],
        ours=ours,
        theirs=theirs,
        became=became,
        note=note,
    )


def _trouble(destination: LiveDestination, row: Row | None, became: Became, note: str) -> Difference:
    return Difference(
        destination=destination.slug,
        ticket=row["ticket_id"] if row is not None else None,
        issue=(row["url"] or row["remote_key"]) if row is not None else "",
        ours=None,
        theirs="unknown",
        became=became,
        note=note,
    )
