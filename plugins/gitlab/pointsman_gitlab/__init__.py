"""GitLab issues: a tracker plugin for Pointsman."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Tracker, hookimpl
from pointsman_gitlab.tracker import GitLabTracker

__all__ = ["GitLabTracker", "pointsman_register_trackers"]


@hookimpl
def pointsman_register_trackers(register: Callable[[type[Tracker]], None]) -> None:
    """Register the tracker kind ``gitlab``."""
    register(GitLabTracker)
