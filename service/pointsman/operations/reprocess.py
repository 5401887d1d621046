"""List parked reports and webhooks, and process them again after the source or plugin was fixed."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence

import msgspec

from pointsman.config.settings import Settings
from pointsman.domain.states import WebhookState
from pointsman.errors import PointsmanError
from pointsman.intake.errors import InvalidRequest
from pointsman.intake.preparation import ReportPreparer
from pointsman.intake.reprocessing import reprocess_report
from pointsman.logs import scrub
from pointsman.plugin_api import IgnoredWebhook, IssueRemoved, IssueState
from pointsman.plugin_host.bootstrap import open_reloader
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.validate import validated
from pointsman.storage import intake, webhooks
from pointsman.storage.db import Database
from pointsman.sync.tracker_updates import TrackerUpdates

LISTED = 100
BATCH_ROWS = 10_000


class ParkedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report that was accepted and stored, and could not be processed."""

    id: uuid.UUID
    received_at: dt.datetime
    source: str
    bytes: int
    error: str | None


class ParkedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that was verified and stored, and that its plugin could not read."""

    id: uuid.UUID
    received_at: dt.datetime
    destination: str
    bytes: int
    note: str | None


async def parked_reports(database: Database) -> list[ParkedReport]:
    """Return parked reports, oldest first."""
    return [
        ParkedReport(
            id=report.id,
            received_at=report.received_at,
            source=report.source,
            bytes=report.bytes,
            error=report.error,
        )
        for report in await intake.parked_reports(database, LISTED)
    ]


async def reprocess_reports(settings: Settings, database: Database, report_id: uuid.UUID | None) -> list[str]:
    """Process one parked report again, or all. Return a line for each. Raises PointsmanError for an unknown id."""
    async with open_reloader(settings, database) as config:
        preparer = ReportPreparer(config)
        report_ids: Sequence[uuid.UUID] = (
            [report_id]
            if report_id is not None
            else [report.id for report in await intake.parked_reports(database, BATCH_ROWS)]
        )
        lines = []
        for parked_id in report_ids:
            try:
                ticket_id = await reprocess_report(database, config.current, preparer, parked_id)
            except (ValueError, InvalidRequest) as error:
                lines.append(f"{parked_id} stays parked: {error}")
                continue
            if ticket_id is None:
                raise PointsmanError(f"there is no parked report {parked_id}: see `pointsman reports`")
            lines.append(f"{parked_id} belongs to ticket {ticket_id}")
    return lines


async def parked_webhooks(database: Database) -> list[ParkedWebhook]:
    """Return parked webhooks, oldest first."""
    return [
        ParkedWebhook(
            id=row.id,
            received_at=row.received_at,
            destination=row.destination,
            bytes=row.bytes,
            note=row.note,
        )
        for row in await webhooks.parked_webhooks(database, LISTED)
    ]


async def reprocess_webhooks(
    settings: Settings, database: Database, webhook_id: uuid.UUID | None
) -> list[str]:
    """Let the current plugins read one parked webhook again, or all, oldest first. Return a line for each."""
    async with open_reloader(settings, database) as reloader:
        updates = TrackerUpdates(database, reloader)
        destinations = reloader.current.destinations
        rows = [
            row
            for row in await webhooks.parked_webhooks(database, BATCH_ROWS)
            if webhook_id in (None, row.id)
        ]
        if webhook_id is not None and not rows:
            raise PointsmanError(f"there is no parked webhook {webhook_id}: see `pointsman webhooks`")
        return [
            await _reprocess_webhook(database, updates, destinations.get(row.destination_id), row)
            for row in rows
        ]


async def _reprocess_webhook(
    database: Database,
    updates: TrackerUpdates,
    destination: LiveDestination | None,
    row: webhooks.ParkedWebhook,
) -> str:
    if destination is None or destination.tracker is None:
        return f"{row.id} stays parked: its destination is no longer configured, or can't be used"
    try:
        event = validated(
            destination.tracker.read_webhook(json.loads(row.headers), row.body),
            IssueState,
            IssueRemoved,
            IgnoredWebhook,
        )
    except Exception as error:  # noqa: BLE001 - plugin code
        return f"{row.id} stays parked: {type(error).__name__}: {scrub(str(error))}"
    if isinstance(event, IgnoredWebhook):
        state, note = WebhookState.NOTHING_TO_DO, event.reason
    else:
        result = await updates.apply(destination, event)
        state, note = result.state, result.note
    await webhooks.update_webhook(database, row.received_at, row.id, state, note)
    return f"{row.id}: {note}"
