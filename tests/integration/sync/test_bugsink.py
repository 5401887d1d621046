"""Both directions with a double of Bugsink: enrichment, backfill after an outage, and feedback about issues."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
import time

import msgspec
import pytest

from configuration import SHOP, WEBHOOK_SECRET, route, tracker_destination
from fake_bugsink import ALL_RIGHTS, FakeBugsink
from pointsman.bus.signals import WorkAvailable
from pointsman.delivery import enrichment as enriching
from pointsman.operations import diagnostics
from pointsman.storage import sources as store
from pointsman.storage.db import Database
from pointsman.sync.source_backfill import SourceBackfill
from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService


def config(tracker: FakeForgejo, bugsink: FakeBugsink, more: str = "") -> str:
    source = f"""
[[source]]
slug = "shop"
kind = "bugsink"
token = "{SHOP}"
[source.settings]
url = "{bugsink.url}"
token = "{bugsink.token}"
poll_seconds = 3600
{more}
"""
    secrets = f'webhook_secrets = ["{WEBHOOK_SECRET}"]'
    return source + tracker_destination(tracker, "my-product", more=secrets) + route("my-product")


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


@pytest.fixture
async def bugsink():
    async with FakeBugsink() as fake:
        yield fake


def wire(service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink) -> None:
    bugsink.intake_url = f"{service.url}/intake/shop/{SHOP}"
    tracker.webhook_url, tracker.webhook_secret = f"{service.url}/webhooks/forgejo/my-product", WEBHOOK_SECRET


async def wait_for_issues(tracker: FakeForgejo, count: int = 1):
    async def look() -> bool:
        return tracker.issues_created() >= count

    await until(look)
    return tracker.issues[count]


async def wait_for_effects(bugsink: FakeBugsink, count: int) -> list[str]:
    async def look() -> bool:
        return len([effect for effect in bugsink.effects if effect.kind in ("comment", "state")]) >= count

    await until(look)
    return [effect.detail.partition("\n")[0] for effect in bugsink.effects]


async def rows(service: RunningService, sql: str, *args):
    import asyncpg

    con = await asyncpg.connect(service.settings.database_url.reveal())
    try:
        return await con.fetch(sql, *args)
    finally:
        await con.close()


async def ask(running, *, forget: bool = False, grace: float = 0.0) -> int:
    """Run a backfill as if the source were due."""
    services = running.services
    source = services.config.current.sources["shop"]

    async def won() -> store.SourcePoll | None:
        # the replica asks by itself once, when it starts
        await services.database.execute("update source_state set poll_due_at = now()")
        return await store.acquire_poll(services.database, source.id, 60)

    lease = await until(won)
    if forget:
        lease = lease._replace(polled_to=None, started_at=lease.asked_at - dt.timedelta(days=1))
    pull = SourceBackfill(
        services.database,
        services.config,
        services.preparer,
        services.intake,
        grace=dt.timedelta(seconds=grace),
    )
    return await pull.backfill(source, lease)


async def test_the_loop_is_closed(service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink):
    """The issue has the event's details; Bugsink gets its link, its closing and its reopening, each once."""
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        error = await bugsink.error(release="shop@2.0", environment="staging")
        assert bugsink.posted == [("NEW", 202)]
        issue = await wait_for_issues(tracker)
        for fact in (
            "shop/basket.py:12 in total",
            'session["basket"].total',
            "staging",
            "shop@2.0",
            "tenant=acme",
        ):
            assert fact in issue.body, issue.body
        for secret in ("4111", "ada@customer.example"):
            assert secret not in issue.body
        (comment,) = await wait_for_effects(bugsink, 1)
        assert comment == f"Tracked as my-product 1: {tracker.url}/acme/shop/issues/1"

        assert await tracker.close_issue(1) == 200
        assert (await wait_for_effects(bugsink, 2))[1:] == ["resolve"]
        assert error.is_resolved
        await bugsink.error()
        assert bugsink.posted[1:] == [("REGRESSED", 202)]

        async def reopened() -> bool:
            return issue.state == "open" and len(issue.comments) == 1

        await until(reopened)
        assert not error.is_resolved
        assert await tracker.close_issue(1) == 200
        await wait_for_effects(bugsink, 3)
        assert await tracker.reopen_issue(1) == 200
        assert (await wait_for_effects(bugsink, 4))[2:] == ["resolve", "reopen"]
        assert tracker.issues_created() == 1
        assert len(error.comments) == 1


async def test_what_is_so_already_is_success(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink, 'resolve = "resolve-next"')):
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        error.is_resolved = True
        await tracker.close_issue(1)

        async def done(kind: int) -> bool:
            sql = "select last_outcome from delivery where kind = $1 and state = 1"
            return [row["last_outcome"] for row in await rows(service, sql, kind)] == ["done"]

        await until(lambda: done(3))
        error.is_resolved = False
        await tracker.reopen_issue(1)
        await until(lambda: done(4))
        assert [effect.kind for effect in bugsink.effects] == ["comment"]


@pytest.mark.parametrize("how", ["resolve-next", "resolve-latest"])
async def test_how_an_issue_is_resolved_is_a_setting(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink, how: str
):
    async with service.replica(config(tracker, bugsink, f'resolve = "{how}"')):
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        await tracker.close_issue(1)
        await wait_for_effects(bugsink, 2)
        assert error.how == how


async def test_an_issue_deleted_in_bugsink_is_let_go(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        bugsink.delete(error)
        await tracker.close_issue(1)

        async def parked() -> bool:
            return bool(await rows(service, "select from lane where park_reason = 'orphan'"))

        await until(parked)
        await tracker.reopen_issue(1)
        events = await rows(
            service,
            "select d.kind from delivery d join lane l on l.id = d.lane_id"
            " join destination x on x.id = l.destination_id where x.slug = '@source:shop'",
        )
        assert sorted(row["kind"] for row in events) == [2, 3]


async def test_nothing_is_told_where_nothing_shall_be(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink, 'resolve = "no"\ncomment = false')):
        wire(service, tracker, bugsink)
        await bugsink.error()
        await wait_for_issues(tracker)
        await tracker.close_issue(1)
        assert await rows(service, "select slug from destination where kind = 3 and retired_at is null") == []
        assert bugsink.effects == []


async def test_a_slow_api_delays_no_issue_for_long_and_its_details_come_later(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink, monkeypatch: pytest.MonkeyPatch
):
    """Two details are one comment; the body, which people may have edited, stays."""
    monkeypatch.setattr(
        enriching.Enricher.__init__,
        "__kwdefaults__",
        {"signals": None, "timeout_seconds": 0.2, "retry_seconds": 0.5},
    )
    bugsink.faults.append(Fault("GET", hang_seconds=1.0, times=3))
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        await bugsink.error()
        issue = await wait_for_issues(tracker)
        assert "basket.py" not in issue.body
        before = issue.body

        async def completed() -> bool:
            return any("basket.py" in comment.body for comment in issue.comments)

        await until(completed)
        await asyncio.sleep(0)
        assert len(issue.comments) == 1
        assert "production" in issue.comments[0].body
        assert issue.body == before


async def test_alerts_lost_while_we_were_away_are_found_once(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        first = await bugsink.error()
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        await tracker.close_issue(1)
        await wait_for_effects(bugsink, 2)
    # these alerts are lost
    await bugsink.error()
    lost = await bugsink.error("ValueError", "seven")
    assert [status for _, status in bugsink.posted] == [202, 0, 0]
    async with service.replica() as running:
        wire(service, tracker, bugsink)
        assert await ask(running) == 2
        await wait_for_issues(tracker, 2)

        async def known() -> bool:
            return tracker.issues[1].state == "open" and len(tracker.issues[1].comments) == 1

        await until(known)
        assert tracker.issues[2].title == "ValueError: seven"
        assert await ask(running) == 0
        # an alert that comes late after all
        assert await bugsink.alert(first, "REGRESSED") == 202
        assert await bugsink.alert(lost, "NEW") == 202
        assert await ask(running, forget=True) == 0
        events = await rows(service, "select kind, count(*) as n from event group by kind order by kind")
        assert {row["kind"]: row["n"] for row in events} | {"linked": 2} == {
            "opened": 2,
            "regressed": 1,
            "closed": 1,
            "linked": 2,
        }
        assert len(await rows(service, "select from report where action <> 'test'")) == 3


async def test_what_came_by_itself_is_not_found_again(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    """Bugsink makes an alert's body when it sends it: its time may be that of a later event."""
    async with service.replica(config(tracker, bugsink)) as running:
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        error.is_resolved, bugsink.alerts = True, False
        await bugsink.error()
        await bugsink.error()
        bugsink.alerts = True
        assert await bugsink.alert(error, "REGRESSED") == 202
        assert await ask(running, forget=True) == 0


async def test_the_first_alert_found_last_changes_nothing(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    """A regression opened the ticket, for NEW was lost; it was solved since. That it was new once is no news."""
    async with service.replica(config(tracker, bugsink)) as running:
        error = await bugsink.error()
        wire(service, tracker, bugsink)
        error.is_resolved = True
        await bugsink.error()
        assert bugsink.posted == [("REGRESSED", 202)]
        assert await ask(running, forget=True) == 0
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        await tracker.close_issue(1)
        await wait_for_effects(bugsink, 2)
        assert await ask(running, forget=True) == 0
        assert tracker.issues[1].state == "closed"


async def test_what_just_happened_is_left_to_come_by_itself(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink)) as running:
        await bugsink.error()
        assert await ask(running, forget=True, grace=30) == 0
        assert await ask(running, forget=True) == 1


async def test_before_2_6_2_new_issues_are_found_and_that_a_closed_one_came_back(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    bugsink.version = (2, 5, 1)
    async with service.replica(config(tracker, bugsink)) as running:
        wire(service, tracker, bugsink)
        bugsink.alerts = False
        error = await bugsink.error()
        old = await bugsink.error("OldError", "1", at=dt.datetime.now(dt.UTC) - dt.timedelta(days=3))
        await bugsink.error("OldError", "1")
        assert await ask(running, forget=True) == 1
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        await tracker.close_issue(1)
        await wait_for_effects(bugsink, 2)
        assert await ask(running) == 0
        await bugsink.error()
        assert not error.is_resolved and old.comments == []
        assert await ask(running) == 1
        assert await ask(running) == 0

        async def back() -> bool:
            return tracker.issues[1].state == "open"

        await until(back)
        assert tracker.issues_created() == 1


async def test_two_replicas_ask_one_at_a_time_and_hostile_answers_end(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    bugsink.page_size = 0  # every page has a next one
    async with service.replica(config(tracker, bugsink, "project = 7")) as running:
        source = running.services.config.current.sources["shop"]
        await bugsink.error()
        assert await ask(running, forget=True) == 0
        assert sum("issues/?" in path for _, path in bugsink.requests) <= 60
        assert await store.acquire_poll(running.services.database, source.id, 60) is None
        bugsink.page_size = 250
        bugsink.faults.append(Fault("GET", status=200, body=b"[" * 6_000_000))
        with pytest.raises(Exception, match="more than"):
            await ask(running)
        bugsink.faults.append(Fault("GET", status=200, body=b'{"results": 5}'))
        with pytest.raises(Exception, match="no list"):
            await ask(running)


async def test_a_comment_whose_answer_was_lost_is_not_said_twice(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    bugsink.faults.append(Fault("POST /api/canonical/0/issue-comments/", reset=True, applied=True))
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        error = await bugsink.error()

        async def settled() -> bool:
            sql = "select last_outcome from delivery where kind = 2 and state = 1"
            return [row["last_outcome"] for row in await rows(service, sql)] == ["found"]

        await until(settled, 30)
        assert len(error.comments) == 1


async def test_a_problem_closed_without_being_solved_stays_open_in_bugsink(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink)) as running:
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        await wait_for_issues(tracker)
        await wait_for_effects(bugsink, 1)
        (ticket,) = await rows(service, "select id from ticket")
        heard = await running.services.tracker_updates.set_ticket_state(
            ticket["id"], "closed", "not_planned", "operator"
        )
        assert heard.changed
        running.services.signals.emit(WorkAvailable())

        async def done() -> bool:
            sql = (
                "select l.id from delivery d join lane l on l.id = d.lane_id where d.kind = 3 and d.state = 1"
            )
            return len(await rows(service, sql)) == 2

        await until(done)
        assert not error.is_resolved


async def test_telling_is_switched_off_and_on_again(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    """Issues created meanwhile are not reported afterwards."""
    whole, quiet = config(tracker, bugsink), config(tracker, bugsink, 'resolve = "no"\ncomment = false')
    async with service.replica(whole):
        wire(service, tracker, bugsink)
        await bugsink.error()
        await wait_for_effects(bugsink, 1)
    async with service.replica(quiet):
        wire(service, tracker, bugsink)
        silent = await bugsink.error("Silent", "1")
        await wait_for_issues(tracker, 2)
        sql = "select d.retired_at, s.pause_reason from destination d join destination_state s on s.destination_id = d.id"
        (place,) = await rows(service, f"{sql} where d.kind = 3")
        assert place["retired_at"] is not None and place["pause_reason"] == "retired"
    await rows(service, "update link set linked_at = linked_at - interval '5 minutes'")
    await rows(service, "update source_state set linked_to = linked_to - interval '10 minutes'")
    async with service.replica(whole):
        wire(service, tracker, bugsink)
        loud = await bugsink.error("Loud", "1")
        await wait_for_effects(bugsink, 2)
        assert (len(loud.comments), silent.comments) == (1, [])


async def test_signed_alerts_alone_are_taken_where_a_secret_is_set(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    key = base64.b64encode(b"k" * 32).decode()
    async with service.replica(config(tracker, bugsink, f'signing_secret = "whsec_{key}"')):
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        assert bugsink.posted == [("NEW", 401)]
        body = json.dumps(bugsink.body(error, "NEW")).encode()
        at = str(int(time.time()))
        made_of = b"msg_1." + at.encode() + b"." + body
        signature = base64.b64encode(hmac.new(b"k" * 32, made_of, hashlib.sha256).digest()).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": "msg_1",
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{signature}",
        }
        await service.call("POST", f"/intake/shop/{SHOP}", data=body, headers=headers, status=202)
        await wait_for_issues(tracker)


# -- the doctor ------------------------------------------------------------------------------------------------------


async def findings(service: RunningService, level: str, **changed) -> list[str]:
    here = msgspec.structs.replace(
        service.settings, **{"public_url": "https://pointsman.example.com", **changed}
    )
    async with Database.open(here.database_url.reveal(), size=2) as database:
        results = await diagnostics.doctor(here, database, "shop")
    assert not any(SHOP in finding.message + finding.remedy for finding in results)
    return [finding.message for finding in results if finding.level == level]


async def test_the_doctor_names_what_stands_in_the_way(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    async with service.replica(config(tracker, bugsink)):
        wire(service, tracker, bugsink)
        error = await bugsink.error()
        await wait_for_effects(bugsink, 1)
        before = (error.is_resolved, list(error.comments))
        assert await findings(service, "error") == []
        bugsink.rights = frozenset({"issues:read", "events:read"})
        assert await findings(service, "error") == [
            "shop: the token lacks issues:triage",
            "shop: the token lacks issues:comment",
        ]
        bugsink.rights = ALL_RIGHTS
        bugsink.switched_off = {"alert_on_regression"}
        assert any("alert_on_regression" in finding for finding in await findings(service, "warning"))
        assert any(
            "refuses the host name 'bridge'" in finding
            for finding in await findings(service, "error", public_url="http://bridge:8080")
        )
        assert any(
            "private address" in finding
            for finding in await findings(service, "warning", public_url="http://127.0.0.1:1")
        )
        bugsink.version = (2, 0, 14)
        assert len(await findings(service, "error")) == 2
        bugsink.version, good = (2, 6, 2), bugsink.token
        bugsink.token = "another"
        assert await findings(service, "error") == ["shop: Bugsink refuses the token"]
        bugsink.token = good
        async with bugsink.down():
            assert any("can't be reached" in finding for finding in await findings(service, "error"))
        assert (error.is_resolved, list(error.comments)) == before


async def test_what_was_heard_is_known_again_by_the_fingerprint_that_a_route_gave_it(
    service: RunningService, tracker: FakeForgejo, bugsink: FakeBugsink
):
    route = 'fingerprint = "{{ source }}/{{ title }}"\n'
    async with service.replica(config(tracker, bugsink) + route) as running:
        wire(service, tracker, bugsink)
        await bugsink.error()
        await wait_for_issues(tracker)
        [row] = await rows(service, "select fingerprint from ticket")
        assert row["fingerprint"].startswith("route:shop/")
        assert await ask(running, forget=True) == 0
