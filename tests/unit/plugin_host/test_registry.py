"""Plugins: a broken one is refused by its name with the cause, and all others are loaded."""

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
    made = ModuleType("some_plugin")

    @api.hookimpl
    def pointsman_register_trackers(register):
        for one in trackers:
            register(one)

    @api.hookimpl
    def pointsman_register_sources(register):
        for one in sources:
            register(one)

    made.pointsman_register_trackers = pointsman_register_trackers
    made.pointsman_register_sources = pointsman_register_sources
    vars(made).update(more)
    return made


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


def standing(registry, name):
    (one,) = [one for one in registry.statuses if one.name == name]
    return one


def test_our_own_sources_are_there_without_any_plugin():
    registry = load()
    assert sorted(registry.sources) == OURS
    assert set(registry.sources.values()) == set(KINDS)
    assert registry.trackers == {}
    assert standing(registry, "built in").refused == ""


def test_a_plugin_may_bring_trackers_and_sources():
    registry = load(Point("some", module(Fine, sources=[FineSource])))
    assert (registry.trackers, registry.sources["fine-source"]) == ({"fine": Fine}, FineSource)
    one = standing(registry, "some")
    assert (one.trackers, one.sources, one.refused) == (("fine",), ("fine-source",), "")
    assert (one.origin, one.version) == ("pointsman-some", "1.2")


def test_a_plugin_with_one_of_the_two_hooks_is_enough():
    made = module(Fine)
    del made.pointsman_register_sources
    assert load(Point("some", made)).trackers == {"fine": Fine}


def raising(error):
    made = ModuleType("some_plugin")

    @api.hookimpl
    def pointsman_register_trackers(register):
        register(Fine)
        raise error

    made.pointsman_register_trackers = pointsman_register_trackers
    return made


def misspelt():
    made = module(Fine)

    @api.hookimpl
    def pointsman_register_tracker(register):
        register(Fine)

    made.pointsman_register_tracker = pointsman_register_tracker
    return made


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


@pytest.mark.parametrize(("loads", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_refused_by_name_with_the_cause_and_the_others_are_loaded(loads, words):
    registry = load(
        Point("a-first", module(Fine)), Point("broken", loads), Point("z-last", module(sources=[FineSource]))
    )
    refused = standing(registry, "broken")
    assert refused.refused
    assert (refused.origin, refused.trackers, refused.sources) == ("pointsman-broken", (), ())
    for word in words:
        assert word in refused.refused
    assert set(registry.trackers) == {"fine"}
    assert set(registry.sources) == {*OURS, "fine-source"}
    assert [one.name for one in registry.statuses if one.refused] == ["broken"]


def test_nothing_is_taken_from_a_plugin_that_is_half_broken():
    registry = load(Point("broken", module(Fine, variant(kind=None), sources=[FineSource])))
    assert registry.trackers == {}
    assert "fine-source" not in registry.sources


def test_of_two_plugins_with_the_same_kind_the_first_by_name_wins_whatever_their_order():
    for points in (("a", "b"), ("b", "a")):
        made = {name: variant(kind="fine") for name in points}
        registry = load(*(Point(name, module(made[name])) for name in points))
        assert registry.trackers == {"fine": made["a"]}
        assert "fine" in standing(registry, "b").refused


def test_what_is_not_on_the_list_of_allowed_plugins_is_not_even_imported():
    points = [Point("good", module(Fine)), Point("other", ImportError("ran"))]
    registry = load(*points, allow=["good"])
    assert [point.loaded for point in points] == [True, False]
    assert registry.trackers == {"fine": Fine}
    assert "allowed" in standing(registry, "other").refused
    assert "bugsink" in load(*points, allow=[]).sources


def test_without_a_list_every_plugin_is_imported():
    points = [Point("good", module(Fine)), Point("other", module(sources=[FineSource]))]
    load(*points)
    assert all(point.loaded for point in points)


def test_a_plugin_of_no_distribution_is_taken_too():
    point = Point("loose", module(Fine))
    point.dist = None
    assert standing(load(point), "loose").origin == "?"
