"""Process parked reports again, after the defect or configuration that parked them was corrected."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from pointsman.bus.publish import MarkerOf
from pointsman.intake import transaction
from pointsman.intake.deduplication import deduplicate
from pointsman.intake.incoming import Incoming
from pointsman.intake.preparation import ReportPreparer
from pointsman.intake.request_parser import read_stored_reports
from pointsman.plugin_host.snapshot import ConfigSnapshot
from pointsman.storage import intake as store
from pointsman.storage.db import Connection, Database
from pointsman.storage.intake import StoredReport


async def reprocess_report(
    database: Database, snapshot: ConfigSnapshot, preparer: ReportPreparer, report_id: uuid.UUID
) -> uuid.UUID | None:
    """Process a parked report again. Return the id of its ticket, None if no parked report has this id.

    Raises ValueError or InvalidRequest with the reason if it stays parked.
    """

    async def run(con: Connection) -> uuid.UUID | None:
        stored = await store.lock_parked_report(con, report_id)
        if stored is None:
            return None
        reports = _prepare(snapshot, preparer, stored)
        return await process_stored(con, stored, reports, snapshot.marker_of, snapshot.mail_id)

    return await database.run_transaction(run)


def _prepare(snapshot: ConfigSnapshot, preparer: ReportPreparer, stored: StoredReport) -> Sequence[Incoming]:
    source = snapshot.source_of(stored.source_id)
    if source is None:
        raise ValueError("its source is no longer configured")
    headers = json.loads(stored.headers)
    reports, error = read_stored_reports(source, headers, stored.body)
    if error is not None or not reports:
        raise ValueError(error or "it no longer contains a report")
    first, *more = (
        preparer.prepare(source, report, stored.body, headers, part=part)
        for part, report in enumerate(reports)
    )
    first.report_id = stored.id
    return [first, *more]


async def process_stored(
    con: Connection,
    stored: StoredReport,
    reports: Sequence[Incoming],
    marker_of: MarkerOf,
    mail_id: int | None,
) -> uuid.UUID | None:
    """Process a locked parked report, and later reports of its request that are not stored yet.

    Return the id of the first report's ticket. Raises ValueError if our code fails on it again.
    """
    first, *more = reports
    _, new = await deduplicate(con, more) if more else ([], [])
    decision = await transaction.decide(con, [first, *new], mail_id)
    if first.report is None:
        raise ValueError(first.error)
    await transaction.write(con, decision, marker_of, new)
    ticket_id = decision.ticket_of.get(first.report_id)
    await store.unpark_report(con, stored, ticket_id, first.report.action)
    return ticket_id
