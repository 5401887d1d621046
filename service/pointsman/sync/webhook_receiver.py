"""Store verified webhooks and apply them; apply those that waited once their issue is linked.

A webhook is a hint that can be late, repeated, out of order or replayed. A repetition is recognised by the delivery id and by
the body.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pointsman.domain.states import WebhookState
from pointsman.plugin_api import IgnoredWebhook, IssueRef, IssueRemoved, IssueState, WebhookEvent
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import webhooks
from pointsman.storage.db import Connection, Database
from pointsman.storage.ids import uuid7
from pointsman.sync.ticket_transitions import UpdateResult, nothing_to_do
from pointsman.sync.tracker_updates import TrackerUpdates

STORED_HEADERS = ("content-type", "user-agent", "x-forgejo-event", "x-gitea-event", "x-github-event")


class WebhookReceiver:
    """Receives webhooks whose signature was verified."""

    def __init__(self, database: Database, reloader: ConfigReloader, updates: TrackerUpdates) -> None:
        self._database = database
        self._reloader = reloader
        self._updates = updates

    async def receive(
        self,
        destination: LiveDestination,
        headers: Mapping[str, str],
        body: bytes,
        delivery_id: str | None,
        event: WebhookEvent | None,
    ) -> UpdateResult:
        """Store a webhook and apply its event in one transaction. A repeated webhook changes nothing.

        ``event`` is None if the plugin failed to read it; then it is parked.
        """
        webhook_id = uuid7()
        ref = event.ref if isinstance(event, IssueState | IssueRemoved) else None

        async def store_and_apply(con: Connection) -> UpdateResult:
            if not await webhooks.claim_keys(con, destination.id, webhook_id, delivery_id, body):
                return nothing_to_do("known already")
            if event is None:
                result = UpdateResult(WebhookState.PARKED, "the plugin could not read it")
            else:
                result = await self._updates.apply_in(con, destination, event)
            if not isinstance(event, IgnoredWebhook):
                await webhooks.insert_webhook(
                    con,
                    destination.id,
                    webhook_id,
                    delivery_id=delivery_id,
                    headers={
                        name: headers[name] for name in headers if name in STORED_HEADERS or "event" in name
                    },
                    body=body,
                    remote_id=ref.remote_id if ref else None,
                    remote_key=ref.key if ref else None,
                    state=result.state,
                    note=result.note,
                )
            return result

        result = await self._updates.run(store_and_apply)
        if isinstance(event, IssueState):
            await self._updates.record_markers(destination, event, "webhook")
        if result.state == WebhookState.WAITING and ref is not None:
            # the issue may have been linked between our query and our commit; then the sender found no waiting webhook
            link = await webhooks.link_of_issue(self._database, destination.id, ref.remote_id, ref.key)
            if link is not None:
                return await self._apply_waiting(destination, ref) or result
        return result

    async def apply_waiting(self, destination_id: int, issue: IssueRef) -> None:
        """Apply the webhooks of an issue that arrived before it was linked."""
        destination = self._reloader.current.destinations.get(destination_id)
        if destination is not None and destination.tracker is not None:
            await self._apply_waiting(destination, issue)

    async def _apply_waiting(self, destination: LiveDestination, ref: IssueRef) -> UpdateResult | None:
        """Apply waiting webhooks, oldest first. Return the last result, None if there is no webhook."""
        result = None
        waiting = await webhooks.waiting_webhooks(self._database, destination.id, ref.remote_id, ref.key)
        for webhook in waiting:
            headers = msgspec.json.decode(webhook.headers)
            event = destination.require_tracker().read_webhook(headers, webhook.body)
            if isinstance(event, IgnoredWebhook):
                continue
            result = await self._updates.apply(destination, event)
            await webhooks.update_webhook(
                self._database, webhook.received_at, webhook.id, result.state, result.note
            )
        return result
