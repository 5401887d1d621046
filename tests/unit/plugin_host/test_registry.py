"""A broken plugin is refused by name with the cause; all other plugins are loaded."""

from types import ModuleType, SimpleNamespace

import pytest

from pointsman import plugin_api as api
from pointsman.plugin_host.registry import Registry
from pointsman.sources import KINDS

OURS = ["alertmanager", "bugsink", "cloudevents", "generic", "sentry", "tickets"]


class Fine(api.Tracker):
    """A tracker with nothing wrong."""

    kind, title, api_version = "fine", "Fine", api.API_VERSION
    Settings = api.PluginSettings
    capabilities = api.TrackerCapabilities()

    async def create_issue(self, draft):
        raise NotImplementedError

    async def add_comment(self, issue, body, marker):
        raise NotImplementedError

    async def set_state(self, issue, state, reason):
        raise NotImplementedError


class FineSource(api.Source):
    """A source with nothing wrong."""

    kind, title, api_version = "fine-source", "Fine", api.API_VERSION
    Settings = api.PluginSettings
    ticket_kind = "alert"

    def read_report(self, headers, body, decoded):
        return []


def variant(base=Fine, **changed):
    return type("Odd", (base,), {"kind": "odd", **changed})


def module(*trackers, sources=(), **more):
    """A plugin's module with its two hooks."""
    plugin = ModuleType("some_plugin")

    @api.hookimpl
    def pointsman_register_trackers(register):
        for tracker in trackers:
            register(tracker)

    @api.hookimpl
    def pointsman_register_sources(register):
        for source in sources:
            register(source)

    plugin.pointsman_register_trackers = pointsman_register_trackers
    plugin.pointsman_register_sources = pointsman_register_sources
    vars(plugin).update(more)
    return plugin


class Point:
    """An entry point that gives a module, or fails to."""

    def __init__(self, name, loads):
        self.name = name
        self.dist = SimpleNamespace(name=f"pointsman-{name}", version="1.2")
        self.loads = loads
        self.loaded = False

    def load(self):
        self.loaded = True
        if isinstance(self.loads, BaseException):
            raise self.loads
        return self.loads


def load(*points, **more):
    return Registry.load(points, **more)


def status_of(registry, name):
    (status,) = [status for status in registry.statuses if status.name == name]
    return status


def test_our_own_sources_are_there_without_any_plugin():
    registry = load()
    assert sorted(registry.sources) == OURS
    assert set(registry.sources.values()) == set(KINDS)
    assert registry.trackers == {}
    assert status_of(registry, "built in").refused == ""


def test_a_plugin_may_bring_trackers_and_sources():
    registry = load(Point("some", module(Fine, sources=[FineSource])))
    assert (registry.trackers, registry.sources["fine-source"]) == ({"fine": Fine}, FineSource)
    status = status_of(registry, "some")
    assert (status.trackers, status.sources, status.refused) == (("fine",), ("fine-source",), "")
    assert (status.origin, status.version) == ("pointsman-some", "1.2")


def test_a_plugin_with_one_of_the_two_hooks_is_enough():
    plugin = module(Fine)
    del plugin.pointsman_register_sources
    assert load(Point("some", plugin)).trackers == {"fine": Fine}


def raising(error):
    plugin = ModuleType("some_plugin")

    @api.hookimpl
    def pointsman_register_trackers(register):
        register(Fine)
        raise error

    plugin.pointsman_register_trackers = pointsman_register_trackers
    return plugin


def misspelt():
    plugin = module(Fine)

    @api.hookimpl
    def pointsman_register_tracker(register):
        register(Fine)

    plugin.pointsman_register_tracker = pointsman_register_tracker
    return plugin


BROKEN = {
    "import": (ImportError("no module named jira"), ["imported", "ImportError", "no module named jira"]),
    "syntax": (SyntaxError("bad"), ["imported", "SyntaxError"]),
    "exit": (SystemExit(1), ["imported", "SystemExit"]),
    "hook": (raising(RuntimeError("half done")), ["half done"]),
    "exiting-hook": (raising(SystemExit("goodbye")), ["goodbye"]),
    "twins": (module(variant(kind="twin"), variant(kind="twin")), ["twin", "taken"]),
    "no-title": (module(variant(title=None)), ["title"]),
    "silent-hook": (raising(KeyError()), ["KeyError"]),
    "misspelt-hook": (misspelt(), ["pointsman_register_tracker"]),
    "nothing": (module(), ["neither"]),
    "no-module": (None, []),
    "older": (module(variant(api_version=0)), ["version 0", str(api.API_VERSION)]),
    "newer": (module(variant(api_version=2)), ["version 2"]),
    "no-version": (module(variant(api_version=None)), ["version"]),
    "instance": (module("not a class"), ["not a class", "Tracker"]),
    "other-class": (module(dict), ["dict", "Tracker"]),
    "source-as-tracker": (module(FineSource), ["FineSource", "Tracker"]),
    "tracker-as-source": (module(sources=[Fine]), ["Fine", "Source"]),
    "lacks": (
        module(variant(api.Tracker, kind="x", api_version=1, Settings=api.PluginSettings)),
        ["create_issue"],
    ),
    "no-kind": (module(variant(kind=None)), ["kind"]),
    "odd-kind": (module(variant(kind="a b/c")), ["kind", "a b/c"]),
    "empty-kind": (module(variant(kind="")), ["kind"]),
    "settings": (module(variant(Settings=dict)), ["Settings"]),
    "ticket-kind": (module(sources=[variant(FineSource, ticket_kind="incident")]), ["ticket_kind", "alert"]),
    "taken": (
        module(sources=[variant(FineSource, kind="bugsink")]),
        ["bugsink", "pointsman.sources.bugsink.source"],
    ),
}


@pytest.mark.parametrize(("loads", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_refused_by_name_with_the_cause_and_the_others_are_loaded(loads, expected):
    registry = load(
        Point("a-first", module(Fine)), Point("broken", loads), Point("z-last", module(sources=[FineSource]))
    )
    refused = status_of(registry, "broken")
    assert refused.refused
    assert (refused.origin, refused.trackers, refused.sources) == ("pointsman-broken", (), ())
    for word in expected:
        assert word in refused.refused
    assert set(registry.trackers) == {"fine"}
    assert set(registry.sources) == {*OURS, "fine-source"}
    assert [status.name for status in registry.statuses if status.refused] == ["broken"]


def test_nothing_is_taken_from_a_plugin_that_is_half_broken():
    registry = load(Point("broken", module(Fine, variant(kind=None), sources=[FineSource])))
    assert registry.trackers == {}
    assert "fine-source" not in registry.sources


def test_of_two_plugins_with_the_same_kind_the_first_by_name_wins_whatever_their_order():
    for points in (("a", "b"), ("b", "a")):
        plugins = {name: variant(kind="fine") for name in points}
        registry = load(*(Point(name, module(plugins[name])) for name in points))
        assert registry.trackers == {"fine": plugins["a"]}
        assert "fine" in status_of(registry, "b").refused


def test_what_is_not_on_the_list_of_allowed_plugins_is_not_even_imported():
    points = [Point("good", module(Fine)), Point("other", ImportError("ran"))]
    registry = load(*points, allow=["good"])
    assert [point.loaded for point in points] == [True, False]
    assert registry.trackers == {"fine": Fine}
    assert "allowed" in status_of(registry, "other").refused
    assert "bugsink" in load(*points, allow=[]).sources


def test_without_a_list_every_plugin_is_imported():
    points = [Point("good", module(Fine)), Point("other", module(sources=[FineSource]))]
    load(*points)
    assert all(point.loaded for point in points)


def test_a_plugin_of_no_distribution_is_taken_too():
    point = Point("loose", module(Fine))
    point.dist = None
    assert status_of(load(point), "loose").origin == "?"
