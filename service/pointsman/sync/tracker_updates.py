"""Apply the states of issues that webhooks, polls and reads report to their tickets, each in one transaction."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pointsman.domain.states import WebhookState
from pointsman.plugin_api import CloseReason, IgnoredWebhook, IssueRemoved, IssueState, State, WebhookEvent
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import webhooks
from pointsman.storage.db import Connection, Database
from pointsman.storage.delivery_writer import lock_ticket
from pointsman.storage.marker_observations import record_marker
from pointsman.storage.webhooks import KnownIssue
from pointsman.sync.issue_states import is_known, store_issue_state
from pointsman.sync.ticket_transitions import TicketTransitions, UpdateResult, log_loop, nothing_to_do


class TrackerUpdates:
    """Applies observed states of issues, and state changes that people ask for here."""

    def __init__(self, database: Database, reloader: ConfigReloader) -> None:
        self._database = database
        self._reloader = reloader
        self._transitions = TicketTransitions(reloader)

    async def apply(self, destination: LiveDestination, event: IssueState | IssueRemoved) -> UpdateResult:
        """Apply one observed state."""
        [result] = await self.apply_all(destination, [event])
        return result

    async def apply_all(
        self,
        destination: LiveDestination,
        events: Sequence[IssueState | IssueRemoved],
        *,
        asked_at: dt.datetime | None = None,
    ) -> list[UpdateResult]:
        """Apply the states that a poll returned. The known ones cost one query together.

        ``asked_at`` is when the poll began, by the database's clock: later writes of ours may be missing in it.
        """
        if not events:
            return []
        known = await webhooks.links_of_issues(
            self._database, destination.id, [(event.ref.remote_id, event.ref.key) for event in events]
        )
        return [
            await self._apply_unless_known(destination, event, known_issue, asked_at)
            for event, known_issue in zip(events, known, strict=True)
        ]

    async def _apply_unless_known(
        self,
        destination: LiveDestination,
        event: IssueState | IssueRemoved,
        known: KnownIssue | None,
        asked_at: dt.datetime | None,
    ) -> UpdateResult:
        if known is None:
            if isinstance(event, IssueState):
                await self.record_markers(destination, event, "listing")
            return UpdateResult(WebhookState.WAITING, "no ticket has this issue")
        if is_known(known, event):
            state = event.state if isinstance(event, IssueState) else "gone"
            return nothing_to_do(f"{state}, as known", known.ticket_id)
        return await self.run(lambda con: self.apply_in(con, destination, event, asked_at=asked_at))

    async def apply_read(
        self, destination: LiveDestination, event: IssueState | IssueRemoved, asked_at: dt.datetime
    ) -> UpdateResult:
        """Apply the state of an issue that was read at ``asked_at`` or later, by the database's clock.

        It counts even if it is the known state, unless a delivery of ours is pending or was sent since.
        """
        return await self.run(
            lambda con: self.apply_in(con, destination, event, just_read=True, asked_at=asked_at)
        )

    async def set_ticket_state(
        self, ticket_id: uuid.UUID, state: State, reason: CloseReason | None, person: str
    ) -> UpdateResult:
        """Close or reopen a ticket for a person."""
        return await self.run(
            lambda con: self._transitions.apply(
                con, ticket_id, state, reason, changed_at=None, actor={"by": person}
            )
        )

    async def run(self, function: Callable[[Connection], Awaitable[UpdateResult]]) -> UpdateResult:
        """Run an update in a transaction of its own."""
        result = await self._database.run_transaction(function)
        log_loop(result)
        return result

    async def apply_in(
        self,
        con: Connection,
        destination: LiveDestination,
        event: WebhookEvent,
        *,
        just_read: bool = False,
        asked_at: dt.datetime | None = None,
    ) -> UpdateResult:
        """Apply an event within the transaction of the caller."""
        if isinstance(event, IgnoredWebhook):
            return nothing_to_do(event.reason)
        link = await webhooks.link_of_issue(con, destination.id, event.ref.remote_id, event.ref.key)
        if link is None:
            return UpdateResult(WebhookState.WAITING, "no ticket has this issue")
        # the ticket is locked before its links, as reports do it
        ticket = await lock_ticket(con, link.ticket_id)
        known = await webhooks.lock_link(con, link.lane_id)
        if ticket is None or known is None:
            return nothing_to_do("no ticket has this issue")
        if isinstance(event, IssueRemoved):
            await webhooks.orphan_link(con, link.lane_id)
            note = f"the issue is gone{f' to {event.moved_to}' if event.moved_to else ''}"
            return UpdateResult(WebhookState.APPLIED, note, ticket.id)
        result = await store_issue_state(
            con, destination, event, link, known, just_read=just_read, asked_at=asked_at
        )
        if result is not None:
            return result
        actor: dict[str, Any] = {
            "destination": destination.slug,
            "issue": event.ref.key or link.remote_key,
        }
        if event.actor is not None:
            actor["by"] = event.actor.name or event.actor.account_id
        return await self._transitions.apply(
            con, ticket.id, event.state, event.close_reason, changed_at=destination.id, actor=actor
        )

    async def record_markers(self, destination: LiveDestination, issue: IssueState, seen_by: str) -> None:
        """Record our markers in an issue that our account created; this resolves unknown outcomes before any search.

        In an issue of another author a marker proves nothing: people copy texts.
        """
        account = destination.account
        if account is None or issue.author is None or issue.author.account_id != account.account_id:
            return
        for text in issue.markers:
            marker = self._reloader.current.marker_from(text)
            if marker is not None:
                ref = (issue.ref.remote_id, issue.ref.key, issue.ref.url)
                await record_marker(self._database, destination.id, marker, ref, seen_by)
