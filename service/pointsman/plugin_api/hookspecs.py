"""Hook specifications: the functions that a plugin module may implement. Each is called once, at start."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from pointsman.plugin_api.source import Source
from pointsman.plugin_api.tracker import Tracker

hookspec = pluggy.HookspecMarker("pointsman")
hookimpl = pluggy.HookimplMarker("pointsman")


@hookspec
def pointsman_register_trackers(register: Callable[[type[Tracker]], None]) -> None:
    """Call ``register`` with each Tracker class of the plugin."""


@hookspec
def pointsman_register_sources(register: Callable[[type[Source]], None]) -> None:
    """Call ``register`` with each Source class of the plugin."""
