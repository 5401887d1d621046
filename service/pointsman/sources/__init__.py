"""The built-in kinds of sources, registered through the hook that a stranger's plugin uses."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Source, hookimpl
from pointsman.sources.bugsink import Bugsink
from pointsman.sources.tickets import Tickets


@hookimpl
def pointsman_register_sources(register: Callable[[type[Source]], None]) -> None:
    """Register the kinds that come with Pointsman."""
    register(Bugsink)
    register(Tickets)
