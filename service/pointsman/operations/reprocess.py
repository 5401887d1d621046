"""What was accepted and kept, and not understood: reports and webhooks that wait for a mended rule or plugin."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.intake import transaction
from pointsman.intake.batcher import Acceptance, decide
from pointsman.intake.errors import InvalidRequest
from pointsman.intake.request_parser import read_stored_reports
from pointsman.intake.transaction import Incoming
from pointsman.logs import scrub
from pointsman.plugin_api import Ignored, IssueGone, IssueSeen
from pointsman.plugin_host.bootstrap import opened_catalog
from pointsman.plugin_host.validate import checked
from pointsman.storage import webhooks
from pointsman.storage.db import Database, Row
from pointsman.sync.tracker_updates import Inbound

AT_ONCE = 10_000


async def parked_reports(database: Database) -> list[dict[str, Any]]:
    """Reports that wait for a mended rule."""
    return [
        {
            "id": row["id"],
            "received": row["received_at"],
            "source": row["source"],
            "bytes": row["bytes"],
            "error": row["error"],
        }
        for row in await transaction.parked(database)
    ]


async def rerun_reports(settings: Settings, database: Database, report_id: uuid.UUID | None) -> list[str]:
    """Decide again on one parked report, or on all; a line for each."""
    async with opened_catalog(settings, database) as keeper:
        catalog = keeper.current
        acceptance = Acceptance(database, keeper)
        slugs = {source.id: source for source in catalog.sources.values()}

        def read(row: Row) -> Sequence[Incoming]:
            source = slugs.get(row["source_id"])
            if source is None:
                raise ValueError("its source is no longer configured")
            headers = json.loads(row["headers"])
            reports, error = read_stored_reports(source, headers, row["body"])
            if error is not None or not reports:
                raise ValueError(error or "it concerns nobody any more")
            first, *others = (
                acceptance.incoming(source, report, row["body"], headers, part=part)
                for part, report in enumerate(reports)
            )
            first.report_id = row["id"]
            return [first, *others]

        wanted: Sequence[uuid.UUID] = (
            [report_id]
            if report_id is not None
            else [row["id"] for row in await transaction.parked(database, AT_ONCE)]
        )
        lines = []
        for one in wanted:
            try:
                ticket_id = await transaction.rerun(
                    database, one, read, decide, catalog.marker_of, catalog.mail_id
                )
            except (ValueError, InvalidRequest) as error:
                lines.append(f"{one} stays parked: {error}")
                continue
            if ticket_id is None:
                raise PointsmanError(f"there is no parked report {one}: see `pointsman reports`")
            lines.append(f"{one} belongs to ticket {ticket_id}")
    return lines


async def parked_webhooks(database: Database) -> list[dict[str, Any]]:
    """Webhooks that their plugin could not read, oldest first."""
    return [
        {
            "id": row["id"],
            "received": row["received_at"],
            "destination": row["destination"],
            "bytes": row["bytes"],
            "note": row["note"],
        }
        for row in await webhooks.parked(database, 100)
    ]


async def rerun_webhooks(settings: Settings, database: Database, webhook_id: uuid.UUID | None) -> list[str]:
    """Have the plugins of today read one parked webhook again, or all, oldest first; a line for each."""
    async with opened_catalog(settings, database) as keeper:
        inbound = Inbound(database, keeper)
        lines = []
        rows = [row for row in await webhooks.parked(database, AT_ONCE) if webhook_id in (None, row["id"])]
        if webhook_id is not None and not rows:
            raise PointsmanError(f"there is no parked webhook {webhook_id}: see `pointsman webhooks`")
        for row in rows:
            destination = keeper.current.destinations.get(row["destination_id"])
            if destination is None or destination.tracker is None:
                lines.append(
                    f"{row['id']} stays parked: its destination is no longer configured, or can't be used"
                )
                continue
            try:
                read = destination.tracker.read_webhook(json.loads(row["headers"]), row["body"])
                news = checked(read, IssueSeen, IssueGone, Ignored)
            except Exception as error:  # noqa: BLE001 - a stranger's code
                lines.append(f"{row['id']} stays parked: {type(error).__name__}: {scrub(str(error))}")
                continue
            state, note = webhooks.NOTHING, ""
            if isinstance(news, Ignored):
                note = news.why
            else:
                heard = await inbound.seen(destination, news)
                state, note = heard.state, heard.note
            await webhooks.settle(database, row["received_at"], row["id"], state, note)
            lines.append(f"{row['id']}: {note}")
    return lines
