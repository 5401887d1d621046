"""The conformance kit bites: a right plugin passes, and each wrong one fails where it is wrong, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pointsman.testing.conformance import ConformanceSuite
from pointsman.testing.conformance.hostile_texts import TEXTS
from pointsman.testing.conformance.operations import OPERATIONS

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
# the suite runs its own loops: it needs none of the plugins for asyncio
PLUGINS = ("-p", "no:asyncio", "-p", "no:aiohttp")
CLASS = """
class Test{name}(ConformanceSuite):
    @pytest.fixture
    def tracker_case(self):
        return TrackerCase(tracker={module}.{name}, double=right_plugin.ShelfDouble)
"""


@pytest.fixture
def run(pytester):
    """Run the suite for these trackers; gives the cards by the tracker's class."""

    def run(*names, options=()):
        for module in ("right_plugin", "wrong_plugin"):
            (pytester.path / f"{module}.py").write_text((HERE / f"{module}.py").read_text("utf-8"), "utf-8")
        pytester.syspathinsert()
        lines = [
            "import pytest, right_plugin, wrong_plugin",
            "from pointsman.testing.conformance import ConformanceSuite, TrackerCase",
        ]
        for name in names:
            module = "right_plugin" if name == "ShelfTracker" else "wrong_plugin"
            lines.append(CLASS.format(name=name, module=module))
        pytester.makepyfile(test_it="\n".join(lines))
        result = pytester.runpytest_inprocess(*PLUGINS, "--pointsman-report=card.json", "-q", *options)
        cards = json.loads((pytester.path / "card.json").read_text("utf-8"))["trackers"]
        return {card["class"].rpartition(".")[2]: card for card in cards}, result

    return run


def each(test, parameters):
    return {f"{test}[{item}]" for item in parameters}


NO_MARKER = {
    *each("test_a_title_stays_one_line", TEXTS),
    *each("test_a_body_hides_no_marker", TEXTS),
    *each("test_a_comment_hides_no_marker", TEXTS),
    # these two fail without faults already, so no fault is injected
    *each("test_trouble_is_named_rightly", ["find_issue", "find_comment"]),
    *each("test_trouble_leaves_one_effect", ["create", "comment"]),
    "test_issues_are_found_by_their_marker",
    "test_a_copy_is_not_ours",
    "test_a_quoted_marker_does_not_count",
    "test_comments_are_added_and_found",
    "test_an_update_keeps_the_rest",
}
# wrong plugin: exactly the tests that fail
WRONG = {
    "RetriesInside": {
        "test_nothing_is_retried[create]",
        "test_trouble_leaves_one_effect[create]",
        "test_trouble_is_named_rightly[create]",  # it returns the second issue as if it were the only one
    },
    "NoMarker": NO_MARKER,
    "LeaksItsToken": each("test_trouble_shows_no_secret", OPERATIONS),
    "CallsATimeOutRefused": {
        "test_trouble_is_named_rightly[create]",
        "test_trouble_leaves_one_effect[create]",
    },
    "AcceptsAnEmptySecret": {
        "test_other_secrets_do_not_verify",
        "test_an_unsigned_webhook_never_verifies",
    },
    "ReadsNoGarbage": {"test_hostile_bodies_come_to_a_decision"},
    "Toggles": {
        *each("test_a_state_is_set_once", ["closed", "open"]),
        *each("test_trouble_leaves_one_effect", ["close", "reopen"]),
    },
}
ALL_WRONG = set().union(*WRONG.values()) - each(
    "test_trouble_shows_no_secret", ["find_issue", "find_comment"]
)


@pytest.mark.slow
def test_a_right_plugin_gets_an_a(run):
    cards, result = run("ShelfTracker")
    card = cards["ShelfTracker"]
    assert card["tests"]["failed"] == []
    assert (card["grade"], card["kind"], card["remarks"]) == ("A", "shelf", [])
    assert card["cells"]["run"] == card["cells"]["passed"] > 250
    assert result.ret == 0
    result.stdout.fnmatch_lines(["tracker *version *grade", "shelf * yes * yes * yes * A"])


@pytest.mark.slow
def test_each_wrong_plugin_fails_where_it_is_wrong(run):
    cards, result = run(*WRONG)
    assert cards.keys() == WRONG.keys()
    for name, card in cards.items():
        assert (name, set(card["tests"]["failed"])) == (name, WRONG[name])
        assert card["grade"] == "F"
    assert result.ret == 1


@pytest.mark.slow
def test_a_plugin_that_is_wrong_in_all_ways_hides_none_of_them(run):
    cards, result = run("AllWrong")
    assert set(cards["AllWrong"]["tests"]["failed"]) == ALL_WRONG
    # the kit tells of a leak and does not leak itself
    assert "canary" not in result.stdout.str()


def test_a_run_that_leaves_tests_out_is_not_graded(run):
    cards, result = run("ShelfTracker", options=["-k", "capabilities"])
    assert cards["ShelfTracker"]["grade"] == "?"
    assert result.ret == 0
    result.stdout.fnmatch_lines(["shelf: not graded: * tests of the suite were left out"])


PLAIN = """
import pytest, right_plugin
from pointsman.testing.conformance import ConformanceSuite, TrackerCase, WebhookCall

class Tracker(right_plugin.ShelfTracker):
    @classmethod
    def verify_webhook(cls, headers, body, secrets):
        given = headers.get("x-shelf-secret", "").encode("utf-8", "replace")
        return given.startswith(b"form-") and given in secrets

class Double(right_plugin.ShelfDouble):
    async def webhook(self, remote_id, state, secret):
        call = await super().webhook(remote_id, state, secret)
        return WebhookCall(headers={{"X-Shelf-Secret": secret, "X-Shelf-Id": call.headers["X-Shelf-Id"]}}, body=call.body)

class TestPlain(ConformanceSuite):
    @pytest.fixture
    def tracker_case(self):
        return TrackerCase(tracker=Tracker, double=Double, webhook_secret="form-canary", body_signed={signed})
"""


@pytest.mark.parametrize("signed", [False, True])
def test_a_body_that_nothing_vouches_for_has_to_be_said(pytester, signed):
    (pytester.path / "right_plugin.py").write_text((HERE / "right_plugin.py").read_text("utf-8"), "utf-8")
    pytester.syspathinsert()
    pytester.makepyfile(test_it=PLAIN.format(signed=signed))
    options = ("-q", "-k", "webhook or verif", "--pointsman-report=card.json")
    pytester.runpytest_inprocess(*PLUGINS, *options)
    [card] = json.loads((pytester.path / "card.json").read_text("utf-8"))["trackers"]
    assert card["tests"]["failed"] == (["test_other_secrets_do_not_verify"] if signed else [])
    assert card["tests"]["passed"] >= 5
    assert ("webhooks: the body is not signed" in card["remarks"]) is not signed


def test_the_page_names_every_test_and_its_example_runs(pytester):
    page = (HERE.parents[2] / "docs" / "conformance.md").read_text("utf-8")
    wanted = {name for name in dir(ConformanceSuite) if name.startswith("test_")}
    assert set(re.findall(r"^\| `(test_\w+)` \|", page, re.MULTILINE)) == wanted
    example, means = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shelf = (HERE / "right_plugin.py").read_text("utf-8")
    numbers = (
        "\n    calls = 0\n    def next_call(self):\n        self.calls += 1\n        return str(self.calls)\n"
    )
    pytester.makepyfile(
        right_plugin=shelf,
        pointsman_shelf="from right_plugin import ShelfTracker",
        fake_shelf=f"import right_plugin\nclass FakeShelf(right_plugin.FakeShelf):{numbers}",
        test_conformance=example,
        test_means=means + "\ndef test_means():\n    assert CASE.accepted_outcomes",
    )
    pytester.syspathinsert()
    chosen = "means or Conformance and not trouble and not retried"
    result = pytester.runpytest_inprocess(*PLUGINS, "-q", "-k", chosen)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed", "deselected"}
    assert outcomes["passed"] > 100


def test_the_card_is_the_same_from_several_processes(run):
    """pytest-xdist takes from its workers what can be sent: plain values."""
    few = ("-k", "named_rightly and reopen")
    cards, _ = run("ShelfTracker", options=few)
    spread, _ = run("ShelfTracker", options=(*few, "-n", "1"))
    assert spread == cards
