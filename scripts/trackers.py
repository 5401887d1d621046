# ruff: noqa: INP001 - run by its path
"""Write the table of docs/trackers.md: what each tracker can do, as its plugin declares it. ``python scripts/trackers.py``.

With ``--print`` the table is printed and no file is changed. The plugins are those of this repository, installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pointsman.plugin_api import Quota, Tracker
from pointsman.plugin_host.registry import Registry

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "trackers.md"
BEGIN = "<!-- made by scripts/trackers.py; not edited by hand -->"
END = "<!-- end of what scripts/trackers.py made -->"
HEAD = (
    "tracker",
    "webhooks",
    "find",
    "list changes",
    "close reasons",
    "settle seconds",
    "poll seconds",
    "request timeout",
    "writes",
)


def ours() -> list[type[Tracker]]:
    """Return the trackers of the plugins in this repository, sorted by kind. Raises LookupError if a plugin is unusable."""
    names = sorted(
        file.parent.name
        for file in ROOT.glob("plugins/*/pyproject.toml")
        if "[project.entry-points.pointsman]" in file.read_text("utf-8")
    )
    registry = Registry.load(allow=names)
    refused = {
        status.name: status.refused for status in registry.statuses if status.name in names and status.refused
    }
    missing = set(names) - {status.name for status in registry.statuses} | refused.keys()
    if missing:
        raise LookupError(
            ", ".join(f"{name}: {refused.get(name, 'not installed')}" for name in sorted(missing))
        )
    return [registry.trackers[kind] for kind in sorted(registry.trackers)]


def table(trackers: Iterable[type[Tracker]]) -> str:
    """Return the table with a row for each tracker."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(tracker) for tracker in trackers)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(tracker: type[Tracker]) -> tuple[str, ...]:
    can = tracker.capabilities
    folder = tracker.__module__.partition(".")[0].removeprefix("pointsman_")
    abilities = (can.webhooks, can.find, can.list_changes, can.close_reasons)
    return (
        f"[{tracker.title}](../plugins/{folder}/README.md) (`{tracker.kind}`)",
        *("yes" if ability else "no" for ability in abilities),
        ", ".join(f"{seconds:g}" for seconds in can.settle_seconds) or "-",
        f"{can.poll_seconds:g}",
        f"{can.request_timeout_seconds:g}",
        ", ".join(_quota(quota) for quota in can.quotas) or "-",
    )


def _quota(quota: Quota) -> str:
    scope = " an issue" if quota.scope.startswith("issue") else ""
    return f"{quota.calls}{scope} in {quota.seconds:g} s"


def page(text: str, new_table: str) -> str:
    """Return the page with the new table."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise LookupError(f"{FILE.name} lacks the comments around the table")
    return f"{before}{BEGIN}\n\n{new_table}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Write the page, or print the table."""
    new_table = table(ours())
    if arguments == ["--print"]:
        sys.stdout.write(new_table)
    elif arguments:
        sys.exit("usage: python scripts/trackers.py [--print]")
    else:
        FILE.write_text(page(FILE.read_text("utf-8"), new_table), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
