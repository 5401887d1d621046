"""Model of the statements around the queue: destinations, rate limits, marker observations, and the intake."""

from __future__ import annotations

import math
import uuid
from typing import Any

from pointsman.domain.states import DeliveryKind, DeliveryState
from simulation.rows import DAYS_3, Delivery, Lane, Observation, RateLimit, Tables, Ticket, at


class Conflict(Exception):
    """A unique key was violated."""


class IntakeMemory(Tables):
    """Tables with statements; each method has the name of its statement."""

    # -- the destinations --------------------------------------------------------------------------------------------

    def record_failure(self, destination_id, *columns):
        no_answer, mostly_no_answer, threshold, open_for, max_open = columns[5:10]
        destination = self.destinations.get(destination_id)
        if destination is None:
            return []
        opens = (
            no_answer
            and destination.breaker != 2
            and (
                destination.breaker == 1 or mostly_no_answer or destination.breaker_failures + 1 >= threshold
            )
        )
        destination.failures, destination.failed_at = destination.failures + 1, self.now()
        if not no_answer:
            destination.close()
        else:
            destination.breaker_failures += 1
            if opens:
                seconds = open_for.total_seconds() * 2 ** min(destination.breaker_opened, 20)
                destination.open_until = self.now() + min(max_open.total_seconds(), seconds)
                destination.breaker, destination.probe_until = 2, None
                destination.breaker_opened += 1
        return [{"failures": destination.failures, "opened": opens}]

    def block_destination(self, destination_id, hold):
        destination = self.destinations[destination_id]
        destination.blocked_until = max(
            destination.blocked_until or -math.inf, self.now() + hold.total_seconds()
        )

    # -- the rate_limits -------------------------------------------------------------------------------------------------

    def take_tokens(self, credential, scope, rate, burst, reserve, priority, normal, prefetch):
        b = self.rate_limits.get((credential, scope))
        if b is None:
            return []
        now = self.now()
        until = [
            limit.limited_until or 0.0
            for (owner, _), limit in self.rate_limits.items()
            if owner == credential
        ]
        blocked_seconds = max(0.0, max([*until, b.refilled_at]) - now)
        elapsed = max(0.0, now - b.refilled_at)
        filled = min(burst, b.tokens + (b.rate if b.declared_rate > 0 else rate) * elapsed)
        share = b.rate / b.declared_rate if b.declared_rate else 1.0
        climbed = rate * min(1.0, share + elapsed / 1200)
        for_priority = 0 if blocked_seconds > 0 else min(priority, math.floor(filled))
        wanted = normal + min(prefetch, math.floor(climbed))
        available = math.floor(filled - for_priority - reserve)
        for_normal = 0 if blocked_seconds > 0 else max(0, min(wanted, available))
        left = max(0.0, filled - for_priority - for_normal)
        if for_priority + for_normal > 0:
            b.tokens, b.refilled_at = left, max(b.refilled_at, now)
            b.rate, b.declared_rate, b.burst = climbed, rate, burst
        return [
            {
                "priority": for_priority,
                "normal": for_normal,
                "tokens": left,
                "rate": climbed,
                "blocked_seconds": blocked_seconds,
            }
        ]

    def insert_rate_limit(self, credential, scope, rate, burst):
        self.rate_limits.setdefault((credential, scope), RateLimit(rate, rate, burst, burst, self.now()))

    def reduce_rate(self, credential, scope, rate, burst, wait, destination_id):
        now, until = self.now(), self.now() + wait.total_seconds()
        b = self.rate_limits.get((credential, scope))
        if b is None:
            self.rate_limits[credential, scope] = RateLimit(rate, rate / 2, burst, 0.0, until, until)
        else:
            if b.limited_until is None or b.limited_until <= now:
                climbed = b.rate + b.declared_rate * max(0.0, now - b.refilled_at) / 1200
                b.rate = max(b.declared_rate / 20, min(b.declared_rate, climbed) / 2)
            b.tokens, b.refilled_at = 0.0, max(b.refilled_at, until)
            b.limited_until = max(b.limited_until or 0.0, until)
        blocked = [
            p
            for p in self.destinations.values()
            if p.credential == credential or p.destination_id == destination_id
        ]
        for destination in blocked:
            destination.blocked_until = max(destination.blocked_until or -math.inf, until)
        return [{"destination_id": destination.destination_id} for destination in blocked]

    # -- comments ----------------------------------------------------------------------------------------------------

    def missing_comments(self, lane_id, seq):
        before = [
            d
            for d in self.deliveries.values()
            if (d.lane_id, d.kind) == (lane_id, DeliveryKind.COMMENT) and d.seq < seq
        ]
        there = max((d.seq for d in before if d.state == DeliveryState.DONE), default=-1)
        missing = [d.created_at for d in before if d.state == DeliveryState.DEAD and d.seq > there]
        return [{"count": len(missing), "since": at(min(missing, default=None))}]

    # -- marker observations -----------------------------------------------------------------------------------------

    def insert_marker_observations(self, *columns):
        for destination_id, marker, remote_id, key, url, _ in zip(*columns, strict=True):
            seen = self.observations.setdefault((destination_id, marker), [])
            if any(observation.remote_id == remote_id for observation in seen):
                continue
            for observation in seen:
                observation.is_duplicate = True
            seen.append(Observation(remote_id, key, url, self.now(), is_duplicate=bool(seen)))

    def issues_with_marker(self, destination_id, marker):
        seen = sorted(
            self.observations.get((destination_id, marker), ()),
            key=lambda observation: (observation.at, observation.remote_id),
        )
        return [{"remote_id": s.remote_id, "remote_key": s.remote_key, "url": s.url} for s in seen]

    # -- accepting ---------------------------------------------------------------------------------------------------

    def insert_report_keys(self, *columns):
        new = []
        for source_id, key, report_id, digest in zip(*columns, strict=True):
            if (source_id, key) not in self.report_keys:
                self.report_keys[source_id, key] = (report_id, digest)
                new.append({"report_id": report_id})
        return new

    def known_report_keys(self, source_ids, keys, *_):
        unknown = dict.fromkeys(
            ("status", "reported_resolved", "unrouted", "throttled", "state_seconds", "closed_seconds")
        )
        rows = []
        for source_id, key in zip(source_ids, keys, strict=True):
            if (source_id, key) in self.report_keys:
                report_id, digest = self.report_keys[source_id, key]
                ticket_id, state = self.reports.get(report_id, (None, None))
                rows.append(
                    {"source_id": source_id, "key_hash": key, "report_id": report_id, "body_sha256": digest,
                     "ticket_id": ticket_id, "state": state, "key_seconds": 0.0, **unknown}
                )  # fmt: skip
        return rows

    def upsert_tickets(self, *arguments):
        *columns, _ = arguments
        rows = []
        for new_id, source_id, kind, fingerprint, title, *_, email, _, count in zip(*columns, strict=True):
            old = [
                t for t in self.tickets.values() if (t.source_id, t.fingerprint) == (source_id, fingerprint)
            ]
            ticket = old[0] if old else Ticket(new_id, source_id, kind, fingerprint, title, email)
            if not old:
                ticket.next_event = 2
                self.tickets[new_id] = ticket
            ticket.occurrences += count
            rows.append(
                self._row_of(ticket)
                | {"inserted": not old, "at": None, "unseen_seconds": None, "closed_seconds": None}
            )
        return rows

    def _row_of(self, ticket: Ticket) -> dict[str, Any]:
        names = (
            "id",
            "source_id",
            "kind",
            "fingerprint",
            "generation",
            "status",
            "close_reason",
            "next_event",
        )
        return {name: getattr(ticket, name) for name in (*names, "reporter_email", "summary_ticket_id")}

    def lock_lanes_of_tickets(self, ticket_ids):
        return [
            {"ticket_id": lane.ticket_id, "destination_id": lane.destination_id, "kind": 1}
            for lane in self.lanes.values()
            if lane.ticket_id in ticket_ids
        ]

    def update_tickets(self, *columns):
        for ticket_id, status, reason, next_event, parent, *_ in zip(*columns, strict=True):
            ticket = self.tickets[ticket_id]
            ticket.status, ticket.close_reason = int(status), reason
            ticket.next_event, ticket.summary_ticket_id = next_event, parent

    def insert_changes(self, *columns):
        for report_id, _, ticket_id, *_, state, _ in zip(*columns[:9], strict=True):
            self.reports[report_id] = (ticket_id, state)
        for ticket_id, n, kind, data, _ in zip(*columns[9:14], strict=True):
            self.tickets[ticket_id].events[n] = (kind, data)
        ends = {}
        for ticket_id, destination_id, more, _ in zip(*columns[14:18], strict=True):
            lane = self._lane_of(ticket_id, destination_id)
            self._append(lane, more)
            ends[ticket_id, destination_id] = lane
        for ticket_id, destination_id, from_end, event_n, kind, marker, *_ in zip(*columns[18:], strict=True):
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
