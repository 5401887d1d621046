"""Several reports in one request: a group of alerts from the request to the tracker."""

from __future__ import annotations

import asyncpg
import pytest

from pointsman.operations import reprocess
from pointsman.sources.alertmanager import Alertmanager
from pointsman.storage.db import Database
from pointsman_forgejo.testing import FakeForgejo
from service_fixture import RunningService
from source_examples import am_alert, am_group, hex_of, resource, sentry

TOKEN = "alertmanager-token-of-the-tests"
CONFIG = f"""
[[source]]
slug = "prometheus"
kind = "alertmanager"
token = "{TOKEN}"
settings = {{ close_on_resolved = CLOSE }}
[[source]]
slug = "sentry"
kind = "sentry"
token = "{TOKEN}"
settings = {{ signing_secret = "the-client-secret" }}
[[destination]]
slug = "shop"
tracker = "forgejo"
[destination.settings]
url = "URL"
token = "the-token-of-forgejo"
repository = "acme/shop"
[[route]]
destination = "shop"
"""


def config(tracker: FakeForgejo, *, close: bool = False) -> str:
    return CONFIG.replace("URL", tracker.url).replace("CLOSE", str(close).lower())


def forgejo() -> FakeForgejo:
    return FakeForgejo(repository="acme/shop", token="the-token-of-forgejo")


async def post(service: RunningService, body: object, status: int = 202, **more: object) -> dict:
    return await service.call("POST", f"/intake/prometheus/{TOKEN}", json=body, status=status, **more)


async def count(service: RunningService, source: str) -> int:
    con = await asyncpg.connect(service.settings.database_url.reveal())
    try:
        return await con.fetchval(f"select count(*) from {source}")
    finally:
        await con.close()


async def test_a_group_becomes_issues_and_its_end_comments(service: RunningService):
    async with forgejo() as tracker, service.replica(config(tracker)):
        response = await post(service, am_group(am_alert(1), am_alert(2), am_alert(3)))
        assert [report["state"] for report in response["reports"]] == ["accepted"] * 3
        assert {**response["reports"][0], "reports": response["reports"]} == response
        tickets = [report["ticket"] for report in response["reports"]]
        assert len(set(tickets)) == 3
        for ticket in tickets:
            await service.linked(ticket)
        assert tracker.issues_created() == 3

        repeated = await post(service, am_group(am_alert(1), am_alert(2), am_alert(3)))
        assert [(report["state"], report["ticket"]) for report in repeated["reports"]] == [
            ("repeated", report) for report in tickets
        ]

        over = await post(service, am_group(am_alert(1, "resolved"), am_alert(2)))
        assert [report["state"] for report in over["reports"]] == ["accepted", "repeated"]
        seen = await service.until_ticket(tickets[0], lambda seen: seen["events"][-1]["kind"] == "resolved")
        assert (seen["status"], seen["occurrences"]) == ("open", 1)
        assert tracker.issues_created() == 3


async def test_the_end_of_an_alert_closes_and_its_return_reopens(service: RunningService):
    async with forgejo() as tracker, service.replica(config(tracker, close=True)):
        created = await post(service, am_group(am_alert(1)))
        link = await service.linked(created["ticket"])
        await post(service, am_group(am_alert(1, "resolved")))
        await service.until_ticket(
            created["ticket"],
            lambda seen: seen["status"] == "closed" and seen["links"][0]["state"] == "active",
        )
        back = await post(service, am_group(am_alert(1, startsAt="2026-11-21T10:00:00Z")))
        assert back["ticket"] == created["ticket"]
        seen = await service.ticket(created["ticket"])
        assert [event["kind"] for event in seen["events"]][:3] == ["opened", "resolved", "closed"]
        assert seen["status"] == "open" and link["key"] == seen["links"][0]["key"]
        assert tracker.issues_created() == 1


async def test_the_end_of_an_unknown_problem_is_stored_and_opens_no_ticket(service: RunningService):
    async with forgejo() as tracker, service.replica(config(tracker)):
        response = await post(service, am_group(am_alert(1, "resolved"), am_alert(2)))
        assert [report["ticket"] is None for report in response["reports"]] == [True, False]
        assert (await count(service, "ticket"), await count(service, "report")) == (1, 2)
        both = am_group(am_alert(5, "resolved"), am_alert(5, startsAt="2026-11-21T10:00:00Z"))
        assert [report["ticket"] is None for report in (await post(service, both))["reports"]] == [
            True,
            False,
        ]


async def test_an_empty_group_is_answered_and_not_kept(service: RunningService):
    async with forgejo() as tracker, service.replica(config(tracker)):
        assert await post(service, am_group()) == {"report": None, "ticket": None, "state": "ignored"}
        assert await count(service, "report") == 0


async def test_all_or_nothing(service: RunningService):
    """One that can't be read refuses all; a key that was used for other alerts too."""
    async with forgejo() as tracker, service.replica(config(tracker)):
        bad = am_group(am_alert(1), am_alert(2) | {"status": "odd"})
        problem = await post(service, bad, status=422)
        assert list(problem["errors"]) == ["alerts[1].status"]
        assert await count(service, "report") == 0

        key = {"headers": {"Idempotency-Key": "k"}}
        first = await post(service, am_group(am_alert(1), am_alert(2)), **key)
        assert len({report["ticket"] for report in first["reports"]}) == 2
        repeated = await post(service, am_group(am_alert(1), am_alert(2)), **key)
        assert [report["report"] for report in repeated["reports"]] == [
            report["report"] for report in first["reports"]
        ]
        await post(service, am_group(am_alert(3), am_alert(4)), status=409, **key)


async def test_a_whole_rack_at_once_has_its_issues_and_keeps_the_body_once(service: RunningService):
    async with forgejo() as tracker, service.replica(config(tracker)):
        response = await post(service, am_group(*(am_alert(n) for n in range(300))))
        assert len(response["reports"]) == 300
        assert await count(service, "report where octet_length(body) > 60000") == 1
        assert await count(service, "ticket where summary_ticket_id is not null") == 0


async def test_more_than_a_thousand_are_refused(service: RunningService, monkeypatch: pytest.MonkeyPatch):
    read = Alertmanager.read_report
    monkeypatch.setattr(Alertmanager, "read_report", lambda *arguments: [*read(*arguments)] * 20)
    async with forgejo() as tracker, service.replica(config(tracker)):
        problem = await post(service, am_group(*(am_alert(n) for n in range(51))), status=422)
        assert "1000 at most" in problem["detail"]


async def test_what_could_not_be_read_runs_again_with_all_its_reports(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
):
    async with forgejo() as tracker, service.replica(config(tracker)):
        with monkeypatch.context() as broken:
            broken.setattr(Alertmanager, "read_report", lambda *_: 1 / 0)
            response = await post(service, am_group(am_alert(1), am_alert(2)))
            assert response["state"] == "parked" and "reports" not in response
        async with Database.open(service.settings.database_url.reveal(), size=2) as database:
            [line] = await reprocess.reprocess_reports(service.settings, database, None)
            assert "belongs to ticket" in line
        assert (await count(service, "ticket"), await count(service, "report where state = 1")) == (2, 2)


async def test_one_that_can_not_be_decided_parks_alone_and_runs_again(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
):
    from pointsman.intake import transaction

    decided = transaction.apply_report

    def fail_for_the_second(ticket, report, *more):
        if report.fingerprint.endswith("2"):
            raise RuntimeError("a bug")
        decided(ticket, report, *more)

    async with forgejo() as tracker, service.replica(config(tracker)):
        with monkeypatch.context() as broken:
            broken.setattr(transaction, "apply_report", fail_for_the_second)
            response = await post(service, am_group(am_alert(1), am_alert(2)))
            assert [report["state"] for report in response["reports"]] == ["accepted", "parked"]
        async with Database.open(service.settings.database_url.reveal(), size=2) as database:
            [line] = await reprocess.reprocess_reports(service.settings, database, None)
            assert "belongs to ticket" in line
        assert await count(service, "report where state = 1") == 2


async def test_a_signature_is_demanded_beside_the_token(service: RunningService):
    import json

    body = json.dumps(sentry("created", comment="x")).encode()
    address = f"/intake/sentry/{TOKEN}"
    answers = []
    async with forgejo() as tracker, service.replica(config(tracker)):
        for secret, where in (
            ("the-client-secret", address),
            ("another-secret", address),
            ("the-client-secret", address + "x"),
        ):
            headers = {
                **resource("comment"),
                "Content-Type": "application/json",
                "Sentry-Hook-Signature": hex_of(secret, body),
            }
            async with service.client.post(where, data=body, headers=headers) as answer:
                text = await answer.text()
                answers.append((answer.status, text))
    assert [status for status, _ in answers] == [202, 401, 401]
    assert answers[1] == answers[2]
