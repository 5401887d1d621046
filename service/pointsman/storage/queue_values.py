"""Values of the queue: claimed lanes, their next deliveries, and what is stored about an attempt."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import NamedTuple


class NextDelivery(NamedTuple):
    """The first unfinished delivery of a claimed lane, with everything that sending it needs."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    event_n: int
    kind: int
    marker: uuid.UUID
    attempts: int
    outcome_unknown: bool
    verify_attempts: int
    draft: str | None
    first_sent_at: dt.datetime | None
    coalesced_count: int
    created_at: dt.datetime
    verify_after_seconds: float
    expired: bool
    verify_writes: bool
    ticket_id: uuid.UUID
    ticket_kind: int
    title: str
    description: str
    ticket_url: str
    level: str
    environment: str
    release: str
    reporter_email: str
    reporter_name: str
    close_reason: str | None
    occurrences: int
    source: str
    event_kind: str
    event_data: str
    event_at: dt.datetime
    remote_id: str | None
    remote_key: str | None
    issue_url: str | None
    link_state: int | None


@dataclass(slots=True)
class Lane:
    """A claimed lane.

    ``trust_until`` is the time on the monotonic clock until which the lease is surely ours, counted from before the claim
    was sent. ``first_delivery`` was loaded with the claim.
    """

    id: int
    epoch: int
    lease_id: uuid.UUID
    ticket_id: uuid.UUID
    destination_id: int
    trust_until: float
    first_delivery: NextDelivery | None = None


class Intent(NamedTuple):
    """The intent to send a delivery: a request is about to leave."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    outcome_unknown: bool
    verify_after: dt.timedelta
    draft: str | None


class Finish(NamedTuple):
    """The successful end of a delivery."""

    lane_id: int
    lease_id: uuid.UUID
    seq: int
    keep_lease: bool
    outcome: str
    comment_id: str | None
    remote_id: str | None
    remote_key: str | None
    url: str | None
    started_at: dt.datetime
    remote_state: int | None
    remote_version: dt.datetime | None
    note: str | None
