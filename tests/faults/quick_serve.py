"""The service as `pointsman serve` runs it, with short leases and settle times, so that faults heal in seconds.

All that tests change about it is changed here, by name, and fails loudly when a name is gone:

* ``QUICK_LEASE_SECONDS``, ``QUICK_TIMEOUT_SECONDS``, ``QUICK_SETTLE_SECONDS``: times (4, 1.5, 2);
* ``QUICK_DAWDLE_SECONDS``: how long a write stands still between the intent and the request;
* ``QUICK_WITHOUT_POLLING``: work is found by being told of it, or never;
* ``QUICK_DIE_AT``: ``after:intent:3`` is kill -9 of itself right after the third intent. See ``STEPS``;
* ``QUICK_WITHOUT``: a part of the protocol is switched off, so that the harness is seen to bite. See ``mutants``.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import kill_points
import mutants
from msgspec.structs import replace

from pointsman import app, logs
from pointsman.bus import worker
from pointsman.config import settings
from pointsman.storage import connect
from pointsman.delivery import outcome_verification, tracker_sender
from pointsman.domain import circuit_breaker, retry_policy
from pointsman.plugin_host.registry import Registry
from pointsman.storage import db
from pointsman.storage.queue import Lanes
from pointsman.sync import tracker_poller
from pointsman_forgejo.tracker import ForgejoTracker


def put(owner: object, name: str, value: object) -> None:
    """Change something that must be there."""
    if not hasattr(owner, name):
        raise SystemExit(f"quick_serve: {owner} has no {name} any more")
    setattr(owner, name, value)


def number(name: str, default: float) -> float:
    """A number from the environment."""
    return float(os.environ.get(name, default))


def preload() -> None:
    """Import all that a replica needs, plugins too."""
    Registry.load()


async def _no_wait(*_: object) -> None:
    """The database is there when a replica is started."""


def hasten() -> None:
    """Everything that waits waits for less."""
    lease = number("QUICK_LEASE_SECONDS", 4.0)
    timeout = number("QUICK_TIMEOUT_SECONDS", 1.5)
    put(
        ForgejoTracker,
        "capabilities",
        replace(
            ForgejoTracker.capabilities,
            settle_seconds=(number("QUICK_SETTLE_SECONDS", 2.0),),
            request_timeout_seconds=timeout,
            poll_seconds=number("QUICK_POLL_SECONDS", 2.0),
        ),
    )
    put(retry_policy, "BASE_SECONDS", 0.4)
    put(retry_policy, "CAP_SECONDS", 4.0)
    put(circuit_breaker, "OPEN_SECONDS", 1.0)
    put(circuit_breaker, "MAX_OPEN_SECONDS", 3.0)
    put(tracker_sender, "SENDING_MARGIN_SECONDS", 0.25)
    # on this machine all clocks are one
    put(outcome_verification, "CLOCKS_DIFFER", dt.timedelta(seconds=5))
    put(tracker_poller, "OVERLAP", dt.timedelta(seconds=15))
    put(db, "STATEMENT_SECONDS", number("QUICK_STATEMENT_SECONDS", 4.0))
    put(db, "CONNECT_SECONDS", number("QUICK_STATEMENT_SECONDS", 4.0))
    # who stands still in a transaction holds up others for so long
    put(db, "IDLE_SECONDS", 1)
    put(db, "TRANSACTION_SECONDS", 3)
    # a new process pays for each connection anew
    put(connect, "POOL_SIZE", 5)
    put(app, "wait_for_database", _no_wait)
    put(app, "ENDPOINT_PROPAGATION_SECONDS", number("QUICK_PROPAGATION_SECONDS", 0.0))
    if os.environ.get("QUICK_WITHOUT_POLLING"):
        put(worker, "IDLE_SECONDS", 3600.0)
        put(worker, "BUSY_SECONDS", 3600.0)
    put(app, "running", functools.partial(app.running, lease_seconds=lease, drain_seconds=10.0))


def dawdle() -> None:
    """Writes stand still before they leave, as in a process that gets no time."""
    wait = number("QUICK_DAWDLE_SECONDS", 0.0)
    for name in ("create_issue", "add_comment", "set_state") if wait else ():
        made = getattr(ForgejoTracker, name)

        async def late(*args: object, made: Callable[..., Awaitable[object]] = made) -> object:
            await asyncio.sleep(wait)
            return await made(*args)

        put(ForgejoTracker, name, functools.wraps(made)(late))


def say_who() -> None:
    """The holder of this replica's leases, for the log."""
    made = Lanes.__init__

    @functools.wraps(made)
    def init(self: Lanes, database: object, holder: object, **more: object) -> None:
        print(json.dumps({"holder": str(holder)}), flush=True)
        made(self, database, holder, **more)  # type: ignore[arg-type]

    put(Lanes, "__init__", init)


def run() -> int:
    """Serve until told to stop; the exit code."""
    hasten()
    say_who()
    dawdle()
    mutants.apply(os.environ.get("QUICK_WITHOUT", ""))
    kill_points.arm(os.environ.get("QUICK_DIE_AT", ""))
    found = settings.load()
    logs.configure("json", level=os.environ.get("QUICK_LOG", "warning"))

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stop.set)
        await app.serve(found, stop)

    asyncio.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(run())
