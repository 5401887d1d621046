"""Find plugins by entry point, check them, and refuse a broken plugin by its name without hurting the others."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from pointsman import sources as built_in_sources
from pointsman.plugin_api import (
    API_VERSION,
    PluginSettings,
    Source,
    SourceCapabilities,
    Tracker,
    TrackerCapabilities,
    hookspecs,
)
from pointsman.plugin_api.capabilities import missing_methods

GROUP = "pointsman"
"""The entry point group of plugins, and the name of the hook markers."""


class PluginStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Result of loading one plugin: its registered kinds, or the reason of its refusal."""

    name: str
    origin: str
    version: str
    trackers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    refused: str = ""
    """Reason of the refusal, empty for a plugin that is in use."""


class Registry:
    """The installed trackers and sources that passed the checks, by kind."""

    def __init__(self) -> None:
        self.trackers: dict[str, type[Tracker]] = {}
        self.sources: dict[str, type[Source]] = {}
        self.statuses: list[PluginStatus] = []
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def load(
        cls, points: Iterable[EntryPoint] | None = None, *, allow: Iterable[str] | None = None
    ) -> Registry:
        """Register the built-in sources, then every plugin that has an entry point.

        ``points`` replaces the entry points of the installed distributions. With ``allow``, only plugins of those
        names are imported.
        """
        registry = cls()
        registry.add("built in", "pointsman", _own_version(), built_in_sources)
        allowed = None if allow is None else set(allow)
        for point in sorted(
            entry_points(group=GROUP) if points is None else points, key=lambda point: point.name
        ):
            origin, version = _origin(point)
            if allowed is not None and point.name not in allowed:
                registry.refuse(point.name, origin, version, "is not on the list of allowed plugins")
                continue
            try:
                module = point.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the import runs code of third parties
                registry.refuse(
                    point.name, origin, version, f"can't be imported: {type(error).__name__}: {error}"
                )
                continue
            registry.add(point.name, origin, version, module)
        return registry

    def modules(self) -> dict[str, str]:
        """Return the kind of tracker that each plugin's top-level module provides."""
        return {tracker.__module__.partition(".")[0]: kind for kind, tracker in self.trackers.items()}

    def refuse(self, name: str, origin: str, version: str, reason: str) -> None:
        """Record that a plugin is not used, and why."""
        self.statuses.append(PluginStatus(name=name, origin=origin, version=version, refused=reason))

    def add(self, name: str, origin: str, version: str, module: ModuleType) -> None:
        """Register everything that a plugin offers, or refuse the plugin as a whole."""
        try:
            trackers, sources = self._collect(name, module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - hooks run code of third parties
            self._unregister(name)
            self.refuse(name, origin, version, str(error) or type(error).__name__)
            return
        self.trackers |= trackers
        self.sources |= sources
        self.statuses.append(
            PluginStatus(
                name=name, origin=origin, version=version, trackers=tuple(trackers), sources=tuple(sources)
            )
        )

    def _collect(self, name: str, module: ModuleType) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the checked trackers and sources of one plugin, by kind. Raises any exception if the plugin is invalid."""
        self._manager.register(module, name)
        self._manager.check_pending()
        other_plugins = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
        trackers: list[Any] = []
        sources: list[Any] = []
        call = self._manager.subset_hook_caller
        call("pointsman_register_trackers", other_plugins)(register=trackers.append)
        call("pointsman_register_sources", other_plugins)(register=sources.append)
        if not trackers and not sources:
            raise ValueError("registers neither a tracker nor a source")
        return _by_kind(trackers, Tracker, self.trackers), _by_kind(sources, Source, self.sources)

    def _unregister(self, name: str) -> None:
        module = self._manager.get_plugin(name)
        if module is not None:
            self._manager.unregister(module, name)


def _by_kind(classes: Iterable[Any], base: type, registered: dict[str, Any]) -> dict[str, Any]:
    """Check classes of one plugin and return them by kind. Raises TypeError or ValueError with what is wrong."""
    by_kind: dict[str, Any] = {}
    for plugin_class in classes:
        _check(plugin_class, base, registered | by_kind)
        by_kind[plugin_class.kind] = plugin_class
    return by_kind


def _check(plugin_class: Any, base: type, registered: dict[str, Any]) -> None:
    if not (inspect.isclass(plugin_class) and issubclass(plugin_class, base)):
        raise TypeError(f"registers {plugin_class!r}, which is no {base.__name__} class")
    name = plugin_class.__name__
    version = getattr(plugin_class, "api_version", None)
    if version != API_VERSION:
        raise ValueError(
            f"{name} is written for version {version} of the plugin contract; this is {API_VERSION}"
        )
    kind = getattr(plugin_class, "kind", None)
    if (
        not isinstance(kind, str)
        or not kind.isascii()
        or not kind.replace("-", "").replace("_", "").isalnum()
    ):
        raise ValueError(f"{name}.kind must be a short word, not {kind!r}")
    if kind in registered:
        raise ValueError(f"{name}.kind {kind!r} is taken by {registered[kind].__module__}")
    settings = getattr(plugin_class, "Settings", None)
    if not (inspect.isclass(settings) and issubclass(settings, PluginSettings)):
        raise ValueError(f"{name}.Settings must be a PluginSettings class")
    if missing := sorted(getattr(plugin_class, "__abstractmethods__", ())):
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    if not isinstance(getattr(plugin_class, "title", None), str):
        raise TypeError(f"{name}.title must be the name people know it by")
    _check_capabilities(plugin_class, base)
    if base is Source and getattr(plugin_class, "ticket_kind", None) not in ("alert", "support"):
        raise ValueError(f"{name}.ticket_kind must be alert or support")


def _check_capabilities(plugin_class: Any, base: type) -> None:
    name = plugin_class.__name__
    declared = TrackerCapabilities if base is Tracker else SourceCapabilities
    if not isinstance(plugin_class.capabilities, declared):
        raise TypeError(f"{name}.capabilities must be a {declared.__name__}")
    if missing := missing_methods(plugin_class, base, plugin_class.capabilities):
        raise ValueError(f"{name} declares capabilities and lacks their methods: {', '.join(missing)}")


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("?", "?")


def _own_version() -> str:
    try:
        return version_of("pointsman")
    except PackageNotFoundError:
        return "?"
