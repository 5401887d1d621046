"""Decide whether an observed state of an issue is news, and store it.

An observation can be late, repeated, or out of order. What is older than the known state is ignored; a change that fits the
last write we sent is its echo.
"""

from __future__ import annotations

import datetime as dt

from pointsman.domain.change_origin import Origin, by_our_account, origin_of
from pointsman.domain.states import DeliveryKind, TicketStatus
from pointsman.logs import logger
from pointsman.plugin_api import IssueRemoved, IssueState
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage import reconcile, webhooks
from pointsman.storage.db import Connection
from pointsman.storage.webhooks import IssueLink, KnownIssue, KnownState
from pointsman.sync.ticket_transitions import UpdateResult, nothing_to_do

log = logger("sync")


def status_of(issue: IssueState) -> TicketStatus:
    """Return the status of a ticket that corresponds to an issue's state."""
    return TicketStatus.CLOSED if issue.state == "closed" else TicketStatus.OPEN


def is_known(known: KnownIssue, event: IssueState | IssueRemoved) -> bool:
    """Return whether an observation adds nothing to what is stored."""
    if isinstance(event, IssueRemoved):
        return not known.is_active
    is_newer = event.version is not None and (
        known.remote_version is None or event.version > known.remote_version
    )
    return known.remote_state == status_of(event) and known.is_active and not is_newer


async def store_issue_state(
    con: Connection,
    destination: LiveDestination,
    issue: IssueState,
    link: IssueLink,
    known: KnownState,
    *,
    just_read: bool,
    asked_at: dt.datetime | None,
) -> UpdateResult | None:
    """Store the observed state of an issue whose ticket and link are locked. Return None if it is news to the ticket.

    ``asked_at`` is when the tracker was asked, by the database's clock; None for webhooks. ``just_read``: a single issue was
    read on purpose, so its state counts whoever changed it.
    """
    if just_read and await reconcile.has_pending_state_change(con, link.lane_id):
        return nothing_to_do("a delivery of ours is to change it", link.ticket_id)
    if await _is_outdated(con, destination, issue, link.lane_id, known, asked_at):
        return nothing_to_do(f"{issue.state}, as it was before a write of ours", link.ticket_id)
    origin = await _origin(con, destination, issue, link.lane_id, known)
    if origin is Origin.OUTDATED and not just_read:
        return nothing_to_do(f"{issue.state} by a write of ours that was undone since", link.ticket_id)
    key = issue.ref.key or link.remote_key
    stored = await webhooks.update_issue_state(
        con,
        link.lane_id,
        remote_state=status_of(issue),
        version=issue.version,
        key=key,
        url=issue.ref.url,
    )
    if not stored:
        return nothing_to_do("older than what is known", link.ticket_id)
    if just_read:
        return None
    if origin is None:
        return nothing_to_do(f"{issue.state}, as known", link.ticket_id)
    if origin is Origin.OWN:
        return nothing_to_do(f"{issue.state} by our own write", link.ticket_id)
    if origin is Origin.SHARED_ACCOUNT:
        log.info(
            "our account changed an issue outside of a delivery",
            destination=destination.slug,
            ticket=str(link.ticket_id),
            issue=key,
            state=issue.state,
        )
    return None


async def _is_outdated(
    con: Connection,
    destination: LiveDestination,
    issue: IssueState,
    lane_id: int,
    known: KnownState,
    asked_at: dt.datetime | None,
) -> bool:
    """Return whether the observation may be the state before our last write.

    Trackers count in whole seconds: the version does not order two changes within the same second. A state that is skipped
    here is polled again.
    """
    if known.remote_state == status_of(issue):
        return False
    if (
        issue.version is not None
        and known.remote_version is not None
        and issue.version > known.remote_version
    ):
        return False
    if asked_at is not None:
        return await reconcile.state_change_sent_since(con, lane_id, asked_at)
    if (
        issue.version is None
        or known.remote_version is None
        or not by_our_account(issue, destination.account)
    ):
        return False
    opposite = DeliveryKind.REOPEN if issue.state == "closed" else DeliveryKind.CLOSE
    write = await webhooks.last_state_write(con, lane_id, opposite)
    return write is not None and write.answered and write.recent and not write.superseded


async def _origin(
    con: Connection, destination: LiveDestination, issue: IssueState, lane_id: int, known: KnownState
) -> Origin | None:
    """Return who changed the issue; None if its state is the known one."""
    if known.remote_state == status_of(issue) and known.is_active:
        return None
    kind = DeliveryKind.CLOSE if issue.state == "closed" else DeliveryKind.REOPEN
    write = await webhooks.last_state_write(con, lane_id, kind)
    return origin_of(issue, destination.account, write, known.remote_version)
