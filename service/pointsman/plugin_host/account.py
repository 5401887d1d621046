"""Who we are at a tracker: only what our own account wrote may vouch for a marker."""

from __future__ import annotations

import asyncio
import contextlib

from pointsman.plugin_api import Actor, PluginError
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.plugin_host.validate import checked


async def fetch_account(destination: LiveDestination) -> Actor | None:
    """Our account at a destination, asked for once; None if the tracker does not say."""
    if destination.account is None and destination.tracker is not None:
        with contextlib.suppress(NotImplementedError, PluginError, TimeoutError):
            async with asyncio.timeout(destination.capabilities.request_timeout_seconds):
                destination.account = checked(await destination.tracker.own_account(), Actor)
    return destination.account
