"""The statements around the lanes: how destinations stand, budgets, what makes tickets and deliveries exist."""

from __future__ import annotations

import math
import uuid
from typing import Any

from simulation.rows import DAYS_3, Budget, Delivery, Lane, Tables, Ticket


class Conflict(Exception):
    """A unique key would stand twice."""


class Others(Tables):
    """Each method is named after its statement."""

    # -- the destinations --------------------------------------------------------------------------------------------

    def record_failure(self, destination_id, *given):
        away, mostly_away, in_a_row, open_for, at_most = given[5:10]
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
            if opens:
                seconds = open_for.total_seconds() * 2 ** min(place.breaker_opened, 20)
                place.open_until = self.now() + min(at_most.total_seconds(), seconds)
                place.breaker, place.probe_until = 2, None
                place.breaker_opened += 1
        return [{"failures": place.failures, "opened": opens}]

    def block_destination(self, destination_id, hold):
        place = self.places[destination_id]
        place.blocked_until = max(place.blocked_until or -math.inf, self.now() + hold.total_seconds())

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
            {
                "priority": for_urgent,
                "normal": for_others,
                "tokens": left,
                "rate": climbed,
                "blocked_seconds": rest,
            }
        ]

    def insert_rate_limit(self, credential, scope, rate, burst):
        self.budgets.setdefault((credential, scope), Budget(rate, rate, burst, burst, self.now()))

    def reduce_rate(self, credential, scope, rate, burst, wait, destination_id):
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
            p
            for p in self.places.values()
            if p.credential == credential or p.destination_id == destination_id
        ]
        for place in held:
            place.blocked_until = max(place.blocked_until or -math.inf, until)
        return [{"destination_id": place.destination_id} for place in held]

    # -- accepting ---------------------------------------------------------------------------------------------------

    def insert_report_keys(self, *columns):
        new = []
        for source_id, key, report_id, digest in zip(*columns, strict=True):
            if (source_id, key) not in self.report_keys:
                self.report_keys[source_id, key] = (report_id, digest)
                new.append({"report_id": report_id})
        return new

    def known_report_keys(self, source_ids, keys):
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

    def upsert_tickets(self, *given):
        *columns, _ = given
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
            self._more(lane, more)
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
