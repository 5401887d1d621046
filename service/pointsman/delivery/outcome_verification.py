"""In doubt: a request left and nobody knows whether it took effect. Here it is found out.

In careful mode, after the database lost commits or may have, every issue and comment is looked for before it is made.
"""

from __future__ import annotations

import asyncio
import datetime as dt

from pointsman.delivery.attempt import Attempt
from pointsman.domain.states import DeliveryKind
from pointsman.plugin_api import CommentRef, IssueRef, Marker
from pointsman.plugin_host.snapshot import ConfigSnapshot
from pointsman.plugin_host.validate import checked
from pointsman.storage.db import Database
from pointsman.storage.marker_observations import record_marker
from pointsman.storage.queue import Lanes

CAREFUL_LOOKS_BACK = dt.timedelta(days=2)
CLOCKS_DIFFER = dt.timedelta(minutes=5)
"""How much a tracker's clock may be behind the database's."""
VERIFICATION_TIMEOUT_FACTOR = 20
"""As many of a tracker's slowest requests may a look take: a list has many pages, and one that is never read to its end
never settles anything.
"""


async def verify_outcome(
    database: Database, lanes: Lanes, snapshot: ConfigSnapshot, one: Attempt
) -> IssueRef | CommentRef | None:
    """The issue or comment that an earlier request made after all: seen by somebody, or found at the tracker.

    None: not there (yet), or the tracker can't be asked.
    """
    return await _sighted(lanes, one) or await _found(database, snapshot, one)


async def _sighted(lanes: Lanes, one: Attempt) -> IssueRef | None:
    """The issue that somebody has seen with our marker."""
    if one.kind is not DeliveryKind.CREATE:
        return None
    seen = await lanes.issues_with_marker(one.lane.destination_id, one.delivery.marker)
    return IssueRef(*seen[0]) if seen else None


async def _found(database: Database, snapshot: ConfigSnapshot, one: Attempt) -> IssueRef | CommentRef | None:
    """The issue or comment with our marker that the tracker itself finds."""
    tracker = one.destination.require_tracker()
    if not tracker.capabilities.find:
        return None
    marker = Marker(snapshot.marker_text(one.delivery.marker))
    # a database that came back from a backup does not know what it had sent since
    sent = one.delivery.first_sent_at or one.delivery.event_at - CAREFUL_LOOKS_BACK
    since = sent - CLOCKS_DIFFER
    async with asyncio.timeout(tracker.capabilities.request_timeout_seconds * VERIFICATION_TIMEOUT_FACTOR):
        if one.kind is not DeliveryKind.CREATE:
            comments = await tracker.find_comment(one.issue, marker, since)
            return checked(comments[0], CommentRef) if comments else None
        issues = [checked(each, IssueRef) for each in await tracker.find_issue(marker, since)]
    for ref in issues:
        place = (ref.remote_id, ref.key, ref.url)
        await record_marker(database, one.lane.destination_id, one.delivery.marker, place, "find")
    return issues[0] if issues else None
