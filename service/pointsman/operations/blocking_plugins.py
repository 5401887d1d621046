"""Pause the destinations of a tracker plugin that blocks the event loop again and again."""

from __future__ import annotations

from pointsman.domain.states import DestinationKind
from pointsman.logs import logger
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import destinations
from pointsman.storage.db import Database

log = logger("watchdog")


async def pause_destinations(database: Database, reloader: ConfigReloader, plugin: str) -> None:
    """Pause all destinations whose tracker is of this kind."""
    for destination in reloader.current.destinations.values():
        if destination.tracker_kind == plugin and destination.kind == DestinationKind.TRACKER:
            log.error(
                "destination paused: its plugin blocks the event loop",
                destination=destination.slug,
                tracker=plugin,
            )
            await destinations.set_pause(database, destination.slug, "its plugin blocks the event loop")
