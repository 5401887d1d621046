"""The report card: what was tried, and a grade with its reasons."""

from __future__ import annotations

import json

import pytest

from pointsman.plugin_api import TrackerCapabilities
from pointsman.testing.report import ReportCard, describe_tracker, table, write_report


class Shelf:
    kind, title, api_version = "shelf", "Shelf", 1
    capabilities = TrackerCapabilities(find=True, webhooks=True, list_changes=True)


def card(*, failed=(), seen=("test_a", "test_b"), unproven=(), **can) -> ReportCard:
    created = ReportCard("test_it.py::TestIt", frozenset({"test_a", "test_b"}))
    kind = type("Kind", (Shelf,), {"capabilities": TrackerCapabilities(**can)}) if can else Shelf
    created.note("tracker", describe_tracker(kind))
    for name in unproven:
        created.note("unproven", name)
    created.seen, created.failed = set(seen), list(failed)
    created.passed = len(created.seen) - len(created.failed)
    return created


def cell(*problems):
    return {"operation": "create", "problems": list(problems)}


@pytest.mark.parametrize(
    ("report_card", "grade", "remarks"),
    [
        (card(), "A", []),
        (
            card(webhooks=True, list_changes=True),
            "B",
            ["no find: a create or comment whose answer was lost waits until a person looks and replays it"],
        ),
        (
            card(find=True, list_changes=True, poll_seconds=300),
            "B",
            ["no webhooks: changes are asked for every 300 s"],
        ),
        (
            card(find=True, webhooks=True),
            "B",
            ["no list_changes: a change whose webhook is lost is never heard of"],
        ),
        (
            card(find=True),
            "B",
            ["no webhooks, no list_changes: what people do on the tracker is never heard of"],
        ),
        (card(unproven=["webhooks"]), "B", ["not shown: webhooks; the double can't play it"]),
        (card(failed=["test_a"]), "F", ["failed: test_a"]),
        (card(failed=["test_a"], seen=["test_a"]), "F", ["failed: test_a"]),
        (card(seen=["test_a"]), "?", ["not graded: 1 tests of the suite were left out"]),
    ],
)
def test_a_grade_has_its_reasons(report_card, grade, remarks):
    assert (report_card.grade, report_card.remarks()) == (grade, remarks)


def test_the_table_shows_cells_and_capabilities():
    created = card()
    created.note("cells", [cell(), cell("says done, and nothing was done")])
    assert table([created, card(failed=["test_a"], find=True)]) == [
        "tracker  version  find  webhooks  list_changes  tests   cells   grade",
        "shelf    ?        yes   yes       yes           2 of 2  1 of 2  A",
        "shelf    ?        yes   no        no            1 of 2  -       F",
        "shelf: failed: test_a",
        "shelf: no webhooks, no list_changes: what people do on the tracker is never heard of",
    ]


def test_the_file_is_for_machines(tmp_path):
    created = card()
    created.note("cells", [cell()])
    created.skipped["test_c"] = "not declared: find"
    write_report(str(tmp_path / "card.json"), [created])
    whole = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert whole["pointsman_conformance"] == 1
    [reported] = whole["trackers"]
    assert (reported["kind"], reported["version"], reported["grade"]) == ("shelf", "?", "A")
    assert reported["capabilities"] == {
        "find": True,
        "webhooks": True,
        "list_changes": True,
        "close_reasons": False,
    }
    assert reported["tests"] == {"passed": 2, "failed": [], "skipped": {"test_c": "not declared: find"}}
    assert reported["cells"] == {"run": 1, "passed": 1, "all": [cell()]}


def test_the_version_is_the_distributions():
    from pointsman_folder import FolderTracker

    assert describe_tracker(FolderTracker)["version"] not in ("", "?")


def test_a_body_that_is_not_signed_is_said():
    created = card()
    created.note("unsigned", True)
    assert (created.grade, created.remarks()) == ("A", ["webhooks: the body is not signed"])
