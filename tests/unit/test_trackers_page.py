"""docs/trackers.md says what the plugins declare."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pointsman.plugin_api import Quota, TrackerCapabilities

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("trackers_script", ROOT / "scripts" / "trackers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_makes(script):
    text = script.FILE.read_text("utf-8")
    assert text == script.page(text, script.table(script.ours())), "run: python scripts/trackers.py"


def test_every_plugin_of_the_repository_has_its_row(script):
    folders = {
        file.parent.name
        for file in ROOT.glob("plugins/*/pyproject.toml")
        if "[project.entry-points.pointsman]" in file.read_text("utf-8")
    }
    assert {one.kind for one in script.ours()} == folders


def test_a_row_says_what_is_declared(script):
    class Shelf:
        kind, title = "shelf", "Shelf"
        capabilities = TrackerCapabilities(
            find=True,
            settle_seconds=(0.5, 60.0),
            poll_seconds=5.0,
            quotas=(Quota("issue", 20, 2.5), Quota("all", 80, 60.0)),
        )

    Shelf.__module__ = "pointsman_shelf.tracker"
    row = script.table([Shelf]).splitlines()[-1]
    said = "| no | yes | no | no | 0.5, 60 | 5 | 30 | 20 an issue in 2.5 s, 80 in 60 s |"
    assert row == f"| [Shelf](../plugins/shelf/README.md) (`shelf`) {said}"


def test_a_page_without_its_comments_is_left_alone(script):
    with pytest.raises(LookupError, match="lacks the comments"):
        script.page("# A page", "| a |")


def test_the_table_can_be_printed(script, capsys):
    before = script.FILE.read_text("utf-8")
    script.main(["--print"])
    assert capsys.readouterr().out == script.table(script.ours())
    assert script.FILE.read_text("utf-8") == before
