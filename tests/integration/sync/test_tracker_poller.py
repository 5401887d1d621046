"""Polling finds missed webhooks with few statements; failed webhooks are redelivered; all issues can be compared."""

from __future__ import annotations

import collections
import contextlib

import pytest
from msgspec.structs import replace

from configuration import ADMIN, SOURCES, WEBHOOK_SECRET, route, tracker_destination
from pointsman.errors import PointsmanError
from pointsman.plugin_host import bootstrap
from pointsman.plugin_host.registry import Registry
from pointsman.storage import destinations
from pointsman.storage import reconcile as store
from pointsman.storage.db import Database
from pointsman.sync import full_reconcile
from pointsman.sync import tracker_poller as module
from pointsman.sync.tracker_poller import TrackerPoller
from pointsman.sync.tracker_updates import TrackerUpdates
from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from pointsman_github.testing import FakeGitHub
from polling import until
from service_fixture import RunningService, count_dead


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="tracker-token") as fake:
        yield fake


def config(fake: FakeForgejo | FakeGitHub, kind: str = "forgejo", slug: str = "there") -> str:
    more = f'webhook_secrets = ["{WEBHOOK_SECRET}"]'
    return SOURCES + tracker_destination(fake, slug, kind=kind, more=more) + route(slug)


@contextlib.contextmanager
def counted(database: Database):
    """The statements of a pool, by name."""
    seen: collections.Counter[str] = collections.Counter()
    plain = {name: getattr(database, name) for name in ("fetch", "fetchrow", "fetchval", "execute")}

    def counting(call):
        def count(sql, *args):
            seen[sql.removeprefix("/* ").partition(" */")[0]] += 1
            return call(sql, *args)

        return count

    for name, call in plain.items():
        setattr(database, name, counting(call))
    yield seen
    for name, call in plain.items():
        setattr(database, name, call)


async def _free(database: Database) -> None:
    """Let the replica under test poll, and release its lease."""

    async def asked():
        return await database.fetchval(
            "select bool_and(poll_due_at > now()) from destination_state s join destination d on d.id = s.destination_id"
            " where d.kind = 1"
        )

    await until(asked)
    await database.execute("update destination_state set poll_due_at = now()")


# -- how cheap it is -------------------------------------------------------------------------------------------------


async def test_an_idle_destination_that_is_asked_often_costs_few_statements(
    service: RunningService, tracker: FakeForgejo, database: Database, monkeypatch
):
    """Asked every two seconds for a minute by two replicas: the loop's clock is ours here."""
    async with service.replica(config(tracker)) as running:
        reloader = running.services.config
        there = reloader.current.destination("there")
        quick = replace(there.capabilities, poll_seconds=2.0)
        monkeypatch.setattr(type(there.tracker), "capabilities", quick)
        await _free(database)
        replicas = [TrackerPoller(database, reloader, TrackerUpdates(database, reloader)) for _ in range(2)]
        with counted(database) as seen:
            for second in range(60):
                for poller in replicas:
                    state = poller.state_of(there)
                    # a second passes
                    state.due -= 1
                    state.lease_until -= 1
                    state.recorded_at -= 1
                    if state.due <= module.asyncio.get_running_loop().time():
                        state.due = module.asyncio.get_running_loop().time() + 2
                        await poller.poll(there, state)
                if second % 30 == 29:
                    await database.pool.execute("update destination_state set poll_due_at = now()")
        asked = sum(path.startswith("/api/v1/repos/acme/shop/issues?") for _, path in tracker.requests)
        assert asked >= 28
        assert seen.total() <= 8, seen


async def test_what_is_listed_is_looked_up_together(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)) as running:
        for number in range(5):
            await tracker.open_issue(f"a person's {number}", send=False)
        reloader = running.services.config
        there = reloader.current.destination("there")
        with counted(database) as seen:
            await TrackerPoller(database, reloader, TrackerUpdates(database, reloader)).apply_changes(
                there, tracker.issues[1].created_at, tracker.now()
            )
        assert seen == {"links_of_issues": 1}


async def test_one_replica_has_the_lease_and_releases_it(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)) as running:
        reloader = running.services.config
        there = reloader.current.destination("there")
        await _free(database)
        asked = []

        class Watched(TrackerPoller):
            async def apply_changes(self, destination, since, asked_at):
                asked.append(self)
                return 0

        first, second = (Watched(database, reloader, TrackerUpdates(database, reloader)) for _ in range(2))
        async with first.running():

            async def won():
                return asked == [first]

            await until(won)
            state = second.state_of(there)
            await second.poll(there, state)
            assert asked == [first] and state.due > module.asyncio.get_running_loop().time() + 500
        await second.poll(there, state)
        assert asked == [first, second]


async def test_a_success_clears_the_failure_of_asking(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)) as running:
        reloader = running.services.config
        there = reloader.current.destination("there")
        reconcile = TrackerPoller(database, reloader, TrackerUpdates(database, reloader))
        state = module.PollState()

        async def failure():
            [row] = [row for row in await destinations.list_status(database) if row.slug == "there"]
            return row.failure_message

        await _free(database)
        tracker.faults = [Fault("GET /api/v1/repos/acme/shop/issues", status=500)]
        await reconcile.poll(there, state)
        assert (await failure()).startswith("asking for changes: ")
        state.lease_until = 0.0
        await database.execute("update destination_state set poll_due_at = now()")
        await reconcile.poll(there, state)
        assert await failure() is None
        await database.execute(
            "update destination_state set failure_message = 'of a delivery', failure_origin = 'delivery', failures = 3"
        )
        state.recorded_at = float("-inf")
        await reconcile.poll(there, state)
        assert await failure() == "of a delivery"


# -- failed webhooks -------------------------------------------------------------------------------------------------


async def test_webhooks_that_failed_are_sent_again_and_heard(service: RunningService, database: Database):
    """Only a webhook reports a deletion."""
    async with FakeGitHub(repository="acme/shop", token="tracker-token") as github:
        service.settings = replace(service.settings, public_url="https://pointsman.example")
        async with service.replica(config(github, "github")) as running:
            ticket = (await service.alert())["ticket"]
            await service.linked(ticket)
            there = running.services.config.current.destination("there")
            url = there.webhook_url
            assert url == "https://pointsman.example/webhooks/github/there"
            await there.tracker.ensure_webhook(url, type(there.tracker.settings.token)(WEBHOOK_SECRET))
            github.webhook_url = f"{service.url}/nowhere"
            await github.delete_issue(1)
            assert github.webhooks[-1].status == 404
            github.webhook_url = f"{service.url}/webhooks/github/there"
            reconcile = TrackerPoller(
                database, running.services.config, TrackerUpdates(database, running.services.config)
            )
            await _free(database)
            state = module.PollState()
            await reconcile.poll(there, state)
            await service.until_ticket(ticket, lambda seen: seen["links"][0]["state"] == "orphaned")
            asked = len(github.requests)
            state.lease_until = module.asyncio.get_running_loop().time() + 60
            await reconcile.poll(there, state)
            assert not any("/hooks" in path for _, path in github.requests[asked:]), "not before ten minutes"


async def test_without_a_public_address_no_tracker_is_asked(service: RunningService, database: Database):
    github = FakeGitHub(repository="acme/shop", token="tracker-token")
    async with github, service.replica(config(github, "github")) as running:
        there = running.services.config.current.destination("there")
        reconcile = TrackerPoller(
            database, running.services.config, TrackerUpdates(database, running.services.config)
        )
        await _free(database)
        await reconcile.poll(there, module.PollState())
        assert not any("/hooks" in path for _, path in github.requests)


async def test_trouble_with_that_does_not_spoil_the_asking(service: RunningService, database: Database):
    async with FakeGitHub(repository="acme/shop", token="tracker-token") as github:
        service.settings = replace(service.settings, public_url="https://pointsman.example")
        github.faults = [Fault("/hooks", status=500, times=10)]
        async with service.replica(config(github, "github")) as running:
            there = running.services.config.current.destination("there")
            reconcile = TrackerPoller(
                database, running.services.config, TrackerUpdates(database, running.services.config)
            )
            await _free(database)
            await database.execute("update destination_state set polled_to = null")
            await reconcile.poll(there, module.PollState())
            row = await database.fetchrow(
                "select polled_to, failed_at from destination_state where destination_id = $1", there.id
            )
            assert row["polled_to"] is not None and row["failed_at"] is None


# -- comparing everything --------------------------------------------------------------------------------------------


async def _compare(service: RunningService, database: Database, slug: str | None = None, *, dry_run: bool):
    summary = full_reconcile.Summary()
    differences = [
        difference
        async for difference in full_reconcile.reconcile(
            service.settings, database, slug, dry_run=dry_run, summary=summary
        )
    ]
    return summary, differences


@pytest.fixture
async def linked(service: RunningService, tracker: FakeForgejo, database: Database):
    """Three tickets with their issues, in their order."""
    async with service.replica(config(tracker)):
        tickets = {}
        for number in range(3):
            ticket = await service.new_ticket(f"number {number}")
            tickets[int((await service.linked(ticket))["key"])] = ticket
        yield [tickets[number] for number in sorted(tickets)]


async def test_where_all_is_well_nothing_differs(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    summary, differences = await _compare(service, database, dry_run=True)
    assert (differences, summary.checked, str(summary)) == ([], 3, "3 issues compared, 0 differ")


async def test_a_dry_run_tells_and_changes_nothing_and_a_real_one_mends(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    """One was closed, one deleted, and nobody told us."""
    await tracker.close_issue(1, send=False)
    tracker.delete_issue(2)
    summary, differences = await _compare(service, database, dry_run=True)
    assert [
        (str(difference.ticket), difference.ticket_state, difference.issue_state, difference.result)
        for difference in differences
    ] == [
        (linked[0], "open", "closed", "differs"),
        (linked[1], "open", "gone", "differs"),
    ]
    assert summary.drift == 2
    assert (await service.ticket(linked[0]))["status"] == "open"
    summary, differences = await _compare(service, database, dry_run=False)
    assert [difference.result for difference in differences] == ["applied", "applied"]
    assert (summary.applied, summary.drift) == (2, 0)
    assert (await service.ticket(linked[0]))["status"] == "closed"
    assert (await service.ticket(linked[1]))["links"][0]["state"] == "orphaned"
    summary, differences = await _compare(service, database, dry_run=True)
    assert differences == [] and summary.checked == 2


async def test_a_difference_that_was_known_all_along_is_mended_too(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    """The link says closed, as the issue is; only the ticket says otherwise."""
    await tracker.close_issue(1, send=False)
    await database.execute("update link set remote_state = 2 where remote_id = '1'")
    _, [difference] = await _compare(service, database, dry_run=False)
    assert difference.result == "applied"
    assert (await service.ticket(linked[0]))["status"] == "closed"


async def test_what_a_delivery_is_about_to_change_is_no_drift(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    await database.execute("update destination_state set pause_reason = 'operator'")
    await service.call("POST", f"/api/v1/tickets/{linked[0]}/close", token=ADMIN, status=200)
    summary, [difference] = await _compare(service, database, dry_run=False)
    assert (difference.result, summary.drift, summary.pending) == ("pending", 0, 1)
    assert (await service.ticket(linked[0]))["status"] == "closed"


async def test_a_delivery_planned_while_the_issue_was_read_is_not_undone(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    """The issue was open when it was read; by now the ticket is closed, and the close on its way."""
    await database.execute("update destination_state set pause_reason = 'operator'")
    reloader = bootstrap.build_reloader(service.settings, database, Registry.load())
    await reloader.refresh()
    there = reloader.current.destination("there")
    [read] = [
        issue
        for issue in await there.tracker.list_changes(tracker.issues[1].created_at)
        if issue.ref.key == "1"
    ]
    await service.call("POST", f"/api/v1/tickets/{linked[0]}/close", token=ADMIN, status=200)
    heard = await TrackerUpdates(database, reloader).apply_read(
        there, read, await store.current_time(database)
    )
    assert not heard.changed and "delivery of ours" in heard.note
    assert (await service.ticket(linked[0]))["status"] == "closed"
    await reloader.close()


async def test_a_dead_delivery_is_named_and_left_to_a_person(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    tracker.blocked = {1}
    await service.call("POST", f"/api/v1/tickets/{linked[0]}/close", token=ADMIN, status=200)

    async def dead():
        return await count_dead(database) == 1

    await until(dead)
    summary, [difference] = await _compare(service, database, dry_run=False)
    assert difference.result == "dead" and difference.note.startswith("pointsman replay ")
    assert summary.drift == 1
    assert (await service.ticket(linked[0]))["status"] == "closed"


async def test_a_tracker_that_can_not_be_asked_is_told_once(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    tracker.token = "another"
    summary, [difference] = await _compare(service, database, dry_run=False)
    assert difference.result == "stopped" and "401" in difference.note and summary.failed == 1


async def test_one_issue_that_can_not_be_read_does_not_stop_the_others(
    linked, service: RunningService, tracker: FakeForgejo, database: Database
):
    tracker.faults = [Fault("/issues/1", status=500)]
    await tracker.close_issue(3, send=False)
    summary, differences = await _compare(service, database, dry_run=False)
    assert [difference.result for difference in differences] == ["failed", "applied"]
    assert (summary.checked, summary.failed) == (2, 1)


async def test_a_destination_that_is_not_there_is_said(linked, service: RunningService, database: Database):
    with pytest.raises(PointsmanError, match="nowhere"):
        await _compare(service, database, "nowhere", dry_run=True)
