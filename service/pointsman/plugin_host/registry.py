"""Find plugins by entry point, check what they are, and refuse a broken one by its name while the rest goes on."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from pointsman import sources
from pointsman.plugin_api import API_VERSION, PluginSettings, Source, Tracker, hookspecs

GROUP = "pointsman"


class PluginStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one plugin."""

    name: str
    origin: str
    version: str
    trackers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    refused: str = ""
    """Why it was refused, empty if it was not."""


class Registry:
    """The trackers and sources that are installed and fit."""

    def __init__(self) -> None:
        self.trackers: dict[str, type[Tracker]] = {}
        self.sources: dict[str, type[Source]] = {}
        self.statuses: list[PluginStatus] = []

    @classmethod
    def load(
        cls, found: Iterable[EntryPoint] | None = None, *, allow: Iterable[str] | None = None
    ) -> Registry:
        """Our own sources, then every plugin found; with ``allow``, only plugins of those names are imported."""
        registry = cls()
        registry.add("built in", "pointsman", _version("pointsman"), sources)
        wanted = None if allow is None else set(allow)
        points = entry_points(group=GROUP) if found is None else found
        for point in sorted(points, key=lambda one: one.name):
            origin, version = _origin(point)
            if wanted is not None and point.name not in wanted:
                registry.refuse(point.name, origin, version, "is not on the list of allowed plugins")
                continue
            try:
                module = point.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's code does
                registry.refuse(
                    point.name, origin, version, f"can't be imported: {type(error).__name__}: {error}"
                )
                continue
            registry.add(point.name, origin, version, module)
        return registry

    def modules(self) -> dict[str, str]:
        """Which kind of tracker each plugin's top module brings."""
        return {one.__module__.partition(".")[0]: kind for kind, one in self.trackers.items()}

    def refuse(self, name: str, origin: str, version: str, why: str) -> None:
        """Remember that a plugin is not used, and why."""
        self.statuses.append(PluginStatus(name=name, origin=origin, version=version, refused=why))

    def add(self, name: str, origin: str, version: str, module: ModuleType) -> None:
        """Take what a plugin registers, all of it or nothing."""
        manager = pluggy.PluginManager("pointsman")
        manager.add_hookspecs(hookspecs)
        trackers: list[Any] = []
        kinds: list[Any] = []
        try:
            manager.register(module, name)
            manager.check_pending()
            manager.hook.pointsman_register_trackers(register=trackers.append)
            manager.hook.pointsman_register_sources(register=kinds.append)
            taken: dict[str, Any] = dict(self.trackers)
            for one in trackers:
                _check(one, Tracker, taken)
                taken[one.kind] = one
            taken = dict(self.sources)
            for one in kinds:
                _check(one, Source, taken)
                taken[one.kind] = one
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's code does, the rest goes on
            self.refuse(name, origin, version, str(error) or type(error).__name__)
            return
        if not trackers and not kinds:
            self.refuse(name, origin, version, "registers neither a tracker nor a source")
            return
        self.trackers.update({one.kind: one for one in trackers})
        self.sources.update({one.kind: one for one in kinds})
        self.statuses.append(
            PluginStatus(
                name=name,
                origin=origin,
                version=version,
                trackers=tuple(one.kind for one in trackers),
                sources=tuple(one.kind for one in kinds),
            )
        )


def _check(one: Any, base: type, taken: dict[str, Any]) -> None:
    if not (inspect.isclass(one) and issubclass(one, base)):
        raise TypeError(f"registers {one!r}, which is no {base.__name__} class")
    said = one.__name__
    version = getattr(one, "api_version", None)
    if version != API_VERSION:
        raise ValueError(
            f"{said} is written for version {version} of the plugin contract; this is {API_VERSION}"
        )
    kind = getattr(one, "kind", None)
    if (
        not isinstance(kind, str)
        or not kind.isascii()
        or not kind.replace("-", "").replace("_", "").isalnum()
    ):
        raise ValueError(f"{said}.kind must be a short word, not {kind!r}")
    if kind in taken:
        raise ValueError(f"{said}.kind {kind!r} is taken by {taken[kind].__module__}")
    settings = getattr(one, "Settings", None)
    if not (inspect.isclass(settings) and issubclass(settings, PluginSettings)):
        raise ValueError(f"{said}.Settings must be a PluginSettings class")
    if missing := sorted(getattr(one, "__abstractmethods__", ())):
        raise ValueError(f"{said} lacks {', '.join(missing)}")
    if not isinstance(getattr(one, "title", None), str):
        raise TypeError(f"{said}.title must be the name people know it by")
    if base is Tracker and not hasattr(one, "capabilities"):
        raise ValueError(f"{said} lacks capabilities")
    if base is Source and getattr(one, "ticket_kind", None) not in ("alert", "support"):
        raise ValueError(f"{said}.ticket_kind must be alert or support")


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("?", "?")


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only here

    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
