"""The interface as clients meet it: credentials, bad input, limits, trouble."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import io
import json
import uuid
import zlib
from types import SimpleNamespace

import aiohttp
import pytest

from configuration import ADMIN, HELPDESK, SHOP, SOURCES, WEBHOOK_SECRET
from service_fixture import RunningService
from source_examples import alert

CONFIG = (
    SOURCES
    + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{WEBHOOK_SECRET}", "another-secret-of-the-tests"]
[destination.settings]
url = "http://127.0.0.1:9"
token = "t0ken-of-the-tests"
repository = "acme/shop"
[[destination]]
slug = "unsigned"
tracker = "forgejo"
[destination.settings]
url = "http://127.0.0.1:9"
token = "t0ken-of-the-tests"
repository = "acme/shop"
"""
)


def problem(answer: dict, name: str) -> None:
    assert answer["type"] == f"urn:pointsman:problem:{name}", answer


async def raw(service: RunningService, path: str, body: bytes, **headers: str) -> tuple[int, dict]:
    kind = {
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    async with service.client.post(path, data=body, headers=kind) as answer:
        return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/intake/shop/{SHOP}", {}),
        ("/intake/shop", {"Authorization": f"Bearer {SHOP}"}),
        ("/intake/shop", {"Authorization": aiohttp.encode_basic_auth("anybody", SHOP)}),
    ],
    ids=["path", "bearer", "basic"],
)
async def test_the_token_may_come_three_ways(service: RunningService, path: str, headers: dict):
    async with service.replica(SOURCES):
        accepted = await service.call("POST", path, json=alert(), headers=headers, status=202)
        assert uuid.UUID(accepted["report"]) and uuid.UUID(accepted["ticket"])


async def test_whatever_is_wrong_with_the_token_the_answer_is_the_same(service: RunningService):
    """Unknown source, wrong, empty, non-ASCII token, another source's token: one 401, byte for byte."""
    async with service.replica(SOURCES):
        answers = set()
        for path in (
            "/intake/shop/wrong",
            "/intake/nothere/wrong",
            f"/intake/shop/{HELPDESK}",
            f"/intake/nothere/{SHOP}",
            "/intake/shop",
            "/intake/shop/%FF%FE",
            f"/intake/shop/{SHOP}x",
        ):
            async with service.client.post(path, json=alert()) as answer:
                shown = {
                    name: value
                    for name, value in answer.headers.items()
                    if name not in ("Date", "X-Request-ID")
                }
                answers.add((answer.status, await answer.read(), tuple(sorted(shown.items()))))
        assert len(answers) == 1
        assert answers.pop()[0] == 401


async def test_webhooks_that_can_not_be_verified_get_one_and_the_same_answer(service: RunningService):
    async with service.replica(CONFIG):
        body = json.dumps({"action": "closed", "issue": {"number": 1}}).encode()

        def sign(secret: str, data: bytes = body) -> str:
            return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()

        cases = [
            ("/webhooks/forgejo/my-product", {}),
            ("/webhooks/forgejo/my-product", {"X-Forgejo-Signature": ""}),
            ("/webhooks/forgejo/my-product", {"X-Forgejo-Signature": "0" * 64}),
            ("/webhooks/forgejo/my-product", {"X-Forgejo-Signature": sign(WEBHOOK_SECRET)[:-1] + "x"}),
            ("/webhooks/forgejo/my-product", {"X-Forgejo-Signature": sign("")}),
            ("/webhooks/forgejo/my-product", {"X-Forgejo-Signature": "\u00fc" * 64}),
            ("/webhooks/forgejo/unsigned", {"X-Forgejo-Signature": ""}),
            ("/webhooks/forgejo/unsigned", {"X-Forgejo-Signature": sign("")}),
            ("/webhooks/forgejo/nothere", {"X-Forgejo-Signature": sign(WEBHOOK_SECRET)}),
            ("/webhooks/github/my-product", {"X-Hub-Signature-256": f"sha256={sign(WEBHOOK_SECRET)}"}),
            ("/webhooks/nothing/my-product", {"X-Forgejo-Signature": sign(WEBHOOK_SECRET)}),
        ]
        answers = set()
        for path, headers in cases:
            async with service.client.post(path, data=body, headers=headers) as answer:
                answers.add((answer.status, await answer.read()))
        assert {status for status, _ in answers} == {401} and len(answers) == 1
        for secret in (WEBHOOK_SECRET, "another-secret-of-the-tests"):
            headers = {"X-Forgejo-Signature": sign(secret), "X-Forgejo-Event": "issues"}
            status, _ = await raw(service, "/webhooks/forgejo/my-product", body, **headers)
            assert status == 200


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("push", {"ref": "refs/heads/main"}),
        ("issues", {"action": "label_updated", "issue": {"number": 1}}),
        ("issues", {"action": "closed", "issue": {"number": 4711}}),
        ("issues", {"action": "closed"}),
        ("issues", []),
        ("issues", None),
        ("issue_comment", {"action": "created", "is_pull": True}),
    ],
)
async def test_a_verified_webhook_about_something_else_is_taken_and_changes_nothing(
    service: RunningService, event: str, body
):
    async with service.replica(CONFIG):
        data = json.dumps(body).encode()
        signature = hmac.new(WEBHOOK_SECRET.encode(), data, hashlib.sha256).hexdigest()
        headers = {
            "X-Forgejo-Signature": signature,
            "X-Forgejo-Event": event,
            "X-Forgejo-Delivery": str(uuid.uuid4()),
        }
        status, _ = await raw(service, "/webhooks/forgejo/my-product", data, **headers)
        assert status == 200


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"{", "invalid-json"),
        (b"", "invalid-json"),
        (b'{"a": NaN}', "invalid-json"),
        (b'{"a": 1e400000}', "invalid-json"),
        (b"[" * 100_000, "invalid-json"),
        (b"\xff\xfe", "invalid-json"),
        (b"[]", "invalid-fields"),
        (b"{}", "invalid-fields"),
        (b'{"alert_reason": "NEW"}', "invalid-fields"),
        (b'"text"', "invalid-fields"),
        (b'{"id": 1, "alert_reason": "NEW"}', "invalid-fields"),
    ],
)
async def test_bad_alerts_are_told_what_is_wrong(service: RunningService, body: bytes, name: str):
    async with service.replica(SOURCES):
        status, answer = await raw(service, f"/intake/shop/{SHOP}", body)
        problem(answer, name)
        assert status in (400, 422)
        assert answer.get("detail") or answer.get("errors")


@pytest.mark.parametrize(
    "hostile",
    [
        '{"id": "a", "alert_reason": "NEW", "title": "nul \\u0000 inside"}',
        '{"id": "a", "alert_reason": "NEW", "title": "half a pair \\ud800"}',
        '{"id": "a\\u0000b", "alert_reason": "NEW", "title": "\\udfff\\u0000"}',
        '{"id": "a", "alert_reason": "NEW", "url": "http://[", "events_at": {"a": 1}}',
        '{"id": "a", "alert_reason": "NEW", "title": ["x"], "transaction": 7, "project_name": null}',
    ],
)
async def test_odd_but_readable_alerts_become_tickets(service: RunningService, hostile: str):
    async with service.replica(SOURCES):
        status, accepted = await raw(service, f"/intake/shop/{SHOP}", hostile.encode())
        assert status == 202 and accepted["ticket"]
        await service.ticket(accepted["ticket"])


async def test_an_alert_that_our_code_can_not_decide_on_is_parked_and_runs_again(
    service: RunningService, monkeypatch
):
    """A reason that a later Bugsink may invent: 202, kept, shown, and decided once the code knows it."""
    from pointsman.operations import reprocess
    from pointsman.sources.bugsink import payloads
    from pointsman.storage.db import Database

    async with service.replica(SOURCES):
        accepted = await service.alert("ESCALATED")
        assert accepted["state"] == "parked" and accepted["ticket"] is None
        assert (await service.alert("ESCALATED"))["report"] == accepted["report"]
        async with Database.open(service.settings.database_url.reveal(), size=2) as database:
            assert [str(report.id) for report in await reprocess.parked_reports(database)] == [
                accepted["report"]
            ]
            [line] = await reprocess.reprocess_reports(service.settings, database, None)
            assert "stays parked" in line
            monkeypatch.setattr(payloads, "ACTIONS", {**payloads.ACTIONS, "ESCALATED": "regressed"})
            [line] = await reprocess.reprocess_reports(
                service.settings, database, uuid.UUID(accepted["report"])
            )
            ticket = line.rpartition(" ")[2]
            assert (await service.ticket(ticket))["title"] == "KeyError: 'basket'"
            assert await reprocess.parked_reports(database) == []


async def test_too_large_too_odd_and_bombs(service: RunningService):
    async with service.replica(SOURCES):
        path = f"/intake/shop/{SHOP}"
        big = json.dumps(alert(title="x" * 1_100_000)).encode()
        status, answer = await raw(service, path, io.BytesIO(big))
        assert status == 413
        problem(answer, "too-large")
        assert b"POINTSMAN_INTAKE_MAX_BYTES" in (
            answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        )
        status, _ = await raw(service, path, gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")
        assert status == 413
        status, _ = await raw(
            service, path, gzip.compress(json.dumps(alert()).encode()), Content_Encoding="gzip"
        )
        assert status == 202
        status, _ = await raw(service, path, b"this is no gzip", Content_Encoding="gzip")
        assert status == 400
        status, _ = await raw(service, path, zlib.compress(b"{}"), Content_Encoding="br")
        assert status == 415
        async with service.client.post(path, data={"a": "form"}) as answer:
            assert answer.status == 415
            problem(json.loads(await answer.read()), "unsupported-type")


async def test_unknown_fields_are_refused_by_name_in_our_own_api(service: RunningService):
    async with service.replica(SOURCES):
        problem = await service.call(
            "POST", "/api/v1/tickets", token=HELPDESK, json={"title": "a", "colour": "red"}, status=422
        )
        assert "colour" in json.dumps(problem)
        problem = await service.call(
            "POST", "/api/v1/tickets", token=HELPDESK, json={"description": "a"}, status=422
        )
        assert "title" in json.dumps(problem)
        bad = {"title": "a", "reporter": {"email": "no address"}}
        problem = await service.call("POST", "/api/v1/tickets", token=HELPDESK, json=bad, status=422)
        assert "reporter.email" in problem["errors"]
        for query in ("limit=0", "limit=x", "status=maybe", "cursor=zzz", "colour=red", "source=nothere"):
            await service.call("GET", f"/api/v1/tickets?{query}", token=ADMIN, status=422)


async def test_unknown_things_are_404_and_wrong_methods_405(service: RunningService):
    async with service.replica(SOURCES):
        problem(await service.call("GET", "/nothing/here", status=404), "not-found")
        problem(await service.call("DELETE", "/api/v1/tickets", status=405), "method-not-allowed")
        for ticket in (uuid.uuid4(), "x", "%00", "../../etc/passwd"):
            await service.call("GET", f"/api/v1/tickets/{ticket}", token=ADMIN, status=404)
        await service.call(
            "POST", f"/api/v1/tickets/{uuid.uuid4()}/comments", token=HELPDESK, json={"body": "a"}, status=404
        )


async def test_the_pages_of_the_list_join_without_gap_or_duplicate(service: RunningService):
    async with service.replica(SOURCES):
        created = [await service.new_ticket(f"number {n}") for n in range(7)]
        seen, cursor = [], ""
        while True:
            page = await service.call("GET", f"/api/v1/tickets?limit=3{cursor}", token=HELPDESK, status=200)
            seen += [ticket["id"] for ticket in page["tickets"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == created[::-1]


async def test_many_at_once_for_one_problem_are_one_ticket(service: RunningService):
    """A hundred alerts about one problem arrive together: one ticket, all counted, none lost."""
    async with service.replica(SOURCES):
        accepted = await asyncio.gather(
            *(service.alert("REGRESSED", last_seen=f"2026-11-20T10:00:00.{n:06d}Z") for n in range(100))
        )
        assert len({report["ticket"] for report in accepted}) == 1
        assert len({report["report"] for report in accepted}) == 100
        assert (await service.ticket(accepted[0]["ticket"]))["occurrences"] == 100


async def test_without_the_database_nothing_is_accepted(service: RunningService, dsn: str):
    """503 with Retry-After while connections are refused; the same alert is taken afterwards."""
    import asyncpg

    async with service.replica(SOURCES):
        await service.alert()
        name = dsn.partition("?")[0].rpartition("/")[2]
        con = await asyncpg.connect(dsn.replace(f"/{name}", "/postgres"))
        try:
            await con.execute(f"alter database {name} allow_connections false")
            await con.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
            )
            async with service.client.post(f"/intake/shop/{SHOP}", json=alert(id="other")) as answer:
                assert answer.status == 503 and answer.headers["Retry-After"]
            async with service.client.get("/health/ready") as answer:
                assert answer.status == 503
            async with service.client.get("/health/live") as answer:
                assert answer.status == 200
        finally:
            await con.execute(f"alter database {name} allow_connections true")
            await con.close()
        await service.alert(id="other")


async def test_metrics_and_health(service: RunningService):
    async with service.replica(SOURCES):
        await service.alert()
        assert (await service.call("GET", "/health/ready", status=200))["status"] == "ready"
        page = await service.call("GET", "/metrics", status=200)
        assert 'pointsman_reports_total{result="accepted",source="shop"} 1.0' in page
        assert SHOP not in page


async def test_no_token_is_ever_logged(service: RunningService, capfd):
    """Every secret of the service is used, correctly and wrongly; none is in the output."""
    from pointsman import logs

    logs.configure("json", level="debug")
    async with service.replica(CONFIG):
        await service.alert()
        await service.call("POST", f"/intake/shop/{SHOP}x", json=alert(), status=401)
        await service.call("POST", f"/intake/shop/{SHOP}/more", json=alert(), status=404)
        await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
        await service.call("GET", "/api/v1/tickets", token=ADMIN + "x", status=401)
        await service.new_ticket()
        await raw(service, f"/intake/shop/{SHOP}", b"{")
    captured = capfd.readouterr()
    output = captured.out + captured.err
    assert "request" in output
    for secret in (SHOP, HELPDESK, ADMIN, WEBHOOK_SECRET, "t0ken-of-the-tests"):
        assert secret not in output


async def test_a_refused_request_is_counted_and_logged_with_the_slug_if_it_exists(
    service: RunningService, monkeypatch
):
    warned = []

    def warning(_, **fields):
        warned.append((fields.get("source"), fields.get("destination"), fields["reason"]))

    ignore = SimpleNamespace(info=lambda *_, **__: None, error=lambda *_, **__: None, warning=warning)
    monkeypatch.setattr("pointsman.web.middleware.log", ignore)
    async with service.replica(CONFIG):
        await _refused(service)
    assert warned == [("shop", None, "wrong token"), (None, "my-product", "wrong signature")]


async def _refused(service: RunningService) -> None:
    for path in (
        "/intake/shop/wrong",
        "/intake/nothere/wrong",
        "/webhooks/forgejo/my-product",
        "/webhooks/forgejo/nothere",
        "/webhooks/github/my-product",
    ):
        status, _ = await raw(service, path, b"{}")
        assert status == 401
    await service.call("GET", "/api/v1/tickets", token="wrong", status=401)
    await service.call("GET", "/api/v1/tickets", status=401)
    metrics = await service.call("GET", "/metrics", status=200)
    counted = {
        line for line in metrics.splitlines() if line.startswith("pointsman_refused_credentials_total{")
    }
    assert counted == {
        'pointsman_refused_credentials_total{endpoint="intake",slug="shop"} 1.0',
        'pointsman_refused_credentials_total{endpoint="intake",slug=""} 1.0',
        'pointsman_refused_credentials_total{endpoint="webhooks",slug="my-product"} 1.0',
        'pointsman_refused_credentials_total{endpoint="webhooks",slug=""} 2.0',
        'pointsman_refused_credentials_total{endpoint="api",slug=""} 1.0',
    }


async def test_who_tries_tokens_waits_and_the_right_one_does_not(service: RunningService, monkeypatch):
    from pointsman.web import refusals

    monkeypatch.setattr(refusals, "FREE_REFUSALS", 2)
    monkeypatch.setattr(refusals, "FIRST_DELAY_SECONDS", 0.5)
    async with service.replica(SOURCES) as running:
        loop = asyncio.get_running_loop()
        seconds = []
        for _ in range(3):
            began = loop.time()
            await service.call("GET", "/api/v1/tickets", token="wrong", status=401)
            seconds.append(loop.time() - began)
        assert seconds[2] >= 0.5 > seconds[0]
        waiting = asyncio.create_task(service.call("GET", "/api/v1/tickets", token="wrong", status=401))
        await asyncio.sleep(0.1)
        assert running.services.admission.other.active == 0
        began = loop.time()
        await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
        assert loop.time() - began < 0.5
        await waiting
