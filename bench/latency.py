"""How long until the tracker is called, when nothing else is to do: one alert after the other, with pauses.

``begun``: from the moment the alert's request (or the job's enqueue) begins. ``answered``: from its 202 (or the
enqueue's return) on; this can be negative, for work may begin before the sender has read its answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ground import BASE, Ground, until
from load import percentile
from scale import Figures, Scale

CONTESTANTS = ("pointsman", "pgqueuer")
_WARM_UP = 10


async def measure(ground: Ground, scale: Scale, contestant: str) -> Figures:
    """One round of one contestant."""
    words = (str(scale.alerts), str(scale.pause))
    await ground.tracker.get("reset")
    if contestant == "pgqueuer":
        async with ground.database() as dsn:
            await ground.fill("pgqueuer_peer.py", _WARM_UP, dsn)
            async with ground.peer("pgqueuer_peer.py", "work", dsn=dsn) as worker:
                await worker.said()
                async with (
                    _warm(ground),
                    ground.peer("pgqueuer_peer.py", "paced", *words, dsn=dsn) as child,
                ):
                    sent = await child.said()
                return await _figures(ground, sent["times"])
    async with ground.database(BASE) as dsn:
        await ground.configure(dsn, paused=False)
        async with ground.service(dsn) as service:
            await ground.load(service.url, "--count", str(_WARM_UP))
            async with _warm(ground):
                sent = await ground.load(service.url, "--count", words[0], "--pause", words[1])
            return await _figures(ground, sent["times"])


@contextlib.asynccontextmanager
async def _warm(ground: Ground) -> AsyncIterator[None]:
    """Wait for the first calls, then forget them."""
    await _called(ground, _WARM_UP)
    await ground.settle()
    await ground.tracker.get("reset")
    yield


async def _called(ground: Ground, count: int) -> None:
    async def called() -> bool:
        return bool((await ground.tracker.get("calls"))["count"] >= count)

    await until(called, every=0.1, patience=30.0)


async def _figures(ground: Ground, sent: dict[str, Any]) -> Figures:
    await _called(ground, len(sent))
    called = await ground.tracker.get("times")
    assert called.keys() == sent.keys(), "a call came that was not asked for"
    begun = [(called[key] - times[0]) / 1e6 for key, times in sent.items()]
    answered = [(called[key] - times[1]) / 1e6 for key, times in sent.items()]
    return {
        "begun_p50_ms": percentile(begun, 50),
        "begun_p99_ms": percentile(begun, 99),
        "answered_p50_ms": percentile(answered, 50),
        "answered_p99_ms": percentile(answered, 99),
        "accept_p50_ms": percentile([(times[1] - times[0]) / 1e6 for times in sent.values()], 50),
    }
