"""Run the service as `pointsman serve` does, with short leases and settle times, so that faults heal in seconds.

All changes for tests are original here, by name; a missing name is an error. Settings in the environment:

* ``QUICK_LEASE_SECONDS``, ``QUICK_TIMEOUT_SECONDS``, ``QUICK_SETTLE_SECONDS``: times (4, 1.5, 2);
* ``QUICK_WRITE_DELAY_SECONDS``: delay of a write between the intent and the request;
* ``QUICK_WITHOUT_POLLING``: work is found by wake-ups only;
* ``QUICK_DIE_AT``: ``after:intent:3`` kills the process right after the third intent; see ``STEPS``;
* ``QUICK_WITHOUT``: a part of the protocol is switched off; see ``mutants``.
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
from pointsman.delivery import outcome_verification, tracker_sender
from pointsman.domain import circuit_breaker, retry_policy
from pointsman.plugin_host.registry import Registry
from pointsman.storage import connect, db
from pointsman.storage.queue import Lanes
from pointsman.sync import tracker_poller
from pointsman_forgejo.tracker import ForgejoTracker


def put(owner: object, name: str, value: object) -> None:
    """Replace an attribute that must exist."""
    if not hasattr(owner, name):
        raise SystemExit(f"quick_serve: {owner} has no {name}")
    setattr(owner, name, value)


def number(name: str, default: float) -> float:
    """Return a number from the environment."""
    return float(os.environ.get(name, default))


def preload() -> None:
    """Import everything that a replica needs, including plugins."""
    Registry.load()


async def _no_wait(*_: object) -> None:
    """Do not wait: the database runs before a replica starts."""


def hasten() -> None:
    """Shorten all intervals and timeouts."""
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
    # all processes share the clock of this machine
    put(outcome_verification, "CLOCKS_DIFFER", dt.timedelta(seconds=5))
    put(tracker_poller, "OVERLAP", dt.timedelta(seconds=15))
    put(db, "STATEMENT_SECONDS", number("QUICK_STATEMENT_SECONDS", 4.0))
    put(db, "CONNECT_SECONDS", number("QUICK_STATEMENT_SECONDS", 4.0))
    # limits how long a paused process delays others by its transaction
    put(db, "IDLE_SECONDS", 1)
    put(db, "TRANSACTION_SECONDS", 3)
    # a process that lives for seconds should open few connections
    put(connect, "POOL_SIZE", 5)
    put(app, "wait_for_database", _no_wait)
    put(app, "ENDPOINT_PROPAGATION_SECONDS", number("QUICK_PROPAGATION_SECONDS", 0.0))
    if os.environ.get("QUICK_WITHOUT_POLLING"):
        put(worker, "IDLE_SECONDS", 3600.0)
        put(worker, "BUSY_SECONDS", 3600.0)
    put(app, "running", functools.partial(app.running, lease_seconds=lease, drain_seconds=10.0))


def delay_writes() -> None:
    """Delay writes before they leave, as in a process that gets no processor time."""
    wait = number("QUICK_WRITE_DELAY_SECONDS", 0.0)
    for name in ("create_issue", "add_comment", "set_state") if wait else ():
        original = getattr(ForgejoTracker, name)

        async def late(*args: object, original: Callable[..., Awaitable[object]] = original) -> object:
            await asyncio.sleep(wait)
            return await original(*args)

        put(ForgejoTracker, name, functools.wraps(original)(late))


def print_holder() -> None:
    """Print the lease holder id of this replica to the log."""
    original = Lanes.__init__

    @functools.wraps(original)
    def init(self: Lanes, database: object, holder: object, **more: object) -> None:
        print(json.dumps({"holder": str(holder)}), flush=True)
        original(self, database, holder, **more)  # type: ignore[arg-type]

    put(Lanes, "__init__", init)


def run() -> int:
    """Serve until a signal stops the service and return the exit code."""
    hasten()
    print_holder()
    delay_writes()
    mutants.apply(os.environ.get("QUICK_WITHOUT", ""))
    kill_points.arm(os.environ.get("QUICK_DIE_AT", ""))
    loaded = settings.load()
    logs.configure("json", level=os.environ.get("QUICK_LOG", "warning"))

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number_ in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number_, stop.set)
        await app.serve(loaded, stop)

    asyncio.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(run())
