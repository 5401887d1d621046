"""Tickets that stand for several alerts: they are over when the last of their alerts is."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pointsman.domain.ticket import RESOLVED_ACTION
from pointsman.intake.batch import TicketBatch
from pointsman.intake.incoming import Incoming
from pointsman.storage import intake as store
from pointsman.storage.db import Connection
from pointsman.storage.intake import TicketMember


async def apply_members(con: Connection, batches: Sequence[TicketBatch]) -> set[uuid.UUID]:
    """Store which alerts of locked tickets fire after a batch.

    Remove the "resolved" reports that leave other alerts of their ticket firing: they have no effect. Return their ids.
    """
    with_members = [batch for batch in batches if any(_is_about_member(report) for report in batch.reports)]
    if not with_members:
        return set()
    firing_by_ticket = await store.firing_members(con, [_key(batch) for batch in with_members])
    ignored: set[uuid.UUID] = set()
    changed: dict[tuple[int, str, bytes], TicketMember] = {}
    for batch in with_members:
        firing = firing_by_ticket[_key(batch)]
        for incoming in batch.reports:
            if incoming.member is None or not _is_about_member(incoming):
                continue
            member = TicketMember(*_key(batch), incoming.member, not incoming.is_occurrence)
            changed[member[:3]] = member
            if incoming.is_occurrence:
                firing.add(incoming.member)
                continue
            firing.discard(incoming.member)
            if firing:
                ignored.add(incoming.report_id)
        batch.reports = [incoming for incoming in batch.reports if incoming.report_id not in ignored]
    await store.write_members(con, list(changed.values()))
    return ignored


def _is_about_member(incoming: Incoming) -> bool:
    return (
        incoming.member is not None
        and incoming.report is not None
        and (incoming.is_occurrence or incoming.report.action == RESOLVED_ACTION)
    )


def _key(batch: TicketBatch) -> tuple[int, str]:
    return batch.ticket.source_id, batch.ticket.fingerprint
