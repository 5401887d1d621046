"""Time until the tracker is called by an idle service: one alert after the other, with pauses.

``begun`` counts from the start of the alert's request (or of the enqueue call). ``answered`` counts from its 202 (or the
return of the enqueue call) and can be negative, since work may begin before the sender has read the response.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from environment import BASE, Environment, until
from load import percentile
from scale import Figures, Scale

CONTESTANTS = ("pointsman", "pgqueuer")
_WARM_UP = 10


async def measure(environment: Environment, scale: Scale, contestant: str) -> Figures:
    """Measure one round of a contestant."""
    arguments = (str(scale.alerts), str(scale.pause))
    await environment.tracker.get("reset")
    if contestant == "pgqueuer":
        async with environment.database() as dsn:
            await environment.fill("pgqueuer_peer.py", _WARM_UP, dsn)
            async with environment.peer("pgqueuer_peer.py", "work", dsn=dsn) as worker:
                await worker.read_line()
                async with (
                    _warm(environment),
                    environment.peer("pgqueuer_peer.py", "paced", *arguments, dsn=dsn) as child,
                ):
                    sent = await child.read_line()
                return await _figures(environment, sent["times"])
    async with environment.database(BASE) as dsn:
        await environment.configure(dsn, paused=False)
        async with environment.service(dsn) as service:
            await environment.load(service.url, "--count", str(_WARM_UP))
            async with _warm(environment):
                sent = await environment.load(service.url, "--count", arguments[0], "--pause", arguments[1])
            return await _figures(environment, sent["times"])


@contextlib.asynccontextmanager
async def _warm(environment: Environment) -> AsyncIterator[None]:
    """Wait for the first calls, then reset the counters."""
    await _called(environment, _WARM_UP)
    await environment.settle()
    await environment.tracker.get("reset")
    yield


async def _called(environment: Environment, count: int) -> None:
    async def called() -> bool:
        return bool((await environment.tracker.get("calls"))["count"] >= count)

    await until(called, every=0.1, timeout_seconds=30.0)


async def _figures(environment: Environment, sent: dict[str, Any]) -> Figures:
    await _called(environment, len(sent))
    called = await environment.tracker.get("times")
    assert called.keys() == sent.keys(), "an unexpected call arrived"
    begun = [(called[key] - times[0]) / 1e6 for key, times in sent.items()]
    answered = [(called[key] - times[1]) / 1e6 for key, times in sent.items()]
    return {
        "begun_p50_ms": percentile(begun, 50),
        "begun_p99_ms": percentile(begun, 99),
        "answered_p50_ms": percentile(answered, 50),
        "answered_p99_ms": percentile(answered, 99),
        "accept_p50_ms": percentile([(times[1] - times[0]) / 1e6 for times in sent.values()], 50),
    }
