"""A network that fails on both of our links: to Postgres, and to the tracker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness import DRAIN_SECONDS, LONG, Cluster, TrackerProcess, configuration, eventually
from proxy import Cut, Proxy, Weather
from server import USER, Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

#: The requests and answers of these tests are shorter than this, the long ones to Postgres excepted.
BYTES = 2048
STEP = 1 if LONG else 64
LATENCY_SECONDS = {"postgres": 0.3 if LONG else 0.05, "tracker": 2.0 if LONG else 0.5}

Accident = Callable[[Cluster, Proxy, str], Awaitable[dict[str, Any]]]


async def _cut_at_any_byte(two: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Connections are reset, or end as if all had been said, after any number of bytes of a request or an answer: new
    ones, and such that have worked for a while.
    """
    cuts = [
        Cut(direction, at_byte, politely=politely, after_bytes=two.dice.choice((0, 6000)))
        for direction in ("to_server", "to_client")
        for politely in (False, True)
        for at_byte in range(two.dice.randrange(STEP), BYTES, STEP)
    ]
    two.dice.shuffle(cuts)

    async def happened() -> bool:
        return not proxy.cuts

    for first in range(0, len(cuts), 8):
        proxy.cuts.extend(cuts[first : first + 8])
        await eventually(happened, 120)
    return {"cuts": proxy.accidents}


async def _half_open(two: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Connections swallow everything and never end; for a while new ones do so too."""
    frozen = 0
    for number in range(3):
        await two.load.until_accepted(two.load.promises.accepted + 15)
        frozen += proxy.freeze_all()
        if number == 1:
            proxy.weather = Weather(swallow=True)
            before = proxy.connections

            async def tried(before: int = before) -> bool:
                return proxy.connections > before + 1

            await eventually(tried)
            proxy.weather = Weather()
    await two.load.until_accepted(two.load.promises.accepted + 15)
    return {"frozen": frozen}


async def _slow_and_late(two: Cluster, proxy: Proxy, link: str) -> dict[str, Any]:
    """Ten bytes a second for a while, then everything comes late."""
    await two.load.until_accepted(10)
    proxy.weather = Weather(bytes_per_second=10)
    with contextlib.suppress(TimeoutError):
        await two.load.until_accepted(10**9, patience_seconds=4)
    proxy.weather = Weather(latency_seconds=LATENCY_SECONDS[link])
    await two.load.until_accepted(two.load.promises.accepted + 30)
    proxy.weather = Weather()
    return {"latency": f"{LATENCY_SECONDS[link]:g} s"}


ACCIDENTS: tuple[Accident, ...] = (_cut_at_any_byte, _half_open, _slow_and_late)


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_both_links_fail(
    accident: Accident, cluster, server: Server, tracker: TrackerProcess, dice: random.Random, note
):
    """Two clusters beside each other, one with trouble on its way to Postgres, one on its way to the tracker."""

    @contextlib.asynccontextmanager
    async def between(link: str, place: str) -> AsyncIterator[tuple[Cluster, Proxy]]:
        url = tracker.places[place]
        async with (
            Proxy("127.0.0.1", server.port, dice) as to_postgres,
            Proxy("127.0.0.1", urlsplit(url).port or 0, dice) as to_tracker,
        ):
            places = {place: f"http://127.0.0.1:{to_tracker.port}"}
            two: Cluster = await cluster(
                part=link,
                count=2,
                places=places,
                config=configuration(places, at_once=32),
                dsn=lambda name: f"postgresql://{USER}@127.0.0.1:{to_postgres.port}/{name}",
                QUICK_STATEMENT_SECONDS="2.5",
            )
            async with two.running():
                yield two, to_postgres if link == "postgres" else to_tracker

    async def happen(link: str, place: str) -> None:
        async with between(link, place) as (two, proxy):
            sending = two.sends(at_once=6)
            figures = await accident(two, proxy, link)
            two.load.stopped = True
            await sending
            verdict = await two.settled(DRAIN_SECONDS)
            note(verdict, link=link, **figures, refused=two.load.refused)
            assert verdict.ok, await two.why(verdict)

    await asyncio.gather(happen("postgres", "place-0"), happen("tracker", "place-1"))
