"""A small world in which the real bus, carrier, budgets, breaker and acceptance live: replicas, a store, a tracker, trouble.

Everything comes from one seed: what is slow, lost, late or refused, who is killed or stands still, and in which order
what is ready runs. ``Off`` takes a safeguard away, to see that the oracle notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import asyncpg

from pointsman import acceptance
from pointsman.acceptance import Acceptance
from pointsman.bus import Bus
from pointsman.catalog import Catalog, LiveDestination, LiveSource
from pointsman.delivery import breaker
from pointsman.delivery.limits import Budgets
from pointsman.delivery.outbound import Outbound
from pointsman.delivery.pace import paces_of
from pointsman.errors import DatabaseError, Overloaded
from pointsman.plugin_api import (
    Budget,
    Capabilities,
    CommentRef,
    IssueRef,
    RateLimited,
    Report,
    Unavailable,
    UnknownOutcome,
)
from pointsman.storage import storm
from pointsman.storage.lanes import Lanes
from pointsman.tickets.routes import Match, Route
from pointsman.tickets.ticket import TicketKind
from simulation.loop import REPLICA, Loop
from simulation.memory import HEAD_ONLY, LEASED, PENDING, Memory, Place

LEASE_SECONDS, TIMEOUT_SECONDS, SETTLE_SECONDS, LATENESS_SECONDS = 30.0, 5.0, 6.0, 4.0
LOOK_SECONDS, SLACK_SECONDS = 1.3, 0.6
"""Within so long somebody looks for what is due; the slack is what statements take."""
READS = frozenset({"destinations_in_turn", "heads_of_lanes", "known_keys", "lanes_of_tickets", "lock_lane"})


@dataclass(frozen=True)
class Off:
    """Safeguards that are switched off."""

    find: bool = False
    fence: bool = False
    settle: bool = False
    intent: bool = False


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    replicas: int = 3
    tickets: int = 6
    places: int = 2
    comments: int = 3
    trouble_seconds: float = 60.0
    patience_seconds: float = 1800.0
    kills: int = 4
    pauses: int = 6
    restarts: int = 1
    outages: int = 1
    tracker_trouble: float = 0.5
    database_trouble: float = 0.03
    plain_errors: bool = False
    """Whether the database may fail with errors that are not the driver's own: time-outs, resets."""
    limit: Budget | None = None
    width: int = 128
    off: Off = field(default_factory=Off)


@dataclass
class Result:
    """What became of it."""

    seed: int
    accepted: int = 0
    effects: int = 0
    lost: int = 0
    duplicates: int = 0
    misordered: int = 0
    stuck: int = 0
    virtual_seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicates or self.misordered or self.stuck or self.broken)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: lost {self.lost}, duplicate {self.duplicates}, misordered {self.misordered}, "
            f"stuck {self.stuck}, broken {self.broken[:3]}"
        )


class Gone(asyncio.CancelledError):
    """The replica that asked is dead."""


class Store:
    """The one database, as a server: a statement that reached it is carried out, whatever became of its sender."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = Memory(lambda: world.loop.now, world.uuid)
        self.down_until = 0.0
        self.owner: Connection | None = None
        """Who has a transaction open; the others wait, as they would for locks."""
        self.kept: dict[str, Any] | None = None
        self.free: list[asyncio.Future[None]] = []
        self.last_look = 0.0

    def begin(self, owner: Connection) -> None:
        # nobody is there any more to end it
        there = any(one.name == owner.replica and one.alive for one in self.world.replicas)
        if owner.closed or not there:
            raise ConnectionResetError
        self.owner, self.kept = owner, None

    def end(self, owner: Connection, *, commit: bool) -> None:
        if self.owner is owner:
            if not commit and self.kept is not None:
                self.memory.come_back(self.kept)
            self.owner = None
            for one in self.free:
                if not one.done():
                    one.set_result(None)
            self.free.clear()

    def run(self, sql: str, args: tuple[Any, ...], who: str) -> list[dict[str, Any]]:
        name = sql[3 : sql.index(" ", 3)]
        if self.owner is not None and self.kept is None and name not in READS:
            self.kept = self.memory.kept()
        rows = self.memory.run(sql, args)
        if name == "anything_to_do":
            self.last_look = self.world.loop.now
            if not rows[0]["due"] and not rows[0]["lapsed"]:
                return rows
        self.world.say(f"{who} {name} -> {len(rows)}")
        try:
            self.memory.check()
        except AssertionError as error:
            self.world.broken(f"after {name}: {error}")
        return rows


class Connection:
    """The ``Database`` of one replica: statements take a while, and now and then the connection breaks."""

    def __init__(self, world: World, replica: str) -> None:
        self.world = world
        self.replica = replica
        self.closed = False

    async def _ask(self, do: Any, *, inside: bool = False) -> Any:
        """Let the server do something; its answer comes a while later, or never."""
        world, store, dice = self.world, self.world.store, self.world.dice
        answer: asyncio.Future[Any] = world.loop.create_future()
        broken = dice.random() < world.database_trouble
        before = broken and dice.random() < 0.5
        there, back = dice.uniform(0.0005, 0.02), dice.uniform(0.0005, 0.02)

        def tell(result: Any, error: BaseException | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error is not None else answer.set_result(result)

        async def serve() -> None:
            await asyncio.sleep(there)
            result, error = None, None
            if world.loop.now < store.down_until:
                error = ConnectionRefusedError("the database is away")
            elif before:
                error = self._break()
            else:
                while not inside and store.owner is not None:
                    free = world.loop.create_future()
                    store.free.append(free)
                    await free
                try:
                    if inside and store.owner is not self:
                        raise asyncpg.IdleInTransactionSessionTimeoutError("the transaction was ended")
                    result = do()
                except Exception as raised:  # noqa: BLE001
                    error = raised
                if broken and error is None:
                    error = self._break()
            await asyncio.sleep(back)
            tell(result, error)

        world.outside(serve())
        return await answer

    def _break(self) -> BaseException:
        self.world.happened["database error"] += 1
        self.world.store.end(self, commit=False)
        kind = self.world.dice.randrange(4)
        if self.world.plan.plain_errors and kind < 2:
            return TimeoutError() if kind == 0 else ConnectionResetError("connection lost")
        return asyncpg.ConnectionDoesNotExistError("connection lost")

    async def fetch(self, sql: str, *args: Any, inside: bool = False) -> list[dict[str, Any]]:
        return await self._ask(lambda: self.world.store.run(sql, args, self.replica), inside=inside)

    async def fetchrow(self, sql: str, *args: Any, inside: bool = False) -> dict[str, Any] | None:
        return next(iter(await self.fetch(sql, *args, inside=inside)), None)

    async def fetchval(self, sql: str, *args: Any, inside: bool = False) -> Any:
        row = await self.fetchrow(sql, *args, inside=inside)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any, inside: bool = False) -> None:
        await self.fetch(sql, *args, inside=inside)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Inside]:
        # a session of its own, as a pool gives one
        session = Connection(self.world, self.replica)
        store = self.world.store
        self.world.sessions.append(session)
        try:
            await session._ask(lambda: store.begin(session))
            yield Inside(session)
            await session._ask(lambda: store.end(session, commit=True), inside=True)
        finally:
            session.closed = True
            store.end(session, commit=False)


class Inside:
    """A connection inside its transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        return await self._session.fetch(sql, *args, inside=True)

    async def fetchrow(self, sql: str, *args: Any) -> dict[str, Any] | None:
        return next(iter(await self.fetch(sql, *args)), None)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = await self.fetchrow(sql, *args)
        return next(iter(row.values())) if row is not None else None

    async def execute(self, sql: str, *args: Any) -> None:
        await self.fetch(sql, *args)


class Tracker:
    """A place where issues live, with its log of effects. What reached it takes effect whoever still listens."""

    def __init__(self, world: World, destination_id: int) -> None:
        self.world = world
        self.destination_id = destination_id
        settle = 0.0 if world.plan.off.settle else SETTLE_SECONDS
        self.capabilities = Capabilities(
            find=True,
            settle_seconds=(settle,),
            request_timeout_seconds=TIMEOUT_SECONDS,
            budgets=(world.plan.limit,) if world.plan.limit else (),
        )
        self.effects: list[tuple[str, str, str]] = []
        """Kind, issue and marker, in the order in which they took effect."""
        self.calls: list[float] = []
        self.down_until = 0.0

    def _issues(self, marker: str) -> list[IssueRef]:
        return [IssueRef(issue, issue) for kind, issue, m in self.effects if kind == "create" and m == marker]

    async def create_issue(self, draft: Any) -> IssueRef:
        return await self._write("create", None, draft.marker.text)

    async def add_comment(self, issue: IssueRef, body: str, marker: Any) -> CommentRef:
        return await self._write("comment", issue.remote_id, marker.text)

    async def find_issue(self, marker: Any, since: dt.datetime) -> list[IssueRef]:
        return await self._read(lambda: self._issues(marker.text))

    async def find_comment(self, issue: IssueRef, marker: Any, since: dt.datetime) -> list[CommentRef]:
        return await self._read(
            lambda: [
                CommentRef(f"{i}:{m}")
                for kind, i, m in self.effects
                if kind == "comment" and i == issue.remote_id and m == marker.text
            ]
        )

    async def _read(self, look: Any) -> Any:
        dice = self.world.dice
        await asyncio.sleep(dice.uniform(0.01, 0.3))
        if self.world.loop.now < self.down_until or dice.random() < self.world.tracker_trouble / 2:
            raise Unavailable("no answer")
        return [] if self.world.plan.off.find else look()

    async def _write(self, kind: str, issue: str | None, marker: str) -> Any:
        """One request that changes something."""
        world, dice = self.world, self.world.dice
        world.sent(self, marker)
        self.calls.append(world.loop.now)
        takes, roll = dice.uniform(0.01, 0.4), dice.random()
        trouble = world.tracker_trouble
        if world.loop.now < self.down_until:
            await asyncio.sleep(takes)
            raise Unavailable("connection refused")
        kinds = ("refused", "limited", "answer lost", "never came", "late", "error after", "error before")
        what = kinds[int(roll / trouble * len(kinds))] if trouble and roll < trouble else "well"
        world.happened[what] += 1
        made: asyncio.Future[Any] = world.loop.create_future()

        async def apply(after: float) -> None:
            await asyncio.sleep(after)
            ref = self._apply(kind, issue, marker)
            if not made.done():
                made.set_result(ref)

        match what:
            case "well":
                world.outside(apply(takes))
                await asyncio.sleep(takes)
                return await made
            case "refused":
                await asyncio.sleep(takes)
                raise Unavailable("503")
            case "limited":
                await asyncio.sleep(takes)
                raise RateLimited("429", retry_after=float(dice.randrange(1, 15)))
            case "answer lost" | "error after":
                world.outside(apply(takes))
                await asyncio.sleep(takes)
                raise UnknownOutcome("connection reset")
            case "error before":
                await asyncio.sleep(takes)
                raise UnknownOutcome("500")
            case "late":
                # it gives up at once, or after the time limit; the request goes its way
                gives_up = dice.choice((takes, TIMEOUT_SECONDS))
                world.outside(apply(gives_up + dice.uniform(0.0, LATENESS_SECONDS)))
                await asyncio.sleep(gives_up)
                raise UnknownOutcome("timed out")
            case _:
                await asyncio.sleep(TIMEOUT_SECONDS)
                raise UnknownOutcome("timed out")

    def _apply(self, kind: str, issue: str | None, marker: str) -> Any:
        if kind == "create":
            issue = f"{self.destination_id}-{len(self.effects) + 1}"
        assert issue is not None
        self.effects.append((kind, issue, marker))
        self.world.say(f"tracker {self.destination_id} {kind} {issue} {marker[4:12]}")
        return IssueRef(issue, issue) if kind == "create" else CommentRef(f"{issue}:{marker}")


class Replica:
    """One process of the service: what the composition root would build, as far as it is simulated."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        database: Any = Connection(world, name)
        self.holder = world.uuid()
        self.lanes = Lanes(database, self.holder, lease_seconds=LEASE_SECONDS)
        keeper: Any = world
        self.outbound = Outbound(
            database,
            self.lanes,
            keeper,
            base_url="",
            stopping=lambda: self.bus.stopping,
            budgets=Budgets(database),
        )
        self.bus = Bus(
            self.lanes, self.outbound.carry, width=world.plan.width, keep_every_seconds=LEASE_SECONDS / 4
        )
        self.acceptance = Acceptance(database, keeper, on_commit=self.bus.wake)
        self.stop = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(REPLICA.set, name)
        self.task = world.loop.create_task(self._main(), context=self.context)

    @property
    def awake(self) -> bool:
        return self.alive and self.name not in self.world.loop.held

    async def _main(self) -> None:
        async with self.bus.running(drain_seconds=5.0), self.acceptance.running():
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
                incoming = self.acceptance.incoming(
                    self.world.source,
                    Report(
                        action="commented" if n else "opened", fingerprint=f"t{ticket}", title="x", text=str(n)
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
            live.budgets = paces_of(tracker.capabilities.budgets, None)
            destinations[n] = live
            self.store.memory.places[n] = Place(n)
        self.current = Catalog(
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
        if error is not None and not isinstance(error, OSError | asyncpg.PostgresError | DatabaseError):
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
        if not (d.state == PENDING and d.in_doubt and d.attempts):
            self.broken(f"sent without an intent: {d.lane_id}/{d.seq}")
        if lane.state != LEASED or lane.holder != holder or (lane.lease_until or 0) <= self.loop.now:
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
        while self.loop.now < end and any(
            d.state == PENDING for d in self.store.memory.deliveries.values()
        ):
            await asyncio.sleep(1.0)
        await asyncio.sleep(LATENESS_SECONDS + TIMEOUT_SECONDS + 1.0)
        self._judge()

    def _moment(self) -> float:
        return self.dice.uniform(0.0, self.plan.trouble_seconds)

    async def _customer(self, ticket: int) -> None:
        """One ticket and its comments, each sent until somebody accepts it."""
        await asyncio.sleep(self._moment() / 2)
        for n in range(1 + self.plan.comments):
            while True:
                able = [one for one in self.replicas if one.alive and not one.stop.is_set()]
                try:
                    if not able:
                        raise DatabaseError("nobody is there")
                    await self.dice.choice(able).report(ticket, n)
                    break
                except (TimeoutError, DatabaseError, Overloaded):
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
                one.awake and not one.stop.is_set() and one.bus.held < self.plan.width for one in self.replicas
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

    # -- the oracle --------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Accepted less effects, effects beyond the first, order within each lane, and what is left over."""
        result, memory = self.result, self.store.memory
        result.virtual_seconds = self.loop.now
        for tracker in self.trackers.values():
            first: dict[str, int] = {}
            for at, (_, _, marker) in enumerate(tracker.effects):
                result.effects += 1
                if marker in first:
                    result.duplicates += 1
                first.setdefault(marker, at)
            issues = {marker: issue for _, issue, marker in reversed(tracker.effects)}
            for lane in memory.lanes.values():
                if lane.destination_id != tracker.destination_id:
                    continue
                of_lane = sorted(
                    (d for d in memory.deliveries.values() if d.lane_id == lane.id), key=lambda d: d.event_n
                )
                result.stuck += sum(d.state == PENDING for d in of_lane)
                if HEAD_ONLY["retry_delivery"]:
                    result.stuck += sum(d.state != PENDING and d.in_doubt for d in of_lane)
                texts = [self.current.marker_text(d.marker) for d in of_lane]
                result.lost += sum(text not in first for text in texts)
                places = [first[text] for text in texts if text in first]
                result.misordered += sum(a > b for a, b in zip(places, places[1:], strict=False))
                result.misordered += len({issues[text] for text in texts if text in first}) > 1
            if self.plan.limit is not None:
                self._judge_limit(tracker, self.plan.limit)
        promised = result.accepted * self.plan.places
        result.lost += max(0, promised - len(memory.deliveries))
        result.stuck += sum(lane.state != 0 for lane in memory.lanes.values())

    def _judge_limit(self, tracker: Tracker, limit: Budget) -> None:
        calls = sorted(tracker.calls)
        start = 0
        for end, at in enumerate(calls):
            while calls[start] <= at - limit.seconds:
                start += 1
            if end - start + 1 > limit.calls:
                self.broken(f"{end - start + 1} writes within {limit.seconds:g} s")
                return


@contextlib.contextmanager
def _on_the_clock_of(world: World) -> Iterator[None]:
    """Time, dice and new ids are the world's."""
    clock = lambda: world.loop.now  # noqa: E731
    with (
        mock.patch.object(time, "monotonic", clock),
        mock.patch.object(breaker.Recent.__init__, "__defaults__", (clock,)),
        mock.patch.object(random, "random", world.dice.random),
        mock.patch.object(random, "uniform", world.dice.uniform),
        mock.patch.object(acceptance, "uuid7", world.uuid),
        mock.patch.object(storm, "uuid7", world.uuid),
    ):
        yield


def _switch_off(world: World) -> None:
    """Take safeguards away from the store, as broken statements would."""
    memory, off = world.store.memory, world.plan.off
    if off.find:
        memory.sightings_of = lambda *_: []  # type: ignore[method-assign]
    if off.fence:
        memory._mine = lambda lane_id, _: memory.lanes.get(lane_id)  # type: ignore[method-assign]
    if off.intent:
        written = memory.write_intents

        def forget(*columns: Any) -> Any:
            return written(*columns[:3], [False] * len(columns[0]), *columns[4:])

        memory.write_intents = forget  # type: ignore[method-assign]


def live(seed: int, plan: Plan | None = None) -> Result:
    """One life of a world."""
    world = World(seed, _varied(seed, plan or Plan()))
    _switch_off(world)
    loop = world.loop
    asyncio.set_event_loop(None)
    with _on_the_clock_of(world):
        try:
            loop.run_until_complete(world._story())
        finally:
            _clean_up(world)
    return world.result


def _varied(seed: int, plan: Plan) -> Plan:
    """No two worlds alike: how much of each kind of trouble comes from the seed too."""
    dice = random.Random(seed ^ 0x5EED)
    return replace(
        plan,
        replicas=dice.randint(1, plan.replicas),
        kills=dice.randint(0, plan.kills),
        pauses=dice.randint(0, plan.pauses),
        restarts=dice.randint(0, plan.restarts),
        outages=dice.randint(0, plan.outages),
        tracker_trouble=dice.choice((0.0, plan.tracker_trouble / 3, plan.tracker_trouble)),
        database_trouble=dice.choice((0.0, plan.database_trouble)),
        limit=plan.limit or dice.choice((None, None, Budget("all", 30, 60.0))),
        width=dice.choice((2, plan.width)),
    )


def _clean_up(world: World) -> None:
    """Everything that still runs is cancelled, the dead included, and nothing of it is heard any more."""
    loop = world.loop
    loop.on_error = lambda _: None
    for held in loop.held.values():
        loop._ready.extend(held)
    loop.held.clear()
    world.store.down_until = float("inf")
    for _ in range(20):
        tasks = [one for one in asyncio.all_tasks(loop) if not one.done() and not one.cancelling()]
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(30.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    loop.kept.clear()


__all__ = ["Off", "Plan", "Result", "live"]
