"""Test slow clients: each way of occupying a connection ends in time, and other clients are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import msgspec
import pytest

from configuration import HELPDESK, SHOP, SOURCES
from pointsman.web.timeouts import HttpTimeouts
from polling import until
from raw_http import Wire, exchange, request
from service_fixture import RunningService
from source_examples import alert

pytestmark = pytest.mark.slow

SHORT_TIMEOUTS = HttpTimeouts(
    first_byte=0.5,
    head=1.5,
    body=1.2,
    body_grace=0.4,
    body_bytes_per_second=2000,
    idle=0.3,
    write=0.6,
    linger=0.3,
    check_interval=0.05,
    drain=1.0,
    drain_idle=0.2,
)
LATE = 1.0  # how much later than its limit a connection may be closed


async def drip(wire: Wire, data: bytes, seconds: float, size: int = 1) -> None:
    """A little at a time."""
    with contextlib.suppress(ConnectionError):
        for n in range(0, len(data), size):
            await wire.send(data[n : n + size])
            await asyncio.sleep(seconds)


async def test_each_slow_shape_ends_in_time(service: RunningService):
    """No byte, half a head, a head byte by byte, half a body, a body byte by byte, and silence after an answer."""
    body = json.dumps(alert()).encode()
    head = request(f"/intake/shop/{SHOP}", b"", f"Content-Length: {len(body)}")
    length = b"Content-Length: %d" % len(body)
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS):
        url = service.url

        async def nothing():
            return await exchange(url)

        async def newlines():
            async with Wire.to(url) as wire:
                task = asyncio.create_task(drip(wire, b"\r\n" * 50, 0.05))
                ended = await wire.end()
                task.cancel()
                return ended

        async def dripping(data: bytes, first: bytes = b"", size: int = 1):
            async with Wire.to(url) as wire:
                await wire.send(first)
                task = asyncio.create_task(drip(wire, data, 0.1, size))
                ended = await wire.end()
                task.cancel()
                return ended

        async def silent_after_an_answer():
            async with Wire.to(url) as wire:
                await wire.send(request("/health/live", method="GET"))
                status, headers, _ = await wire.answer()
                assert (status, headers.get("connection")) == (200, None)
                wire.began = time.monotonic()
                return await wire.end()

        shapes = {
            "no byte": (nothing(), SHORT_TIMEOUTS.first_byte, 0),
            "newlines": (newlines(), SHORT_TIMEOUTS.first_byte, 0),
            "half a head": (exchange(url, head[:40]), SHORT_TIMEOUTS.head, 408),
            "a dripping head": (dripping(head), SHORT_TIMEOUTS.head, 408),
            "half a body": (exchange(url, head + body[:20]), SHORT_TIMEOUTS.body_grace, 408),
            "a dripping body": (dripping(body, head), SHORT_TIMEOUTS.body_grace, 408),
            "an unread body": (
                exchange(url, head.replace(SHOP.encode(), b"wrong")),
                SHORT_TIMEOUTS.linger,
                401,
            ),
            "dripping chunks": (
                dripping(b"100\r\n" + b"x" * 256, head.replace(length, b"Transfer-Encoding: chunked")),
                SHORT_TIMEOUTS.body_grace,
                408,
            ),
            "a body that comes, and comes": (
                dripping(b" " * 200_000, head.replace(length, b"Content-Length: 200000"), 1000),
                SHORT_TIMEOUTS.body,
                408,
            ),
            "silence after an answer": (silent_after_an_answer(), SHORT_TIMEOUTS.idle, 0),
        }
        ended = dict(
            zip(shapes, await asyncio.gather(*(client for client, _, _ in shapes.values())), strict=True)
        )
        for name, (_, limit, status) in shapes.items():
            assert ended[name].status == status, (name, ended[name])
            assert ended[name].seconds <= limit + LATE, (name, ended[name].seconds)
            if status not in (0, 401):
                assert ended[name].seconds >= limit * 0.9, (name, ended[name].seconds)
        await service.alert()


async def test_a_body_that_comes_fast_enough_is_taken(service: RunningService):
    """Ten pieces over the grace, each faster than the least pace."""
    body = json.dumps(alert(title="x" * 4000)).encode()
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS), Wire.to(service.url) as wire:
        await wire.send(request(f"/intake/shop/{SHOP}", b"", f"Content-Length: {len(body)}"))
        for n in range(0, len(body), 500):
            await wire.send(body[n : n + 500])
            await asyncio.sleep(0.06)
        status, _, _ = await wire.answer()
        assert status == 202


async def test_who_leaves_in_the_middle_is_no_trouble_of_ours(service: RunningService):
    """A body that ends with the connection is a bad request, not a database that is away."""
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        async with Wire.to(service.url) as wire:
            await wire.send(request(f"/intake/shop/{SHOP}", b"{", "Content-Length: 100"))

        async def noted() -> bool:
            page = await service.call("GET", "/metrics", status=200)
            assert 'status="503"' not in page
            return 'route="/intake/{source}/{token}",status="400"' in page

        await until(noted)
        assert running.services.admission.reports.active == 0


async def test_who_does_not_read_is_cut(service: RunningService):
    """A client asks for big pages and reads none of them."""
    async with service.replica(SOURCES, timeouts=SHORT_TIMEOUTS) as running:
        for n in range(30):
            await service.call(
                "POST",
                "/api/v1/tickets",
                token=HELPDESK,
                json={"title": "x", "description": "y" * 60_000},
                status=201,
                headers={"Idempotency-Key": str(n)},
            )
        page = request("/api/v1/tickets?limit=200", b"", f"Authorization: Bearer {HELPDESK}", method="GET")
        async with Wire.to(service.url) as wire:
            wire.writer.transport.pause_reading()
            await wire.send(page * 20)

            cut = running.services.metrics.rejected_connections.labels("reads too slowly")

            async def once() -> bool:
                return cut._value.get() == 1

            await until(once)


async def test_three_hundred_half_open_connections_and_health_answers(service: RunningService):
    """Above the limit the oldest are evicted, and a complete request is answered."""
    async with contextlib.AsyncExitStack() as stack:
        service.settings = msgspec.structs.replace(service.settings, max_connections=200)
        running = await stack.enter_async_context(service.replica(SOURCES, timeouts=HttpTimeouts()))
        for n in range(300):
            wire = await stack.enter_async_context(Wire.to(service.url))
            await wire.send(
                [b"", b"GET / HT", b"POST /webhooks/forgejo/x HTTP/1.1\r\nHost: a\r\n", b"\r\n"][n % 4]
            )
            if n == 150:
                await asyncio.sleep(0.3)
        assert len(running.services.connections) <= 200
        await service.call("GET", "/health/live", status=200)
        await service.call("GET", "/health/ready", status=200)
        assert "pointsman_http_connections" in await service.call("GET", "/metrics", status=200)
        await service.alert()


async def test_one_address_has_its_share_and_this_machine_has_none(service: RunningService, monkeypatch):
    """Loopback is a sidecar, a tunnel or a proxy on the machine: not one client. Others get 503 at once."""
    from pointsman.web.connection_manager import ConnectionManager

    service.settings = msgspec.structs.replace(service.settings, max_connections_per_address=3)
    async with service.replica(SOURCES), contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(Wire.to(service.url))
        await service.call("GET", "/health/live", status=200)
    with monkeypatch.context() as patch:
        patch.setattr(ConnectionManager, "limited", lambda *_: True)
        async with service.replica(SOURCES), contextlib.AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(Wire.to(service.url)) for _ in range(3)]
            refused = await exchange(service.url, request("/health/live", method="GET"))
            assert refused.status == 503 and b"Retry-After: " in refused.raw
            assert refused.seconds < 2.0
            await wires[0].send(request("/health/live", method="GET"))
            assert (await wires[0].answer())[0] == 200
            wires[0].writer.close()
            await wires[0].reader.read()
            async with Wire.to(service.url) as wire:
                await wire.send(request("/health/live", method="GET"))
                assert (await wire.answer())[0] == 200
