"""Wait for a condition that another task, process or server brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(
    look: Callable[[], Awaitable[Any]], timeout_seconds: float = 15.0, *, every_seconds: float = 0.03
) -> Any:
    """Call ``look`` until its result is true, and return the result. Raises AssertionError after the timeout."""
    end = time.monotonic() + timeout_seconds
    while True:
        result = await look()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain; last seen: {result!r}")
        await asyncio.sleep(every_seconds)
