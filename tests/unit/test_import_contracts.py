"""The allow list for imports of plugins and sources really catches everything."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

import pytest
from grimp import ImportGraph

ROOT = Path(__file__).parents[2]


@pytest.fixture
def contract(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("scripts.import_contracts", None)
    from scripts.import_contracts import AllowListContract

    return AllowListContract(
        name="x",
        session_options={},
        contract_options={
            "importers": ["plugin"],
            "except_importers": ["plugin.testing"],
            "allowed": ["core.api"],
            "project": ["core", "plugin", "other_plugin"],
        },
    )


@pytest.mark.parametrize(
    ("importer", "imported", "kept"),
    [
        ("plugin", "core.api", True),
        ("plugin.deep.inside", "core.api.values", True),
        ("plugin", "plugin.deep", True),
        ("plugin", "aiohttp", True),
        ("plugin.testing", "core.storage", True),
        ("plugin", "core", False),
        ("plugin", "core.apis", False),
        ("plugin.deep.inside", "core.storage", False),
        ("plugin.deep.inside", "other_plugin", False),
        ("plugin.deep", "plugin.testing.double", False),
    ],
)
def test_only_what_is_listed_may_be_imported(contract, importer, imported, kept):
    graph = ImportGraph()
    for module in ("plugin", "plugin.deep", "plugin.deep.inside", "plugin.testing", "plugin.testing.double"):
        graph.add_module(module)
    graph.add_import(importer=importer, imported=imported, line_number=7, line_contents="import x")
    check = contract.check(graph, verbose=False)
    assert check.kept is kept
    assert check.metadata["violations"] == ([] if kept else [(importer, imported, 7)])


def test_every_plugin_has_an_allow_list():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    roots = config["importlinter"]["root_packages"].split()
    plugins = [root for root in roots if root != "pointsman"]
    assert {f"pointsman_{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml")} - set(
        plugins
    ) == {
        "pointsman_bugsink-messaging"  # runs inside Bugsink
    }
    lists = [dict(section) for section in config.values() if section.get("type") == "allow_list"]
    assert all(section["project"].split() == roots for section in lists)
    importers = {
        name: section["allowed"].split() for section in lists for name in section["importers"].split()
    }
    assert all(importers[name] == ["pointsman.plugin_api"] for name in [*plugins, "pointsman.sources"])
