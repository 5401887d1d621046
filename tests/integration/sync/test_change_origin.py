"""Our own writes come back as nothing, people's come back as news, and programs that answer each other are stopped."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from configuration import ADMIN, SOURCES, WEBHOOK_SECRET, route, tracker_destination
from pointsman.errors import PointsmanError
from pointsman.operations import reprocess
from pointsman.plugin_api import Actor, IssueRef, IssueState
from pointsman.storage import reconcile, replay, webhooks
from pointsman.storage.db import Database
from pointsman.storage.explain import DeliveryFilter, find_deliveries
from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService, count_pending

_ALERTS = itertools.count(1)
CHANGE = "PATCH /api/v1/repos/acme/shop/issues"


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="tracker-token") as fake:
        yield fake


def config(fake: FakeForgejo) -> str:
    return SOURCES + tracker_destination(fake, more=f'webhook_secrets = ["{WEBHOOK_SECRET}"]') + route()


async def _alert(service: RunningService, reason: str = "NEW") -> str:
    seen = f"2026-11-20T10:00:00.{next(_ALERTS):06}Z"
    return (await service.alert(reason, last_seen=seen))["ticket"]


async def _events(service: RunningService, ticket: str) -> list[str]:
    return [event["kind"] for event in (await service.ticket(ticket))["events"]]


async def _quiet(database: Database) -> None:
    """Wait until nothing is to be delivered; what waits is due now."""

    async def nothing_waits():
        await database.execute(
            "update destination_state set blocked_until = null, open_until = null, breaker = 0"
        )
        await database.execute("update lane set due_at = now() where state = 1")
        return await count_pending(database) == 0

    await until(nothing_waits)


async def _we_are_known(running) -> None:
    async def known():
        return running.services.config.current.destination("there").account

    await until(known)


@pytest.fixture
async def reopened_while_closing(service: RunningService, tracker: FakeForgejo, database: Database):
    """Closed here; the close took effect and its answer was lost; a report reopened the ticket, and the reopen waits."""
    async with service.replica(config(tracker)) as running:
        tracker.webhook_url = f"{service.url}/webhooks/forgejo/there"
        tracker.webhook_secret = WEBHOOK_SECRET
        await _we_are_known(running)
        ticket = await _alert(service)
        await service.linked(ticket)
        tracker.faults = [Fault(CHANGE, status=500, applied=True, times=1000)]
        await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=ADMIN, status=200)

        async def closed_there():
            return tracker.issues[1].state == "closed"

        await until(closed_there)
        await _alert(service, "REGRESSED")
        assert (await service.ticket(ticket))["status"] == "open"
        yield running, ticket


@pytest.mark.parametrize("way", ["webhook", "poll"])
async def test_a_late_echo_of_our_close_does_not_close_a_ticket_that_was_reopened(
    reopened_while_closing, service: RunningService, tracker: FakeForgejo, database: Database, way: str
):
    running, ticket = reopened_while_closing
    before = await _events(service, ticket)
    if way == "webhook":
        assert await tracker.close_issue(1, by=tracker.bot) == 200
    else:
        there = running.services.config.current.destination("there")
        [seen] = await there.tracker.list_changes(tracker.issues[1].created_at)
        assert seen.actor is None
        await running.services.tracker_updates.apply(there, seen)
    assert (await service.ticket(ticket))["status"] == "open"
    assert await _events(service, ticket) == before
    tracker.faults = []
    await _quiet(database)
    assert tracker.issues[1].state == "open"
    assert (await service.ticket(ticket))["status"] == "open"


async def test_a_person_who_closes_meanwhile_is_heard(
    reopened_while_closing, service: RunningService, tracker: FakeForgejo
):
    """The same state, changed by a known foreign account."""
    _, ticket = reopened_while_closing
    assert await tracker.close_issue(1, by="dev") == 200
    assert (await service.ticket(ticket))["status"] == "closed"


async def test_a_person_who_uses_our_account_is_heard(service: RunningService, tracker: FakeForgejo):
    """A person or a program may share the token."""
    async with service.replica(config(tracker)) as running:
        tracker.webhook_url = f"{service.url}/webhooks/forgejo/there"
        tracker.webhook_secret = WEBHOOK_SECRET
        await _we_are_known(running)
        ticket = await _alert(service)
        await service.linked(ticket)
        assert await tracker.close_issue(1, by=tracker.bot) == 200
        assert (await service.ticket(ticket))["status"] == "closed"


async def test_there_and_back_by_a_person_after_our_close_is_news(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    """We closed; a person reopened and closed within minutes: the tracker's clock distinguishes that from an echo."""
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        link = await service.linked(ticket)
        await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=ADMIN, status=200)
        await _quiet(database)
        there = running.services.config.current.destination("there")
        version = await database.fetchval("select remote_version from link")
        assert version is not None
        for seconds, state, status in ((60, "open", "open"), (120, "closed", "closed")):
            later = version + tracker.now().resolution * 1_000_000 * seconds
            news = IssueState(ref=IssueRef(link["key"], link["key"]), state=state, version=later)
            await running.services.tracker_updates.apply(there, news)
            assert (await service.ticket(ticket))["status"] == status


@pytest.mark.parametrize("by_whom", ["a list", "a webhook of ours"])
async def test_what_was_so_before_our_close_comes_late_and_is_no_news(
    service: RunningService, tracker: FakeForgejo, database: Database, by_whom: str
):
    """Whoever read the issue a moment before we closed it says open, in the same second: trackers count in seconds."""
    async with service.replica(config(tracker)) as running:
        await _we_are_known(running)
        ticket = await _alert(service)
        link = await service.linked(ticket)
        asked_at = await reconcile.current_time(database)
        await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=ADMIN, status=200)
        await _quiet(database)
        there, inbound = (
            running.services.config.current.destination("there"),
            running.services.tracker_updates,
        )
        version = await database.fetchval("select remote_version from link")
        read = IssueState(ref=IssueRef(link["key"], link["key"]), state="open", version=version)
        if by_whom == "a list":
            [heard] = await inbound.apply_all(there, [read], asked_at=asked_at)
        else:
            heard = await inbound.apply(there, replace(read, actor=there.account))
        assert not heard.changed and "before a write of ours" in heard.note
        assert (await service.ticket(ticket))["status"] == "closed"
        # polled later, the same state is news: a person reopened the issue within that second
        [heard] = await inbound.apply_all(there, [read], asked_at=await reconcile.current_time(database))
        assert heard.changed
        assert (await service.ticket(ticket))["status"] == "open"


async def test_a_webhook_that_reads_no_link_a_moment_before_it_is_there_is_looked_at_again(
    service: RunningService, tracker: FakeForgejo, monkeypatch
):
    """The issue is linked between the webhook's look and its commit: neither side sees the other."""
    async with service.replica(config(tracker)):
        ticket = await _alert(service)
        await service.linked(ticket)
        real, looks = webhooks.link_of_issue, []

        async def nothing_at_first(*asked):
            looks.append(asked)
            return await real(*asked) if len(looks) > 1 else None

        monkeypatch.setattr(webhooks, "link_of_issue", nothing_at_first)
        tracker.webhook_url, tracker.webhook_secret = f"{service.url}/webhooks/forgejo/there", WEBHOOK_SECRET
        assert await tracker.close_issue(1) == 200
        assert len(looks) > 1
        assert (await service.ticket(ticket))["status"] == "closed"


async def test_a_webhook_that_the_plugin_fails_to_read_is_kept_and_read_again_once_it_can(
    service: RunningService, tracker: FakeForgejo, database: Database, monkeypatch
):
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        await service.linked(ticket)
        kind = type(running.services.config.current.destination("there").tracker)

        def fails(self, headers, body):
            raise KeyError("of a release to come")

        with monkeypatch.context() as patch:
            patch.setattr(kind, "read_webhook", fails)
            tracker.webhook_url, tracker.webhook_secret = (
                f"{service.url}/webhooks/forgejo/there",
                WEBHOOK_SECRET,
            )
            assert await tracker.close_issue(1) == 200
            [kept] = await reprocess.parked_webhooks(database)
            assert kept.destination == "there"
            [line] = await reprocess.reprocess_webhooks(service.settings, database, kept.id)
            assert "stays parked: KeyError" in line
        assert (await service.ticket(ticket))["status"] == "open"
        [line] = await reprocess.reprocess_webhooks(service.settings, database, None)
        assert line.startswith(str(kept.id))
        assert (await service.ticket(ticket))["status"] == "closed"
        assert await reprocess.parked_webhooks(database) == []
        with pytest.raises(PointsmanError, match="no parked webhook"):
            await reprocess.reprocess_webhooks(service.settings, database, kept.id)


async def _flip(running, ticket: str, times: int, by: str) -> list:
    """Let an account close and reopen the issue alternately."""
    there = running.services.config.current.destination("there")
    heard = []
    for number in range(times):
        state = "open" if number % 2 else "closed"
        news = IssueState(ref=IssueRef("1", "1"), state=state, actor=Actor("77", by))
        heard.append(await running.services.tracker_updates.apply(there, news))
    return heard


async def test_a_ticket_that_goes_round_in_a_circle_is_stopped_and_can_go_on(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        await service.linked(ticket)
        await _we_are_known(running)
        heard = await _flip(running, ticket, 7, "some-bot")
        assert [result.parked for result in heard] == [()] * 6 + [("there",)]
        row = await database.fetchrow(
            "select state, park_reason from lane where ticket_id = $1", heard[0].ticket_id
        )
        assert row["state"] == 3 and row["park_reason"].startswith("loop: closed and reopened 7 times")
        # later deliveries wait until an operator replays them
        await _alert(service, "REGRESSED")
        assert tracker.issues[1].comments == []
        [waiting] = await find_deliveries(database, DeliveryFilter(parked=True), 1)
        assert await replay.replay_delivery(database, waiting.lane_id, waiting.seq)
        await _quiet(database)
        assert len(tracker.issues[1].comments) == 1


async def test_a_lane_at_work_is_parked_too_and_its_holder_notices(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        await service.linked(ticket)
        await _quiet(database)
        await database.execute(
            "update lane set state = 2, lease_id = gen_random_uuid(), lease_until = now() + interval '1 hour',"
            " next_seq = next_seq where ticket_id = $1::text::uuid",
            ticket,
        )
        await _we_are_known(running)
        heard = await _flip(running, ticket, 7, "some-bot")
        assert heard[-1].parked == ("there",)
        assert tuple(await database.fetchrow("select state, lease_id from lane")) == (3, None)


async def test_people_here_may_change_their_mind_often(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    """Only what happens by itself is counted."""
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        await service.linked(ticket)
        for _ in range(4):
            for verb in ("close", "reopen"):
                await service.call("POST", f"/api/v1/tickets/{ticket}/{verb}", token=ADMIN, status=200)
        await _quiet(database)
        await _we_are_known(running)
        [heard] = await _flip(running, ticket, 1, "dev")
        assert heard.changed and heard.parked == ()


async def test_reports_count_towards_a_circle(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    """A source that reopens and a tracker's program that closes."""
    async with service.replica(config(tracker)) as running:
        ticket = await _alert(service)
        await service.linked(ticket)
        there = running.services.config.current.destination("there")
        closed = IssueState(ref=IssueRef("1", "1"), state="closed", actor=Actor("77", "some-bot"))
        await _we_are_known(running)
        for round_number in range(4):
            heard = await running.services.tracker_updates.apply(there, closed)
            assert bool(heard.parked) == (round_number == 3)
            if round_number < 3:
                await _alert(service, "REGRESSED")
                await _quiet(database)
