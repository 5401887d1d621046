"""Let a replica kill itself right before or after a step, at the n-th time.

The service has no hooks for this: its functions are wrapped by name, and a missing name is an error of the test.
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
    "record_markers": (marker_observations, "record_markers"),
    "finish": (Lanes, "finish"),
    "retry": (Lanes, "retry"),
    "verify": (outcome_verification, "verify_outcome"),
    "confirm_not_applied": (Lanes, "confirm_not_applied"),
    "dead_letter": (Lanes, "dead_letter"),
}

#: Points at which the suite kills; between two of them is one statement or one request.
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
    "before:record_markers",
    "after:record_markers",
    "before:finish",
    "after:finish",
    "before:retry",
    "after:retry",
    "before:verify",
    "after:verify",
    "before:confirm_not_applied",
    "after:confirm_not_applied",
    "after:renew",
)

_left = 0
_point = ""
_accepting: contextvars.ContextVar[bool] = contextvars.ContextVar("accepting", default=False)


def reach(point: str) -> None:
    """Kill this process if it is the chosen point and the chosen time."""
    global _left  # noqa: PLW0603 - the state of this process
    if point != _point:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(setting: str) -> None:
    """Choose the point, such as ``after:intent:3`` or ``after:intent``; an empty setting kills nothing."""
    global _left, _point
    if not setting:
        return
    when, step, *times = setting.split(":")
    _left, _point = int(times[0]) if times else 1, f"{when}:{step}"
    if when not in ("before", "after"):
        raise SystemExit(f"QUICK_DIE_AT={setting}: use before or after")
    if step == "commit":
        _wrap_commit()
        return
    if step not in FUNCTIONS:
        raise SystemExit(f"QUICK_DIE_AT={setting}: steps are commit, {', '.join(FUNCTIONS)}")
    owner, name = FUNCTIONS[step]
    _replace(owner, name, lambda original: _between(original, step))


def _between(original: Callable[..., Any], step: str) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapped(*args: Any, **options: Any) -> Any:
        reach(f"before:{step}")
        result = await original(*args, **options)
        reach(f"after:{step}")
        return result

    return wrapped


def _replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function, also in all modules that imported it."""
    original = getattr(owner, name, None)
    if original is None:
        raise SystemExit(f"{owner} has no {name}: a step of the kill loop is missing")
    replacement = wrap(original)
    setattr(owner, name, replacement)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("pointsman"):
            for key, value in list(vars(module).items()):
                if value is original:
                    setattr(module, key, replacement)


def _wrap_commit() -> None:
    """Add the points before and after the COMMIT of the intake transaction."""
    _replace(accept, "accept", _marked)
    begin = Database.transaction

    @contextlib.asynccontextmanager
    async def transaction(self: Database) -> AsyncIterator[Any]:
        async with begin(self) as con:
            yield con
            if _accepting.get():
                reach("before:commit")
        if _accepting.get():
            reach("after:commit")

    Database.transaction = transaction  # type: ignore[method-assign]


def _marked(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapped(*args: Any, **options: Any) -> Any:
        token = _accepting.set(True)
        try:
            return await original(*args, **options)
        finally:
            _accepting.reset(token)

    return wrapped
