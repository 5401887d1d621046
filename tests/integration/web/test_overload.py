"""Test overload: what is over a limit is refused, and everything else is answered."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from configuration import ADMIN, SHOP, SOURCES
from pointsman.intake import batcher
from pointsman.web.admission import AdmissionLimit, ConcurrencyLimit
from pointsman.web.timeouts import HttpTimeouts
from polling import until
from raw_http import Wire, exchange, request
from service_fixture import RunningService
from source_examples import alert

slow = pytest.mark.slow

SHORT_TIMEOUTS = HttpTimeouts(
    first_byte=1.0, head=1.0, body=1.5, body_grace=1.0, idle=1.0, linger=0.3, check_interval=0.05
)
BODY = json.dumps(alert()).encode()
TARGET = f"/intake/shop/{SHOP}"


@slow
async def test_under_overload_reports_are_refused_unread_and_the_rest_is_answered(
    service: RunningService, monkeypatch
):
    """Whole, in pieces, several in a row: each report gets its 503 in order, on a connection that stays open."""
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        admission = running.services.admission
        monkeypatch.setattr(admission.reports, "limit", 0)
        live, report = request("/health/live", method="GET"), request(TARGET, BODY)
        for pieces in (
            [report + report + live],
            [report[:-5], report[-5:] + live],
            [report[:-5], report[-5:], live],
        ):
            async with Wire.to(service.url) as wire:
                for piece in pieces:
                    await wire.send(piece)
                    await asyncio.sleep(0.02)
                refused = 2 if report + report in pieces[0] else 1
                for _ in range(refused):
                    status, headers, body = await wire.answer()
                    assert (status, headers["retry-after"]) == (503, "5")
                    assert json.loads(body)["type"] == "urn:pointsman:problem:unavailable"
                assert (await wire.answer())[0] == 200
        assert running.services.connections.shed_requests == 4
        # what is not plain goes the long way to the same answer, and is not read either
        odd = request(TARGET, b"", "Content-Length: 100000", "Connection: close")
        assert (await exchange(service.url, odd)).status == 503
        await service.call("POST", "/webhooks/forgejo/x", json={}, status=401)
        await service.call("GET", "/health/ready", status=200)
        await service.call("GET", "/metrics", status=200)
        await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
        monkeypatch.setattr(admission.reports, "limit", 10)
        await service.alert()


@slow
async def test_answers_come_in_the_order_of_the_requests_when_load_is_shed_in_between(
    service: RunningService, monkeypatch
):
    """A client that does not wait for answers must not take one for another's."""
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        admission = running.services.admission
        let, real = asyncio.Event(), running.services.intake._accept

        async def stuck(incoming):
            await let.wait()
            return await real(incoming)

        monkeypatch.setattr(running.services.intake, "_accept", stuck)
        async with Wire.to(service.url) as wire:
            await wire.send(request(TARGET, BODY))
            await until(lambda: _is_active(admission.reports), 5.0)
            monkeypatch.setattr(admission.reports, "limit", 0)
            await wire.send(request(TARGET, BODY))
            let.set()
            assert [(await wire.answer())[0] for _ in range(2)] == [202, 503]


async def _is_active(limit: AdmissionLimit) -> bool:
    return limit.active > 0


@slow
async def test_a_report_that_waits_too_long_is_refused_and_not_kept(service: RunningService, monkeypatch):
    """While the database is slow: the first wait is cut, later ones are refused at once, and all is well afterwards."""
    monkeypatch.setattr(batcher, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(batcher, "OVERLOADED_SECONDS", 0.3)
    async with service.replica(SOURCES) as running:
        let, batches = asyncio.Event(), []
        real = running.services.intake._accept

        async def stuck(incoming):
            batches.append(incoming)
            await let.wait()
            return await real(incoming)

        monkeypatch.setattr(running.services.intake, "_accept", stuck)
        async with asyncio.TaskGroup() as senders:
            for n in range(batcher.FLUSHERS):
                senders.create_task(service.alert(id=f"held {n}"))
                await until(lambda wanted=n + 1: _more(batches, wanted))
            waiting = senders.create_task(service.alert(id="waiting", status=503))
            await until(lambda: _full(running.services.intake))
            began = time.monotonic()
            await service.alert(id="late", status=503)
            assert time.monotonic() - began < 0.5
            await service.call("GET", "/health/ready", status=200)
            async with asyncio.timeout(10):
                await waiting
            let.set()
        await service.alert(id="waiting")
        kept = await running.services.database.fetchval("select count(*) from report")
        assert kept == batcher.FLUSHERS + 1


async def _more(items: list[Any], wanted: int) -> bool:
    return len(items) >= wanted


async def _full(waiting: batcher.IntakeBatcher) -> bool:
    return waiting.full


@slow
async def test_questions_leave_connections_to_the_others(service: RunningService):
    """While many slow questions are asked, reports, health and metrics have connections of the pool left."""
    async with service.replica(SOURCES) as running:
        await service.alert()
        limit, pool = running.services.admission.queries, running.services.database.pool
        asked = [
            asyncio.create_task(running.services.read_pool.fetchval("select pg_sleep(4)")) for _ in range(20)
        ]
        await until(lambda: _waiting(limit))
        assert pool.get_size() - pool.get_idle_size() <= pool.get_max_size() - 4
        began = time.monotonic()
        await service.alert(id="other")
        await service.call("GET", "/health/ready", status=200)
        await service.call("GET", "/metrics", status=200)
        assert time.monotonic() - began < 3.5
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _waiting(limit: ConcurrencyLimit) -> bool:
    return limit.waiting >= 17
