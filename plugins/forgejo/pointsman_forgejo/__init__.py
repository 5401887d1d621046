"""Forgejo, Gitea and Codeberg issues for Pointsman."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Tracker, hookimpl
from pointsman_forgejo.tracker import ForgejoTracker

__all__ = ["ForgejoTracker", "pointsman_register_trackers"]


@hookimpl
def pointsman_register_trackers(register: Callable[[type[Tracker]], None]) -> None:
    """Register the tracker kind ``forgejo``."""
    register(ForgejoTracker)
