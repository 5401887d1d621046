"""Markdown files in a folder as issues: a tracker that needs no server and no account."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Tracker, hookimpl
from pointsman_folder.tracker import FolderTracker

__all__ = ["FolderTracker", "pointsman_register_trackers"]


@hookimpl
def pointsman_register_trackers(register: Callable[[type[Tracker]], None]) -> None:
    """Register the tracker kind ``folder``."""
    register(FolderTracker)
