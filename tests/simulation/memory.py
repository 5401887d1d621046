"""What the statements of the queue do, in plain Python: a model of these statements, not of Postgres.

The simulation works on it; ``tests/storage/test_lane_model.py`` holds it against the real statements, step by step. Each
method is named after its statement and takes the statement's arguments in their order. Times are seconds.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.storage.queries import queries

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NAME = re.compile(r"^/\* (\w+) \*/")
DAYS_3 = 72 * 3600.0

HEAD_ONLY = {name: "head_seq = $3" in queries("lanes")[name] for name in ("retry_delivery", "clear_doubt")}
"""Whether these ask that the delivery is the head of its lane."""

IDLE, READY, LEASED, PARKED = range(4)
PENDING, DONE, DEAD = range(3)


@dataclass(slots=True)
class Lane:
    id: int
    ticket_id: uuid.UUID
    destination_id: int
    state: int = IDLE
    due_at: float = 0.0
    lease_until: float | None = None
    lease_id: uuid.UUID | None = None
    holder: uuid.UUID | None = None
    epoch: int = 0
    head_seq: int = 1
    next_seq: int = 1
    parked_why: str | None = None

    def let_go(self, state: int) -> None:
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
    state: int = PENDING
    attempts: int = 0
    in_doubt: bool = False
    doubt_until: float | None = None
    looks: int = 0
    first_sent_at: float | None = None
    draft: str | None = None
    last_class: str | None = None
    last_error: str | None = None
    remote_id: str | None = None
    done_at: float | None = None
    resent_at: float | None = None

    def revive(self, now: float, *, not_there: bool) -> None:
        self.state, self.attempts, self.looks, self.done_at = PENDING, 0, 0, None
        self.expires_at = now + DAYS_3
        self.in_doubt = self.in_doubt and not not_there


@dataclass(slots=True)
class Place:
    """A row of ``destination_state``."""

    destination_id: int
    max_inflight: int = 8
    breaker: int = 0
    failures: int = 0
    failed_at: float | None = None
    breaker_failures: int = 0
    breaker_opened: int = 0
    open_until: float | None = None
    probe_holder: uuid.UUID | None = None
    probe_until: float | None = None
    blocked_until: float | None = None
    paused_why: str | None = None
    last_claim_at: float = 0.0
    credential: bytes | None = None

    def well(self) -> None:
        if self.failed_at is not None or self.breaker or self.breaker_failures:
            self.failures, self.failed_at = 0, None
            self.close()

    def close(self) -> None:
        self.breaker = self.breaker_failures = self.breaker_opened = 0
        self.open_until = self.probe_holder = self.probe_until = None


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
class Sighting:
    remote_id: str
    remote_key: str
    url: str
    at: float
    twin: bool = False


@dataclass(slots=True)
class Budget:
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
    storm_parent: uuid.UUID | None = None
    generation: int = 1
    occurrences: int = 0
    events: dict[int, tuple[str, str]] = field(default_factory=dict)


def _twin(value: Any) -> Any:
    """A table, or what is in it, once more."""
    if isinstance(value, dict):
        return {key: _twin(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_twin(one) for one in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    made = object.__new__(type(value))
    for name in value.__dataclass_fields__:
        one = getattr(value, name)
        setattr(made, name, _twin(one) if isinstance(one, dict) else one)
    return made


def _at(moment: float | None) -> dt.datetime | None:
    return None if moment is None else EPOCH + dt.timedelta(seconds=moment)


class Conflict(Exception):
    """A unique key would stand twice."""


class Memory:
    """The tables, and the statements on them."""

    def __init__(self, now: Callable[[], float], new_id: Callable[[], uuid.UUID] = uuid.uuid4) -> None:
        self.now = now
        self.new_id = new_id
        self.lanes: dict[int, Lane] = {}
        self.deliveries: dict[tuple[int, int], Delivery] = {}
        self.places: dict[int, Place] = {}
        self.links: dict[int, Link] = {}
        self.sightings: dict[tuple[int, uuid.UUID], list[Sighting]] = {}
        self.budgets: dict[tuple[bytes, str], Budget] = {}
        self.tickets: dict[uuid.UUID, Ticket] = {}
        self.report_keys: dict[tuple[int, bytes], tuple[uuid.UUID, bytes]] = {}
        self.reports: dict[uuid.UUID, tuple[uuid.UUID | None, int]] = {}
        self.careful_until: float | None = None
        self.lane_ids: dict[tuple[uuid.UUID, int], int] = {}
        """Which id a new lane gets, where the real database has given it one already."""
        self.claimed: list[tuple[int, uuid.UUID]] | None = None
        """What the real claim took, where it has a choice; checked, then taken here too."""

    TABLES = (
        "lanes", "deliveries", "places", "links", "sightings", "budgets", "tickets", "report_keys", "reports",
    )  # fmt: skip

    def kept(self) -> dict[str, Any]:
        """All rows, to come back to."""
        return {name: _twin(getattr(self, name)) for name in self.TABLES}

    def come_back(self, kept: dict[str, Any]) -> None:
        for name, rows in kept.items():
            setattr(self, name, rows)

    def run(self, sql: str, args: Sequence[Any]) -> list[dict[str, Any]]:
        """One statement, by the name in front of it."""
        found = NAME.match(sql)
        assert found, sql
        # what the driver would send is what counts: no rows of a statement share anything with the tables
        return list(getattr(self, found[1])(*args) or ())

    # -- the lanes ---------------------------------------------------------------------------------------------------

    def _mine(self, lane_id: int, lease_id: uuid.UUID) -> Lane | None:
        """The lane, if this lease holds it."""
        lane = self.lanes.get(lane_id)
        return lane if lane is not None and lane.state == LEASED and lane.lease_id == lease_id else None

    def open(self, place: Place) -> bool:
        """Whether lanes of a destination may be claimed."""
        now = self.now()
        return (
            place.paused_why is None
            and (place.blocked_until is None or place.blocked_until <= now)
            and (
                place.breaker == 0
                or (place.breaker == 2 and place.open_until is not None and place.open_until <= now)
                or (place.breaker == 1 and place.probe_until is not None and place.probe_until <= now)
            )
        )

    def due(self, destination_id: int) -> list[Lane]:
        """Lanes that could be claimed, those that waited longest first."""
        return sorted(
            (
                lane
                for lane in self.lanes.values()
                if lane.destination_id == destination_id and lane.state == READY and lane.due_at <= self.now()
            ),
            key=lambda lane: (lane.due_at, lane.id),
        )

    def leased(self, destination_id: int) -> int:
        return sum(
            lane.state == LEASED and lane.destination_id == destination_id for lane in self.lanes.values()
        )

    def _lapsed(self) -> list[Lane]:
        return [
            lane
            for lane in self.lanes.values()
            if lane.state == LEASED and lane.lease_until is not None and lane.lease_until < self.now()
        ]

    def anything_to_do(self):
        return [
            {
                "lapsed": bool(self._lapsed()),
                "due": any(self.open(p) and self.due(p.destination_id) for p in self.places.values()),
            }
        ]

    def reap_lanes(self):
        for lane in sorted(self._lapsed(), key=lambda one: one.lease_until or 0)[:100]:
            lane.let_go(READY)
            lane.due_at = self.now()

    def destinations_in_turn(self, limit):
        turn = [p for p in self.places.values() if self.open(p) and self.due(p.destination_id)]
        turn.sort(key=lambda p: (p.last_claim_at, p.destination_id))
        return [{"destination_id": p.destination_id} for p in turn[:limit]]

    def claim_lanes(self, holder, room, lease, places):
        picks = {}
        for destination_id in sorted(places, key=lambda one: (self.places[one].last_claim_at, one)):
            place = self.places[destination_id]
            n = 1 if place.breaker else max(0, min(room, place.max_inflight - self.leased(destination_id)))
            picks[destination_id] = (n, self.due(destination_id))
        if self.claimed is None:
            turns = [
                (turn, i, lane)
                for i, (n, due) in enumerate(picks.values())
                for turn, lane in enumerate(due[:n])
            ]
            turns.sort(key=lambda one: one[:2])
            taken = [(lane, self.new_id()) for _, _, lane in turns[:room]]
        else:
            taken = self._as_claimed(picks, room)
        for lane, lease_id in taken:
            lane.state, lane.epoch, lane.lease_id = LEASED, lane.epoch + 1, lease_id
            lane.holder, lane.lease_until = holder, self.now() + lease.total_seconds()
        touched = {lane.destination_id for lane, _ in taken}
        for destination_id in places:
            place = self.places[destination_id]
            place.last_claim_at = self.now()
            if place.breaker and destination_id in touched:
                place.breaker, place.probe_holder = 1, holder
                place.probe_until = self.now() + lease.total_seconds()
        return [
            {
                "id": lane.id,
                "epoch": lane.epoch,
                "lease_id": lane.lease_id,
                "ticket_id": lane.ticket_id,
                "destination_id": lane.destination_id,
            }
            for lane, _ in taken
        ]

    def _as_claimed(self, picks: dict[int, tuple[int, list[Lane]]], room: int) -> list[tuple[Lane, uuid.UUID]]:
        """What the real claim took, if it may: as many as there is room for, in turn, the oldest first."""
        assert self.claimed is not None
        taken = [(self.lanes[lane_id], lease_id) for lane_id, lease_id in self.claimed]
        by_place: dict[int, list[Lane]] = {one: [] for one in picks}
        for lane, _ in taken:
            assert lane.destination_id in picks, "claimed at a destination that may not be worked"
            by_place[lane.destination_id].append(lane)
        allowed = {one: min(n, len(due)) for one, (n, due) in picks.items()}
        assert len(taken) == min(room, sum(allowed.values())), "claimed more or less than there is room for"
        for one, lanes in by_place.items():
            n, due = picks[one]
            assert len(lanes) <= allowed[one], f"{len(lanes)} claimed where {n} may be"
            assert all(lane in due for lane in lanes), "claimed what was not due"
            left = [lane.due_at for lane in due if lane not in lanes]
            assert not lanes or not left or max(lane.due_at for lane in lanes) <= min(left) + 0.5
            for other, others in by_place.items():
                fair = len(lanes) >= len(others) - 1 or len(lanes) == allowed[one]
                assert fair, f"destination {one} had less than its turn beside {other}"
        return taken

    def renew_leases(self, lane_ids, lease_ids, lease):
        kept = []
        for lane_id, lease_id in zip(lane_ids, lease_ids, strict=True):
            if (lane := self._mine(lane_id, lease_id)) is not None:
                lane.lease_until = self.now() + lease.total_seconds()
                kept.append({"id": lane_id})
        return kept

    def release_lane(self, lane_id, lease_id, delay):
        if (lane := self._mine(lane_id, lease_id)) is not None:
            lane.let_go(READY)
            lane.due_at = self.now() + delay.total_seconds()

    def heads_of_lanes(self, lane_ids, lease_ids):
        found = []
        for lane_id, lease_id in zip(lane_ids, lease_ids, strict=True):
            lane = self._mine(lane_id, lease_id)
            d = self.deliveries.get((lane_id, lane.head_seq)) if lane is not None else None
            if lane is None or d is None:
                continue
            ticket = self.tickets[lane.ticket_id]
            event_kind, event_data = ticket.events[d.event_n]
            link = self.links.get(lane_id)
            found.append(
                {
                    "lane_id": lane_id, "seq": d.seq, "event_n": d.event_n, "kind": d.kind, "marker": d.marker,
                    "attempts": d.attempts, "in_doubt": d.in_doubt, "looks": d.looks, "draft": d.draft,
                    "first_sent_at": _at(d.first_sent_at), "created_at": _at(d.created_at), "collapsed": 0, "resent_at": _at(d.resent_at),
                    "doubt_seconds": 0.0 if d.doubt_until is None else d.doubt_until - self.now(),
                    "expired": d.expires_at < self.now() and d.attempts >= 12,
                    "careful": self.careful_until is not None and self.careful_until > self.now(),
                    "ticket_id": ticket.id, "ticket_kind": ticket.kind, "title": ticket.title, "description": "",
                    "ticket_url": "", "level": "", "environment": "", "release": "",
                    "reporter_email": ticket.reporter_email, "reporter_name": "", "status": ticket.status,
                    "close_reason": ticket.close_reason, "occurrences": ticket.occurrences, "opened_at": EPOCH,
                    "source": "s", "event_kind": event_kind, "event_data": event_data, "event_at": EPOCH,
                    "remote_id": link.remote_id if link else None, "remote_key": link.remote_key if link else None,
                    "link_url": link.url if link else None, "link_state": link.state if link else None,
                }
            )  # fmt: skip
        return found

    def lock_lane(self, lane_id, lease_id):
        return [{"id": lane_id}] if self._mine(lane_id, lease_id) is not None else []

    def write_intents(self, *columns):
        written = []
        for lane_id, lease_id, seq, in_doubt, settle, draft in zip(*columns, strict=True):
            lane, d = self._mine(lane_id, lease_id), self.deliveries.get((lane_id, seq))
            if lane is None or (lane.lease_until or 0) <= self.now() or d is None or d.state != PENDING:
                continue
            d.in_doubt, d.attempts = in_doubt, d.attempts + 1
            d.first_sent_at = self.now() if d.first_sent_at is None else d.first_sent_at
            d.doubt_until = self.now() + settle.total_seconds()
            d.draft = draft if d.draft is None else d.draft
            written.append({"lane_id": lane_id, "attempts": d.attempts})
        return written

    def finish_deliveries(self, *columns_and_holder):
        moved = []
        for (
            lane_id, lease_id, seq, keep, outcome, comment_id, remote_id, remote_key, url, _, remote_state, _, _,
        ) in zip(*columns_and_holder[:-1], strict=True):  # fmt: skip
            lane = self._mine(lane_id, lease_id)
            if lane is None or lane.head_seq != seq:
                continue
            self._step(lane, LEASED if keep else READY)
            lane.due_at = self.now()
            d = self.deliveries[lane_id, seq]
            d.state, d.in_doubt, d.done_at, d.last_class = DONE, False, self.now(), outcome
            d.last_error, d.remote_id = None, comment_id
            if remote_id is not None:
                self._link(lane, remote_id, remote_key, url)
            elif remote_state is not None and lane_id in self.links:
                self.links[lane_id].remote_state = remote_state
            self.places[lane.destination_id].well()
            moved.append({"id": lane_id, "state": lane.state})
        return moved

    def _step(self, lane: Lane, more: int) -> None:
        """The head is done with: the lane is idle, or goes on as told."""
        lane.head_seq += 1
        state = IDLE if lane.next_seq <= lane.head_seq else more
        if state != LEASED:
            lane.let_go(state)

    def _link(self, lane: Lane, remote_id: str, key: str, url: str) -> None:
        for link in self.links.values():
            if (link.destination_id, link.remote_id) == (lane.destination_id, remote_id):
                if link.lane_id != lane.id:
                    return
        old = self.links.get(lane.id)
        made = Link(lane.id, lane.destination_id, remote_id, key, url)
        made.remote_state = old.remote_state if old else 1
        self.links[lane.id] = made

    def webhooks_waiting(self, *_):
        return []

    def retry_delivery(
        self, lane_id, lease_id, seq, delay, counts, in_doubt, looks, settle, outcome, error, *_
    ):
        lane, d = self._mine(lane_id, lease_id), self.deliveries.get((lane_id, seq))
        if lane is None or (HEAD_ONLY["retry_delivery"] and lane.head_seq != seq):
            return []
        lane.let_go(READY)
        lane.due_at = self.now() + delay.total_seconds()
        if d is not None:
            d.attempts = max(0, d.attempts - (0 if counts else 1))
            d.in_doubt, d.looks, d.last_class, d.last_error = in_doubt, looks, outcome, error
            d.doubt_until = self.now() + settle.total_seconds()
            d.expires_at += 0.0 if counts else delay.total_seconds()
        return [{"id": lane_id}]

    def clear_doubt(self, lane_id, lease_id, seq):
        lane, d = self._mine(lane_id, lease_id), self.deliveries.get((lane_id, seq))
        if lane is None or d is None or (HEAD_ONLY["clear_doubt"] and lane.head_seq != seq):
            return []
        d.in_doubt, d.looks, d.resent_at = False, 0, self.now()
        return [{"seq": seq}]

    def give_up(self, lane_id, lease_id, seq, park, why, error, _, __, ___, in_doubt):
        lane = self._mine(lane_id, lease_id)
        if lane is None or lane.head_seq != seq:
            return []
        if park:
            lane.let_go(PARKED)
        else:
            self._step(lane, READY)
        lane.parked_why, lane.due_at = (why if park else None), self.now()
        d = self.deliveries[lane_id, seq]
        d.state, d.done_at, d.last_class, d.last_error = DEAD, self.now(), why, error
        d.in_doubt = d.in_doubt and in_doubt
        return [{"id": lane_id}]

    def park_lane(self, lane_id, lease_id, why, orphaned, outcome, error, *_):
        if (lane := self._mine(lane_id, lease_id)) is None:
            return []
        lane.let_go(PARKED)
        lane.parked_why = why
        if (d := self.deliveries.get((lane_id, lane.head_seq))) is not None:
            d.last_class = d.last_class if outcome is None else outcome
            d.last_error = d.last_error if error is None else error
        if orphaned and lane_id in self.links:
            self.links[lane_id].state = 2
        return [{"id": lane_id}]

    def write_sightings(self, *columns):
        for destination_id, marker, remote_id, key, url, _ in zip(*columns, strict=True):
            seen = self.sightings.setdefault((destination_id, marker), [])
            if any(one.remote_id == remote_id for one in seen):
                continue
            for one in seen:
                one.twin = True
            seen.append(Sighting(remote_id, key, url, self.now(), twin=bool(seen)))

    def sightings_of(self, destination_id, marker):
        seen = sorted(
            self.sightings.get((destination_id, marker), ()), key=lambda one: (one.at, one.remote_id)
        )
        return [{"remote_id": s.remote_id, "remote_key": s.remote_key, "url": s.url} for s in seen]

    def replay_parked(self, lane_id, seq, not_there):
        lane, d = self.lanes.get(lane_id), self.deliveries.get((lane_id, seq))
        if lane is None or d is None or lane.state != PARKED or lane.head_seq != seq or d.state == DONE:
            return []
        d.revive(self.now(), not_there=not_there)
        lane.state, lane.due_at, lane.parked_why = READY, self.now(), None
        return [{"id": lane_id}]

    def replay_skipped(self, lane_id, seq, not_there):
        lane, d = self.lanes.get(lane_id), self.deliveries.get((lane_id, seq))
        if lane is None or d is None or d.state != DEAD or lane.head_seq <= seq:
            return []
        del self.deliveries[lane_id, seq]
        d.seq = lane.next_seq
        self.deliveries[lane_id, d.seq] = d
        self._more(lane, 1)
        d.revive(self.now(), not_there=not_there)
        return [{"seq": d.seq}]

    def _more(self, lane: Lane, more: int) -> None:
        lane.next_seq += more
        if lane.state == IDLE:
            lane.state, lane.due_at = READY, self.now()

    # -- the destinations --------------------------------------------------------------------------------------------

    def note_failure(self, destination_id, *given):
        away, mostly_away, in_a_row, open_for, at_most = given[5:]
        place = self.places.get(destination_id)
        if place is None:
            return []
        opens = (
            away
            and place.breaker != 2
            and (place.breaker == 1 or mostly_away or place.breaker_failures + 1 >= in_a_row)
        )
        place.failures, place.failed_at = place.failures + 1, self.now()
        if not away:
            place.close()
        else:
            place.breaker_failures += 1
            place.probe_holder = None
            if opens:
                seconds = open_for.total_seconds() * 2 ** min(place.breaker_opened, 20)
                place.open_until = self.now() + min(at_most.total_seconds(), seconds)
                place.breaker, place.probe_until = 2, None
                place.breaker_opened += 1
        return [{"failures": place.failures, "opens": opens}]

    def hold_back(self, destination_id, hold):
        place = self.places[destination_id]
        place.blocked_until = max(place.blocked_until or -math.inf, self.now() + hold.total_seconds())

    def note_success(self, destination_id):
        self.places[destination_id].well()

    # -- the budgets -------------------------------------------------------------------------------------------------

    def take_tokens(self, credential, scope, rate, burst, kept, urgent, others, advance):
        b = self.budgets.get((credential, scope))
        if b is None:
            return []
        now = self.now()
        until = [one.limited_until or 0.0 for (whose, _), one in self.budgets.items() if whose == credential]
        rest = max(0.0, max([*until, b.refilled_at]) - now)
        elapsed = max(0.0, now - b.refilled_at)
        filled = min(burst, b.tokens + (b.rate if b.declared_rate > 0 else rate) * elapsed)
        share = b.rate / b.declared_rate if b.declared_rate else 1.0
        climbed = rate * min(1.0, share + elapsed / 1200)
        for_urgent = 0 if rest > 0 else min(urgent, math.floor(filled))
        most = others + min(advance, math.floor(climbed))
        for_others = 0 if rest > 0 else max(0, min(most, math.floor(filled - for_urgent - kept)))
        left = max(0.0, filled - for_urgent - for_others)
        if for_urgent + for_others > 0:
            b.tokens, b.refilled_at = left, max(b.refilled_at, now)
            b.rate, b.declared_rate, b.burst = climbed, rate, burst
        return [
            {"for_urgent": for_urgent, "for_others": for_others, "tokens": left, "rate": climbed, "rest": rest}
        ]

    def make_budget(self, credential, scope, rate, burst):
        self.budgets.setdefault((credential, scope), Budget(rate, rate, burst, burst, self.now()))

    def slow_down(self, credential, scope, rate, burst, wait, destination_id):
        now, until = self.now(), self.now() + wait.total_seconds()
        b = self.budgets.get((credential, scope))
        if b is None:
            self.budgets[credential, scope] = Budget(rate, rate / 2, burst, 0.0, until, until)
        else:
            if b.limited_until is None or b.limited_until <= now:
                climbed = b.rate + b.declared_rate * max(0.0, now - b.refilled_at) / 1200
                b.rate = max(b.declared_rate / 20, min(b.declared_rate, climbed) / 2)
            b.tokens, b.refilled_at = 0.0, max(b.refilled_at, until)
            b.limited_until = max(b.limited_until or 0.0, until)
        held = [
            p for p in self.places.values() if p.credential == credential or p.destination_id == destination_id
        ]
        for place in held:
            place.blocked_until = max(place.blocked_until or -math.inf, until)
        return [{"destination_id": place.destination_id} for place in held]

    # -- accepting ---------------------------------------------------------------------------------------------------

    def keep_keys(self, *columns):
        new = []
        for source_id, key, report_id, digest in zip(*columns, strict=True):
            if (source_id, key) not in self.report_keys:
                self.report_keys[source_id, key] = (report_id, digest)
                new.append({"report_id": report_id})
        return new

    def known_keys(self, source_ids, keys):
        found = []
        for source_id, key in zip(source_ids, keys, strict=True):
            if (source_id, key) in self.report_keys:
                report_id, digest = self.report_keys[source_id, key]
                ticket_id, state = self.reports.get(report_id, (None, None))
                found.append(
                    {"source_id": source_id, "key_hash": key, "report_id": report_id, "body_sha256": digest,
                     "ticket_id": ticket_id, "state": state}
                )  # fmt: skip
        return found

    def touch_tickets(self, *columns):
        rows = []
        for new_id, source_id, kind, fingerprint, title, *_, email, _, count in zip(*columns, strict=True):
            old = [t for t in self.tickets.values() if (t.source_id, t.fingerprint) == (source_id, fingerprint)]
            ticket = old[0] if old else Ticket(new_id, source_id, kind, fingerprint, title, email)
            if not old:
                ticket.next_event = 2
                self.tickets[new_id] = ticket
            ticket.occurrences += count
            rows.append(self._row_of(ticket) | {"inserted": not old})
        return rows

    def _row_of(self, ticket: Ticket) -> dict[str, Any]:
        names = ("id", "source_id", "kind", "fingerprint", "generation", "status", "close_reason", "next_event")
        return {name: getattr(ticket, name) for name in (*names, "reporter_email", "storm_parent")}

    def lanes_of_tickets(self, ticket_ids):
        return [
            {"ticket_id": lane.ticket_id, "destination_id": lane.destination_id, "kind": 1}
            for lane in self.lanes.values()
            if lane.ticket_id in ticket_ids
        ]

    def write_tickets(self, *columns):
        for ticket_id, status, reason, next_event, parent in zip(*columns, strict=True):
            ticket = self.tickets[ticket_id]
            ticket.status, ticket.close_reason = int(status), reason
            ticket.next_event, ticket.storm_parent = next_event, parent

    def write(self, *columns):
        for report_id, _, ticket_id, *_, state, _ in zip(*columns[:9], strict=True):
            self.reports[report_id] = (ticket_id, state)
        for ticket_id, n, kind, data, _ in zip(*columns[9:14], strict=True):
            self.tickets[ticket_id].events[n] = (kind, data)
        ends = {}
        for ticket_id, destination_id, more in zip(*columns[14:17], strict=True):
            lane = self._lane_of(ticket_id, destination_id)
            self._more(lane, more)
            ends[ticket_id, destination_id] = lane
        for ticket_id, destination_id, from_end, event_n, kind, marker, *_ in zip(*columns[17:], strict=True):
            lane = ends[ticket_id, destination_id]
            if any(d.marker == marker for d in self.deliveries.values()):
                raise Conflict(f"marker {marker}")
            seq = lane.next_seq - from_end
            self.deliveries[lane.id, seq] = Delivery(
                lane.id, seq, event_n, int(kind), marker, self.now(), self.now() + DAYS_3
            )

    def _lane_of(self, ticket_id: uuid.UUID, destination_id: int) -> Lane:
        for lane in self.lanes.values():
            if (lane.ticket_id, lane.destination_id) == (ticket_id, destination_id):
                return lane
        lane_id = self.lane_ids.get((ticket_id, destination_id), max(self.lanes, default=0) + 1)
        lane = self.lanes[lane_id] = Lane(lane_id, ticket_id, destination_id)
        return lane

    # -- what always holds -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError where the tables are not as they must always be."""
        check(
            (
                (one.id, one.state, one.head_seq, one.next_seq, one.lease_id is not None)
                for one in self.lanes.values()
            ),
            ((d.lane_id, d.seq, d.state) for d in self.deliveries.values()),
        )
        for budget in self.budgets.values():
            assert 0 <= budget.tokens <= budget.burst


def check(lanes: Iterable[tuple[int, int, int, int, bool]], deliveries: Iterable[tuple[int, int, int]]) -> None:
    """What holds of lanes (id, state, head, next, leased) and deliveries (lane, seq, state), in the model and in Postgres:
    whoever is idle has no work, a lease belongs to one who is leased, and numbers run without gaps from the head on.
    """
    states: dict[int, dict[int, int]] = {}
    for lane_id, seq, state in deliveries:
        states.setdefault(lane_id, {})[seq] = state
    for lane_id, state, head, end, leased in lanes:
        assert (state == LEASED) == leased, f"lane {lane_id}"
        assert head <= end
        assert state != IDLE or head == end, f"lane {lane_id} is idle with work"
        of_lane = states.get(lane_id, {})
        for seq in range(head, end):
            may = {PENDING, DEAD} if seq == head and state == PARKED else {PENDING}
            assert of_lane.get(seq) in may, f"delivery {lane_id}/{seq} from the head on is {of_lane.get(seq)}"
        for seq, one in of_lane.items():
            assert seq < end
            assert seq >= head or one != PENDING, f"delivery {lane_id}/{seq} was passed by"
