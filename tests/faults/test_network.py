"""Network faults on both links of the service: to PostgreSQL and to the tracker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness import DRAIN_SECONDS, LONG, Cluster, configuration, eventually
from processes import TrackerProcess
from proxy import Conditions, Cut, Proxy
from server import USER, Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

#: Most requests and responses of these tests are shorter than this; a few to PostgreSQL are longer.
BYTES = 2048
STEP = 1 if LONG else 64
LATENCY_SECONDS = {"postgres": 0.3 if LONG else 0.05, "tracker": 2.0 if LONG else 0.5}

Fault = Callable[[Cluster, Proxy, str], Awaitable[dict[str, Any]]]


async def _cut_at_any_byte(cluster: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Reset or close connections after any number of bytes of a request or a response, both new and used connections."""
    cuts = [
        Cut(direction, at_byte, graceful=graceful, after_bytes=cluster.dice.choice((0, 6000)))
        for direction in ("to_server", "to_client")
        for graceful in (False, True)
        for at_byte in range(cluster.dice.randrange(STEP), BYTES, STEP)
    ]
    cluster.dice.shuffle(cuts)

    async def applied() -> bool:
        return not proxy.cuts

    for first in range(0, len(cuts), 8):
        proxy.cuts.extend(cuts[first : first + 8])
        await eventually(applied, 120)
    return {"cuts": proxy.applied_cuts}


async def _half_open(cluster: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Discard all bytes of open connections, and for a while of new ones, without closing them."""
    frozen = 0
    for number in range(3):
        await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 15)
        frozen += proxy.freeze_all()
        if number == 1:
            proxy.conditions = Conditions(drop=True)
            before = proxy.connections

            async def tried(before: int = before) -> bool:
                return proxy.connections > before + 1

            await eventually(tried)
            proxy.conditions = Conditions()
    await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 15)
    return {"frozen": frozen}


async def _slow_and_late(cluster: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Transfer ten bytes a second for a while, then with a high latency."""
    await cluster.load.until_accepted(10)
    proxy.conditions = Conditions(bytes_per_second=10)
    with contextlib.suppress(TimeoutError):
        await cluster.load.until_accepted(10**9, timeout_seconds=4)
    proxy.conditions = Conditions(latency_seconds=LATENCY_SECONDS[link])
    await cluster.load.until_accepted(cluster.load.accepted_reports.accepted + 30)
    proxy.conditions = Conditions()
    return {"latency": f"{LATENCY_SECONDS[link]:g} s"}


FAULTS: tuple[Fault, ...] = (_cut_at_any_byte, _half_open, _slow_and_late)


@pytest.mark.parametrize("fault", FAULTS)
async def test_both_links_fail(
    fault: Fault, new_cluster, server: Server, tracker: TrackerProcess, dice: random.Random, note
):
    """Run two clusters, one with faults on the link to PostgreSQL, one with faults on the link to the tracker."""

    @contextlib.asynccontextmanager
    async def between(link: str, destination: str) -> AsyncIterator[tuple[Cluster, Proxy]]:
        url = tracker.destinations[destination]
        async with (
            Proxy("127.0.0.1", server.port, dice) as to_postgres,
            Proxy("127.0.0.1", urlsplit(url).port or 0, dice) as to_tracker,
        ):
            destinations = {destination: f"http://127.0.0.1:{to_tracker.port}"}
            cluster: Cluster = await new_cluster(
                part=link,
                count=2,
                destinations=destinations,
                config=configuration(destinations, at_once=32),
                dsn=lambda name: f"postgresql://{USER}@127.0.0.1:{to_postgres.port}/{name}",
                QUICK_STATEMENT_SECONDS="2.5",
            )
            async with cluster.running():
                yield cluster, to_postgres if link == "postgres" else to_tracker

    async def run(link: str, destination: str) -> None:
        async with between(link, destination) as (cluster, proxy):
            sending = cluster.send_load(at_once=6)
            figures = await fault(cluster, proxy, link)
            cluster.load.stopped = True
            await sending
            verdict = await cluster.settled(DRAIN_SECONDS)
            note(verdict, link=link, **figures, refused=cluster.load.refused)
            assert verdict.ok, await cluster.explain(verdict)

    await asyncio.gather(run("postgres", "destination-0"), run("tracker", "destination-1"))
