"""Model of the queue's statements in plain Python: of these statements, not of PostgreSQL.

The simulation runs on the model, and ``tests/integration/storage/test_lane_model.py`` compares the model with the real
statements step by step. Each method has the name of its statement and takes the statement's arguments in their order.
Times are seconds.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from pointsman.domain.states import DeliveryState, LaneState
from pointsman.storage.queries import queries
from simulation.memory_intake import IntakeMemory
from simulation.rows import EPOCH, DestinationState, Lane, Link, at, check

NAME = re.compile(r"^/\* (\w+) \*/")

HEAD_ONLY = {
    name: "head_seq = $3" in queries("queue")[name] for name in ("schedule_retry", "confirm_not_applied")
}
"""Whether these statements require that the delivery is the head of its lane."""


class Memory(IntakeMemory):
    """The tables and the statements of the queue."""

    def run(self, sql: str, args: Sequence[Any]) -> list[dict[str, Any]]:
        """Run a statement, identified by the comment with its name, and return its rows."""
        match = NAME.match(sql)
        assert match, sql
        statement = getattr(self, match[1], None)
        if statement is None:
            # SystemExit: the service must not treat this as an error of the database
            raise SystemExit(
                f"the simulation has no statement {match[1]}: add it to tests/simulation/memory.py"
            )
        # a new list, as a driver returns: rows share nothing with the tables
        return list(statement(*args) or ())

    # -- the lanes ---------------------------------------------------------------------------------------------------

    def _leased_by(self, lane_id: int, lease_id: uuid.UUID) -> Lane | None:
        """Return the lane if this lease is its current one."""
        lane = self.lanes.get(lane_id)
        return (
            lane
            if lane is not None and lane.state == LaneState.LEASED and lane.lease_id == lease_id
            else None
        )

    def open(self, destination: DestinationState) -> bool:
        """Return whether lanes of a destination may be claimed."""
        now = self.now()
        return (
            destination.pause_reason is None
            and (destination.blocked_until is None or destination.blocked_until <= now)
            and (
                destination.breaker == 0
                or (
                    destination.breaker == 2
                    and destination.open_until is not None
                    and destination.open_until <= now
                )
                or (
                    destination.breaker == 1
                    and destination.probe_until is not None
                    and destination.probe_until <= now
                )
            )
        )

    def due(self, destination_id: int) -> list[Lane]:
        """Return the lanes that may be claimed, longest waiting first."""
        return sorted(
            (
                lane
                for lane in self.lanes.values()
                if lane.destination_id == destination_id
                and lane.state == LaneState.READY
                and lane.due_at <= self.now()
            ),
            key=lambda lane: (lane.due_at, lane.id),
        )

    def leased(self, destination_id: int) -> int:
        return sum(
            lane.state == LaneState.LEASED and lane.destination_id == destination_id
            for lane in self.lanes.values()
        )

    def _lapsed(self) -> list[Lane]:
        return [
            lane
            for lane in self.lanes.values()
            if lane.state == LaneState.LEASED
            and lane.lease_until is not None
            and lane.lease_until < self.now()
        ]

    def has_due_work(self):
        return [
            {
                "lapsed": bool(self._lapsed()),
                "due": any(self.open(p) and self.due(p.destination_id) for p in self.destinations.values()),
            }
        ]

    def release_expired_leases(self):
        for lane in sorted(self._lapsed(), key=lambda lane: lane.lease_until or 0)[:100]:
            lane.release(LaneState.READY)
            lane.due_at = self.now()

    def lock_claimable_destinations(self, limit, claimable):
        rank = [
            p
            for p in self.destinations.values()
            if self.open(p)
            and self.due(p.destination_id)
            and (claimable is None or p.destination_id in claimable)
        ]
        rank.sort(key=lambda p: (p.last_claim_at, p.destination_id))
        return [{"destination_id": p.destination_id} for p in rank[:limit]]

    def claim_lanes(self, holder, limit, lease, destinations):
        picks = {}
        for destination_id in sorted(
            destinations, key=lambda id_: (self.destinations[id_].last_claim_at, id_)
        ):
            destination = self.destinations[destination_id]
            n = (
                1
                if destination.breaker
                else max(0, min(limit, destination.max_inflight - self.leased(destination_id)))
            )
            picks[destination_id] = (n, self.due(destination_id))
        if self.claimed is None:
            ranks = [
                (rank, i, lane)
                for i, (n, due) in enumerate(picks.values())
                for rank, lane in enumerate(due[:n])
            ]
            ranks.sort(key=lambda ranked: ranked[:2])
            taken = [(lane, self.new_id()) for _, _, lane in ranks[:limit]]
        else:
            taken = self._as_claimed(picks, limit)
        for lane, lease_id in taken:
            lane.state, lane.epoch, lane.lease_id = LaneState.LEASED, lane.epoch + 1, lease_id
            lane.holder, lane.lease_until = holder, self.now() + lease.total_seconds()
        touched = {lane.destination_id for lane, _ in taken}
        for destination_id in destinations:
            destination = self.destinations[destination_id]
            destination.last_claim_at = self.now()
            if destination.breaker and destination_id in touched:
                destination.breaker = 1
                destination.probe_until = self.now() + lease.total_seconds()
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

    def _as_claimed(
        self, picks: dict[int, tuple[int, list[Lane]]], limit: int
    ) -> list[tuple[Lane, uuid.UUID]]:
        """Return the lanes that the real claim took, after checking their number, their fairness and their order."""
        assert self.claimed is not None
        taken = [(self.lanes[lane_id], lease_id) for lane_id, lease_id in self.claimed]
        by_destination: dict[int, list[Lane]] = {id_: [] for id_ in picks}
        for lane, _ in taken:
            assert lane.destination_id in picks, "claimed at a destination that may not be worked"
            by_destination[lane.destination_id].append(lane)
        allowed = {id_: min(n, len(due)) for id_, (n, due) in picks.items()}
        assert len(taken) == min(limit, sum(allowed.values())), "claimed more or less than there is limit for"
        for id_, lanes in by_destination.items():
            n, due = picks[id_]
            assert len(lanes) <= allowed[id_], f"{len(lanes)} claimed where {n} may be"
            assert all(lane in due for lane in lanes), "claimed a lane that was not due"
            left = [lane.due_at for lane in due if lane not in lanes]
            assert not lanes or not left or max(lane.due_at for lane in lanes) <= min(left) + 0.5
            for other_id, other_lanes in by_destination.items():
                fair = len(lanes) >= len(other_lanes) - 1 or len(lanes) == allowed[id_]
                assert fair, f"destination {id_} had less than its share beside {other_id}"
        return taken

    def renew_leases(self, lane_ids, lease_ids, lease):
        renewed = []
        for lane_id, lease_id in zip(lane_ids, lease_ids, strict=True):
            if (lane := self._leased_by(lane_id, lease_id)) is not None:
                lane.lease_until = self.now() + lease.total_seconds()
                renewed.append({"id": lane_id})
        return renewed

    def release_lane(self, lane_id, lease_id, delay):
        if (lane := self._leased_by(lane_id, lease_id)) is not None:
            lane.release(LaneState.READY)
            lane.due_at = self.now() + delay.total_seconds()

    def load_next_deliveries(self, lane_ids, lease_ids):
        rows = []
        for lane_id, lease_id in zip(lane_ids, lease_ids, strict=True):
            lane = self._leased_by(lane_id, lease_id)
            d = self.deliveries.get((lane_id, lane.head_seq)) if lane is not None else None
            if lane is None or d is None:
                continue
            ticket = self.tickets[lane.ticket_id]
            event_kind, event_data = ticket.events[d.event_n]
            link = self.links.get(lane_id)
            rows.append(
                {
                    "lane_id": lane_id, "lease_id": lease_id, "seq": d.seq, "event_n": d.event_n, "kind": d.kind, "marker": d.marker,
                    "attempts": d.attempts, "outcome_unknown": d.outcome_unknown, "verify_attempts": d.verify_attempts, "draft": d.draft,
                    "first_sent_at": at(d.first_sent_at), "coalesced_count": 0, "created_at": at(d.created_at),
                    "verify_after_seconds": 0.0 if d.verify_after is None else d.verify_after - self.now(),
                    "expired": d.expires_at < self.now() and d.attempts >= 12,
                    "verify_writes": self.verify_writes_until is not None and self.verify_writes_until > self.now(),
                    "ticket_id": ticket.id, "ticket_kind": ticket.kind, "title": ticket.title, "description": "",
                    "ticket_url": "", "level": "", "environment": "", "release": "",
                    "reporter_email": ticket.reporter_email, "reporter_name": "",
                    "close_reason": ticket.close_reason, "occurrences": ticket.occurrences,
                    "source": "s", "event_kind": event_kind, "event_data": event_data, "event_at": EPOCH,
                    "remote_id": link.remote_id if link else None, "remote_key": link.remote_key if link else None,
                    "issue_url": link.url if link else None, "link_state": link.state if link else None,
                }
            )  # fmt: skip
        return rows

    def lock_lane(self, lane_id, lease_id):
        return [{"id": lane_id}] if self._leased_by(lane_id, lease_id) is not None else []

    def record_intents(self, *columns):
        written = []
        for lane_id, lease_id, seq, outcome_unknown, settle, draft in zip(*columns, strict=True):
            lane, d = self._leased_by(lane_id, lease_id), self.deliveries.get((lane_id, seq))
            if (
                lane is None
                or (lane.lease_until or 0) <= self.now()
                or d is None
                or d.state != DeliveryState.PENDING
            ):
                continue
            d.outcome_unknown, d.attempts = outcome_unknown, d.attempts + 1
            d.first_sent_at = self.now() if d.first_sent_at is None else d.first_sent_at
            d.verify_after = self.now() + settle.total_seconds()
            d.draft = draft if d.draft is None else d.draft
            written.append({"lane_id": lane_id, "lease_id": lease_id, "attempts": d.attempts})
        return written

    def finish_deliveries(self, *columns_and_holder):
        moved = []
        for (
            lane_id, lease_id, seq, keep, outcome, comment_id, remote_id, remote_key, url, _, remote_state, _, _,
        ) in zip(*columns_and_holder[:-1], strict=True):  # fmt: skip
            lane = self._leased_by(lane_id, lease_id)
            if lane is None or lane.head_seq != seq:
                continue
            self._step(lane, LaneState.LEASED if keep else LaneState.READY)
            lane.due_at = self.now()
            d = self.deliveries[lane_id, seq]
            d.state, d.outcome_unknown, d.done_at, d.last_outcome = (
                DeliveryState.DONE,
                False,
                self.now(),
                outcome,
            )
            d.last_error, d.remote_id = None, comment_id
            if remote_id is not None:
                self._link(lane, remote_id, remote_key, url)
            elif remote_state is not None and lane_id in self.links:
                self.links[lane_id].remote_state = remote_state
            self.destinations[lane.destination_id].record_success()
            moved.append({"lane_id": lane_id, "lease_id": lease_id, "state": lane.state})
        return moved

    def _step(self, lane: Lane, more: int) -> None:
        """Move past the head; the lane becomes idle, or gets state ``more`` if it has another delivery."""
        lane.head_seq += 1
        state = LaneState.IDLE if lane.next_seq <= lane.head_seq else more
        if state != LaneState.LEASED:
            lane.release(state)

    def _link(self, lane: Lane, remote_id: str, key: str, url: str) -> None:
        for link in self.links.values():
            same = (link.destination_id, link.remote_id) == (lane.destination_id, remote_id)
            if same and link.lane_id != lane.id:
                return
        old = self.links.get(lane.id)
        link = Link(lane.id, lane.destination_id, remote_id, key, url)
        link.remote_state = old.remote_state if old else 1
        self.links[lane.id] = link

    def issues_with_waiting_webhooks(self, *_):
        return []

    def schedule_retry(
        self,
        lane_id,
        lease_id,
        seq,
        delay,
        counts,
        outcome_unknown,
        verify_attempts,
        settle,
        outcome,
        error,
        *_,
    ):
        lane, d = self._leased_by(lane_id, lease_id), self.deliveries.get((lane_id, seq))
        if lane is None or (HEAD_ONLY["schedule_retry"] and lane.head_seq != seq):
            return []
        lane.release(LaneState.READY)
        lane.due_at = self.now() + delay.total_seconds()
        if d is not None:
            d.attempts = max(0, d.attempts - (0 if counts else 1))
            d.outcome_unknown, d.verify_attempts, d.last_outcome, d.last_error = (
                outcome_unknown,
                verify_attempts,
                outcome,
                error,
            )
            d.verify_after = self.now() + settle.total_seconds()
            d.expires_at += 0.0 if counts else delay.total_seconds()
        return [{"id": lane_id}]

    def close_breaker(self, destination_id):
        destination = self.destinations[destination_id]
        destination.breaker = destination.breaker_failures = destination.breaker_opened = 0
        destination.open_until = destination.probe_until = None

    def end_lane_back_offs(self, destination_id):
        now = self.now()
        for lane in self.lanes.values():
            d = self.deliveries.get((lane.id, lane.head_seq))
            if (
                lane.destination_id == destination_id
                and lane.state == LaneState.READY
                and lane.due_at > now
                and d is not None
                and d.last_outcome is not None
                and (d.verify_after is None or d.verify_after <= now)
            ):
                lane.due_at = now

    def confirm_not_applied(self, lane_id, lease_id, seq):
        lane, d = self._leased_by(lane_id, lease_id), self.deliveries.get((lane_id, seq))
        if lane is None or d is None or (HEAD_ONLY["confirm_not_applied"] and lane.head_seq != seq):
            return []
        d.outcome_unknown, d.verify_attempts, d.resent_at = False, 0, self.now()
        return [{"seq": seq}]

    def dead_letter_delivery(self, lane_id, lease_id, seq, park, why, error, _, __, ___, outcome_unknown):
        lane = self._leased_by(lane_id, lease_id)
        if lane is None or lane.head_seq != seq:
            return []
        if park:
            lane.release(LaneState.PARKED)
        else:
            self._step(lane, LaneState.READY)
        lane.park_reason, lane.due_at = (why if park else None), self.now()
        d = self.deliveries[lane_id, seq]
        d.state, d.done_at, d.last_outcome, d.last_error = DeliveryState.DEAD, self.now(), why, error
        d.outcome_unknown = d.outcome_unknown and outcome_unknown
        return [{"id": lane_id}]

    def park_lane(self, lane_id, lease_id, why, orphaned, outcome, error, *_):
        if (lane := self._leased_by(lane_id, lease_id)) is None:
            return []
        lane.release(LaneState.PARKED)
        lane.park_reason = why
        if (d := self.deliveries.get((lane_id, lane.head_seq))) is not None:
            d.last_outcome = d.last_outcome if outcome is None else outcome
            d.last_error = d.last_error if error is None else error
        if orphaned and lane_id in self.links:
            self.links[lane_id].state = 2
        return [{"id": lane_id}]

    def replay_parked(self, lane_id, seq, assume_not_applied):
        lane, d = self.lanes.get(lane_id), self.deliveries.get((lane_id, seq))
        if (
            lane is None
            or d is None
            or lane.state != LaneState.PARKED
            or lane.head_seq != seq
            or d.state == DeliveryState.DONE
        ):
            return []
        d.revive(self.now(), assume_not_applied=assume_not_applied)
        lane.state, lane.due_at, lane.park_reason = LaneState.READY, self.now(), None
        return [{"id": lane_id}]

    def replay_passed(self, lane_id, seq, assume_not_applied):
        lane, d = self.lanes.get(lane_id), self.deliveries.get((lane_id, seq))
        if lane is None or d is None or d.state != DeliveryState.DEAD or lane.head_seq <= seq:
            return []
        del self.deliveries[lane_id, seq]
        d.seq = lane.next_seq
        self.deliveries[lane_id, d.seq] = d
        self._append(lane, 1)
        d.revive(self.now(), assume_not_applied=assume_not_applied)
        return [{"seq": d.seq}]

    # -- invariants --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if the tables violate an invariant."""
        check(
            (
                (lane.id, lane.state, lane.head_seq, lane.next_seq, lane.lease_id is not None)
                for lane in self.lanes.values()
            ),
            ((d.lane_id, d.seq, d.state) for d in self.deliveries.values()),
        )
        for rate_limit in self.rate_limits.values():
            assert 0 <= rate_limit.tokens <= rate_limit.burst
