"""Switch off parts of the delivery protocol, one at a time, to prove that the harness notices."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pointsman.storage import marker_observations, queue
from pointsman.storage.queue import Lanes
from pointsman_forgejo.tracker import ForgejoTracker

_LEASE = re.compile(r"(?:\w+\.)?lease_id = (?:\w+\.lease_id|\$\d+)|(?:\w+\.)?lease_until > now\(\)")
_FENCED = (
    "renew_leases",
    "record_intents",
    "finish_deliveries",
    "schedule_retry",
    "lock_lane",
    "release_lane",
)


def without_find() -> None:
    """Never verify whether an earlier request took effect."""

    async def no_matches(*_: object) -> list[object]:
        return []

    ForgejoTracker.find_issue = no_matches  # type: ignore[method-assign, assignment]
    ForgejoTracker.find_comment = no_matches  # type: ignore[method-assign, assignment]

    async def no_observations(*_: object) -> list[tuple[str, str, str]]:
        return []

    assert hasattr(marker_observations, "issues_with_marker")
    marker_observations.issues_with_marker = no_observations  # type: ignore[assignment]


def without_fence() -> None:
    """Accept statements of expired leases."""
    for name in _FENCED:
        text, changed = _LEASE.subn(lambda match: f"({match[0]} or true)", queue.SQL[name])
        if not changed:
            raise SystemExit(f"queue.sql: {name} names no lease any more")
        queue.SQL._statements[name] = text
    # also skip the check of the clock before sending
    Lanes._trusted_until = lambda *_: float("inf")  # type: ignore[method-assign]


def without_settle() -> None:
    """Verify right after the request, while the tracker may still be executing the request."""
    ForgejoTracker.capabilities = replace(ForgejoTracker.capabilities, settle_seconds=())


def without_intent() -> None:
    """Record no intent before a request leaves."""
    _always(Lanes, "record_intent", outcome_unknown=False)


def _always(owner: Any, name: str, **fixed: Any) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    async def wrapped(*args: Any, **options: Any) -> Any:
        if not options.keys() >= fixed.keys():
            raise SystemExit(f"{name} has no parameters {', '.join(fixed)}")
        return await original(*args, **{**options, **fixed})

    setattr(owner, name, wrapped)


MUTANTS: dict[str, Callable[[], None]] = {
    "find": without_find,
    "fence": without_fence,
    "settle": without_settle,
    "intent": without_intent,
}


def apply(name: str) -> None:
    """Switch off the named part; an empty name switches off nothing."""
    if name:
        MUTANTS[name]()
