"""Recurring problems on a real PostgreSQL: new generations, thresholds and quiet hours, in batches and concurrently."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from typing import Any

import asyncpg
import pytest

from pointsman.bus.publish import publish
from pointsman.crypto import sha256
from pointsman.domain.routing import Match, Options, QuietHours, RecurrenceRule, Route, evaluate_history
from pointsman.domain.states import TicketKind
from pointsman.domain.ticket import Changes, DeliveryTargets, PlannedDelivery, Ticket, apply_state
from pointsman.intake import transaction
from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.intake.reprocessing import process_stored
from pointsman.plugin_api import Report
from pointsman.storage import intake, sources
from pointsman.storage.db import Database, Row
from pointsman.storage.delivery_writer import lock_ticket
from pointsman.storage.errors import TransactionConflict
from pointsman.storage.ids import uuid7
from pointsman.storage.leases import acquire_lease
from pointsman.storage.maintenance import run_maintenance
from pointsman.storage.queries import queries

NAMESPACE = uuid.UUID("0192aaaa-0000-7000-8000-00000000000b")
NEW = Options(recurrence=[RecurrenceRule(then="new")])
THREE = Match(occurrences=3, within="10m")


def marker_of(ticket: Ticket, delivery: PlannedDelivery) -> uuid.UUID:
    parts = (ticket.fingerprint, ticket.generation, delivery.destination_id, delivery.kind, delivery.event_n)
    return uuid.uuid5(NAMESPACE, "\n".join(map(str, parts)))


class Shop:
    """A source of alerts with one destination and the rules of the test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fit: tuple[Route, ...] = ()
        self.allowed = 0

    async def open(self) -> Shop:
        statement = "insert into source (slug, kind) values ('shop', 'bugsink') returning id"
        self.source_id = await self.database.fetchval(statement)
        statement = "insert into destination (slug, tracker) values ('here', 'folder') returning id"
        self.here = await self.database.fetchval(statement)
        await self.database.execute(
            "insert into destination_state (destination_id) values ($1) on conflict do nothing", self.here
        )
        self.rule()
        return self

    def rule(self, match: Match | None = None, options: Options | None = None) -> None:
        """The only rule there is."""
        self.fit = (Route(1, match or Match(), (self.here,), False, options or Options()),)

    def report(self, action: str = "opened", fingerprint: str = "a", **more: str) -> Incoming:
        report_id = uuid7()
        choice = evaluate_history(self.fit)
        return Incoming(
            report_id=report_id,
            source_id=self.source_id,
            key_hash=sha256(report_id.bytes),
            body=b"{}",
            body_sha256=sha256(b"{}"),
            headers={},
            ticket_kind=TicketKind.ALERT,
            report=Report(action=action, fingerprint=fingerprint, title="It fails", **more),
            destination_ids=choice.destinations,
            matched_routes=choice.routes or choice.pending,
            candidate_routes=self.fit if choice.pending else (),
            new_ticket_id=uuid7(),
            source_slug="shop",
            ticket_rate_limit=self.allowed,
        )

    async def accept(self, *batch: Incoming) -> list[ReportResult]:
        while True:
            try:
                return (await transaction.accept(self.database, batch, marker_of, None)).reports
            except TransactionConflict:
                continue

    async def recur(self, action: str = "opened", times: int = 1, **more: str) -> None:
        """So many reports in one batch."""
        await self.accept(*(self.report(action, **more) for _ in range(times)))

    async def close(self, reason: str = "completed", targets: tuple[int, ...] = ()) -> None:
        ticket_id = (await self.tickets())[-1]["id"]
        async with self.database.transaction() as con:
            ticket = await lock_ticket(con, ticket_id)
            assert ticket is not None
            changes = Changes()
            apply_state(
                ticket,
                "closed",
                reason,
                DeliveryTargets(targets, None),
                changes,
                except_destination=None,
                actor={},
            )
            await publish(con, changes, {ticket_id: ticket}, marker_of)

    async def pass_time(self, minutes: float) -> None:
        """Move stored times into the past, since the database's clock can't be set."""
        back = dt.timedelta(minutes=minutes)
        await self.database.execute(
            "update ticket set closed_at = closed_at - $1::interval, last_seen_at = last_seen_at - $1", back
        )
        await self.database.execute(
            "update below_threshold_ticket set counted_at = counted_at - $1::interval,"
            " occurred_at = (select array_agg(at - $1) from unnest(occurred_at) s(at))",
            back,
        )
        await self.database.execute(
            "update ticket_rate_window set started_at = started_at - $1::interval", back
        )

    async def deliver(self) -> None:
        """The trackers have everything, each ticket's issue under its own address."""
        await self.database.execute("update delivery set state = 1, first_sent_at = now(), done_at = now()")
        await self.database.execute("update lane set head_seq = next_seq, state = 0, due_at = now()")
        await self.database.execute(
            "insert into link (lane_id, destination_id, remote_id, remote_key, url)"
            " select id, destination_id, id, id, 'https://forge.example/' || ticket_id from lane on conflict do nothing"
        )

    async def tickets(self) -> list[Row]:
        return list(
            await self.database.fetch(
                "select * from ticket where fingerprint not like 'throttle:%' order by fingerprint, generation"
            )
        )

    async def ticket(self) -> Row:
        return (await self.tickets())[-1]

    async def events(self, ticket: Row | None = None) -> list[str]:
        ticket = ticket or await self.ticket()
        rows = await self.database.fetch(
            "select kind from event where ticket_id = $1 order by n", ticket["id"]
        )
        return [row["kind"] for row in rows]

    async def deliveries(self, ticket: Row | None = None) -> list[int]:
        ticket = ticket or await self.ticket()
        rows = await self.database.fetch(
            "select d.kind from delivery d join lane l on l.id = d.lane_id where l.ticket_id = $1 order by d.seq",
            ticket["id"],
        )
        return [row["kind"] for row in rows]

    async def opening(self, ticket: Row) -> dict:
        response = "select data::text from event where ticket_id = $1 and n = 1"
        return json.loads(await self.database.fetchval(response, ticket["id"]))


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await Shop(database).open()


# -- number of statements ------------------------------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that were sent, those of transactions left out."""
    sent: list[str] = []
    files = [queries(file) for file in ("intake", "delivery_writer", "ticket_throttle")]
    names = {file[name]: name for file in files for name in file}
    execute = asyncpg.Connection._execute

    def counted(con: asyncpg.Connection, query: str, *args: Any, **more: Any) -> Any:
        sent.append(names.get(query, "of the test"))
        return execute(con, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "_execute", counted)
    return sent


async def test_a_batch_takes_no_more_statements_where_nothing_asks_for_the_past(
    shop: Shop, statements: list[str]
):
    shop.rule(options=Options(recurrence=[RecurrenceRule(then="new")]))
    await shop.recur(times=3)
    assert statements == ["insert_report_keys", "upsert_tickets", "insert_changes"]
    statements.clear()
    await shop.recur(times=3)
    assert statements == ["insert_report_keys", "upsert_tickets", "insert_changes"]
    statements.clear()
    shop.rule()
    await shop.close("not_planned")
    statements.clear()
    await shop.recur(times=3)
    await shop.recur(times=3)
    assert statements == [
        "insert_report_keys", "upsert_tickets", "update_tickets", "insert_changes",
        "insert_report_keys", "upsert_tickets", "insert_changes",
    ]  # fmt: skip


# -- coming back ---------------------------------------------------------------------------------------------------


async def test_a_new_ticket_follows_the_old_one_and_says_where_its_issue_is(shop: Shop):
    shop.rule(options=NEW)
    await shop.recur(times=2)
    await shop.deliver()
    await shop.close()
    [accepted] = await shop.accept(shop.report("regressed"))
    old, new = await shop.tickets()
    assert accepted.ticket_id == new["id"]
    assert [
        (ticket["generation"], ticket["superseded"], ticket["status"], ticket["occurrences"])
        for ticket in (old, new)
    ] == [
        (1, True, 2, 2),
        (2, False, 1, 1),
    ]
    assert (await shop.events(old), await shop.events(new)) == (["opened", "closed", "succeeded"], ["opened"])
    assert (await shop.deliveries(old), await shop.deliveries(new)) == ([1], [1])
    issue = f"https://forge.example/{old['id']}"
    assert (await shop.opening(new))["earlier"] == {
        "ticket": str(old["id"]),
        "issues": {str(shop.here): issue},
    }
    await shop.recur()
    assert [ticket["occurrences"] for ticket in await shop.tickets()] == [2, 2], "it goes on with the new one"


async def test_several_in_one_batch_make_one_new_ticket_and_each_is_told_its_id(shop: Shop):
    shop.rule(options=NEW)
    await shop.recur()
    await shop.close()
    answers = await shop.accept(*(shop.report() for _ in range(5)))
    old, new = await shop.tickets()
    assert {accepted.ticket_id for accepted in answers} == {new["id"]}
    assert (old["occurrences"], new["occurrences"], new["next_event"]) == (1, 5, 2)
    assert await shop.deliveries(new) == [1]


async def test_over_and_back_within_one_batch(shop: Shop):
    shop.rule(options=NEW)
    over = {"close_reason": "completed"}
    answers = await shop.accept(
        shop.report(), shop.report("resolved", **over), shop.report(),
        shop.report("resolved", **over), shop.report(), shop.report(),
    )  # fmt: skip
    first, second, third = await shop.tickets()
    assert [accepted.ticket_id for accepted in answers] == [
        accepted["id"] for accepted in (first, first, second, second, third, third)
    ]
    assert [accepted["occurrences"] for accepted in (first, second, third)] == [1, 1, 2]
    assert [accepted["superseded"] for accepted in (first, second, third)] == [True, True, False]
    assert await shop.events(second) == ["opened", "resolved", "closed", "succeeded"]
    assert await shop.deliveries(third) == [1]


async def test_replicas_at_once_make_one_new_ticket(shop: Shop):
    shop.rule(options=NEW)
    await shop.recur()
    await shop.close()
    answers = await asyncio.gather(*(shop.accept(shop.report()) for _ in range(12)))
    old, new = await shop.tickets()
    assert {accepted.ticket_id for [accepted] in answers} == {new["id"]}
    assert (old["occurrences"], new["occurrences"]) == (1, 12)
    assert await shop.deliveries(new) == [1]


async def test_a_parked_report_begins_the_next_generation_when_it_is_run_again(shop: Shop):
    shop.rule(options=NEW)
    await shop.recur()
    await shop.close()
    parked = shop.report()
    kept, parked.report, parked.error = parked.report, None, "a defect"
    await shop.accept(parked)

    async with shop.database.transaction() as con:
        stored = await intake.lock_parked_report(con, parked.report_id)
        assert stored is not None
        parked.report = kept
        ticket_id = await process_stored(con, stored, [parked], marker_of, None)
    old, new = await shop.tickets()
    assert (ticket_id, new["generation"], old["occurrences"]) == (new["id"], 2, 1)


async def test_old_tickets_that_come_back_under_new_ones_are_not_told_to_the_source_any_more(shop: Shop):
    shop.rule(options=NEW)
    await shop.recur(problem_id="SHOP-1")
    await shop.close()
    await shop.recur(problem_id="SHOP-1")
    old, new = await shop.tickets()
    async with shop.database.transaction() as con:
        assert await sources.problem_of_ticket(con, old["id"], shop.here) is None
        named = await sources.problem_of_ticket(con, new["id"], shop.here)
        assert named is not None and named.problem == "SHOP-1"


async def test_more_of_them_than_a_minute_allows_are_listed_in_a_summary(shop: Shop):
    shop.rule(options=NEW)
    names = [f"p{n}" for n in range(4)]
    await shop.accept(*(shop.report(fingerprint=name) for name in names))
    await shop.database.execute("update ticket set status = 2, close_reason = 'completed', closed_at = now()")
    shop.allowed = 3
    await shop.accept(*(shop.report(fingerprint=name) for name in names))
    new = [name for name in await shop.tickets() if name["generation"] == 2]
    assert [name["summary_ticket_id"] is not None for name in new] == [False, False, False, True]


async def test_by_age(shop: Shop):
    shop.rule(options=Options(recurrence=[RecurrenceRule(then="new", closed_for="24h")]))
    await shop.recur()
    await shop.close()
    await shop.pass_time(24 * 60 - 1)
    await shop.recur()
    assert [ticket["generation"] for ticket in await shop.tickets()] == [1]
    await shop.close()
    await shop.pass_time(24 * 60)
    await shop.recur()
    assert [ticket["generation"] for ticket in await shop.tickets()] == [1, 2]


async def test_by_release_the_last_one_reported_while_it_was_open(shop: Shop):
    same = [RecurrenceRule(then="ignore", release="same"), RecurrenceRule(then="reopen", release="other")]
    shop.rule(options=Options(recurrence=same))
    await shop.recur(release="1")
    await shop.recur(release="2")
    await shop.recur()
    await shop.close()
    await shop.recur(release="2")
    assert await shop.events() == ["opened", "closed", "ignored"]
    await shop.recur(release="1")
    assert (await shop.events())[3:] == ["recurred"]
    await shop.close()
    await shop.recur(release="1")
    assert (await shop.events())[4:] == ["closed", "ignored"], "it was open with 1 just before"
    assert (await shop.ticket())["release"] == "1"


async def test_a_frequent_problem_closed_as_not_planned_is_one_event_and_is_counted(shop: Shop):
    await shop.recur()
    await shop.deliver()
    await shop.close("not_planned")
    for _ in range(3):
        await shop.recur(times=5)
    await shop.recur("regressed")
    ticket = await shop.ticket()
    assert (ticket["occurrences"], ticket["status"], ticket["close_reason"]) == (17, 2, "not_planned")
    assert await shop.events() == ["opened", "closed", "ignored"]
    assert await shop.deliveries() == [1]


async def test_a_duplicate_gets_one_comment_and_stays_closed(shop: Shop):
    await shop.recur()
    await shop.deliver()
    await shop.close("duplicate")
    await shop.recur(times=5)
    await shop.recur()
    assert await shop.deliveries() == [1, 2]
    assert ((await shop.ticket())["status"], await shop.events()) == (2, ["opened", "closed", "recurred"])


# -- thresholds ----------------------------------------------------------------------------------------------------


async def test_below_its_threshold_a_problem_is_counted_and_then_posted_once(shop: Shop):
    shop.rule(THREE)
    for _ in range(2):
        await shop.recur()
    throttled = await shop.ticket()
    assert (throttled["below_threshold"], throttled["occurrences"], await shop.deliveries()) == (True, 2, [])
    for _ in range(3):
        await shop.recur()
    ticket = await shop.ticket()
    assert (ticket["below_threshold"], ticket["occurrences"], await shop.deliveries()) == (False, 5, [1])
    assert await shop.events() == ["opened", "threshold_reached"]


@pytest.mark.parametrize("batches", [[5], [1, 4], [2, 1, 2], [3, 2]])
async def test_a_batch_counts_each_of_its_reports(shop: Shop, batches: list[int]):
    shop.rule(THREE)
    for times in batches:
        await shop.recur(times=times)
    assert await shop.deliveries() == [1]
    assert await shop.events() == ["opened", "threshold_reached"]
    response = "select data::text from event where kind = 'threshold_reached'"
    assert json.loads(await shop.database.fetchval(response))["times"] == 3


async def test_what_was_long_ago_does_not_count(shop: Shop):
    shop.rule(THREE)
    await shop.recur(times=2)
    await shop.pass_time(10)
    await shop.recur(times=2)
    assert await shop.deliveries() == []
    kept = "select cardinality(occurred_at) from below_threshold_ticket"
    assert await shop.database.fetchval(kept) == 2, "nor is it kept"
    await shop.recur()
    assert await shop.deliveries() == [1]


async def test_no_more_is_kept_than_is_asked_for(shop: Shop):
    shop.rule(THREE)
    await shop.recur(times=2)
    shop.rule(Match(occurrences=50, within="10m"))
    for _ in range(30):
        await shop.recur(times=3)
        if await shop.deliveries():
            break
    assert (await shop.ticket())["occurrences"] == 50
    assert await shop.database.fetchval("select cardinality(occurred_at) from below_threshold_ticket") <= 50


async def test_replicas_at_once_reach_it_once(shop: Shop):
    shop.rule(Match(occurrences=7, within="10m"))
    await asyncio.gather(*(shop.accept(shop.report()) for _ in range(6)))
    assert await shop.deliveries() == []
    await asyncio.gather(*(shop.accept(shop.report()) for _ in range(6)))
    assert await shop.deliveries() == [1]
    assert await shop.events() == ["opened", "threshold_reached"]


async def test_what_had_an_issue_once_need_not_reach_it_again(shop: Shop):
    shop.rule(THREE, Options(recurrence=[RecurrenceRule(then="reopen", reason="not_planned")]))
    await shop.recur(times=3)
    await shop.deliver()
    await shop.close("not_planned")
    await shop.recur()
    assert (await shop.ticket())["status"] == 1, "and the rule of its route says what is done"
    assert await shop.deliveries() == [1, 4, 2]


async def test_the_rule_by_which_it_had_one_says_what_is_done_not_the_one_after(shop: Shop):
    shop.rule(THREE, NEW)
    here = (shop.here,)
    shop.fit += (Route(2, Match(), here, False, Options(recurrence=[RecurrenceRule(then="ignore")])),)
    await shop.recur(times=3)
    await shop.close()
    await shop.recur()
    assert [ticket["generation"] for ticket in await shop.tickets()] == [1, 2]


async def test_a_next_generation_must_reach_it_anew(shop: Shop):
    shop.rule(THREE, NEW)
    await shop.recur(times=3)
    await shop.deliver()
    await shop.close()
    await shop.recur(times=2)
    assert ((await shop.ticket())["generation"], await shop.deliveries()) == (2, [])
    await shop.recur()
    assert await shop.deliveries() == [1]


async def test_what_was_not_reported_for_so_long(shop: Shop):
    shop.rule(Match(unseen_for="24h"))
    await shop.recur()
    assert await shop.deliveries() == [1], "one that is new fits"
    shop.rule(Match(unseen_for="24h", occurrences=100, within="10m"))
    await shop.recur(fingerprint="b")
    shop.rule(Match(unseen_for="24h"))
    await shop.recur(fingerprint="b")
    assert await shop.deliveries() == [], "it was, just before"
    await shop.pass_time(24 * 60)
    await shop.recur(fingerprint="b", times=2)
    assert await shop.deliveries() == [1]
    shop.rule(Match(unseen_for="24h", occurrences=2, within="10m"))
    await shop.recur(fingerprint="c", times=2)
    assert await shop.deliveries() == [], "the second came just after the first"


async def test_while_throttled_nothing_is_posted_and_after_it_what_still_reaches_its_threshold(shop: Shop):
    shop.rule(THREE)
    shop.allowed = 1
    await shop.recur(times=2)
    loud = shop.fit
    shop.rule()
    await shop.accept(*(shop.report(fingerprint=f"p{n}") for n in range(3)))
    shop.fit = loud
    await shop.recur()
    [throttled] = [ticket for ticket in await shop.tickets() if ticket["fingerprint"] == "a"]
    assert (throttled["below_threshold"], await shop.deliveries(throttled)) == (True, [])
    await shop.pass_time(3)
    await shop.recur()
    assert await shop.deliveries(throttled) == [1]


async def test_a_problem_below_its_threshold_that_is_over_and_back_is_still_counted(shop: Shop):
    shop.rule(THREE, NEW)
    for _ in range(2):
        await shop.recur()
        await shop.recur("resolved", close_reason="completed")
    await shop.recur()
    assert [ticket["generation"] for ticket in await shop.tickets()] == [1]
    assert ((await shop.ticket())["status"], await shop.deliveries()) == (1, [1])


async def test_what_no_rule_would_match_is_not_below_a_threshold(shop: Shop):
    shop.fit = ()
    await shop.recur()
    assert not (await shop.ticket())["below_threshold"]
    assert await shop.database.fetchval("select count(*) from below_threshold_ticket") == 0


@pytest.mark.parametrize("why", ["posted", "closed", "long ago", "still counted"])
async def test_when_tickets_below_a_threshold_were_reported_is_forgotten_in_time(shop: Shop, why: str):
    shop.rule(THREE)
    await shop.recur(times=2)
    match why:
        case "posted":
            await shop.recur()
        case "closed":
            await shop.close()
        case "long ago":
            await shop.pass_time(11)
    state = await acquire_lease(shop.database, "housekeeping", uuid7(), 60)
    assert state is not None
    await run_maintenance(shop.database, state)
    left = await shop.database.fetchval("select count(*) from below_threshold_ticket")
    assert left == (why == "still counted")


# -- quiet hours ---------------------------------------------------------------------------------------------------


def quiet_now(hours_more: int) -> QuietHours:
    """Hours that hold now, and for so long at least."""
    now = dt.datetime.now(dt.UTC)
    start, end = now - dt.timedelta(hours=1), now + dt.timedelta(hours=hours_more)
    return QuietHours(start=f"{start:%H:%M}", end=f"{end:%H:%M}")


async def wait_of(shop: Shop) -> dt.timedelta:
    return await shop.database.fetchval("select max(due_at) - now() from lane")


async def test_what_is_made_in_quiet_hours_waits_for_their_end(shop: Shop):
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    await shop.recur()
    due = await shop.database.fetchval("select due_at from lane")
    assert dt.timedelta(hours=2, minutes=58) < await wait_of(shop) <= dt.timedelta(hours=3)
    assert (due.second, due.microsecond) == (0, 0)
    await shop.recur("regressed")
    assert await shop.deliveries() == [1, 2], "what comes behind it waits with it"
    await shop.deliver()
    await shop.recur("regressed")
    assert await wait_of(shop) > dt.timedelta(hours=2), "a lane with nothing to do waits too"


async def test_a_lane_at_work_goes_on(shop: Shop):
    await shop.recur()
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    await shop.recur("regressed")
    assert await wait_of(shop) <= dt.timedelta(0)


async def test_after_them_nothing_waits(shop: Shop):
    past = quiet_now(3)
    shop.rule(options=Options(quiet_hours=QuietHours(start=past.end, end=past.start)))
    await shop.recur()
    assert await wait_of(shop) <= dt.timedelta(0)


async def test_reopening_waits_and_what_a_person_does_then_goes_behind_it(shop: Shop):
    await shop.recur()
    await shop.deliver()
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    await shop.close()
    await shop.recur()
    assert await wait_of(shop) > dt.timedelta(hours=2)
    await shop.close(targets=(shop.here,))
    assert await shop.deliveries() == [1, 4, 2, 3]
    assert await wait_of(shop) > dt.timedelta(hours=2)


async def test_what_a_person_does_in_quiet_hours_waits_for_nothing(shop: Shop):
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    await shop.recur()
    await shop.deliver()
    await shop.close(targets=(shop.here,))
    assert await shop.deliveries() == [1, 3]
    assert await wait_of(shop) <= dt.timedelta(0)


async def test_people_are_not_kept_waiting(shop: Shop):
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    incoming = shop.report()
    incoming.ticket_kind = TicketKind.SUPPORT
    await shop.accept(incoming)
    assert await wait_of(shop) <= dt.timedelta(0)


async def test_a_summary_keeps_to_the_hours_too(shop: Shop):
    shop.rule(options=Options(quiet_hours=quiet_now(3)))
    shop.allowed = 1
    await shop.accept(*(shop.report(fingerprint=f"p{n}") for n in range(3)))
    waits = await shop.database.fetch("select due_at - now() as wait from lane")
    assert len(waits) == 2
    assert all(row["wait"] > dt.timedelta(hours=2) for row in waits)
