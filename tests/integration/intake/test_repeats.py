"""Repeated reports through the intake transaction: the same key after a change of state, and after a week."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

import pytest

from pointsman.bus.publish import publish
from pointsman.crypto import sha256
from pointsman.domain.repeats import KeyBasis
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import Changes, DeliveryTargets, PlannedDelivery, Ticket, apply_state
from pointsman.intake import transaction
from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.plugin_api import Report
from pointsman.storage import delivery_writer
from pointsman.storage.db import Database
from pointsman.storage.ids import uuid7


def marker_of(ticket: Ticket, delivery: PlannedDelivery) -> uuid.UUID:
    name = f"{ticket.id} {delivery.destination_id} {delivery.event_n} {delivery.kind}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name)


class Sender:
    """A source that reports one problem with constant keys."""

    def __init__(self, database: Database, basis: KeyBasis) -> None:
        self.database, self.basis = database, basis
        self.source_id = self.destination_id = 0
        self.routed, self.allowed = True, 0

    async def open(self) -> Sender:
        self.source_id = await self.database.fetchval(
            "insert into source (slug, kind) values ('shop', 'generic') returning id"
        )
        self.destination_id = await self.database.fetchval(
            "insert into destination (slug, tracker) values ('here', 'folder') returning id"
        )
        await self.database.execute(
            "insert into destination_state (destination_id) select id from destination on conflict do nothing"
        )
        return self

    def report(self, action: str, key: str = "", member: str = "") -> Incoming:
        body = (key or action).encode()
        return Incoming(
            report_id=uuid7(),
            source_id=self.source_id,
            key_hash=sha256(body),
            body=body,
            body_sha256=sha256(body),
            headers={},
            ticket_kind=TicketKind.ALERT,
            report=Report(
                action=action,
                fingerprint="disk",
                title="The disk is full",
                close_reason="completed" if action == "resolved" else None,
            ),
            destination_ids=(self.destination_id,) if self.routed else (),
            new_ticket_id=uuid7(),
            source_slug="shop",
            ticket_rate_limit=self.allowed,
            member=sha256(member.encode()) if member else None,
            key_basis=self.basis,
        )

    async def sends(self, *actions: str) -> list[bool]:
        """Send reports in one batch; whether each was a repeat."""
        return [result.repeated for result in await self.accept(*map(self.report, actions))]

    async def accept(self, *reports: Incoming) -> list[ReportResult]:
        accepted = await transaction.accept(self.database, reports, marker_of, None)
        return accepted.reports

    async def pass_time(self, **time: float) -> None:
        """Move stored times into the past, since the database's clock can't be set."""
        ago = dt.timedelta(**time)
        await self.database.execute(
            "update ticket set reported_at = reported_at - $1::interval, closed_at = closed_at - $1::interval",
            ago,
        )
        await self.database.execute("update report_key set seen_at = seen_at - $1::interval", ago)

    async def person_closes(self) -> None:
        async with self.database.transaction() as con:
            ticket_id = await con.fetchval("select id from ticket")
            ticket = await delivery_writer.lock_ticket(con, ticket_id)
            assert ticket is not None
            targets, changes = DeliveryTargets((self.destination_id,), None), Changes()
            apply_state(
                ticket, "closed", None, targets, changes, except_destination=None, actor={"by": "ann"}
            )
            await publish(con, changes, {ticket_id: ticket}, marker_of)

    async def is_open(self) -> bool:
        return await self.database.fetchval("select status from ticket") == TicketStatus.OPEN

    async def lanes(self) -> int:
        count: int = await self.database.fetchval("select count(*) from lane")
        return count

    async def events(self) -> list[str]:
        rows = await self.database.fetch("select kind from event order by n")
        return [row["kind"] for row in rows]


@pytest.fixture
async def alertmanager(database: Database) -> Sender:
    return await Sender(database, KeyBasis.STATE).open()


@pytest.fixture
async def script(database: Database) -> Sender:
    return await Sender(database, KeyBasis.BODY).open()


async def test_an_alert_that_fires_again_with_the_same_start_opens_its_ticket(alertmanager: Sender):
    assert await alertmanager.sends("opened") == [False]
    assert await alertmanager.sends("resolved") == [False]
    await alertmanager.pass_time(minutes=2)
    assert await alertmanager.sends("opened") == [True], "a late copy of a pair"
    assert not await alertmanager.is_open()
    await alertmanager.pass_time(minutes=2)
    assert await alertmanager.sends("opened") == [False]
    assert await alertmanager.is_open()
    assert await alertmanager.sends("opened") == [True]
    await alertmanager.pass_time(minutes=4)
    assert await alertmanager.sends("resolved") == [False], "over for the second time"
    assert not await alertmanager.is_open()
    assert await alertmanager.events() == ["opened", "resolved", "closed", "recurred", "resolved", "closed"]


async def test_what_fires_all_the_time_is_no_news_after_a_week(alertmanager: Sender):
    await alertmanager.sends("opened")
    await alertmanager.person_closes()
    for _ in range(3):
        await alertmanager.pass_time(days=6)
        assert await alertmanager.sends("opened") == [True]
        age = await alertmanager.database.fetchval("select now() - seen_at from report_key")
        assert age < dt.timedelta(minutes=1), "its key is not forgotten while it fires"
    assert not await alertmanager.is_open()


async def test_a_constant_body_is_heard_again_after_a_person_closed_the_ticket(script: Sender):
    await script.sends("opened")
    await script.person_closes()
    await script.pass_time(minutes=2)
    assert await script.sends("opened") == [True], "a retry"
    await script.pass_time(minutes=2)
    assert await script.sends("opened") == [False]
    assert await script.is_open()


async def test_constant_bodies_of_one_batch_are_applied_in_their_order(script: Sender):
    assert await script.sends("opened", "opened", "resolved", "opened") == [False, True, False, False]
    assert await script.is_open()
    assert await script.sends("resolved", "opened", "resolved") == [False, False, False]
    assert not await script.is_open()


async def test_a_request_with_an_id_of_its_own_is_a_repeat_whatever_happened(database: Database):
    sender = await Sender(database, KeyBasis.REQUEST).open()
    await sender.sends("opened", "resolved")
    await sender.pass_time(days=3)
    assert await sender.sends("opened", "resolved") == [True, True]


async def test_of_two_copies_of_what_fires_again_one_is_news(alertmanager: Sender):
    await alertmanager.sends("opened")
    await alertmanager.sends("resolved")
    await alertmanager.pass_time(minutes=4)
    copies = await asyncio.gather(*(alertmanager.accept(alertmanager.report("opened")) for _ in range(4)))
    assert sorted(result.repeated for [result] in copies) == [False, True, True, True]
    assert len({result.ticket_id for [result] in copies}) == 1
    assert (await alertmanager.events()).count("recurred") == 1


async def test_an_open_ticket_gets_one_comment_when_it_fires_again(database: Database):
    """Without ``close_on_resolved`` the issue's last comment says that the problem is over until this one follows."""
    sender = await Sender(database, KeyBasis.STATE).open()

    async def send(action: str, key: str) -> None:
        incoming = sender.report(action, key)
        assert incoming.report is not None
        incoming.report = Report(action=action, fingerprint="disk", title="The disk is full")
        await sender.accept(incoming)

    for number in range(2):
        await send("opened", f"firing {number}")
        await send("opened", f"firing {number}, a second alert")
        await send("resolved", f"resolved {number}")
    assert await sender.events() == ["opened", "resolved", "recurred", "resolved"]
    assert await sender.is_open()
    kinds = await database.fetch("select kind, event_n from delivery order by seq")
    assert [(row["kind"], row["event_n"]) for row in kinds] == [(1, 1), (2, 2), (2, 3), (2, 4)]


async def test_a_ticket_without_a_route_asks_the_routes_with_each_report(alertmanager: Sender):
    alertmanager.routed = False
    assert await alertmanager.sends("opened") == [False]
    assert await alertmanager.sends("opened") == [True]
    assert await alertmanager.lanes() == 0
    alertmanager.routed = True
    assert await alertmanager.sends("opened") == [False], "a repeat that a route takes now"
    assert await alertmanager.sends("opened") == [True]
    assert (await alertmanager.events(), await alertmanager.lanes()) == (["opened", "routed"], 1)


async def test_a_later_report_with_new_facts_finds_a_route(alertmanager: Sender):
    alertmanager.routed = False
    await alertmanager.accept(alertmanager.report("opened", "staging"))
    alertmanager.routed = True
    await alertmanager.accept(
        alertmanager.report("resolved", "over"), alertmanager.report("opened", "production")
    )
    assert await alertmanager.lanes() == 1
    assert await alertmanager.is_open()


async def test_a_repeat_of_a_throttled_ticket_gets_an_issue_when_the_rate_allows(alertmanager: Sender):
    alertmanager.allowed = 1
    first = alertmanager.report("opened", "another")
    assert first.report is not None
    first.report = Report(action="opened", fingerprint="cpu", title="The processor is slow")
    await alertmanager.accept(first)
    await alertmanager.sends("opened")
    query = "select id from ticket where fingerprint = 'disk' and summary_ticket_id is not null"
    [throttled] = await alertmanager.database.fetch(query)
    await alertmanager.sends("opened")
    assert await alertmanager.database.fetch(query), "the throttle is active"
    await alertmanager.database.execute(
        "update ticket_rate_window set started_at = started_at - interval '5 minutes'"
    )
    assert await alertmanager.sends("opened") == [False]
    assert not await alertmanager.database.fetch(query)
    assert await alertmanager.sends("opened") == [True]
    kinds = await alertmanager.database.fetch(
        "select kind from event where ticket_id = $1 order by n", throttled["id"]
    )
    assert [row["kind"] for row in kinds] == ["opened", "released"]


async def test_a_ticket_of_several_alerts_is_closed_when_the_last_of_them_ends(alertmanager: Sender):
    def alert(action: str, host: str) -> Incoming:
        return alertmanager.report(action, f"{action} {host}", host)

    await alertmanager.accept(alert("opened", "web-1"), alert("opened", "web-2"))
    [partly] = await alertmanager.accept(alert("resolved", "web-2"))
    assert await alertmanager.is_open()
    assert partly.ticket_id is not None
    assert [result.repeated for result in await alertmanager.accept(alert("opened", "web-1"))] == [True]
    assert await alertmanager.events() == ["opened"]
    await alertmanager.accept(alert("resolved", "web-1"))
    assert not await alertmanager.is_open()
    await alertmanager.pass_time(minutes=4)
    await alertmanager.database.execute(
        "update ticket_member set changed_at = changed_at - interval '4 minutes'"
    )
    await alertmanager.accept(alert("opened", "web-2"))
    assert await alertmanager.is_open()
    await alertmanager.accept(alertmanager.report("resolved", "web-2 is over for good", "web-2"))
    assert not await alertmanager.is_open()


async def test_alerts_that_end_in_one_batch_close_their_ticket_once(alertmanager: Sender):
    hosts = ("web-1", "web-2", "web-3")
    await alertmanager.accept(*(alertmanager.report("opened", host, host) for host in hosts))
    await alertmanager.accept(*(alertmanager.report("resolved", f"{host} is over", host) for host in hosts))
    assert await alertmanager.events() == ["opened", "resolved", "closed"]
