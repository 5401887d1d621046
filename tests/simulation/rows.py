"""Rows and tables of the model. Times are seconds."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pointsman.domain.states import DeliveryState, LaneState

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAYS_3 = 72 * 3600.0


@dataclass(slots=True)
class Lane:
    id: int
    ticket_id: uuid.UUID
    destination_id: int
    state: int = LaneState.IDLE
    due_at: float = 0.0
    lease_until: float | None = None
    lease_id: uuid.UUID | None = None
    holder: uuid.UUID | None = None
    epoch: int = 0
    head_seq: int = 1
    next_seq: int = 1
    park_reason: str | None = None

    def release(self, state: int) -> None:
        self.state, self.lease_until, self.lease_id, self.holder = state, None, None, None


@dataclass(slots=True)
class Delivery:
    lane_id: int
    seq: int
    event_n: int
    kind: int
    marker: uuid.UUID
    created_at: float
    expires_at: float
    state: int = DeliveryState.PENDING
    attempts: int = 0
    outcome_unknown: bool = False
    verify_after: float | None = None
    verify_attempts: int = 0
    first_sent_at: float | None = None
    draft: str | None = None
    last_outcome: str | None = None
    last_error: str | None = None
    remote_id: str | None = None
    done_at: float | None = None
    resent_at: float | None = None

    def revive(self, now: float, *, assume_not_applied: bool) -> None:
        self.state, self.attempts, self.verify_attempts, self.done_at = DeliveryState.PENDING, 0, 0, None
        self.expires_at = now + DAYS_3
        self.outcome_unknown = self.outcome_unknown and not assume_not_applied


@dataclass(slots=True)
class DestinationState:
    """Row of ``destination_state``."""

    destination_id: int
    max_inflight: int = 8
    breaker: int = 0
    failures: int = 0
    failed_at: float | None = None
    breaker_failures: int = 0
    breaker_opened: int = 0
    open_until: float | None = None
    probe_until: float | None = None
    blocked_until: float | None = None
    pause_reason: str | None = None
    last_claim_at: float = 0.0
    credential: bytes | None = None

    def record_success(self) -> None:
        if self.failed_at is not None or self.breaker or self.breaker_failures:
            self.failures, self.failed_at = 0, None
            self.close()

    def close(self) -> None:
        self.breaker = self.breaker_failures = self.breaker_opened = 0
        self.open_until = self.probe_until = None


@dataclass(slots=True)
class Link:
    lane_id: int
    destination_id: int
    remote_id: str
    remote_key: str
    url: str
    state: int = 1
    remote_state: int = 1


@dataclass(slots=True)
class Observation:
    remote_id: str
    remote_key: str
    url: str
    at: float
    is_duplicate: bool = False


@dataclass(slots=True)
class RateLimit:
    declared_rate: float
    rate: float
    burst: float
    tokens: float
    refilled_at: float
    limited_until: float | None = None


@dataclass(slots=True)
class Ticket:
    id: uuid.UUID
    source_id: int
    kind: int
    fingerprint: str
    title: str
    reporter_email: str = ""
    next_event: int = 1
    status: int = 1
    close_reason: str | None = None
    summary_ticket_id: uuid.UUID | None = None
    generation: int = 1
    occurrences: int = 0
    events: dict[int, tuple[str, str]] = field(default_factory=dict)


def copied(value: Any) -> Any:
    """Return a copy of a table or row; faster than ``copy.deepcopy``."""
    if isinstance(value, dict):
        return {key: copied(element) for key, element in value.items()}
    if isinstance(value, list):
        return [copied(element) for element in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    copy = object.__new__(type(value))
    for name in value.__dataclass_fields__:
        field_value = getattr(value, name)
        setattr(copy, name, copied(field_value) if isinstance(field_value, dict) else field_value)
    return copy


def at(moment: float | None) -> dt.datetime | None:
    return None if moment is None else EPOCH + dt.timedelta(seconds=moment)


class Tables:
    """All tables of the model."""

    def __init__(self, now: Callable[[], float], new_id: Callable[[], uuid.UUID] = uuid.uuid4) -> None:
        self.now = now
        self.new_id = new_id
        self.lanes: dict[int, Lane] = {}
        self.deliveries: dict[tuple[int, int], Delivery] = {}
        self.destinations: dict[int, DestinationState] = {}
        self.links: dict[int, Link] = {}
        self.observations: dict[tuple[int, uuid.UUID], list[Observation]] = {}
        self.rate_limits: dict[tuple[bytes, str], RateLimit] = {}
        self.tickets: dict[uuid.UUID, Ticket] = {}
        self.report_keys: dict[tuple[int, bytes], tuple[uuid.UUID, bytes]] = {}
        self.reports: dict[uuid.UUID, tuple[uuid.UUID | None, int]] = {}
        self.verify_writes_until: float | None = None
        self.lane_ids: dict[tuple[uuid.UUID, int], int] = {}
        """Ids of new lanes that the real database has already assigned."""
        self.claimed: list[tuple[int, uuid.UUID]] | None = None
        """Lanes and lease ids that the real claim chose; the model checks the choice and repeats it."""

    TABLES = (
        "lanes", "deliveries", "destinations", "links", "observations", "rate_limits", "tickets", "report_keys", "reports",
    )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of all tables, for ``restore``."""
        return {name: copied(getattr(self, name)) for name in self.TABLES}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Replace all tables by those of a snapshot."""
        for name, rows in snapshot.items():
            setattr(self, name, rows)

    def _append(self, lane: Lane, count: int) -> None:
        lane.next_seq += count
        if lane.state == LaneState.IDLE:
            lane.state, lane.due_at = LaneState.READY, self.now()


def check(
    lanes: Iterable[tuple[int, int, int, int, bool]], deliveries: Iterable[tuple[int, int, int]]
) -> None:
    """Check the invariants of lanes (id, state, head, next, leased) and deliveries (lane, seq, state).

    They hold in the model and in PostgreSQL: an idle lane has no pending delivery, a lane has a lease if and only if it is
    leased, and the deliveries from the head on are pending and numbered without gaps.
    """
    states: dict[int, dict[int, int]] = {}
    for lane_id, seq, state in deliveries:
        states.setdefault(lane_id, {})[seq] = state
    for lane_id, state, head, end, leased in lanes:
        assert (state == LaneState.LEASED) == leased, f"lane {lane_id}"
        assert head <= end
        assert state != LaneState.IDLE or head == end, f"lane {lane_id} is idle with work"
        of_lane = states.get(lane_id, {})
        for seq in range(head, end):
            may = (
                {DeliveryState.PENDING, DeliveryState.DEAD}
                if seq == head and state == LaneState.PARKED
                else {DeliveryState.PENDING}
            )
            assert of_lane.get(seq) in may, f"delivery {lane_id}/{seq} from the head on is {of_lane.get(seq)}"
        for seq, delivery_state in of_lane.items():
            assert seq < end
            assert seq >= head or delivery_state != DeliveryState.PENDING, (
                f"delivery {lane_id}/{seq} was passed by"
            )
