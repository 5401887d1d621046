"""kill -9 of a replica by itself, right before or after a step it has taken so many times.

The service has no hooks for this: its own functions are wrapped from outside, by name, and a name that is gone is an
error of the test.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from pointsman.delivery import outcome_verification
from pointsman.intake import transaction as accept
from pointsman.storage import marker_observations
from pointsman.storage.db import Database
from pointsman.storage.queue import Lanes
from pointsman_forgejo.tracker import ForgejoTracker

#: Where to find each step: the owner and the name of an async function.
FUNCTIONS: dict[str, tuple[Any, str]] = {
    "accept": (accept, "accept"),
    "claim": (Lanes, "claim"),
    "head": (Lanes, "next_delivery"),
    "renew": (Lanes, "renew"),
    "release": (Lanes, "release"),
    "intent": (Lanes, "record_intent"),
    "create": (ForgejoTracker, "create_issue"),
    "comment": (ForgejoTracker, "add_comment"),
    "state": (ForgejoTracker, "set_state"),
    "sight": (marker_observations, "record_markers"),
    "finish": (Lanes, "finish"),
    "retry": (Lanes, "retry"),
    "look": (outcome_verification, "verify_outcome"),
    "clear_doubt": (Lanes, "confirm_not_applied"),
    "give_up": (Lanes, "dead_letter"),
}

#: The points where the suite kills: what is between them is one statement or one request.
STEPS = (
    "before:accept",
    "before:commit",
    "after:commit",
    "after:accept",
    "before:claim",
    "after:claim",
    "before:intent",
    "after:intent",
    "before:create",
    "after:create",
    "after:comment",
    "after:state",
    "before:sight",
    "after:sight",
    "before:finish",
    "after:finish",
    "before:retry",
    "after:retry",
    "before:look",
    "after:look",
    "before:clear_doubt",
    "after:clear_doubt",
    "after:renew",
)

_left = 0
_point = ""
_accepting: contextvars.ContextVar[bool] = contextvars.ContextVar("accepting", default=False)


def pass_by(point: str) -> None:
    """Die here, if this is the point and the time."""
    global _left  # noqa: PLW0603 - one process, one death
    if point != _point:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(order: str) -> None:
    """``after:intent:3``; empty: nobody dies. The last part is left out for the first time."""
    global _left, _point
    if not order:
        return
    when, step, *times = order.split(":")
    _left, _point = int(times[0]) if times else 1, f"{when}:{step}"
    if when not in ("before", "after"):
        raise SystemExit(f"QUICK_DIE_AT={order}: say before or after")
    if step == "commit":
        _wrap_commit()
        return
    if step not in FUNCTIONS:
        raise SystemExit(f"QUICK_DIE_AT={order}: steps are commit, {', '.join(FUNCTIONS)}")
    owner, name = FUNCTIONS[step]
    _replace(owner, name, lambda made: _between(made, step))


def _between(made: Callable[..., Any], step: str) -> Callable[..., Any]:
    @functools.wraps(made)
    async def wrapped(*args: Any, **more: Any) -> Any:
        pass_by(f"before:{step}")
        result = await made(*args, **more)
        pass_by(f"after:{step}")
        return result

    return wrapped


def _replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something else in a function's place, wherever it was imported to."""
    made = getattr(owner, name, None)
    if made is None:
        raise SystemExit(f"{owner} has no {name} any more: a step of the kill loop is gone")
    instead = wrap(made)
    setattr(owner, name, instead)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("pointsman"):
            for key, value in list(vars(module).items()):
                if value is made:
                    setattr(module, key, instead)


def _wrap_commit() -> None:
    """Before and after the COMMIT of the transaction that accepts reports."""
    _replace(accept, "accept", _marked)
    begun = Database.transaction

    @contextlib.asynccontextmanager
    async def transaction(self: Database) -> AsyncIterator[Any]:
        async with begun(self) as con:
            yield con
            if _accepting.get():
                pass_by("before:commit")
        if _accepting.get():
            pass_by("after:commit")

    Database.transaction = transaction  # type: ignore[method-assign]


def _marked(made: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(made)
    async def wrapped(*args: Any, **more: Any) -> Any:
        token = _accepting.set(True)
        try:
            return await made(*args, **more)
        finally:
            _accepting.reset(token)

    return wrapped
