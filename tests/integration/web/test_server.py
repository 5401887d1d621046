"""Test the HTTP server: malformed and hostile requests, limits of bodies, and proxies."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ipaddress
import json
import tracemalloc
import uuid
import zlib

import aiohttp
import msgspec
import pytest

from configuration import ADMIN, SHOP, SOURCES
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
        await until(lambda: _is_answered_with(service, "1.2.3.4", 503))
        await until(lambda: _is_answered_with(service, "1.2.3.5", 202))
    assert '"remote":"1.2.3.5"' in capfd.readouterr().err.replace(" ", "")


async def _is_answered_with(service: RunningService, client: str, status: int) -> bool:
    headers = {"X-Forwarded-For": f"6.6.6.6, {client}", "Idempotency-Key": str(uuid.uuid4())}
    async with service.client.post(
        TARGET, data=BODY, headers={**headers, "Content-Type": "application/json"}
    ) as answer:
        return answer.status == status
