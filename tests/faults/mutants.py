"""Parts of the delivery protocol switched off, one at a time, so that the harness is seen to notice."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pointsman.storage import queue
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
    """Nobody looks whether an earlier request took effect."""

    async def nothing(*_: object) -> list[object]:
        return []

    ForgejoTracker.find_issue = nothing  # type: ignore[method-assign, assignment]
    ForgejoTracker.find_comment = nothing  # type: ignore[method-assign, assignment]

    async def unseen(*_: object) -> list[tuple[str, str, str]]:
        return []

    assert hasattr(Lanes, "issues_with_marker")
    Lanes.issues_with_marker = unseen  # type: ignore[method-assign, assignment]


def without_fence() -> None:
    """Whoever believes to hold a lane may do anything with it, however late."""
    for name in _FENCED:
        text, changed = _LEASE.subn(lambda found: f"({found[0]} or true)", queue.SQL[name])
        if not changed:
            raise SystemExit(f"queue.sql: {name} names no lease any more")
        queue.SQL._statements[name] = text
    # nor does he look at the clock before he sends
    Lanes._trusted_until = lambda *_: float("inf")  # type: ignore[method-assign]


def without_settle() -> None:
    """A look right after the request, while the tracker may still be at it, counts as proof."""
    ForgejoTracker.capabilities = replace(ForgejoTracker.capabilities, settle_seconds=())


def without_intent() -> None:
    """Nothing is written down before a request leaves."""
    _always(Lanes, "record_intent", outcome_unknown=False)


def _always(owner: Any, name: str, **words: Any) -> None:
    made: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(made)
    async def wrapped(*args: Any, **more: Any) -> Any:
        if not more.keys() >= words.keys():
            raise SystemExit(f"{name} takes no {', '.join(words)} any more")
        return await made(*args, **{**more, **words})

    setattr(owner, name, wrapped)


MUTANTS: dict[str, Callable[[], None]] = {
    "find": without_find,
    "fence": without_fence,
    "settle": without_settle,
    "intent": without_intent,
}


def apply(name: str) -> None:
    """Switch one part off; empty: none."""
    if name:
        MUTANTS[name]()
