"""The oracle detects each kind of violation and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import AcceptedReports, Effect, Verdict, effects

pytestmark = pytest.mark.faults


def issue(order: int, key: str = "1", marker: str = "m1") -> Effect:
    return Effect("there", "issue", key, marker, f"Order {order} fails")


def note(order: int, number: int, key: str = "1") -> Effect:
    return Effect(
        "there", "comment", key, f"n{order}-{number}", f"Ada wrote: Note {number} on order {order}."
    )


def state(name: str, key: str = "1") -> Effect:
    return Effect("there", "state", key, "", name)


@pytest.fixture
def accepted_reports() -> AcceptedReports:
    """Return two notes on order 7, closed and reopened between them, and an alert for order 8."""
    reports = AcceptedReports()
    reports.opened(7)
    for change in ("note 1", "closed", "open", "note 2"):
        reports.updated(7, change)
    reports.opened(8)
    return reports


GOOD = [issue(7), issue(8, "2", "m2"), note(7, 1), state("closed"), state("open"), note(7, 2)]


def test_all_is_well(accepted_reports: AcceptedReports):
    verdict = Verdict.of(accepted_reports, GOOD, {"pending": 0})
    assert verdict.ok
    assert (verdict.accepted, verdict.effects) == (6, 6)


@pytest.mark.parametrize(
    ("found_effects", "lost"),
    [
        ([issue(8)], ["order 7", "order 7: note 1", "order 7: note 2"]),
        ([effect for effect in GOOD if "Note 2" not in effect.text], ["order 7: note 2"]),
        ([issue(7), note(7, 1), state("closed"), state("open"), note(7, 2)], ["order 8"]),
        ([*GOOD[:4], GOOD[5]], ["order 7: open"]),
        ([*GOOD, state("closed")], ["order 7: open"]),
    ],
)
def test_what_is_lost(found_effects: list[Effect], lost: list[str], accepted_reports: AcceptedReports):
    assert Verdict.of(accepted_reports, found_effects).lost == lost


@pytest.mark.parametrize(
    ("more", "duplicates"),
    [
        (issue(8, "3", "m3"), ["order 8: issue x 2"]),
        (note(7, 1), ["order 7: note 1 x 2"]),
        (Effect("there", "comment", "9", "m2", "no text that we know"), []),
        (Effect("there", "issue", "9", "m2", "no text that we know"), ["issue m2 x 2"]),
    ],
)
def test_what_is_duplicated(more: Effect, duplicates: list[str], accepted_reports: AcceptedReports):
    assert Verdict.of(accepted_reports, [*GOOD, more]).duplicates == duplicates


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ((0, 5, 2, 3, 4), "note 2 before note 1"),
        ((0, 2, 4, 3, 5), "open before closed"),
        ((0, 2, 3, 5, 4), "note 2 before open"),
    ],
)
def test_what_is_out_of_order(order: tuple[int, ...], wrong: str, accepted_reports: AcceptedReports):
    assert Verdict.of(accepted_reports, [GOOD[1], *(GOOD[n] for n in order)]).misordered == [
        f"order 7: {wrong}"
    ]


def test_what_is_left_over(accepted_reports: AcceptedReports):
    verdict = Verdict.of(accepted_reports, GOOD, {"pending": 1, "leased": 0, "dead": 2})
    assert verdict.stuck == {"pending": 1, "dead": 2}
    assert not verdict.ok


def test_what_was_never_confirmed_may_be_there(accepted_reports: AcceptedReports):
    """A response can be lost on its way; the accepted report is delivered all the same."""
    assert Verdict.of(accepted_reports, [*GOOD, issue(9, "3", "m3"), note(9, 1, "3"), note(7, 3)]).ok


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path):
    log = tmp_path / "effects.jsonl"
    whole = '{"destination": "p", "kind": "issue", "key": "1", "marker": "m", "text": "t", "at": 1.0}\n'
    log.write_text(f"{whole}{whole}{whole[:30]}")
    assert len(effects(log)) == 2
    assert len(effects(log, len(whole))) == 1


@pytest.mark.parametrize(("counted", "kind"), [(9, "lost"), (11, "duplicates")])
def test_each_report_of_a_known_problem_is_counted_once(counted: int, kind: str):
    verdict = Verdict.of(AcceptedReports(), [], repeated=10, counted=counted)
    assert getattr(verdict, kind) == ["1 reports of known problems"]
    assert not verdict.ok
    assert Verdict.of(AcceptedReports(), [], repeated=10, counted=10).ok
