"""Apply webhooks that arrived before the issue they are about was linked."""

from __future__ import annotations

from typing import ClassVar

from pointsman.bus.periodic import PeriodicService
from pointsman.bus.signals import IssueLinked, Signals, WorkAvailable
from pointsman.logs import logger
from pointsman.storage.db import Database
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.webhooks import issues_with_waiting_webhooks
from pointsman.sync.webhook_receiver import WebhookReceiver

log = logger("webhooks")

RETRY_SECONDS = 5.0


class EarlyWebhooks(PeriodicService):
    """Looks for waiting webhooks of issues that were just linked. One that is missed here is found by polling."""

    name: ClassVar[str] = "early-webhooks"

    def __init__(self, database: Database, receiver: WebhookReceiver, *, signals: Signals) -> None:
        super().__init__(RETRY_SECONDS)
        self._database = database
        self._receiver = receiver
        self._signals = signals
        self._linked: list[IssueLinked] = []

    def issue_linked(self, signal: IssueLinked) -> None:
        """Look soon for webhooks of this issue."""
        self._linked.append(signal)
        self.wake()

    async def run_once(self) -> None:
        """Apply the webhooks of all issues linked since the last run."""
        linked, self._linked = self._linked, []
        if not linked:
            return
        try:
            waiting = await issues_with_waiting_webhooks(
                self._database,
                [(signal.destination_id, signal.issue.remote_id, signal.issue.key) for signal in linked],
            )
        except DatabaseUnavailable:
            self._linked = linked + self._linked
            raise
        for signal in linked:
            if (signal.destination_id, signal.issue.remote_id) in waiting:
                try:
                    await self._receiver.apply_waiting(signal.destination_id, signal.issue)
                except Exception:
                    log.exception("applying waiting webhooks failed", issue=signal.issue.key)
        if waiting:
            self._signals.emit(WorkAvailable())
