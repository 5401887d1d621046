"""Test the HTTP server: malformed and hostile requests, proxies, overload, and shutdown without a lost request."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ipaddress
import json
import time
import tracemalloc
import uuid
import zlib
from typing import Any

import aiohttp
import msgspec
import pytest

from configuration import ADMIN, SHOP, SOURCES
from pointsman.errors import Overloaded
from pointsman.intake import batcher
from pointsman.web import client_address, static_responses
from pointsman.web.admission import AdmissionLimit, ConcurrencyLimit, MemoryBudget
from pointsman.web.server import connection_limit
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


def chunked(target: str, *pieces: bytes) -> bytes:
    head = request(target, b"", "Transfer-Encoding: chunked", "X-Not: Content-Length")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
    "a bad method": b"GE T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of 10,000 letters": b"A" * 10_000 + b" / HTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a target that is no address": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a target with a bad port": b"GET http://a:99999999/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a target of 9,000 letters": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "an upgrade": request("/nothing", b"", "Connection: Upgrade", "Upgrade: websocket", method="GET"),
    "an expectation of ours": request(TARGET, BODY, "Expect: miracles", "Connection: close"),
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "a lone CR in a header": b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\n b\r\nConnection: close\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "two lengths": request(TARGET, BODY, f"Content-Length: {len(BODY)}", "Content-Length: 5"),
    "a list of lengths": request(TARGET, BODY, f"Content-Length: {len(BODY)}, {len(BODY)}"),
    "a negative length": request(TARGET, b"", "Content-Length: -1"),
    "a signed length": request(TARGET, BODY, f"Content-Length: +{len(BODY)}"),
    "a length in other digits": request(TARGET, BODY, "Content-Length: \xb2"),
    "a length beyond any number": request(TARGET, b"", "Content-Length: " + "9" * 40),
    "a length and chunks": request(TARGET, BODY, "Content-Length: 5", "Transfer-Encoding: chunked"),
    "chunks and a length": request(TARGET, BODY, "Transfer-Encoding: chunked", "Content-Length: 5"),
    "chunked, but not at the end": request(TARGET, b"", "Transfer-Encoding: chunked, identity"),
    "chunked twice": request(TARGET, b"", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "X: content-length"),
    "chunked with a tab": request(TARGET, b"", "Transfer-Encoding:\x0bchunked", "X: content-length"),
    "a chunk's size that is none": chunked(TARGET) + b"zz\r\nabc\r\n0\r\n\r\n",
    "a chunk's size with a sign": chunked(TARGET) + b"-1\r\nabc\r\n0\r\n\r\n",
    "a chunk's size beyond any number": chunked(TARGET) + b"f" * 40 + b"\r\nabc",
    "a chunk longer than it says": chunked(TARGET) + b"1\r\nabc\r\n0\r\n\r\n",
    "less than it says": request(TARGET, BODY, f"Content-Length: {len(BODY) + 1}"),
    "more than it says": request(TARGET, BODY, f"Content-Length: {len(BODY) - 5}"),
    "a head of 40 KiB": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 400) for n in range(100)),
    "a line of a megabyte": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2**20,
    "a thousand headers": b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 1000 + b"\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 100_000,
    "a body much too large": request(TARGET, b"", "Content-Length: 999999999") + b"x" * 2**20,
    "chunks much too large": chunked(TARGET, *[b" " * 60_000] * 10),
    "a bomb": request(TARGET, gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip", "Connection: close"),
    "a bomb in two layers": request(TARGET, gzip.compress(gzip.compress(bytes(50_000_000))), "Content-Encoding: gzip, gzip", "Connection: close"),
    "a deflated bomb": request(TARGET, zlib.compress(bytes(50_000_000)), "Content-Encoding: deflate", "Connection: close"),
    "half a gzip": request(TARGET, gzip.compress(BODY)[:-9], "Content-Encoding: gzip", "Connection: close"),
    "no gzip": request(TARGET, BODY, "Content-Encoding: gzip", "Connection: close"),
    "100,000 levels": request(TARGET, b"[" * 100_000, "Connection: close"),
    "100,000 levels of objects": request(TARGET, b'{"a":' * 50_000, "Connection: close"),
    "a list of lists": request(TARGET, b"[" + b"[]," * 87_000 + b"[]]", "Connection: close"),
    "an unsigned webhook of lists": request("/webhooks/forgejo/x", b"[]," * 340_000, "Connection: close"),
    "a webhook too large": request("/webhooks/forgejo/x", b"", "Content-Length: 1048577", "Connection: close"),
    "a form": request(TARGET, b"a=b", "Content-Type: application/x-www-form-urlencoded", "Connection: close").replace(b"Content-Type: application/json\r\n", b""),
    "a cursor of bytes": request("/api/v1/tickets?cursor=%00%ff", b"", f"Authorization: Bearer {ADMIN}", "Connection: close", method="GET"),
    "a token of bytes": request("/api/v1/tickets", b"", "Authorization: Bearer \xff\xfe", "Connection: close", method="GET"),
    "a path that climbs": request("/console/static/..%2f..%2fetc%2fpasswd", b"", "Connection: close", method="GET"),
}  # fmt: skip


@slow
async def test_whatever_comes_is_decided_and_never_a_fault_of_ours(service: RunningService):
    """Each is refused with a 4xx or by closing, soon; nothing of it is kept, and the replica goes on."""
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        for name, data in MALFORMED.items():
            ended = await exchange(service.url, data)
            assert ended.status == 0 or 400 <= ended.status < 500, (name, ended.raw[:300])
            assert ended.seconds < SHORT_TIMEOUTS.body + 1.0, (name, ended.seconds)
            assert ended.status == 431 or name != "a head of 40 KiB"
            for more in ended.raw.split(b"HTTP/1.1 ")[2:]:
                assert more[:1] == b"4", (name, more)
        assert await running.services.database.fetchval("select count(*) from report") == 0
        await service.alert()
        assert (await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200))["tickets"]


@slow
async def test_what_follows_a_request_is_a_request_of_its_own(service: RunningService):
    """No bytes of one request become part of another: a smuggled one is answered, or refused, as itself."""
    smuggled = request("/health/live", b"", method="GET")
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS):
        for data in (
            request(TARGET, smuggled, f"Content-Length: {len(smuggled)}", "Transfer-Encoding: chunked"),
            chunked(TARGET, BODY) + b"0\r\nX: " + b"a" * 10 + b"\r\n\r\n" + b"G" + smuggled,
        ):
            assert b'"live"' not in (await exchange(service.url, data)).raw
        ended = await exchange(
            service.url, request("/health/live", method="GET"), request("/health/ready", method="GET")
        )
        assert ended.raw.index(b'"live"') < ended.raw.index(b'"ready"')


@slow
async def test_bombs_take_no_memory(service: RunningService):
    """Ten at once, each 50 MB when unpacked."""
    bomb = gzip.compress(bytes(50_000_000))
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        await service.alert()
        tracemalloc.start()
        try:
            for path in (TARGET, "/webhooks/forgejo/x"):
                data = request(path, bomb, "Content-Encoding: gzip", "Connection: close")
                ended = await asyncio.gather(*(exchange(service.url, data) for _ in range(10)))
                assert {response.status for response in ended} == {413}
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 40 * 2**20
        assert (
            running.services.admission.report_memory.used,
            running.services.admission.webhook_memory.used,
        ) == (0, 0)


@slow
async def test_webhooks_may_be_larger_where_that_is_set(service: RunningService):
    """A megabyte, or what is set."""
    async with service.replica(SOURCES):
        assert (
            await exchange(service.url, request("/webhooks/forgejo/x", b"x" * 2**20, "Connection: close"))
        ).status == 401
        assert (
            await exchange(
                service.url, request("/webhooks/forgejo/x", b"x" * (2**20 + 1), "Connection: close")
            )
        ).status == 413
    service.settings = msgspec.structs.replace(service.settings, webhook_max_bytes=3 * 2**20)
    async with service.replica(SOURCES):
        assert (
            await exchange(
                service.url, request("/webhooks/forgejo/x", b"x" * (2**20 + 1), "Connection: close")
            )
        ).status == 401


@slow
async def test_a_slash_at_the_end_changes_nothing(service: RunningService):
    """Admins paste the address both ways."""
    async with service.replica(SOURCES):
        first = await service.call("POST", f"{TARGET}/", json=alert(), status=202)
        assert (await service.call("POST", TARGET, json=alert(), status=202))["report"] == first["report"]
        bearer = {"Authorization": f"Bearer {SHOP}"}
        await service.call("POST", "/intake/shop/", json=alert(), headers=bearer, status=202)
        wrong = await service.call("POST", "/intake/shop/wrong/", json=alert(), status=401)
        assert wrong == await service.call("POST", "/intake/shop/wrong", json=alert(), status=401)
        await service.call("POST", f"{TARGET}//", json=alert(), status=404)


@slow
async def test_a_token_is_digested_once_however_many_sources_there_are(service: RunningService, monkeypatch):
    from pointsman import crypto

    digested = []
    monkeypatch.setattr(
        crypto, "sha256", lambda data, real=crypto.sha256: digested.append(data) or real(data)
    )
    async with service.replica(SOURCES):
        await service.call("GET", "/api/v1/tickets", token=SHOP, status=403)
        assert digested == [SHOP.encode()]


@slow
async def test_the_host_header_leads_nowhere(service: RunningService):
    """Links are built from the configured address alone."""
    service.settings = msgspec.structs.replace(service.settings, public_url="https://help.example.com")
    async with service.replica(SOURCES) as running:
        accepted = await service.alert()
        basic = aiohttp.encode_basic_auth("x", ADMIN)
        for path in (
            "/",
            "/console",
            "/console/",
            f"/console/tickets/{accepted['ticket']}",
            "/api/v1/openapi.json",
            "/nothing",
        ):
            headers = [
                "Host: evil.example",
                "X-Forwarded-Host: evil.example",
                f"Authorization: {basic}",
                "Connection: close",
            ]
            data = request(path, b"", *headers, method="GET").replace(b"Host: pointsman\r\n", b"")
            ended = await exchange(service.url, data)
            assert ended.status and b"evil" not in ended.raw, path
        assert running.services.base_url == "https://help.example.com"


# -- whose request it is ---------------------------------------------------------------------------------------

TRUSTED = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "192.168.7.3/32", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["1.2.3.4"], "203.0.113.5"),
        ("203.0.113.5", ["10.1.1.1"], "203.0.113.5"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4", "10.3.3.3, 192.168.7.3"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4, 192.168.7.4"], "192.168.7.4"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("10.0.0.1", ["1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, , 10.3.3.3"], "10.3.3.3"),
        ("10.0.0.1", ["1.2.3.4, \x00\xff"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::1]:5678"], "2001:db8::1"),
        ("10.0.0.1", ['"[2001:db8::1]"'], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("fe80::1%eth0", ["1.2.3.4"], "fe80::1"),
        ("10.0.0.1", ["9.9.9.9," * 10_000 + "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9," + "10.1.1.1," * 40 + "10.1.1.2"], "10.1.1.1"),
    ],
)
def test_the_rightmost_address_that_no_proxy_of_ours_has_counts(peer, forwarded, client):
    """What a client writes into X-Forwarded-For itself changes nothing."""
    address = client_address.client(client_address.read_address((peer, 1)), forwarded, TRUSTED)
    assert str(address) == client


def test_without_trusted_proxies_nothing_is_believed():
    peer = ipaddress.ip_address("127.0.0.1")
    assert client_address.client(peer, ["1.2.3.4"], ()) == peer
    assert client_address.client(None, ["1.2.3.4"], TRUSTED) is None
    assert client_address.read_address("") is None


@slow
async def test_behind_a_proxy_the_clients_have_their_share(service: RunningService, capfd):
    """The peer is the proxy, which is not limited; each client behind it is limited and logged."""
    from pointsman import logs

    logs.configure("json", level="info")
    service.settings = msgspec.structs.replace(
        service.settings,
        max_connections_per_address=2,
        trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),),
    )

    def part(client: str) -> bytes:
        return request(TARGET, b"", f"Content-Length: {len(BODY)}", f"X-Forwarded-For: 6.6.6.6, {client}")

    async with service.replica(SOURCES), contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            wire = await stack.enter_async_context(Wire.to(service.url))
            await wire.send(part("1.2.3.4"))
        await until(lambda: said_by(service, "1.2.3.4", 503))
        await until(lambda: said_by(service, "1.2.3.5", 202))
    assert '"remote":"1.2.3.5"' in capfd.readouterr().err.replace(" ", "")


async def said_by(service: RunningService, client: str, status: int) -> bool:
    headers = {"X-Forwarded-For": f"6.6.6.6, {client}", "Idempotency-Key": str(uuid.uuid4())}
    async with service.client.post(
        TARGET, data=BODY, headers={**headers, "Content-Type": "application/json"}
    ) as answer:
        return answer.status == status


# -- too much at once ------------------------------------------------------------------------------------------


def test_an_admission_limit_admits_so_many_and_forgets_finished_requests():
    limit = AdmissionLimit("reports", 2)
    with limit:
        with contextlib.suppress(ZeroDivisionError), limit:
            assert limit.full
            with pytest.raises(Overloaded), limit:
                raise AssertionError("inside")
            raise ZeroDivisionError
        assert not limit.full
    assert limit.active == 0


def test_a_memory_budget_is_never_exceeded():
    budget = MemoryBudget("reports", 10)
    budget.reserve(10)
    with pytest.raises(Overloaded):
        budget.reserve(1)
    assert budget.used == 10


async def test_a_concurrency_limit_has_slots_and_a_short_queue():
    limit = ConcurrencyLimit("questions", 1, 1, wait_seconds=0.05)
    async with limit.slot():
        waiting = asyncio.create_task(limit.slot().__aenter__())
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Overloaded, match="already"):
            await limit.slot().__aenter__()
        with pytest.raises(Overloaded, match=r"0\.05 s"):
            await waiting
        assert time.monotonic() - began < 2.0
    assert limit.waiting == 0
    async with limit.slot():
        pass


@pytest.mark.parametrize(
    "data",
    [
        request("/intake/shop/x", BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("/webhooks/forgejo/x", BODY),
        request("/intake/shop/x", BODY, method="GET"),
        request("/intake/shop/x", BODY, "Transfer-Encoding: chunked"),
        request("/intake/shop/x", BODY, "Expect: 100-continue"),
        request("/intake/shop/x", BODY, "Connection: close"),
        request("/intake/shop/x", BODY, "Content-Encoding: gzip"),
        request("/intake/shop/x", BODY, f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}"),
        request("/intake/shop/x", BODY, f"content-length : {len(BODY)}"),
        request("/intake/shop/x", BODY, "X: y\r\n folded"),
        request("/intake/shop/x", BODY, "Content-Length: 0x10"),
        request("/intake/shop/x", BODY)[:50],
        b"",
    ],
)
def test_only_plain_reports_are_refused_unread(data):
    """Whatever is not quite plain goes to the HTTP parser."""
    assert static_responses.report_length(data) is None
    whole = request("/intake/shop/x", BODY, "Connection: keep-alive")
    assert static_responses.report_length(whole + data) == (len(whole) - len(BODY), len(BODY))


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


# -- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "connections", "raised"),
    [
        ((5000, 5000), 1000, None),
        ((1024, 4096), 1000, (1200, 4096)),
        ((1024, -1), 1000, (1200, -1)),
        ((-1, -1), 1000, None),
        ((256, 1024), 824, (1024, 1024)),
        ((100, 100), 20, (100, 100)),
    ],
)
def test_there_are_files_for_the_connections_or_fewer_connections(limits, connections, raised):
    put = []
    assert connection_limit(1000, lambda: limits, put.append) == connections
    assert put == ([raised] if raised else [])


def test_a_limit_that_can_not_be_raised_is_lived_with():
    def put(_):
        raise ValueError("not allowed")

    assert connection_limit(1000, lambda: (1024, 4096), put) == 824


# -- the end ---------------------------------------------------------------------------------------------------


@slow
async def test_a_restart_under_load_loses_nothing(service: RunningService):
    """Clients with lasting connections post all the time while the replica is replaced, three times. They try again
    only where the connection is refused: everything else must be a 202, and each 202 is in the database.
    """
    sock_port = _free_port()
    service.settings = msgspec.structs.replace(service.settings, port=sock_port)
    url = f"http://127.0.0.1:{sock_port}"
    stop = asyncio.Event()
    taken: list[str] = []
    gone: list[str] = []
    refused = 0

    async def client(n: int) -> None:
        nonlocal refused
        done = 0
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1)) as session:
            while not stop.is_set():
                body = alert(id=f"00000000-0000-4000-8000-{n:04d}{done:08d}", title=f"{n} {done}")
                try:
                    async with session.post(TARGET, json=body) as answer:
                        assert answer.status == 202, (answer.status, await answer.text())
                        taken.append((await answer.json())["report"])
                        done += 1
                except aiohttp.ClientConnectorError:
                    refused += 1
                await asyncio.sleep(0.02)
        gone.append(str(n))

    async with asyncio.TaskGroup() as clients:
        for round_number in range(3):
            async with service.replica(SOURCES) as running:
                if round_number == 0:
                    for n in range(10):
                        clients.create_task(client(n))
                seen = len(taken)
                await until(lambda seen=seen: _more(taken, seen + 150), 30.0)
                if round_number == 2:
                    stop.set()
                    await until(lambda: _more(gone, 10))
                    kept = await running.services.database.fetch("select id from report")
                    assert {str(row["id"]) for row in kept} == set(taken)
                began = time.monotonic()
            assert time.monotonic() - began < 12.0
    assert refused > 0
    assert len(taken) == len(set(taken))


async def _more(items: list[Any], wanted: int) -> bool:
    return len(items) >= wanted


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@slow
async def test_at_the_end_a_lasting_connection_is_heard_once_more(service: RunningService):
    """The port is closed already; a request on an open connection is answered with Connection: close."""
    timeouts = HttpTimeouts(drain_idle=5.0)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(service.replica(SOURCES, timeouts=timeouts))
        replica = stack.pop_all()
        wire = await stack.enter_async_context(Wire.to(service.url))
        await wire.send(request("/health/live", method="GET"))
        assert (await wire.answer())[0] == 200
        ending = asyncio.create_task(replica.aclose())
        await until(lambda: _refused(service.url))
        await wire.send(request(TARGET, BODY))
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (202, "close")
        await ending


async def _refused(url: str) -> bool:
    try:
        async with Wire.to(url):
            return False
    except ConnectionRefusedError:
        return True


@slow
async def test_while_it_drains_a_replica_says_so_and_answers(service: RunningService):
    """Not ready, still answering, each answer the last of its connection."""
    async with service.replica(SOURCES) as running:
        running.services.draining = True
        async with Wire.to(service.url) as wire:
            await wire.send(request("/health/ready", method="GET"))
            status, headers, body = await wire.answer()
            assert (status, headers["connection"]) == (503, "close")
            assert b"shutting down" in body
            assert await wire.reader.read() == b""
        async with Wire.to(service.url) as wire:
            await wire.send(request(TARGET, BODY))
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (202, "close")
