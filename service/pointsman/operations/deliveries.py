"""List deliveries by filter, and replay those that were given up."""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec

from pointsman.domain.states import DeliveryKind, DeliveryState
from pointsman.errors import PointsmanError
from pointsman.storage import explain as store
from pointsman.storage import replay as replays
from pointsman.storage.db import Database
from pointsman.storage.explain import DeliveryFilter, FoundDeliveryRow


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in a list. ``delivery`` is LANE/NUMBER, as ``replay`` takes it."""

    delivery: str
    kind: str
    state: str
    attempts: int
    outcome: str | None
    destination: str
    ticket: uuid.UUID
    problem: str | None
    due_at: dt.datetime
    created_at: dt.datetime
    done_at: dt.datetime | None


class ReplayCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries of one kind are replayed."""

    outcome: str
    kind: str
    outcome_unknown: bool
    count: int


async def list_deliveries(
    database: Database,
    *,
    state: str | None = None,
    destination: str | None = None,
    ticket_id: uuid.UUID | None = None,
    outcome: str | None = None,
    kind: str | None = None,
    unknown_outcome: bool = False,
    older_than: dt.timedelta | None = None,
    limit: int = 50,
) -> list[DeliverySummary]:
    """Return the deliveries that meet all conditions, newest first. ``state`` may also be "parked"."""
    conditions = DeliveryFilter(
        state=DeliveryState[state.upper()] if state and state != "parked" else None,
        parked=state == "parked",
        destination=destination,
        ticket_id=ticket_id,
        outcome=outcome,
        kind=DeliveryKind[kind.upper()] if kind else None,
        outcome_unknown=unknown_outcome,
        older_than=older_than,
    )
    return [
        DeliverySummary(
            delivery=f"{row.lane_id}/{row.seq}",
            kind=DeliveryKind(row.kind).name.lower(),
            state=_state(row),
            attempts=row.attempts,
            outcome=row.last_outcome,
            destination=row.destination,
            ticket=row.ticket_id,
            problem="; ".join(text for text in (row.park_reason, row.last_error) if text) or None,
            due_at=row.due_at,
            created_at=row.created_at,
            done_at=row.done_at,
        )
        for row in await store.find_deliveries(database, conditions, limit)
    ]


def _state(row: FoundDeliveryRow) -> str:
    state = DeliveryState(row.state).name.lower()
    return f"{state} (outcome unknown)" if row.outcome_unknown else state


async def replay_delivery(database: Database, delivery: str, *, assume_not_applied: bool = False) -> None:
    """Replay a dead or parked delivery, named as LANE/NUMBER.

    ``assume_not_applied``: an earlier request whose outcome is unknown had no effect. Raises PointsmanError.
    """
    lane, _slash, number = delivery.partition("/")
    if not (lane.isdigit() and number.isdigit()):
        raise PointsmanError(
            f"{delivery!r} names no delivery: write LANE/NUMBER, as `pointsman deliveries` does"
        )
    if not await replays.replay_delivery(
        database, int(lane), int(number), assume_not_applied=assume_not_applied
    ):
        raise PointsmanError(
            f"{delivery} is neither dead nor parked: see `pointsman deliveries list --state dead`"
        )


async def replay_matching(
    database: Database,
    *,
    destination: str,
    outcome: str,
    since: replays.Moment,
    until: replays.Moment,
    dry_run: bool,
) -> list[ReplayCount]:
    """Replay all deliveries of a destination that stopped with an outcome in a period. Return the counts by kind.

    ``since`` and ``until`` are times, ages or None. ``dry_run`` counts and changes nothing. Raises PointsmanError.
    """
    conditions = await replays.replay_filter(database, destination, outcome, since, until)
    if conditions is None:
        raise PointsmanError(f"there is no destination {destination}: see `pointsman destinations`")
    counts = await (replays.count if dry_run else replays.run)(database, conditions)
    if counts and not dry_run:
        detail = {
            "outcome": outcome,
            "since": conditions.since,
            "until": conditions.until,
            "count": counts.total(),
        }
        await replays.write_audit(database, destination, detail)
    return [
        ReplayCount(
            outcome=outcome,
            kind=DeliveryKind(kind).name.lower(),
            outcome_unknown=outcome_unknown,
            count=count,
        )
        for (kind, outcome_unknown), count in sorted(counts.items())
    ]
