"""State of the state machine and the operations that its rules share."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)

from pointsman.domain.states import LaneState
from pointsman.storage.queries import queries
from pointsman.storage.queue import Lanes
from pointsman.storage.queue_values import Lane
from simulation.environment import (
    CLEAR,
    DESTINATIONS,
    SLACK_SECONDS,
    TICKETS,
    Environment,
    ModelDatabase,
)
from simulation.memory import Memory
from simulation.rows import DestinationState, Ticket

HOLDERS = 3

index = st.integers(0, 1000)


class MachineState(RuleBasedStateMachine):
    """The model, the lane repositories of several holders on both sides, and all leases that were claimed."""

    environment: Environment

    @initialize()
    def clear(self) -> None:
        self.clock = 0.0
        self.events = 0
        self.memory = Memory(lambda: self.clock)
        self.model: Any = ModelDatabase(self.memory)
        self.memory.destinations = {
            id_: DestinationState(id_, max_inflight=2) for id_ in self.environment.destinations
        }
        self.memory.tickets = {
            id_: Ticket(id_, 1, 2, str(n), "t") for n, id_ in enumerate(self.environment.tickets)
        }
        ids = [uuid.UUID(int=100 + n) for n in range(HOLDERS)]
        self.holders = [(Lanes(self.environment.database, id_), Lanes(self.model, id_)) for id_ in ids]
        self.leases: list[tuple[int, Lane]] = []
        self.attempts = 0
        self.environment.run(self.environment.pool.execute(CLEAR))
        for n in range(4):
            self.more_deliveries(n, n, 1 + n % 3)
        self.claim_by(0, 2, 1000.0)
        self.claim_by(1, 1, 100.0)

    def both(self, holder: int, operation: Callable[[Lanes], Awaitable[Any]]) -> Any:
        """Run an operation on PostgreSQL and on the model, check that the results are equal, and return the result."""
        self.clock += 0.001
        real, model = self.holders[holder]

        async def run() -> tuple[Any, Any]:
            return await operation(real), await operation(model)

        result, expected = self.environment.run(run())
        assert result == expected, f"PostgreSQL returned {result!r}, the model {expected!r}"
        return result

    def pick(self, n: int) -> tuple[int, Lane]:
        """Return a holder and a lane that it claimed once; the lease may be current, replaced or released."""
        current = [lease for lease in self.leases if self.holds(lease[1])]
        replaced = [
            lease
            for lease in self.leases
            if lease not in current and self.memory.lanes[lease[1].id].state == LaneState.LEASED
        ]
        leases = self.leases
        among = (current or leases, current or leases, replaced or leases, leases)[n % 4]
        return among[n // 4 % len(among)]

    def seq(self, lane: Lane, n: int) -> int:
        """Return the number of the head, or in one of four cases a number near it."""
        row = self.memory.lanes[lane.id]
        return row.head_seq if n % 4 else max(1, row.head_seq + n // 4 % 3 - 1)

    def holds(self, lane: Lane) -> bool:
        row = self.memory.lanes[lane.id]
        return row.state == LaneState.LEASED and row.lease_id == lane.lease_id

    def more_deliveries(self, ticket: int, destination: int, more: int) -> None:
        ticket_id = self.environment.tickets[ticket % TICKETS]
        destination_id = self.environment.destinations[destination % DESTINATIONS]
        first, self.events = self.events + 1, self.events + more
        numbers = range(first, first + more)
        lanes = self.memory.lanes.values()
        exists = any((lane.ticket_id, lane.destination_id) == (ticket_id, destination_id) for lane in lanes)
        columns = [
            *[[]] * 9,
            [ticket_id] * more, list(numbers), ["commented"] * more, ["{}"] * more, [None] * more,
            [ticket_id], [destination_id], [more], [None],
            [ticket_id] * more, [destination_id] * more, [more - i for i in range(more)], list(numbers),
            [2 if exists or i else 1 for i in range(more)], [uuid.uuid4() for _ in numbers], [None] * more, [0] * more,
        ]  # fmt: skip
        sql = queries("delivery_writer")["insert_changes"]
        self.clock += 0.001
        self.environment.run(self.environment.database.execute(sql, *columns))
        lane_id = self.environment.run(
            self.environment.database.fetchval(
                "select id from lane where ticket_id = $1 and destination_id = $2", ticket_id, destination_id
            )
        )
        self.memory.lane_ids[ticket_id, destination_id] = lane_id
        self.memory.run(sql, columns)

    def claim_by(self, holder: int, limit: int, lease: float) -> None:
        self.clock += 0.001
        real, model = self.holders[holder]
        real.lease_seconds = model.lease_seconds = lease
        probing = {id_: destination.breaker for id_, destination in self.memory.destinations.items()}
        claimed = self.environment.run(real.claim(limit))
        self.memory.claimed = [(lane.id, lane.lease_id) for lane in claimed]
        modelled = self.environment.run(model.claim(limit))
        self.memory.claimed = None
        assert len(claimed) == len(modelled) <= limit
        heads = {lane.id: lane.first_delivery for lane in modelled}
        for lane in claimed:
            self.leases.append((holder, lane))
            self._same_head(lane.first_delivery, heads[lane.id])
        for id_, destination in self.memory.destinations.items():
            count = sum(lane.destination_id == id_ for lane in claimed)
            assert not count or self.memory.leased(id_) <= destination.max_inflight or probing[id_], (
                "over the cap"
            )
            assert count <= 1 or not probing[id_], "more than one probe"

    @staticmethod
    def _same_head(real: Any, model: Any) -> None:
        assert (real is None) == (model is None)
        if real is not None:
            for name in ("seq", "event_n", "kind", "marker", "attempts", "outcome_unknown", "verify_attempts", "expired", "remote_id",
                         "remote_key", "issue_url", "link_state", "verify_writes", "event_kind"):  # fmt: skip
                assert getattr(real, name) == getattr(model, name), name
            assert abs(real.verify_after_seconds - model.verify_after_seconds) < SLACK_SECONDS
            assert (real.draft is None) == (model.draft is None)
