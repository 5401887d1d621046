"""The intake transaction on a real PostgreSQL: throttling, coalesced updates, and concurrent batches on the same tickets."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Sequence

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database_server import cloned_database
from pointsman.bus.publish import publish
from pointsman.crypto import sha256
from pointsman.domain.states import TicketKind
from pointsman.domain.ticket import Changes, DeliveryTargets, PlannedDelivery, Ticket, apply_state
from pointsman.intake import transaction
from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.plugin_api import Report
from pointsman.storage import delivery_writer
from pointsman.storage.db import Database, Row
from pointsman.storage.errors import TransactionConflict
from pointsman.storage.ids import uuid7
from pointsman.storage.queue import Lanes
from pointsman.storage.ticket_throttle import throttled_tickets_for

NAMESPACE = uuid.UUID("0192aaaa-0000-7000-8000-00000000000a")


def marker_of(ticket: Ticket, delivery: PlannedDelivery) -> uuid.UUID:
    parts = (ticket.fingerprint, delivery.destination_id, delivery.kind, delivery.event_n)
    return uuid.uuid5(NAMESPACE, "\n".join(map(str, parts)))


class Shop:
    """A source of alerts with two destinations; ``allowed`` new tickets a minute."""

    def __init__(self, database: Database, allowed: int = 0) -> None:
        self.database = database
        self.allowed = allowed
        self.source_id = self.here = self.there = 0
        self.throttle_started: list[str] = []

    async def open(self) -> Shop:
        statement = "insert into source (slug, kind) values ('shop', 'bugsink') returning id"
        self.source_id = await self.database.fetchval(statement)
        ids = await self.database.fetch(
            "insert into destination (slug, tracker) values ('here', 'folder'), ('there', 'folder') returning id"
        )
        self.here, self.there = (row["id"] for row in ids)
        await self.database.execute(
            "insert into destination_state (destination_id) select id from destination on conflict do nothing"
        )
        return self

    def report(
        self, fingerprint: str, action: str = "opened", *routed: int, person: bool = False
    ) -> Incoming:
        report_id = uuid7()
        report = Report(action=action, fingerprint=fingerprint, title=f"It fails: {fingerprint}")
        return Incoming(
            report_id=report_id,
            source_id=self.source_id,
            key_hash=sha256(report_id.bytes),
            body=b"{}",
            body_sha256=sha256(b"{}"),
            headers={},
            ticket_kind=TicketKind.SUPPORT if person else TicketKind.ALERT,
            report=report,
            destination_ids=routed or (self.here,),
            new_ticket_id=uuid7(),
            source_slug="shop",
            ticket_rate_limit=0 if person else self.allowed,
        )

    async def accept(self, *batch: Incoming, database: Database | None = None) -> list[ReportResult]:
        """Accept one batch; repeat it after a conflict, as the service does."""
        while True:
            try:
                accepted = await transaction.accept(database or self.database, batch, marker_of, None)
            except TransactionConflict:
                continue
            self.throttle_started += accepted.throttle_started
            return accepted.reports

    async def opens(self, *fingerprints: str) -> list[uuid.UUID]:
        return [
            report.ticket_id
            for report in await self.accept(*map(self.report, fingerprints))
            if report.ticket_id
        ]

    async def recur(self, fingerprint: str, action: str = "opened") -> None:
        await self.accept(self.report(fingerprint, action))

    async def pass_minutes(self, minutes: float) -> None:
        """Move stored times into the past, since the database's clock can't be set."""
        await self.database.execute(
            "update ticket_rate_window set started_at = started_at - $1::interval",
            dt.timedelta(minutes=minutes),
        )

    async def tickets(self) -> dict[str, Row]:
        return {
            row["fingerprint"]: row for row in await self.database.fetch("select * from ticket order by id")
        }

    async def parent(self) -> Row:
        [summary] = [row for name, row in (await self.tickets()).items() if name.startswith("throttle:")]
        return summary

    async def lane(self, ticket_id: uuid.UUID) -> Row | None:
        return await self.database.fetchrow("select * from lane where ticket_id = $1", ticket_id)

    async def deliveries(self, ticket_id: uuid.UUID) -> list[tuple]:
        rows = await self.database.fetch(
            "select d.* from delivery d join lane l on l.id = d.lane_id where l.ticket_id = $1 order by lane_id, seq",
            ticket_id,
        )
        return [(row["seq"], row["kind"], row["event_n"], row["coalesced_count"]) for row in rows]

    async def events(self, ticket_id: uuid.UUID) -> list[str]:
        rows = await self.database.fetch("select kind from event where ticket_id = $1 order by n", ticket_id)
        return [row["kind"] for row in rows]

    async def deliver(self, times: int = 1) -> None:
        """Whoever works the lanes does so many deliveries."""
        for _ in range(times):
            await self.database.execute("update lane set due_at = now() where state = 1")
            await self.database.execute(
                "update delivery d set state = 1, first_sent_at = now(), done_at = now() from lane l"
                " where l.id = d.lane_id and d.seq = l.head_seq and l.state = 1"
            )
            await self.database.execute(
                "update lane set head_seq = head_seq + 1, state = case when head_seq + 1 = next_seq then 0 else 1 end"
                " where state = 1"
            )

    async def close(self, ticket_id: uuid.UUID, seen_at: int | None = None) -> None:
        async with self.database.transaction() as con:
            ticket = await delivery_writer.lock_ticket(con, ticket_id)
            targets = DeliveryTargets(
                (await delivery_writer.lock_tracker_destinations(con, [ticket_id]))[ticket_id], None
            )
            changes = Changes()
            apply_state(
                ticket, "closed", None, targets, changes, except_destination=seen_at, actor={"by": "ann"}
            )
            await publish(con, changes, {ticket_id: ticket}, marker_of)


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await Shop(database, allowed=3).open()


async def gaps(database: Database) -> list[Row]:
    """Lanes whose numbers are not 1, 2, 3 and so on, or do not fit their counters."""
    return await database.fetch(
        "select l.id, l.next_seq, array_agg(d.seq order by d.seq) as seqs from lane l left join delivery d on d.lane_id = l.id"
        " group by l.id having coalesce(max(d.seq), 0) <> l.next_seq - 1 or count(d.seq) <> l.next_seq - 1"
    )


# -- throttling ----------------------------------------------------------------------------------------------------


async def test_what_a_minute_allows_has_issues_and_the_rest_is_listed_in_one(shop: Shop):
    ids = await shop.opens(*"abcde")
    assert len(set(ids)) == 5
    tickets, parent = await shop.tickets(), await shop.parent()
    assert [tickets[name]["summary_ticket_id"] for name in "abcde"] == [
        None,
        None,
        None,
        parent["id"],
        parent["id"],
    ]
    assert [await shop.lane(tickets[name]["id"]) is None for name in "abcde"] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert await shop.deliveries(parent["id"]) == [(1, 1, 1, 0)]
    assert (parent["kind"], parent["occurrences"], parent["next_event"]) == (TicketKind.ALERT, 2, 2)
    assert await shop.events(tickets["d"]["id"]) == ["opened"], "held back, but as well known as any"
    assert shop.throttle_started == ["shop"]


async def test_a_throttle_has_one_summary_however_many_batches_come_in(shop: Shop):
    for n in range(12):
        await shop.opens(f"p{n}")
    parent = await shop.parent()
    assert parent["occurrences"] == 9
    assert await shop.deliveries(parent["id"]) == [(1, 1, 1, 0)], "its issue, not sent yet, will tell of all"
    assert shop.throttle_started == ["shop"]


async def test_a_throttle_that_continues_adds_one_comment_that_waits_for_the_end_of_the_minute(shop: Shop):
    await shop.opens(*"abcd")
    parent = (await shop.parent())["id"]
    await shop.deliver()
    await shop.opens("e")
    await shop.opens("f")
    assert await shop.deliveries(parent) == [(1, 1, 1, 0), (2, 2, 2, 0)]
    wait = "select due_at - (select started_at from ticket_rate_window) as wait, state from lane where ticket_id = $1"
    lane = await shop.database.fetchrow(wait, parent)
    assert (lane["wait"], lane["state"]) == (dt.timedelta(minutes=1), 1)
    result = await throttled_tickets_for(shop.database, parent, shop.here)
    assert (result.total, [title for _, title in result.tickets]) == (
        3,
        [f"It fails: {name}" for name in "fed"],
    )
    await shop.deliver()
    await shop.opens("g")
    assert await shop.deliveries(parent) == [(1, 1, 1, 0), (2, 2, 2, 0), (3, 2, 3, 0)]


async def test_what_is_being_sent_right_now_tells_nothing_new_any_more(shop: Shop):
    """A leased lane's head may be written already: what comes now needs news of its own."""
    await shop.opens(*"abcd")
    parent = (await shop.parent())["id"]
    await shop.database.execute(
        "update lane set state = 2, lease_id = gen_random_uuid(), lease_until = now() + '1 minute' where ticket_id = $1",
        parent,
    )
    await shop.opens("e")
    await shop.opens("f")
    assert await shop.deliveries(parent) == [(1, 1, 1, 0), (2, 2, 2, 0)]


async def test_titles_are_listed_only_where_their_tickets_would_have_gone(shop: Shop):
    await shop.opens(*"abc")
    await shop.accept(shop.report("open", "opened", shop.here), shop.report("hidden", "opened", shop.there))
    parent = (await shop.parent())["id"]
    targets = await shop.database.fetch(
        "select destination_id from lane where ticket_id = $1 order by id", parent
    )
    assert [row["destination_id"] for row in targets] == [shop.here, shop.there]
    for place, title in ((shop.here, "It fails: open"), (shop.there, "It fails: hidden")):
        assert [
            ticket for _, ticket in (await throttled_tickets_for(shop.database, parent, place)).tickets
        ] == [title]


async def test_support_tickets_and_those_that_go_nowhere_are_never_throttled(shop: Shop):
    await shop.accept(*(shop.report(f"p{n}", person=True) for n in range(10)))
    nowhere = [shop.report(f"n{n}") for n in range(10)]
    for name in nowhere:
        name.destination_ids = ()
    await shop.accept(*nowhere)
    assert {row["summary_ticket_id"] for row in (await shop.tickets()).values()} == {None}
    assert await shop.database.fetchval("select count(*) from ticket_rate_window") == 0, (
        "and nothing is locked for them"
    )


async def test_an_allowance_of_nothing_is_no_cap(shop: Shop):
    shop.allowed = 0
    await shop.opens(*"abcdefghij")
    assert await shop.database.fetchval("select count(*) from lane") == 10


async def test_the_next_minute_admits_as_many_again_and_a_calm_one_ends_the_throttle(shop: Shop):
    await shop.opens(*"abcd")
    first = (await shop.parent())["id"]
    await shop.pass_minutes(1)
    await shop.opens(*"efgh")
    tickets = await shop.tickets()
    assert tickets["g"]["summary_ticket_id"] is None
    assert tickets["h"]["summary_ticket_id"] == first, "the throttle continues"
    await shop.pass_minutes(1)
    await shop.opens("i")
    await shop.pass_minutes(1)
    await shop.opens(*"jklm")
    assert (await shop.tickets())["m"]["summary_ticket_id"] not in (None, first), "a throttle of its own"


@pytest.mark.parametrize("action", ["opened", "regressed"])
async def test_a_throttled_problem_that_recurs_after_the_throttle_gets_its_issue(shop: Shop, action: str):
    await shop.opens(*"abcde")
    parent = (await shop.parent())["id"]
    await shop.recur("d", action)
    throttled = (await shop.tickets())["d"]
    assert (throttled["summary_ticket_id"], throttled["occurrences"]) == (parent, 2), (
        "counted, and still held"
    )
    assert await shop.lane(throttled["id"]) is None
    await shop.pass_minutes(3)
    await shop.recur("d", action)
    throttled = (await shop.tickets())["d"]
    assert (throttled["summary_ticket_id"], throttled["occurrences"]) == (None, 3)
    assert [kind for _, kind, _, _ in await shop.deliveries(throttled["id"])] == [1]
    assert "released" in await shop.events(throttled["id"])
    assert (await throttled_tickets_for(shop.database, parent, shop.here)).total == 1


async def test_not_more_of_them_come_back_than_a_minute_allows(shop: Shop):
    names = [f"p{n}" for n in range(10)]
    await shop.opens(*names)
    await shop.pass_minutes(3)
    await shop.accept(*map(shop.report, names))
    throttled = [
        row["summary_ticket_id"] is not None for name, row in (await shop.tickets()).items() if name in names
    ]
    assert sum(throttled) == 7 - 3
    assert await shop.database.fetchval("select opened from ticket_rate_window") == 3


async def test_closing_the_parent_closes_what_it_lists_each_with_an_event(shop: Shop):
    await shop.opens(*"abcde")
    parent = await shop.parent()
    await shop.deliver()
    await shop.close(parent["id"])
    tickets = await shop.tickets()
    assert [tickets[name]["status"] for name in "abcde"] == [1, 1, 1, 2, 2]
    assert await shop.events(tickets["d"]["id"]) == ["opened", "closed"]
    data = await shop.database.fetchval(
        "select data::text from event where ticket_id = $1 and n = 2", tickets["d"]["id"]
    )
    assert str(parent["id"]) in data and "ann" in data
    await shop.pass_minutes(3)
    await shop.recur("d")
    repeated = (await shop.tickets())["d"]
    assert (repeated["status"], repeated["close_reason"], repeated["closed_at"]) == (1, None, None)
    assert [kind for _, kind, _, _ in await shop.deliveries(repeated["id"])] == [1]


async def test_a_summary_closed_in_the_midst_of_its_throttle_is_reopened_by_the_next(shop: Shop):
    await shop.opens(*"abcd")
    await shop.deliver()
    parent = (await shop.parent())["id"]
    await shop.close(parent)
    await shop.deliver()
    await shop.opens("e")
    assert (await shop.parent())["status"] == 1
    assert [kind for _, kind, _, _ in await shop.deliveries(parent)] == [1, 3, 4, 2]


async def test_a_ticket_that_is_reported_while_its_parent_closes_is_passed_over(shop: Shop):
    """A transaction that locks a listed ticket is not waited for: it may wait for the summary."""
    await shop.opens(*"abcde")
    parent = (await shop.parent())["id"]
    throttled = (await shop.tickets())["d"]["id"]
    async with shop.database.transaction() as con:
        assert await delivery_writer.lock_ticket(con, throttled) is not None
        await shop.close(parent)
    tickets = await shop.tickets()
    assert (tickets["d"]["status"], tickets["e"]["status"]) == (1, 2)


def fail(*_: object) -> None:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("throttled", [False, True])
async def test_a_report_that_can_not_be_decided_on_stays_new(
    shop: Shop, throttled: bool, monkeypatch: pytest.MonkeyPatch
):
    if throttled:
        await shop.opens(*"xyz")
    with monkeypatch.context() as broken:
        broken.setattr(transaction, "apply_report", fail)
        [answer] = await shop.accept(shop.report("a"))
    assert answer.parked
    assert (await shop.tickets())["a"]["next_event"] == 1
    await shop.pass_minutes(3)
    await shop.opens("a")
    result = (await shop.tickets())["a"]
    assert await shop.events(result["id"]) == ["opened"]
    assert [kind for _, kind, _, _ in await shop.deliveries(result["id"])] == [1]
    assert result["summary_ticket_id"] is None


# -- updates that repeat -------------------------------------------------------------------------------------------


async def test_fifty_updates_that_were_not_sent_are_one_comment(shop: Shop):
    [ticket] = await shop.opens("a")
    await shop.deliver()
    for _ in range(50):
        await shop.recur("a", "regressed")
    assert await shop.deliveries(ticket) == [(1, 1, 1, 0), (2, 2, 51, 49)]
    assert len(await shop.events(ticket)) == 51, "every one of them stands in the ticket"
    marker = await shop.database.fetchval("select marker from delivery where seq = 2")
    [result] = [row for row in (await shop.tickets()).values() if row["fingerprint"] == "a"]
    wanted = PlannedDelivery(result["id"], shop.here, 51, 2)
    assert marker == marker_of(Ticket(result["id"], 1, TicketKind.ALERT, "a", 1, 1, None, 1), wanted)


async def test_updates_of_one_batch_are_one_comment_too(shop: Shop):
    [ticket] = await shop.opens("a")
    await shop.deliver()
    await shop.accept(*(shop.report("a", "unmuted") for _ in range(5)))
    await shop.accept(*(shop.report("a", "unmuted") for _ in range(5)))
    assert await shop.deliveries(ticket) == [(1, 1, 1, 0), (2, 2, 11, 9)]


@pytest.mark.parametrize(
    "underway",
    [
        "update delivery set first_sent_at = now() where seq = 2",
        "update delivery set draft = '{}' where seq = 2",
        "update delivery set outcome_unknown = true where seq = 2",
        "update lane set state = 2, lease_id = gen_random_uuid(), lease_until = now() + '1 minute'",
    ],
    ids=["sent", "written", "in doubt", "in work"],
)
async def test_what_was_sent_or_is_in_work_is_left_alone(shop: Shop, underway: str):
    [ticket] = await shop.opens("a")
    await shop.deliver()
    await shop.recur("a", "regressed")
    await shop.database.execute(underway)
    await shop.recur("a", "regressed")
    await shop.recur("a", "regressed")
    assert await shop.deliveries(ticket) == [(1, 1, 1, 0), (2, 2, 2, 0), (3, 2, 4, 1)]
    assert await gaps(shop.database) == []


async def test_nothing_moves_past_a_persons_comment_or_a_change_of_state(shop: Shop):
    [ticket] = await shop.opens("a")
    await shop.deliver()
    await shop.recur("a", "regressed")
    await shop.recur("a", "commented")
    await shop.recur("a", "commented")
    await shop.recur("a", "regressed")
    assert await shop.deliveries(ticket) == [
        (1, 1, 1, 0),
        (2, 2, 2, 0),
        (3, 2, 3, 0),
        (4, 2, 4, 0),
        (5, 2, 5, 0),
    ]
    await shop.close(ticket)
    await shop.recur("a", "regressed")
    assert [(kind, n) for _, kind, n, _ in await shop.deliveries(ticket)][5:] == [(3, 6), (4, 7), (2, 7)]
    assert await gaps(shop.database) == []


async def test_nothing_moves_past_what_came_with_it(shop: Shop):
    [ticket] = await shop.opens("a")
    await shop.deliver()
    await shop.recur("a", "regressed")
    await shop.accept(shop.report("a", "commented"), shop.report("a", "regressed"))
    assert [(n, kind) for _, kind, n, _ in await shop.deliveries(ticket)] == [(1, 1), (2, 2), (3, 2), (4, 2)]
    await shop.close(ticket, seen_at=shop.here)
    await shop.recur("a", "recurred")
    assert [(n, kind) for _, kind, n, _ in await shop.deliveries(ticket)][4:] == [(6, 4), (6, 2)]


async def test_each_destination_collapses_for_itself(shop: Shop):
    await shop.accept(shop.report("a", "opened", shop.here, shop.there))
    await shop.deliver()
    await shop.recur("a", "regressed")
    await shop.database.execute(
        "update delivery d set first_sent_at = now() from lane l where l.id = d.lane_id and d.seq = 2"
        " and l.destination_id = $1",
        shop.here,
    )
    await shop.recur("a", "regressed")
    rows = await shop.database.fetch("select destination_id, next_seq from lane order by id")
    assert [tuple(row) for row in rows] == [(shop.here, 4), (shop.there, 3)]


# -- at once -------------------------------------------------------------------------------------------------------


async def test_batches_at_once_on_the_same_tickets_leave_no_gap_and_no_deadlock(dsn: str, shop: Shop):
    """Two replicas, the same few tickets in any order, a throttle, leased lanes: every number is there, once."""
    shop.allowed = 8
    # a deadlock is told as one before the wait for a lock runs out, which on a busy machine means nothing
    name = await shop.database.fetchval("select current_database()")
    await shop.database.execute(f"alter database {name} set deadlock_timeout = '50ms'")
    failed: list[BaseException] = []

    async def replica(n: int) -> None:
        async with Database.open(dsn, size=3) as database:

            async def batches(worker: int) -> None:
                for round_number in range(6):
                    seed = n * 100 + worker * 10 + round_number
                    names = [f"t{(seed * 7 + i * (3 if worker % 2 else 5)) % 12}" for i in range(6)]
                    names.append(f"new{seed}")
                    actions = ["opened", "regressed", "commented", "unmuted", "opened", "regressed", "opened"]
                    batch = [
                        shop.report(*pair, shop.here, shop.there) for pair in zip(names, actions, strict=True)
                    ]
                    try:
                        await transaction.accept(database, batch, marker_of, None)
                    except TransactionConflict as error:
                        if isinstance(error.__cause__, asyncpg.DeadlockDetectedError):
                            failed.append(error)
                        await shop.accept(*batch, database=database)

            await asyncio.gather(*(batches(worker) for worker in range(3)))

    async def works() -> None:
        lanes = Lanes(shop.database, uuid.uuid4())
        while not accepting.done():
            claimed = await lanes.claim(20)
            await lanes.renew(claimed)
            for lane in claimed:
                await lanes.release(lane)

    accepting = asyncio.gather(replica(1), replica(2))
    await asyncio.gather(accepting, works())
    assert failed == []
    assert await gaps(shop.database) == []
    wrong = "select id from ticket t where next_event - 1 <> (select count(*) from event e where e.ticket_id = t.id)"
    assert await shop.database.fetch(wrong) == []
    tickets = await shop.tickets()
    own = [
        row
        for name, row in tickets.items()
        if not name.startswith("throttle:") and row["summary_ticket_id"] is None
    ]
    assert len(own) == 8, "shared by all replicas"
    assert await shop.database.fetchval("select opened from ticket_rate_window") == len(tickets) - 1
    assert (
        sum(row["occurrences"] for name, row in tickets.items() if name.startswith("throttle:"))
        == len(tickets) - 9
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.sampled_from(["opened", "regressed", "unmuted", "commented"])),
        st.tuples(
            st.just("batch"), st.lists(st.sampled_from(["opened", "regressed", "commented"]), max_size=4)
        ),
        st.tuples(st.just("deliver"), st.none()),
        st.tuples(st.just("lease"), st.none()),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=steps)
def test_whatever_happens_a_lane_tells_its_events_in_order(server_dsn: str, template: str, drawn):
    """Against one database with a ticket for each example."""

    async def example() -> None:
        async for dsn in cloned_database(server_dsn, template):
            async with Database.open(dsn, size=2) as database:
                shop = await Shop(database).open()
                [ticket] = await shop.opens("a")
                await _walk(shop, ticket, drawn)

    asyncio.run(example())


async def _walk(shop: Shop, ticket: uuid.UUID, drawn: Sequence[tuple]) -> None:
    for step, how in drawn:
        if step == "report":
            await shop.recur("a", how)
        elif step == "batch" and how:
            await shop.accept(*(shop.report("a", action) for action in how))
        elif step == "deliver":
            await shop.database.execute(
                "update lane set state = 1, lease_id = null, lease_until = null where state = 2"
            )
            await shop.deliver()
        elif step == "lease":
            await shop.database.execute(
                "update lane set state = 2, lease_id = gen_random_uuid(), lease_until = now() + '1 minute' where state = 1"
            )
        elif step == "close":
            await shop.close(ticket)
    assert await gaps(shop.database) == []
    deliveries = await shop.deliveries(ticket)
    order = [(n, kind != 4) for _, kind, n, _ in deliveries]
    assert order == sorted(order), "a lane tells its events in their order, a reopening before its words"
    events = await shop.events(ticket)
    kinds = {
        n for n, kind in enumerate(events, 1) if kind in ("regressed", "unmuted", "recurred", "commented")
    }
    comments = [(n, coalesced_count) for _, kind, n, coalesced_count in deliveries if kind == 2]
    assert {n for n, _ in comments} <= kinds
    assert len(comments) + sum(coalesced_count for _, coalesced_count in comments) == len(kinds), (
        "each is told, or counted"
    )
    commented = {n for n, kind in enumerate(events, 1) if kind == "commented"}
    assert commented <= {n for n, _ in comments}, "a person's words are told as they are"


def test_what_is_written_as_json_reads_the_same():
    assert (
        delivery_writer.as_json({"text": 'ä\u2028"', "facts": [["a", "b"]]})
        == '{"text":"ä\u2028\\"","facts":[["a","b"]]}'
    )
