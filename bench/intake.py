"""Accepted alerts per second from 64 connections, each alert with a different body."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from environment import BASE, Child, Environment
from scale import Figures, Scale

CONTESTANTS = ("pointsman", "hot", "delivering", "bare", "insert")


async def measure(environment: Environment, scale: Scale, contestant: str) -> Figures:
    """Measure one round of a contestant."""
    async with _contestant(environment, contestant) as child:
        await environment.settle()
        used = child.cpu_seconds()
        options = ["--seconds", str(scale.seconds), "--warm-up", str(scale.warm_up)]
        if contestant == "hot":
            options += ["--hot-percent", "80"]
        seen = await environment.load(child.url, *options)
        share = (child.cpu_seconds() - used) / (scale.seconds + scale.warm_up) * 100
        assert seen["per_second"] > 0, f"{contestant} accepted nothing: {child.log_end()}"
        return {**seen, "core_percent": share, "peak_mib": child.peak_mib()}


@contextlib.asynccontextmanager
async def _contestant(environment: Environment, contestant: str) -> AsyncIterator[Child]:
    if contestant in ("bare", "insert"):
        async with (
            environment.database() as dsn,
            environment.peer("bare_intake.py", contestant, dsn=dsn) as child,
        ):
            child.url = (await child.read_line())["url"]
            yield child
        return
    async with environment.database(BASE) as dsn:
        # deliveries are planned all the same; at the rate of a real tracker their cost would be negligible
        await environment.configure(dsn, paused=contestant != "delivering")
        async with environment.service(dsn) as child:
            yield child
