"""Failing deliveries: retries, dead letters, what operators see, and recovery."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from configuration import HELPDESK, SOURCES, route, tracker_destination
from pointsman.operations.apply import apply_file
from pointsman.operations.deliveries import list_deliveries, replay_delivery
from pointsman.operations.destinations import DestinationStatus, list_destinations, retry, set_pause
from pointsman.operations.diagnostics import doctor
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage.db import Database
from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService, count_dead, count_pending

CREATE = "POST /api/v1/repos/acme/shop/issues"


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="tracker-token") as fake:
        yield fake


def config(fake: FakeForgejo) -> str:
    return SOURCES + tracker_destination(fake) + route()


async def destination(database: Database) -> DestinationStatus:
    [status] = [status for status in await list_destinations(database) if status.slug == "there"]
    return status


async def failing(database: Database) -> DestinationStatus:
    async def look():
        status = await destination(database)
        return status if status.failed_at is not None else None

    return await until(look)


async def test_the_last_failure_is_shown_until_the_next_success(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    body = json.dumps({"message": "tracker-says-no"}).encode()
    tracker.faults = [Fault(CREATE, status=403, body=body, headers={"Content-Type": "application/json"})]
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        row = await failing(database)
        assert (row.failure_type, row.failure_status, row.failure_is_json) == (
            "Misconfigured",
            403,
            True,
        )
        assert "tracker-says-no" in row.failure_excerpt
        seen = await service.until_ticket(ticket, lambda seen: seen["links"][0].get("problem"))
        assert "403" in seen["links"][0]["problem"]
        await _hurry(database)
        await service.linked(ticket)
        status = await destination(database)
        assert (status.failed_at, status.state) == (None, "ready")


@pytest.mark.parametrize("cure", ["retry", "resume", "apply", "restart", "doctor"])
async def test_a_corrected_credential_ends_the_back_off_of_the_destination_and_of_its_lanes(
    service: RunningService, tracker: FakeForgejo, database: Database, cure: str
):
    configured, valid = config(tracker), tracker.token
    tracker.token = "another-token"
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(service.replica(configured))
        tickets = [await service.new_ticket(f"number {n}") for n in range(3)]
        await failing(database)
        # as after a long outage: the destination and each lane that was tried wait for a quarter of an hour
        await database.execute("update destination_state set blocked_until = now() + interval '15 minutes'")
        await asyncio.sleep(0.5)
        await database.execute(
            "update lane set due_at = now() + interval '15 minutes' where state = 1 and id in"
            " (select lane_id from delivery where last_outcome is not null)"
        )
        tracker.token = valid
        if cure == "restart":
            await stack.aclose()
            await stack.enter_async_context(service.replica(configured))
        elif cure == "apply":
            changed = configured.replace("repository = ", 'labels = ["x"]\nrepository = ', 1)
            assert changed != configured
            file = service.write_config(changed)
            await apply_file(database, service.settings, Registry.load(), file)
        elif cure == "doctor":
            await doctor(service.settings, database, "there")
        elif cure == "resume":
            await set_pause(database, "there", paused=False)
        else:
            await retry(database, "there")
        for ticket in tickets:
            await service.linked(ticket)
    assert tracker.issues_created() == 3


async def test_the_first_success_ends_the_back_off_of_the_other_lanes(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    configured, valid = config(tracker), tracker.token
    tracker.token = "another-token"
    async with service.replica(configured):
        tickets = [await service.new_ticket(f"number {n}") for n in range(2)]
        await failing(database)
        await database.execute("update destination_state set blocked_until = null")
        await asyncio.sleep(0.5)
        await database.execute("update destination_state set blocked_until = null")
        await database.execute("update lane set due_at = now() + interval '15 minutes' where state = 1")
        tracker.token = valid
        tickets.append(await service.new_ticket("number 3"))
        for ticket in tickets:
            await service.linked(ticket)


async def test_a_wrong_credential_holds_the_destination_back_and_kills_nothing(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    configured, valid = config(tracker), tracker.token
    tracker.token = "another-token"
    async with service.replica(configured):
        tickets = [await service.new_ticket(f"number {n}") for n in range(3)]

        async def backing_off():
            row = await failing(database)
            return row if row.backs_off_until is not None else None

        assert (await until(backing_off)).failure_type == "AuthFailed"
        tracker.token = valid

        async def all_created():
            await _hurry(database)
            return tracker.issues_created() == 3

        await until(all_created)
        for ticket in tickets:
            await service.linked(ticket)
        assert tracker.issues_created() == 3
        assert await count_dead(database) == 0


async def test_what_the_tracker_refuses_is_dead_visible_and_can_be_replayed(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    tracker.faults = [Fault(CREATE, status=422, body=b'{"message": "no such thing"}')]
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        await service.comment(ticket, "waits behind its issue")

        async def dead():
            return await list_deliveries(database, state="dead")

        [row] = await until(dead)
        assert "422" in row.problem
        assert tracker.effects == []
        await replay_delivery(database, row.delivery)
        await service.linked(ticket)

        async def commented():
            return [effect.kind for effect in tracker.effects] == ["issue", "comment"]

        await until(commented)


async def test_an_issue_that_cannot_be_changed_holds_its_own_lane_alone(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)):
        stuck, *rest = [await service.new_ticket(f"number {n}") for n in range(3)]
        key = (await service.linked(stuck))["url"].rpartition("/")[2]
        for ticket in rest:
            await service.linked(ticket)
        denied = b'{"message": "user is blocked by repository owner"}'
        tracker.faults = [Fault(f"issues/{key}/comments", status=403, body=denied, times=1000)]
        await service.comment(stuck, "not possible there")

        async def blocked():
            return await database.fetchval(
                "select attempts from delivery where last_outcome = 'blocked' and state = 0"
            )

        for attempts in range(1, 4):

            async def tried(attempts: int = attempts):
                return (await blocked() or 0) >= attempts

            await until(tried)
            await database.execute("update lane set due_at = now() where state = 1")
        status = await destination(database)
        assert (status.failed_at, status.backs_off_until, status.state) == (None, None, "ready")
        await service.comment(rest[0], "possible here")
        await service.linked(await service.new_ticket("number 4"))

        async def commented():
            return [effect.kind for effect in tracker.effects].count("comment") == 1

        await until(commented)


async def test_a_destination_that_a_replica_does_not_know_yet_has_not_failed(
    service: RunningService, tracker: FakeForgejo, database: Database, monkeypatch: pytest.MonkeyPatch
):
    """A destination was removed and added again, and a replica still has the configuration without it."""
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        await service.linked(ticket)
    async with service.replica(SOURCES):
        with monkeypatch.context() as patches:

            async def unchanged(_: ConfigReloader) -> bool:
                return False

            patches.setattr(ConfigReloader, "refresh", unchanged)
            await apply_file(
                database, service.settings, Registry.load(), service.write_config(config(tracker))
            )
            await service.comment(ticket, "waits for the configuration")
            await asyncio.sleep(2.5)
            status = await destination(database)
            assert (status.waiting, status.failures, status.backs_off_until) == (1, 0, None)

        async def commented():
            return [effect.kind for effect in tracker.effects].count("comment") == 1

        await until(commented)
        assert await database.fetchval("select count(*) from attempt where outcome <> 'done'") == 0


async def test_a_comment_that_is_missing_is_named_by_the_next_one_alone(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        await service.linked(ticket)
        refused = Fault(
            "POST /api/v1/repos/acme/shop/issues/1/comments", status=422, body=b'{"message": "no"}'
        )
        tracker.faults = [refused]
        await service.comment(ticket, "first")

        async def dead():
            return await list_deliveries(database, state="dead")

        await until(dead)
        for number, text in enumerate(("second", "third"), start=1):
            await service.comment(ticket, text)

            async def commented(number: int = number):
                return len(tracker.issues[1].comments) == number

            await until(commented)
        second, third = (comment.body for comment in tracker.issues[1].comments)
        assert "second" in second and "third" in third
        assert second.startswith("_One update of 20") and "/console/tickets/" in second
        assert "update" not in third


async def test_a_rate_limit_is_obeyed_by_all_lanes(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    tracker.faults = [Fault(CREATE, status=429, headers={"Retry-After": "120"})]
    async with service.replica(config(tracker)):
        await service.new_ticket()
        row = await failing(database)

        async def backing_off():
            return await database.fetchval(
                "select extract(epoch from blocked_until - now())::float8 from destination_state"
                " where blocked_until is not null"
            )

        wait = await until(backing_off)
        assert row.failure_type == "RateLimited" and 100 < wait <= 120
        asked = len(tracker.requests)
        await service.new_ticket("another")
        assert len(tracker.requests) == asked


async def test_an_issue_that_was_deleted_parks_its_lane(
    service: RunningService, tracker: FakeForgejo, database: Database
):
    async with service.replica(config(tracker)):
        ticket = await service.new_ticket()
        link = await service.linked(ticket)
        tracker.delete_issue(int(link["key"]))
        await service.comment(ticket, "where is it?")
        seen = await service.until_ticket(ticket, lambda seen: seen["links"][0]["state"] == "orphaned")
        assert seen["status"] == "open"


async def test_a_mail_server_that_is_away_gets_the_mail_later_and_once(
    service: RunningService, database: Database
):
    async with service.replica(SOURCES):
        ticket = await service.new_ticket()
        answers = ["451 come again later", "250 kept", "250 kept"]
        keep = service.sink.handle_DATA

        async def moody(server, session, envelope):
            answer = answers.pop(0)
            if answer.startswith("250"):
                await keep(server, session, envelope)
            return answer

        service.sink.handle_DATA = moody
        await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=HELPDESK, status=200)

        async def refused():
            return len(answers) == 2

        await until(refused)
        await _hurry(database)

        async def mailed():
            await _hurry(database)
            return len(service.sink.mails) == 1

        await until(mailed)

        async def nothing_waits():
            return await count_pending(database) == 0

        await until(nothing_waits)
        assert len(service.sink.mails) == 1


async def test_an_address_that_the_mail_server_refuses_is_a_dead_letter(
    service: RunningService, database: Database
):
    async def refuse(_server, _session, _envelope):
        return "550 no such person"

    service.sink.handle_DATA = refuse
    async with service.replica(SOURCES):
        ticket = await service.new_ticket()
        await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=HELPDESK, status=200)

        async def dead():
            return await list_deliveries(database, state="dead")

        [row] = await until(dead)
        assert row.kind == "mail" and "550" in row.problem


async def test_a_destination_with_wrong_settings_does_not_disturb_another(
    service: RunningService, tracker: FakeForgejo, database
):
    """Its deliveries wait and show the reason; deliveries to the other destination continue."""
    more = (
        '[[destination]]\nslug = "broken"\ntracker = "folder"\n[destination.settings]\npath = "/proc/no/such/place"\n'
        '[[route]]\nmatch = { source = "helpdesk" }\ndestination = ["broken", "there"]\n'
    )
    base, route = config(tracker).split("[[route]]")
    async with service.replica(f"{base}{more}[[route]]{route}"):
        ticket = await service.new_ticket()
        seen = await service.until_ticket(
            ticket,
            lambda seen: (
                {link["destination"]: link["state"] for link in seen["links"]}
                == {"broken": "pending", "there": "active"}
            ),
        )
        assert seen["status"] == "open"


async def _hurry(database: Database) -> None:
    """Make everything that waits due now."""
    await database.execute("update destination_state set blocked_until = null")
    await database.execute("update lane set due_at = now() where state = 1")
