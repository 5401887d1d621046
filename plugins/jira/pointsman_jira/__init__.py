"""Jira Cloud issues for Pointsman."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Tracker, hookimpl
from pointsman_jira.tracker import JiraTracker

__all__ = ["JiraTracker", "pointsman_register_trackers"]


@hookimpl
def pointsman_register_trackers(register: Callable[[type[Tracker]], None]) -> None:
    """Register the tracker kind ``jira``."""
    register(JiraTracker)
