"""Rows of a ticket's history as the storage returns them, for tests without a database."""

from __future__ import annotations

import datetime as dt
import json
import uuid

from pointsman.storage.destinations import DestinationStatusRow
from pointsman.storage.explain import (
    HistoryAttemptRow,
    HistoryDeliveryRow,
    HistoryEventRow,
    HistoryLaneRow,
    HistoryRows,
    HistoryTicketRow,
)
from pointsman.storage.tickets import LinkRow, TicketRow

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
TICKET = uuid.UUID("0198f0c2-0000-7000-8000-000000000001")


def at(minutes: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minutes)


def ticket_row(**fields) -> HistoryTicketRow:
    row = dict.fromkeys(HistoryTicketRow._fields, "")
    row |= {"id": TICKET, "source": "shop", "kind": 1, "status": 1, "title": "KeyError", "occurrences": 1}
    row |= {"opened_at": NOON, "last_seen_at": NOON, "closed_at": None, "close_reason": None}
    row |= {"fingerprint": "print", "generation": 1, "summary_ticket_id": None, "below_threshold": False}
    return HistoryTicketRow(**row | fields)


def listed_ticket(**fields) -> TicketRow:
    """A ticket as a page of tickets has it."""
    row = ticket_row(**fields)._asdict()
    return TicketRow(source_id=1, **{name: row[name] for name in TicketRow._fields if name != "source_id"})


def link_row(**fields) -> LinkRow:
    """A link as a page of tickets has it."""
    row = dict.fromkeys(LinkRow._fields)
    row |= {"ticket_id": TICKET, "destination": "forge", "tracker": "forgejo", "lane_state": 1}
    return LinkRow(**row | fields)


LINKED = {
    "issue_key": "shop/web#1",
    "issue_url": "https://git.example/shop/web/issues/1",
    "link_state": 1,
    "issue_state": 1,
    "lane_state": 0,
}

LINKED_LANE = {
    "remote_key": "shop/web#1",
    "url": "https://git.example/shop/web/issues/1",
    "link_state": 1,
    "remote_state": 1,
    "state": 0,
    "head_seq": 2,
}


def lane_row(**fields) -> HistoryLaneRow:
    row = dict.fromkeys(HistoryLaneRow._fields)
    row |= {"id": 7, "state": 1, "due_at": NOON, "head_seq": 1, "next_seq": 2, "destination": "forge"}
    row |= {"tracker": "forgejo", "destination_kind": 1, "retired": False, "breaker": 0, "failures": 0}
    row |= {"max_inflight": 8, "leased_lanes": 0, "lanes_ahead": 0, "now": NOON, "verify_writes": False}
    return HistoryLaneRow(**row | fields)


def event_row(n=1, kind="opened", minutes=0.0, report_id=None, **data) -> HistoryEventRow:
    return HistoryEventRow(n=n, kind=kind, data=json.dumps(data), report_id=report_id, at=at(minutes))


def delivery_row(seq=1, kind=1, minutes=0.0, **fields) -> HistoryDeliveryRow:
    row = dict.fromkeys(HistoryDeliveryRow._fields)
    row |= {"lane_id": 7, "seq": seq, "event_n": 1, "kind": kind, "state": 0, "attempts": 0}
    row |= {"outcome_unknown": False, "verify_attempts": 0, "coalesced_count": 0}
    row |= {"created_at": at(minutes), "expires_at": at(72 * 60)}
    return HistoryDeliveryRow(**row | fields)


def attempt_row(minutes, outcome, error=None, *, seq=1, lane_id=7, status=None) -> HistoryAttemptRow:
    return HistoryAttemptRow(
        lane_id=lane_id,
        seq=seq,
        started_at=at(minutes),
        ended_at=at(minutes) + dt.timedelta(seconds=0.25),
        outcome=outcome,
        status=status,
        error=error,
    )


def history_rows(
    lanes=(), deliveries=(), attempts=(), *, events=(), throttled_tickets=0, occurrences=None, **ticket
) -> HistoryRows:
    return HistoryRows(
        ticket=ticket_row(**ticket),
        events=events,
        lanes=lanes,
        deliveries=deliveries,
        attempts=attempts,
        throttled_tickets=throttled_tickets,
        occurrences=occurrences,
    )


def destination_row(slug="forge", **fields) -> DestinationStatusRow:
    row = dict.fromkeys(DestinationStatusRow._fields)
    row |= {"slug": slug, "kind": 1, "tracker": "forgejo", "retired": False, "failures": 0}
    row |= {"breaker": 0, "waiting_lanes": 0, "parked_lanes": 0}
    return DestinationStatusRow(**row | fields)


FAILED = {
    "failures": 7,
    "failed_at": NOON,
    "failure_type": "AuthFailed",
    "failure_message": "the token is refused",
    "failure_status": 401,
    "failure_excerpt": "<html>no</html>",
}
