"""Recognise repeated reports by their keys, and tell repeats from news."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pointsman.domain.repeats import KeyBasis, is_news
from pointsman.domain.states import ReportState
from pointsman.domain.ticket import RESOLVED_ACTION
from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.storage import intake as store
from pointsman.storage.db import Connection
from pointsman.storage.intake import KnownReport, ReportKey

REFRESH_SECONDS = 60.0
"""The time of a key's last repeat is stored no more often."""


class Repeat(msgspec.Struct, frozen=True):
    """A report that repeats another: one that was accepted before, or an earlier one of its batch."""

    incoming: Incoming
    known: KnownReport
    first: Incoming | None = None
    """The earlier report of the batch."""

    def result(self) -> ReportResult:
        """Return the result for the sender. The earlier report of the batch must have its final ticket."""
        if self.first is not None:
            return ReportResult(
                self.first.report_id,
                self.first.new_ticket_id,
                repeated=True,
                same_body=self.first.body_sha256 == self.incoming.body_sha256,
                parked=self.first.report is None,
            )
        return ReportResult(
            self.known.report_id,
            self.known.ticket_id,
            repeated=True,
            same_body=self.known.body_sha256 == self.incoming.body_sha256,
            parked=self.known.state == ReportState.PARKED,
        )


def independent_parts(batch: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
    """Split a batch where a report without a key of its own follows the opposite state of its problem.

    Whether such a report is a repeat depends on the reports before it, so these are applied first.
    """
    part: list[Incoming] = []
    last: dict[tuple[int, str], bool] = {}
    for incoming in batch:
        if incoming.report is not None:
            problem = incoming.source_id, incoming.report.fingerprint
            resolved = incoming.report.action == RESOLVED_ACTION
            if incoming.key_basis is KeyBasis.BODY and last.get(problem, resolved) is not resolved:
                yield part
                part, last = [], {}
            last[problem] = resolved
        part.append(incoming)
    yield part


async def deduplicate(con: Connection, batch: Sequence[Incoming]) -> tuple[list[Repeat], list[Incoming]]:
    """Claim the keys of reports. Return the repeats, within the batch too, and the new reports."""
    firsts: dict[tuple[int, bytes], Incoming] = {}
    for incoming in batch:
        firsts.setdefault(_key(incoming), incoming)
    new_ids = await store.claim_keys(con, [_report_key(incoming) for incoming in firsts.values()])
    if len(new_ids) == len(batch):
        return [], list(batch)
    known = await store.known_reports(
        con,
        [
            (
                *_key(incoming),
                incoming.report.fingerprint if incoming.report is not None else "",
                incoming.member,
            )
            for incoming in batch
            if incoming.report_id not in new_ids
        ],
    )
    news = [
        (_report_key(incoming), known[key].report_id)
        for key, incoming in firsts.items()
        if incoming.report_id not in new_ids and _is_news(incoming, known[key])
    ]
    if news:
        new_ids |= await store.renew_keys(con, news)
    repeats = [
        Repeat(incoming, known[key], first if first.report_id in new_ids else None)
        for incoming in batch
        if incoming.report_id not in new_ids
        for key, first in [(_key(incoming), firsts[_key(incoming)])]
    ]
    seen = {_key(repeat.incoming) for repeat in repeats if repeat.known.key_seconds >= REFRESH_SECONDS}
    if seen:
        await store.refresh_keys(con, sorted(seen))
    return repeats, [incoming for incoming in batch if incoming.report_id in new_ids]


def _is_news(incoming: Incoming, known: KnownReport) -> bool:
    if incoming.report is None or known.state == ReportState.PARKED:
        return False
    return is_news(
        incoming.report.action,
        incoming.key_basis,
        known.problem,
        incoming.settle_seconds,
        has_route=bool(incoming.destination_ids or incoming.candidate_routes),
    )


def _key(incoming: Incoming) -> tuple[int, bytes]:
    return incoming.source_id, incoming.key_hash


def _report_key(incoming: Incoming) -> ReportKey:
    return ReportKey(*_key(incoming), incoming.report_id, incoming.body_sha256)
