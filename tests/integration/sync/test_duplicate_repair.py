"""Duplicates are repaired once; issues and comments of others are never touched."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from msgspec.structs import replace

from configuration import SOURCES, WEBHOOK_SECRET, tracker_destination
from pointsman.bus.signals import DuplicateFound, Signals
from pointsman.plugin_api import Actor, IssueRef, IssueState
from pointsman.storage import marker_observations
from pointsman.storage.db import Database
from pointsman.sync.duplicate_repair import DuplicateRepair
from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="tracker-token") as fake:
        yield fake


def destination(fake: FakeForgejo, slug: str = "there") -> str:
    return tracker_destination(fake, slug, more=f'webhook_secrets = ["{WEBHOOK_SECRET}"]')


class Scene:
    """A ticket with its issue, and methods that create duplicates."""

    def __init__(
        self, service: RunningService, running, tracker: FakeForgejo, database: Database, ticket: str
    ) -> None:
        self.service, self.running, self.tracker, self.database, self.ticket = (
            service,
            running,
            tracker,
            database,
            ticket,
        )
        self.doubles: list[tuple[str, str, bool]] = []

    def repair(self) -> DuplicateRepair:
        """Return the duplicate repair of another replica."""
        reloader = self.running.services.config
        signals = Signals()
        signals.subscribe(
            DuplicateFound,
            lambda signal: self.doubles.append((signal.destination, signal.subject, signal.repaired)),
        )
        return DuplicateRepair(
            self.database,
            reloader,
            uuid.uuid4(),
            signals=signals,
            settled_seconds=600,
        )

    async def run_check(self) -> None:
        """Run the full check on a replica, after the previous lease expired."""
        await self.database.execute("update lease set expires_at = now() where name like 'duplicate%'")
        assert await self.repair().run_full_check()

    async def marker(self, kind: int) -> tuple[uuid.UUID, str]:
        marker = await self.database.fetchval(
            "select marker from delivery where kind = $1 order by seq desc limit 1", kind
        )
        return marker, self.running.services.config.current.marker_text(marker)

    async def duplicate(self, *, by: str | None = None, seen: bool = True) -> int:
        """A second issue with the marker of the first; its number."""
        marker, text = await self.marker(1)
        number = self.tracker._add_issue("Help", f"x\n\n<!-- pointsman: {text} -->", by or self.tracker.bot)
        if seen:
            place = (
                str(number.number),
                str(number.number),
                f"{self.tracker.url}/acme/shop/issues/{number.number}",
            )
            there = self.running.services.config.current.destination("there")
            await marker_observations.record_marker(self.database, there.id, marker, place, "webhook")
        return number.number

    async def linked(self) -> str:
        return await self.database.fetchval("select remote_id from link")

    async def sent_again(self, kind: int) -> None:
        """A delivery was sent twice, an hour ago."""
        await self.database.execute(
            "update delivery set resent_at = now() - interval '1 hour', done_at = now() - interval '1 hour'"
            " where kind = $1",
            kind,
        )

    def writes(self) -> int:
        return sum(method != "GET" for method, _ in self.tracker.requests)


@pytest.fixture
async def scene(service: RunningService, tracker: FakeForgejo, database: Database):
    config = SOURCES + destination(tracker) + '[[route]]\ndestination = "there"\n'
    async with service.replica(config) as running:
        ticket = await service.new_ticket()
        await service.linked(ticket)
        yield Scene(service, running, tracker, database, ticket)


async def test_the_younger_issue_is_closed_as_a_duplicate_once(scene: Scene):
    number = await scene.duplicate()
    await scene.run_check()
    duplicate = scene.tracker.issues[number]
    assert duplicate.state == "closed" and scene.tracker.issues[1].state == "open"
    [notice] = duplicate.comments
    assert notice.body.startswith("Duplicate of [1](http") and scene.tracker.issues[1].comments == []
    assert scene.doubles == [("there", "issue", True)]
    assert await scene.linked() == "1"
    writes = scene.writes()
    await scene.run_check()
    assert scene.writes() == writes and len(scene.doubles) == 1


async def test_the_link_moves_to_the_older_one_and_the_ticket_stays_open(scene: Scene):
    """The closing of the duplicate concerns no ticket; later comments go to the issue that is kept."""
    number = await scene.duplicate()
    await scene.database.execute("update link set remote_id = $1::text, remote_key = $1", str(number))
    scene.tracker.echo = True
    scene.tracker.webhook_url = f"{scene.service.url}/webhooks/forgejo/there"
    scene.tracker.webhook_secret = WEBHOOK_SECRET
    await scene.run_check()
    await scene.tracker.webhooks_sent()
    assert [call.status for call in scene.tracker.webhooks] == [200, 200]
    assert scene.tracker.issues[number].state == "closed"
    assert await scene.linked() == "1"
    assert (await scene.service.ticket(scene.ticket))["status"] == "open"
    await scene.service.comment(scene.ticket, "more")

    async def commented():
        return len(scene.tracker.issues[1].comments) == 1

    await until(commented)


async def test_a_persons_copy_is_left_alone(scene: Scene):
    """Even if our marker was reported to be in it."""
    number = await scene.duplicate(by="dev")
    writes = scene.writes()
    await scene.run_check()
    assert scene.tracker.issues[number].state == "open" and scene.writes() == writes
    assert scene.doubles == [] and await scene.linked() == "1"
    assert (
        await scene.database.fetchval("select count(*) from marker_observation where repaired_at is null")
        == 0
    )


async def test_the_one_that_people_left_open_is_kept(scene: Scene):
    number = await scene.duplicate()
    await scene.tracker.close_issue(1, send=False)
    await scene.run_check()
    assert scene.tracker.issues[number].state == "open"
    assert await scene.linked() == str(number)


async def test_an_issue_that_is_gone_gives_its_place_to_the_one_that_is_there(scene: Scene):
    number = await scene.duplicate()
    scene.tracker.delete_issue(1)
    await scene.run_check()
    assert scene.tracker.issues[number].state == "open"
    assert await scene.linked() == str(number)


async def test_an_issue_the_list_does_not_show_yet_is_closed_all_the_same(scene: Scene):
    number = await scene.duplicate()
    scene.tracker.hidden = {number}
    await scene.run_check()
    assert scene.tracker.issues[number].state == "closed"


async def test_two_replicas_at_once_say_it_once(scene: Scene):
    number = await scene.duplicate()
    first, other = scene.repair(), scene.repair()
    assert await asyncio.gather(first.run_full_check(), other.repair_known()) == [True, True]
    assert scene.tracker.issues[number].state == "closed"
    assert len(scene.tracker.issues[number].comments) == 1
    assert scene.doubles == [("there", "issue", True)]


async def test_only_one_replica_gets_the_lease(scene: Scene):
    won = await asyncio.gather(*(scene.repair().run_full_check() for _ in range(4)))
    assert sorted(won) == [False, False, False, True]


async def test_what_failed_is_done_the_next_time(scene: Scene):
    number = await scene.duplicate()
    scene.tracker.faults = [Fault("PATCH", status=500)]
    await scene.run_check()
    assert scene.tracker.issues[number].state == "open" and scene.doubles == []
    await scene.run_check()
    assert scene.tracker.issues[number].state == "closed" and scene.doubles == [("there", "issue", True)]
    assert [effect.kind for effect in scene.tracker.effects] == ["issue", "comment", "state"]


async def test_an_issue_that_can_not_be_closed_is_told_once(scene: Scene):
    number = await scene.duplicate()
    scene.tracker.blocked = {number}
    await scene.run_check()
    await scene.run_check()
    assert scene.doubles == [("there", "issue", False)]


async def test_the_trouble_of_one_destination_is_its_own(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with FakeForgejo(repository="acme/shop", token="tracker-token") as other:
        config = SOURCES + destination(tracker) + destination(other, "broken")
        config += '[[route]]\ndestination = ["there", "broken"]\n'
        async with service.replica(config) as running:
            ticket = await service.new_ticket()
            await service.linked(ticket, 2)
            snapshot = running.services.config.current
            for fake, slug in ((tracker, "there"), (other, "broken")):
                there = snapshot.destination(slug)
                marker = await database.fetchval(
                    "select marker from delivery d join lane l on l.id = d.lane_id where l.destination_id = $1",
                    there.id,
                )
                body = f"<!-- pointsman: {snapshot.marker_text(marker)} -->"
                fake._add_issue("Help", body, fake.bot)
                await marker_observations.record_marker(database, there.id, marker, ("2", "2", ""), "webhook")
            async with other.down():
                await DuplicateRepair(database, running.services.config, uuid.uuid4()).run_full_check()
            assert tracker.issues[2].state == "closed"
            assert other.issues[2].state == "open"


async def test_a_create_that_was_sent_again_is_looked_for_once_more(scene: Scene):
    """The second issue was never observed: only the full check finds it."""
    number = await scene.duplicate(seen=False)
    await scene.run_check()
    assert scene.tracker.issues[number].state == "open"
    await scene.sent_again(1)
    await scene.run_check()
    assert scene.tracker.issues[number].state == "closed"
    assert scene.doubles == [("there", "issue", True)]
    asked = len(scene.tracker.requests)
    await scene.run_check()
    assert len(scene.tracker.requests) == asked, "it was looked after"


@pytest.fixture
async def commented(scene: Scene):
    """A comment that was sent twice, beside a person's comment that quotes it."""
    await scene.service.comment(scene.ticket, "hello")

    async def there():
        return scene.tracker.issues[1].comments

    await until(there)

    async def done():
        return await scene.database.fetchval("select count(*) = 0 from delivery where state = 0")

    await until(done)
    _, text = await scene.marker(2)
    issue = scene.tracker.issues[1]
    scene.tracker._add_comment(issue, f"hello\n\n<!-- pointsman: {text} -->", scene.tracker.bot)
    scene.tracker._add_comment(issue, f"quoted\n\n<!-- pointsman: {text} -->", "dev")
    await scene.sent_again(2)
    return scene


async def test_a_comment_made_twice_is_deleted_and_a_persons_is_not(commented: Scene):
    first, double, persons = commented.tracker.issues[1].comments
    await commented.run_check()
    assert commented.tracker.issues[1].comments == [first, persons]
    assert commented.doubles == [("there", "comment", True)]
    await commented.run_check()
    assert len(commented.doubles) == 1
    assert double not in commented.tracker.issues[1].comments


async def test_where_comments_can_not_be_deleted_the_operator_is_told_once(commented: Scene, monkeypatch):
    from pointsman_forgejo import ForgejoTracker

    lacking = replace(ForgejoTracker.capabilities, delete_comment=False)
    monkeypatch.setattr(ForgejoTracker, "capabilities", lacking)
    await commented.run_check()
    await commented.run_check()
    assert len(commented.tracker.issues[1].comments) == 3
    assert commented.doubles == [("there", "comment", False)]


async def test_what_was_sent_just_now_is_left_to_settle(commented: Scene):
    await commented.database.execute("update delivery set done_at = now() where kind = 2")
    await commented.run_check()
    assert len(commented.tracker.issues[1].comments) == 3


async def test_a_listing_that_shows_a_second_issue_of_ours_marks_duplicates(scene: Scene):
    number = await scene.duplicate(seen=False)
    there = scene.running.services.config.current.destination("there")

    async def known():
        return there.account

    await until(known)
    ref = IssueRef(str(number), str(number))
    _, text = await scene.marker(1)
    copied = IssueState(ref=ref, state="open", author=Actor("77", "dev"), markers=(text,))
    await scene.running.services.tracker_updates.apply(there, copied)
    assert await scene.database.fetchval("select count(*) from marker_observation") == 1, (
        "a person's copy proves nothing"
    )
    for news in await there.tracker.list_changes(scene.tracker.issues[1].created_at):
        await scene.running.services.tracker_updates.apply(there, news)
    rows = await scene.database.fetch(
        "select remote_id, seen_by, is_duplicate from marker_observation order by at"
    )
    assert [tuple(row) for row in rows] == [("1", "answer", True), (str(number), "listing", True)]


async def test_a_quiet_lane_that_went_round_in_a_circle_is_idle_again(scene: Scene):
    await scene.database.execute("update lane set state = 3, park_reason = 'loop: x'")
    await scene.run_check()
    assert await scene.database.fetchval("select state from lane") == 3
    await scene.database.execute("update event set at = now() - interval '2 hours'")
    await scene.run_check()
    assert await scene.database.fetchval("select state from lane") == 0
