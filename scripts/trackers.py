# ruff: noqa: INP001 - run by its path
"""Write the table of docs/trackers.md: what each tracker can do, as its plugin declares it. ``python scripts/trackers.py``.

With ``--print`` the table is printed and no file is changed. The plugins are those of this repository, installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pointsman.plugin_api import Budget, Tracker
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
    """The trackers of the plugins in this repository, by their kind. Raises LookupError if one can't be used."""
    names = sorted(
        file.parent.name
        for file in ROOT.glob("plugins/*/pyproject.toml")
        if "[project.entry-points.pointsman]" in file.read_text("utf-8")
    )
    registry = Registry.load(allow=names)
    unfit = {one.name: one.refused for one in registry.standing if one.name in names and one.refused}
    missing = set(names) - {one.name for one in registry.standing} | unfit.keys()
    if missing:
        raise LookupError(
            ", ".join(f"{name}: {unfit.get(name, 'not installed')}" for name in sorted(missing))
        )
    return [registry.trackers[kind] for kind in sorted(registry.trackers)]


def table(trackers: Iterable[type[Tracker]]) -> str:
    """A row for each tracker."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(one) for one in trackers)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(tracker: type[Tracker]) -> tuple[str, ...]:
    can = tracker.capabilities
    folder = tracker.__module__.partition(".")[0].removeprefix("pointsman_")
    abilities = (can.webhooks, can.find, can.list_changes, can.close_reasons)
    return (
        f"[{tracker.title}](../plugins/{folder}/README.md) (`{tracker.kind}`)",
        *("yes" if one else "no" for one in abilities),
        ", ".join(f"{one:g}" for one in can.settle_seconds) or "-",
        f"{can.poll_seconds:g}",
        f"{can.request_timeout_seconds:g}",
        ", ".join(_budget(one) for one in can.budgets) or "-",
    )


def _budget(one: Budget) -> str:
    whose = " an issue" if one.scope.startswith("issue") else ""
    return f"{one.calls}{whose} in {one.seconds:g} s"


def page(text: str, made: str) -> str:
    """The page with the table in its place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise LookupError(f"{FILE.name} lacks the comments between which the table stands")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def main(words: list[str]) -> None:
    """Write the page, or print the table."""
    made = table(ours())
    if words == ["--print"]:
        sys.stdout.write(made)
    elif words:
        sys.exit("usage: python scripts/trackers.py [--print]")
    else:
        FILE.write_text(page(FILE.read_text("utf-8"), made), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
