"""A small world in which the real bus, carrier, budgets, breaker and acceptance live: replicas, a store, trackers, trouble."""

from __future__ import annotations

import asyncio
import contextvars
import random
import uuid
from typing import Any

from pointsman.bus.signals import Signals, WorkAvailable
from pointsman.bus.worker import Handlers, Worker
from pointsman.delivery.draft import Drafts
from pointsman.delivery.rate_limiter import Budgets
from pointsman.delivery.tracker_sender import Outbound
from pointsman.domain.routing import Match, Route
from pointsman.domain.states import DeliveryState, LaneState, TicketKind
from pointsman.domain.token_bucket import rate_limits_of
from pointsman.errors import DatabaseError, Overloaded
from pointsman.intake.batcher import IntakeBatcher
from pointsman.intake.preparation import ReportPreparer
from pointsman.plugin_api import Report
from pointsman.plugin_host.snapshot import ConfigSnapshot, LiveDestination, LiveSource
from pointsman.storage.queue import Lanes
from simulation.loop import REPLICA, Loop
from simulation.oracle import judge
from simulation.rows import Place
from simulation.schedule import LATENESS_SECONDS, LEASE_SECONDS, TIMEOUT_SECONDS, Plan, Result
from simulation.store import Connection, Store
from simulation.tracker import Tracker

LOOK_SECONDS, SLACK_SECONDS = 1.3, 0.6
"""Within so long somebody looks for what is due; the slack is what statements take."""


class Replica:
    """One process of the service: what the composition root would build, as far as it is simulated."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        database: Any = Connection(world, name)
        self.holder = world.uuid()
        self.lanes = Lanes(database, self.holder, lease_seconds=LEASE_SECONDS)
        reloader: Any = world
        signals = Signals()
        handlers = Handlers(lambda _: 1)
        self.bus = Worker(
            self.lanes,
            handlers,
            width=world.plan.width,
            renew_every_seconds=LEASE_SECONDS / 4,
            drain_seconds=5.0,
        )
        signals.subscribe(WorkAvailable, lambda _: self.bus.wake())
        self.outbound = Outbound(
            database,
            self.lanes,
            reloader,
            Drafts(database, reloader),
            budgets=Budgets(database),
            signals=signals,
            stopping=self.bus.stopping,
        )
        handlers.register(1, self.outbound.handle)
        self.preparer = ReportPreparer(reloader)
        self.acceptance = IntakeBatcher(database, reloader, signals=signals)
        self.stop = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(REPLICA.set, name)
        self.task = world.loop.create_task(self._main(), context=self.context)

    @property
    def awake(self) -> bool:
        return self.alive and self.name not in self.world.loop.held

    async def _main(self) -> None:
        async with self.bus.running(), self.acceptance.running():
            await self.stop.wait()

    def kill(self) -> None:
        """kill -9: none of its code runs any more, and its connections are reset."""
        self.alive = False
        if self.name not in self.world.loop.held:
            self.world.loop.pause(self.name)
        for session in self.world.sessions:
            if session.replica == self.name:
                self.world.store.end(session, commit=False)

    async def report(self, ticket: int, n: int) -> None:
        """A request for help, or a comment on one; returns when it is accepted."""
        done = self.world.loop.create_future()

        async def submit() -> None:
            try:
                incoming = self.preparer.prepare(
                    self.world.source,
                    Report(
                        action="commented" if n else "opened",
                        fingerprint=f"t{ticket}",
                        title="x",
                        text=str(n),
                    ),
                    b"x",
                    {},
                    key=f"{ticket}/{n}",
                    kind=TicketKind.SUPPORT,
                )
                await self.acceptance.submit(incoming)
            except (DatabaseError, Overloaded) as error:
                self.world.loop.call_soon(_fail, done, error, context=contextvars.Context())
            else:
                self.world.loop.call_soon(_fulfil, done, context=contextvars.Context())

        self.world.loop.kept.append(self.world.loop.create_task(submit(), context=self.context))
        async with asyncio.timeout(8.0):
            await done


def _fulfil(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class World:
    """All of it. It is its own catalogue: the configuration never changes."""

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
        self.born = 0
        self.source = LiveSource(1, "s", "tickets", None, ())
        self.loop.on_error = self._on_error
        self.due_since: float | None = None

    # -- what the replicas see of it ---------------------------------------------------------------------------------

    def furnish(self) -> None:
        destinations = {}
        for n in range(1, self.plan.places + 1):
            tracker: Any = Tracker(self, n)
            self.trackers[n] = tracker
            live = LiveDestination(n, f"d{n}", 1, "sim", tracker=tracker)
            live.rate_limits = rate_limits_of(tracker.capabilities.budgets, None)
            destinations[n] = live
            self.store.memory.places[n] = Place(n)
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
        return uuid.UUID(int=self.ids.getrandbits(128), version=4)

    def outside(self, what: Any) -> None:
        """Run something that belongs to no replica, and goes on whatever becomes of them."""
        self.loop.kept.append(self.loop.create_task(what, context=contextvars.Context()))

    # -- what is noted -----------------------------------------------------------------------------------------------

    def say(self, what: str) -> None:
        self.result.trace.append(f"{self.loop.now:.6f} {what}")

    def broken(self, what: str) -> None:
        self.result.broken.append(f"{what} at {self.loop.now:.3f}")
        self.say(f"BROKEN {what}")

    def _on_error(self, said: dict[str, Any]) -> None:
        error = said.get("exception")
        if error is not None and not isinstance(error, OSError | DatabaseError):
            self.broken(f"{said.get('message')}: {error!r}")

    def sent(self, tracker: Tracker, marker: str) -> None:
        """A request leaves: its intent is written, and its lane is its sender's at this moment."""
        replica = REPLICA.get()
        self.say(f"{replica} sends {marker[4:12]}")
        memory = self.store.memory
        wanted = self.current.marker_from(marker)
        [d] = [one for one in memory.deliveries.values() if one.marker == wanted]
        lane = memory.lanes[d.lane_id]
        holder = next(one.holder for one in self.replicas if one.name == replica)
        if not (d.state == DeliveryState.PENDING and d.outcome_unknown and d.attempts):
            self.broken(f"sent without an intent: {d.lane_id}/{d.seq}")
        if lane.state != LaneState.LEASED or lane.holder != holder or (lane.lease_until or 0) <= self.loop.now:
            self.broken(f"sent without the lease: {d.lane_id}/{d.seq}")
        if lane.head_seq != d.seq:
            self.broken(f"sent out of turn: {d.lane_id}/{d.seq}")

    # -- what happens ------------------------------------------------------------------------------------------------

    def bear(self) -> Replica:
        self.born += 1
        made = Replica(self, f"r{self.born}")
        self.replicas.append(made)
        self.say(f"{made.name} starts")
        return made

    async def _story(self) -> None:
        self.furnish()
        for _ in range(self.plan.replicas):
            self.bear()
        self.outside(self._watch())
        plan = self.plan
        trouble = [
            *(self._kill() for _ in range(plan.kills)),
            *(self._pause() for _ in range(plan.pauses)),
            *(self._restart() for _ in range(plan.restarts)),
            *(self._outages() for _ in range(plan.outages)),
        ]
        trouble = [self.loop.create_task(one) for one in trouble]
        senders = [self.loop.create_task(self._customer(n)) for n in range(self.plan.tickets)]
        await asyncio.sleep(self.plan.trouble_seconds)
        self.tracker_trouble = self.database_trouble = 0.0
        await asyncio.gather(*senders, *trouble)
        end = self.loop.now + self.plan.patience_seconds
        while self.loop.now < end and any(d.state == DeliveryState.PENDING for d in self.store.memory.deliveries.values()):
            await asyncio.sleep(1.0)
        await asyncio.sleep(LATENESS_SECONDS + TIMEOUT_SECONDS + 1.0)
        judge(self)

    def _moment(self) -> float:
        return self.dice.uniform(0.0, self.plan.trouble_seconds)

    async def _customer(self, ticket: int) -> None:
        """One ticket and its comments, each sent until somebody accepts it."""
        await asyncio.sleep(self._moment() / 2)
        for n in range(1 + self.plan.comments):
            while True:
                able = [one for one in self.replicas if one.alive and not one.stop.is_set()]
                try:
                    if able:
                        await self.dice.choice(able).report(ticket, n)
                        break
                except (TimeoutError, DatabaseError, Overloaded):
                    pass
                await asyncio.sleep(self.dice.uniform(0.1, 1.0))
            self.result.accepted += 1
            self.say(f"accepted {ticket}/{n}")
            await asyncio.sleep(self.dice.expovariate(self.plan.comments / (self.plan.trouble_seconds / 2)))

    async def _busy(self) -> Replica | None:
        """A replica that works on something, after a while of any; None: nobody is there."""
        await asyncio.sleep(self._moment())
        for _ in range(100):
            able = [one for one in self.replicas if one.awake and one.bus.held]
            if able:
                # somewhere within an attempt
                await asyncio.sleep(self.dice.uniform(0.0, 0.5))
                return self.dice.choice(able)
            await asyncio.sleep(0.1)
        return next((one for one in self.replicas if one.awake), None)

    async def _kill(self) -> None:
        one = await self._busy()
        if one is None or not one.alive:
            return
        self.happened["kill"] += 1
        self.say(f"{one.name} is killed")
        one.kill()
        await asyncio.sleep(self.dice.uniform(0.0, 5.0))
        self.bear()

    async def _pause(self) -> None:
        one = await self._busy()
        if one is None or not one.awake:
            return
        self.happened["pause"] += 1
        self.say(f"{one.name} stands still")
        self.loop.pause(one.name)
        still = LEASE_SECONDS * self.dice.choice((self.dice.uniform(0.0, 1.0), self.dice.uniform(1.0, 2.5)))
        # the server ends what idles in a transaction
        await asyncio.sleep(min(10.0, still))
        if one.alive and still > 10.0:
            for session in self.sessions:
                if session.replica == one.name:
                    self.store.end(session, commit=False)
            await asyncio.sleep(still - 10.0)
        if one.alive:
            self.say(f"{one.name} goes on")
            self.loop.go_on(one.name)

    async def _restart(self) -> None:
        await asyncio.sleep(self._moment())
        able = [one for one in self.replicas if one.awake and not one.stop.is_set()]
        if not able:
            return
        one = self.dice.choice(able)
        self.happened["restart"] += 1
        self.say(f"{one.name} stops")
        self.bear()
        one.stop.set()

    async def _outages(self) -> None:
        await asyncio.sleep(self._moment())
        self.store.down_until = self.loop.now + self.dice.uniform(0.1, 10.0)
        if self.store.owner is not None:
            self.store.end(self.store.owner, commit=False)
        self.say("the database is away")
        await asyncio.sleep(self._moment() / 4)
        tracker = self.dice.choice(list(self.trackers.values()))
        tracker.down_until = self.loop.now + self.dice.uniform(1.0, 90.0)
        self.say(f"tracker {tracker.destination_id} is away")

    async def _watch(self) -> None:
        """No wake-up is lost: what is due is looked for soon, while anybody is able to."""
        while True:
            await asyncio.sleep(0.1)
            memory, now = self.store.memory, self.loop.now
            due = any(memory.open(p) and memory.due(p.destination_id) for p in memory.places.values())
            able = any(
                one.awake and not one.stop.is_set() and one.bus.held < self.plan.width
                for one in self.replicas
            )
            if not due or not able or now < self.store.down_until or self.store.owner is not None:
                self.due_since = None
            elif self.due_since is None:
                self.due_since = now
            elif (
                now - max(self.due_since, self.store.last_look) > LOOK_SECONDS + SLACK_SECONDS
                and not self.database_trouble
            ):
                self.broken("something was due and nobody looked")
                self.due_since = None
