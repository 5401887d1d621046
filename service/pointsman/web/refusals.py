"""Count requests with wrong credentials, and delay the answers to clients that send many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from pointsman.web.client_address import Address, limit_key

FREE_REFUSALS = 20
"""Refusals of one address without a delay; they are forgotten after FORGET_SECONDS without another one."""
FORGET_SECONDS = 60.0
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.1, 2.0
MAX_ADDRESSES = 10_000
MAX_DELAYED = 100
"""Requests that are delayed at once. Further ones are answered at once, so that they keep no connection."""
_NO_CREDENTIAL = frozenset({"no password", "no bearer token"})
_ENDPOINTS = ("intake", "webhooks", "api", "console")


class Refusals:
    """Recent refusals by address."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._recent: dict[Address | None, tuple[int, float]] = {}
        self._delayed = 0

    def count(self, client: Address | None) -> float:
        """Count a refusal. Return for how many seconds its answer is delayed: twice as long each time."""
        key = limit_key(client) if client is not None else None
        now = self._now()
        number, last = self._recent.pop(key, (0, now))
        number = number + 1 if now - last < FORGET_SECONDS else 1
        self._recent[key] = number, now
        if len(self._recent) > MAX_ADDRESSES:
            del self._recent[next(iter(self._recent))]
        over = number - FREE_REFUSALS
        return min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(over - 1, 10)) if over > 0 else 0.0

    async def delay(self, client: Address | None) -> None:
        """Count a refusal and wait before it is answered."""
        seconds = self.count(client)
        if not seconds or self._delayed >= MAX_DELAYED:
            return
        self._delayed += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delayed -= 1


def has_credential(log_fields: Mapping[str, object]) -> bool:
    """Return whether a refused request had a credential: browsers ask once without one."""
    return log_fields.get("reason") not in _NO_CREDENTIAL


def endpoint_of(route: str) -> str:
    """Return the part of the service that a route belongs to, for a metric's label."""
    return next((name for name in _ENDPOINTS if route.startswith(f"/{name}")), "other")


def slug_of(log_fields: Mapping[str, object]) -> str:
    """Return the slug of the source or destination, which handlers log only if it exists; else an empty text."""
    return str(log_fields.get("source") or log_fields.get("destination") or "")
