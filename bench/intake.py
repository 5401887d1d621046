"""Accepted alerts a second: from 64 connections, each alert with a body of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ground import BASE, Child, Ground
from scale import Figures, Scale

CONTESTANTS = ("pointsman", "hot", "delivering", "bare", "insert")


async def measure(ground: Ground, scale: Scale, contestant: str) -> Figures:
    """One round of one contestant."""
    async with _contestant(ground, contestant) as child:
        await ground.settle()
        used = child.cpu_seconds()
        words = ["--seconds", str(scale.seconds), "--warm-up", str(scale.warm_up)]
        if contestant == "hot":
            words += ["--hot-percent", "80"]
        seen = await ground.load(child.url, *words)
        share = (child.cpu_seconds() - used) / (scale.seconds + scale.warm_up) * 100
        assert seen["per_second"] > 0, f"{contestant} took nothing: {child.last_words()}"
        return {**seen, "core_percent": share, "peak_mib": child.peak_mib()}


@contextlib.asynccontextmanager
async def _contestant(ground: Ground, contestant: str) -> AsyncIterator[Child]:
    if contestant in ("bare", "insert"):
        async with (
            ground.database() as dsn,
            ground.peer("bare_intake.py", contestant, dsn=dsn) as child,
        ):
            child.url = (await child.said())["url"]
            yield child
        return
    async with ground.database(BASE) as dsn:
        # deliveries are promised all the same; at a real tracker's pace they would cost nothing worth measuring
        await ground.configure(dsn, paused=contestant != "delivering")
        async with ground.service(dsn) as child:
            yield child
