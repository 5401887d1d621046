"""Test the limits of request bodies against clients without credentials: compressed tails, memory, and time."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import ipaddress
import json
import os
import zlib
from types import SimpleNamespace

import msgspec
import pytest

from configuration import SHOP, SOURCES, WEBHOOK_SECRET
from pointsman import crypto
from raw_http import Wire, exchange, request
from service_fixture import RunningService
from source_examples import alert

CONFIG = (
    SOURCES
    + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{WEBHOOK_SECRET}"]
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
KNOWN, UNKNOWN, UNSIGNED = (f"/webhooks/forgejo/{slug}" for slug in ("my-product", "nope", "unsigned"))
INTAKE = f"/intake/shop/{SHOP}"
BODY = json.dumps(alert()).encode()
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A stored block of no bytes: a compressed stream may have any number (RFC 1951, section 3.2.4)."""


def packed(encoding: str, data: bytes) -> bytes:
    return zlib.compress(data) if encoding == "deflate" else gzip.compress(data)


def chunked(target: str, encoding: str, *pieces: bytes) -> list[bytes]:
    lines = ("Transfer-Encoding: chunked", f"Content-Encoding: {encoding}", "X: content-length")
    head = request(target, b"", *lines, "Connection: close")
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [head, *chunks, b"0\r\n\r\n"]


def signed(target: str, body: bytes = b"{}", *lines: str) -> bytes:
    signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return request(target, body, f"X-Forgejo-Signature: {signature}", "X-Forgejo-Event: push", *lines)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
async def test_bytes_after_a_compressed_body_are_refused(service: RunningService, encoding: str):
    """In the same chunk or in a later one, one byte or another member, for every sender; the rest is not read."""
    stream = packed(encoding, BODY)
    async with service.replica(CONFIG):
        for target in (INTAKE, KNOWN, UNKNOWN):
            for tail in ([b"\0"], [packed(encoding, b"{}")], [b"", os.urandom(60_000), os.urandom(60_000)]):
                pieces = [stream + tail[0], *tail[1:]]
                answer = await exchange(service.url, *chunked(target, encoding, *filter(None, pieces)))
                assert answer.status == 400, (target, answer.raw[:200])
                assert b"after the end" in answer.raw
        answer = await exchange(service.url, *chunked(INTAKE, encoding, stream))
        assert answer.status == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_received_bytes_count_against_the_limit_even_if_they_unpack_to_nothing(
    service: RunningService, encoding: str
):
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" if encoding == "gzip" else b"\x78\x01"
    blocks = EMPTY_BLOCK * 10_000
    async with service.replica(CONFIG):
        for target, limit in ((INTAKE, 2**20), (KNOWN, 2**20), (UNKNOWN, 2**20)):
            pieces = [head, *[blocks] * (limit // len(blocks) + 1)]
            answer = await exchange(service.url, *chunked(target, encoding, *pieces))
            assert answer.status == 413, (target, answer.raw[:200])


async def test_bodies_of_nobody_take_no_memory_and_keep_no_webhook_out(service: RunningService):
    """33 clients hold all but the last byte of a body for a destination that does not exist, or has no secret."""
    almost = b"x" * (2**20 - 1)
    async with service.replica(CONFIG) as running, contextlib.AsyncExitStack() as stack:
        memory = running.services.admission.webhook_memory
        for number in range(33):
            wire = await stack.enter_async_context(Wire.to(service.url))
            target = UNSIGNED if number % 2 else UNKNOWN
            await wire.send(request(target, b"", f"Content-Length: {2**20}") + almost)
        while running.services.admission.webhooks.active < 33:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert memory.used == 0
        answer = await exchange(service.url, signed(KNOWN, b"{}", "Connection: close"))
        assert answer.status == 200
        await wire.send(b"x")
        assert (await wire.answer())[0] == 401


async def test_one_address_cannot_take_the_memory_of_all_webhooks(service: RunningService):
    """Without a signature it gets a quarter, however many IPv6 addresses of its network it uses."""
    almost = b"x" * (2**20 - 1)
    service.settings = msgspec.structs.replace(
        service.settings, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),)
    )
    async with service.replica(CONFIG) as running, contextlib.AsyncExitStack() as stack:
        memory = running.services.admission.webhook_memory
        for number in range(33):
            wire = await stack.enter_async_context(Wire.to(service.url))
            client = f"X-Forwarded-For: 2001:db8:1:2::{number + 1:x}"
            await wire.send(request(KNOWN, b"", f"Content-Length: {2**20}", client) + almost)
        while memory.used < 7 * 2**20:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert memory.used <= 8 * 2**20
        for address in ("2001:db8:1:3::1", "203.0.113.5"):
            forwarded = f"X-Forwarded-For: {address}"
            answer = await exchange(service.url, signed(KNOWN, b"{}", forwarded, "Connection: close"))
            assert answer.status == 200
        refused = await exchange(
            service.url, signed(KNOWN, almost, "X-Forwarded-For: 2001:db8:1:2::ffff", "Connection: close")
        )
        assert refused.status == 503
    assert memory.used == 0


async def test_the_same_work_is_done_whether_a_destination_exists_or_not(
    service: RunningService, monkeypatch
):
    """As many HMACs over as many bytes: neither the time nor the answer shows which destinations exist."""
    hashed = []

    def new(key, data=b"", digestmod=None):
        mac = hmac.new(key, data, digestmod)
        hashed.append(len(data))
        return SimpleNamespace(
            update=lambda more: (hashed.append(len(more)), mac.update(more)),
            digest=mac.digest,
        )

    monkeypatch.setattr(crypto, "hmac", SimpleNamespace(new=new, compare_digest=hmac.compare_digest))
    async with service.replica(CONFIG):
        for size in (2, 4096, 4097, 300_000):
            work = set()
            for target in (KNOWN, UNKNOWN, UNSIGNED):
                hashed.clear()
                body = b"x" * size
                answer = await exchange(
                    service.url,
                    request(target, body, f"X-Forgejo-Signature: {'0' * 64}", "Connection: close"),
                )
                assert answer.status == 401
                work.add(sum(hashed))
            assert work == {size * crypto.MAX_WEBHOOK_SECRETS}
