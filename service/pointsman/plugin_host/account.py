"""Learn which account Pointsman uses at a tracker: only markers written by that account count."""

from __future__ import annotations

import asyncio
import contextlib

from pointsman.plugin_api import Actor, PluginError
from pointsman.plugin_host.instances import LiveDestination
from pointsman.plugin_host.validate import validated


async def fetch_account(destination: LiveDestination) -> Actor | None:
    """Return our account at a destination, or None if the tracker does not tell. Asks the tracker only once."""
    if (
        destination.account is None
        and destination.tracker is not None
        and destination.capabilities.own_account
    ):
        with contextlib.suppress(PluginError, TimeoutError):
            async with asyncio.timeout(destination.capabilities.request_timeout_seconds):
                destination.account = validated(await destination.tracker.own_account(), Actor)
    return destination.account
