"""The simulated world: replicas of the service, one store, trackers, and the faults that the plan injects.

The worker, the tracker sender, the rate limiter, the circuit breaker and the intake are the real ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import uuid
from collections.abc import Coroutine
from typing import Any

from pointsman.domain.routing import Match, Route
from pointsman.domain.states import DeliveryState, LaneState
from pointsman.domain.token_bucket import rate_limits_of
from pointsman.errors import DatabaseError, Overloaded
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.snapshot import ConfigSnapshot
from simulation.loop import REPLICA, Loop
from simulation.oracle import judge
from simulation.replicas import Replica
from simulation.rows import DestinationState
from simulation.schedule import LATENESS_SECONDS, LEASE_SECONDS, TIMEOUT_SECONDS, Plan, Result
from simulation.store import Connection, Store
from simulation.tracker import Tracker

POLL_SECONDS, SLACK_SECONDS = 1.3, 0.6
"""A replica polls for due work at least this often; the slack is the duration of the statements."""


class World:
    """Everything that is simulated; serves as the ConfigReloader of its replicas, whose configuration never changes."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed, self.plan = seed, plan
        self.dice = random.Random(seed)
        self.ids = random.Random(seed + 1)
        self.loop = Loop(self.dice)
        self.result = Result(seed)
        self.happened = self.result.happened
        self.store = Store(self)
        self.sessions: list[Connection] = []
        self.replicas: list[Replica] = []
        self.trackers: dict[int, Tracker] = {}
        self.tracker_trouble = plan.tracker_trouble
        self.database_trouble = plan.database_trouble
        self.started = 0
        self.source = LiveSource(1, "s", "tickets", None, ())
        self.loop.on_error = self._on_error
        self.due_since: float | None = None

    # -- the interface of the replicas -------------------------------------------------------------------------------

    def create_destinations(self) -> None:
        """Create the destinations and the configuration with one route to all of them."""
        destinations = {}
        for n in range(1, self.plan.destinations + 1):
            tracker: Any = Tracker(self, n)
            self.trackers[n] = tracker
            live = LiveDestination(n, f"d{n}", 1, "sim", tracker=tracker)
            live.rate_limits = rate_limits_of(tracker.capabilities.quotas, None)
            destinations[n] = live
            self.store.memory.destinations[n] = DestinationState(n)
        self.current = ConfigSnapshot(
            version=1,
            installation_id=uuid.UUID(int=1),
            marker_key=b"key",
            mail_id=None,
            sources={},
            destinations=destinations,
            routes=[Route(1, Match(), tuple(destinations))],
            source_slugs={1: "s"},
        )

    def uuid(self) -> uuid.UUID:
        """Return a new id drawn from the seed."""
        return uuid.UUID(int=self.ids.getrandbits(128), version=4)

    def run_detached(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that belongs to no replica and that no kill or pause stops."""
        self.loop.references.append(self.loop.create_task(coroutine, context=contextvars.Context()))

    # -- trace and violations ----------------------------------------------------------------------------------------

    def trace(self, text: str) -> None:
        """Append a line with the time to the trace."""
        self.result.trace.append(f"{self.loop.now:.6f} {text}")

    def broken(self, violation: str) -> None:
        """Record that an invariant is broken."""
        self.result.broken.append(f"{violation} at {self.loop.now:.3f}")
        self.trace(f"BROKEN {violation}")

    def _on_error(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, OSError | DatabaseError):
            self.broken(f"{context.get('message')}: {error!r}")

    def sent(self, tracker: Tracker, marker: str) -> None:
        """Check at the moment of sending that the intent is written and that the sender holds the lane's lease."""
        replica = REPLICA.get()
        self.trace(f"{replica} sends {marker[4:12]}")
        memory = self.store.memory
        wanted = self.current.marker_from(marker)
        [d] = [delivery for delivery in memory.deliveries.values() if delivery.marker == wanted]
        lane = memory.lanes[d.lane_id]
        holder = next(candidate.holder for candidate in self.replicas if candidate.name == replica)
        if not (d.state == DeliveryState.PENDING and d.outcome_unknown and d.attempts):
            self.broken(f"sent without an intent: {d.lane_id}/{d.seq}")
        if (
            lane.state != LaneState.LEASED
            or lane.holder != holder
            or (lane.lease_until or 0) <= self.loop.now
        ):
            self.broken(f"sent without the lease: {d.lane_id}/{d.seq}")
        if lane.head_seq != d.seq:
            self.broken(f"sent out of order: {d.lane_id}/{d.seq}")

    # -- events ------------------------------------------------------------------------------------------------------

    def start_replica(self) -> Replica:
        """Start one more replica."""
        self.started += 1
        replica = Replica(self, f"r{self.started}")
        self.replicas.append(replica)
        self.trace(f"{replica.name} starts")
        return replica

    async def run_schedule(self) -> None:
        """Inject the faults of the plan while tickets are sent, wait for the deliveries, and judge the result."""
        self.create_destinations()
        for _ in range(self.plan.replicas):
            self.start_replica()
        self.run_detached(self._watch())
        plan = self.plan
        faults = [
            *(self._kill() for _ in range(plan.kills)),
            *(self._pause() for _ in range(plan.pauses)),
            *(self._restart() for _ in range(plan.restarts)),
            *(self._outages() for _ in range(plan.outages)),
        ]
        faults = [self.loop.create_task(fault) for fault in faults]
        senders = [self.loop.create_task(self._customer(n)) for n in range(self.plan.tickets)]
        await asyncio.sleep(self.plan.trouble_seconds)
        self.tracker_trouble = self.database_trouble = 0.0
        await asyncio.gather(*senders, *faults)
        end = self.loop.now + self.plan.drain_seconds
        while self.loop.now < end and any(
            d.state == DeliveryState.PENDING for d in self.store.memory.deliveries.values()
        ):
            await asyncio.sleep(1.0)
        await asyncio.sleep(LATENESS_SECONDS + TIMEOUT_SECONDS + 1.0)
        judge(self)

    def _moment(self) -> float:
        return self.dice.uniform(0.0, self.plan.trouble_seconds)

    async def _customer(self, ticket: int) -> None:
        """Send a ticket and its comments, each until a replica accepts it."""
        await asyncio.sleep(self._moment() / 2)
        for n in range(1 + self.plan.comments):
            while True:
                able = [replica for replica in self.replicas if replica.alive and not replica.stop.is_set()]
                try:
                    if able:
                        await self.dice.choice(able).report(ticket, n)
                        break
                except (TimeoutError, DatabaseError, Overloaded):
                    pass
                await asyncio.sleep(self.dice.uniform(0.1, 1.0))
            self.result.accepted += 1
            self.trace(f"accepted {ticket}/{n}")
            await asyncio.sleep(self.dice.expovariate(self.plan.comments / (self.plan.trouble_seconds / 2)))

    async def _busy(self) -> Replica | None:
        """Return a replica that works on a lane, after 10 s any that is awake, or None."""
        await asyncio.sleep(self._moment())
        for _ in range(100):
            able = [replica for replica in self.replicas if replica.awake and replica.worker.claimed_lanes]
            if able:
                # at any moment of an attempt
                await asyncio.sleep(self.dice.uniform(0.0, 0.5))
                return self.dice.choice(able)
            await asyncio.sleep(0.1)
        return next((replica for replica in self.replicas if replica.awake), None)

    async def _kill(self) -> None:
        replica = await self._busy()
        if replica is None or not replica.alive:
            return
        self.happened["kill"] += 1
        self.trace(f"{replica.name} is killed")
        replica.kill()
        await asyncio.sleep(self.dice.uniform(0.0, 5.0))
        self.start_replica()

    async def _pause(self) -> None:
        replica = await self._busy()
        if replica is None or not replica.awake:
            return
        self.happened["pause"] += 1
        self.trace(f"{replica.name} is paused")
        self.loop.pause(replica.name)
        pause_seconds = LEASE_SECONDS * self.dice.choice(
            (self.dice.uniform(0.0, 1.0), self.dice.uniform(1.0, 2.5))
        )
        # the server ends sessions that idle in a transaction
        await asyncio.sleep(min(10.0, pause_seconds))
        if replica.alive and pause_seconds > 10.0:
            for session in self.sessions:
                if session.replica == replica.name:
                    self.store.end(session, commit=False)
            await asyncio.sleep(pause_seconds - 10.0)
        if replica.alive:
            self.trace(f"{replica.name} goes on")
            self.loop.resume(replica.name)

    async def _restart(self) -> None:
        await asyncio.sleep(self._moment())
        able = [replica for replica in self.replicas if replica.awake and not replica.stop.is_set()]
        if not able:
            return
        replica = self.dice.choice(able)
        self.happened["restart"] += 1
        self.trace(f"{replica.name} stops")
        self.start_replica()
        replica.stop.set()

    async def _outages(self) -> None:
        await asyncio.sleep(self._moment())
        self.store.down_until = self.loop.now + self.dice.uniform(0.1, 10.0)
        if self.store.owner is not None:
            self.store.end(self.store.owner, commit=False)
        self.trace("the database is unavailable")
        await asyncio.sleep(self._moment() / 4)
        tracker = self.dice.choice(list(self.trackers.values()))
        tracker.down_until = self.loop.now + self.dice.uniform(1.0, 90.0)
        self.trace(f"tracker {tracker.destination_id} is unavailable")

    async def _watch(self) -> None:
        """Check that no wake-up is lost: due work is looked for soon while a replica has capacity."""
        while True:
            await asyncio.sleep(0.1)
            memory, now = self.store.memory, self.loop.now
            due = any(memory.open(p) and memory.due(p.destination_id) for p in memory.destinations.values())
            has_capacity = any(
                replica.awake and not replica.stop.is_set() and replica.worker.claimed_lanes < self.plan.width
                for replica in self.replicas
            )
            if not due or not has_capacity or now < self.store.down_until or self.store.owner is not None:
                self.due_since = None
            elif self.due_since is None:
                self.due_since = now
            elif (
                now - max(self.due_since, self.store.last_poll) > POLL_SECONDS + SLACK_SECONDS
                and not self.database_trouble
            ):
                self.broken("a lane was due and no replica polled")
                self.due_since = None
