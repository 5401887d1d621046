"""Test the shutdown of a replica: no accepted request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from configuration import SHOP, SOURCES
from pointsman.web.timeouts import HttpTimeouts
from polling import until
from raw_http import Wire, request
from service_fixture import RunningService
from source_examples import alert

slow = pytest.mark.slow

SHORT_TIMEOUTS = HttpTimeouts(
    first_byte=1.0, head=1.0, body=1.5, body_grace=1.0, idle=1.0, linger=0.3, check_interval=0.05
)
BODY = json.dumps(alert()).encode()
TARGET = f"/intake/shop/{SHOP}"


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
