"""Alerts of all known versions of Bugsink, and of unknown ones."""

import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Report, Unreadable
from pointsman.sources.bugsink.source import Bugsink, BugsinkSettings

QUICK = settings(deadline=None, max_examples=50)
REAL = Path(__file__).parents[4] / "shared" / "data" / "bugsink"
CUSTOM = sorted(REAL.glob("custom-*.json"))
"""Bodies recorded from a real Bugsink; kept beside the checkout, not in it."""

SOURCE = Bugsink(BugsinkSettings())
ALERT = {
    "id": "6937032e-8a4e-4ad2-b400-5e3996cc1a54",
    "friendly_id": "SHOP-1",
    "project": 1,
    "last_seen": "2026-01-02T00:00:00Z",
    "first_seen": "2026-01-01T00:00:00Z",
    "digested_event_count": 3,
    "calculated_type": "KeyError",
    "calculated_value": "'id'",
    "transaction": "/checkout",
    "events_at": ["shop@1.4.1", "shop@1.4.2"],
    "title": "KeyError: 'id'",
    "project_name": "Shop",
    "url": "https://bugs.test/issues/issue/6937032e/event/last/",
    "alert_reason": "NEW",
}


def read(alert):
    (report,) = SOURCE.read_report({}, b"", alert)
    return report


def without(*names, **changed):
    return {name: value for name, value in {**ALERT, **changed}.items() if name not in names}


def test_an_alert_is_read_with_all_it_says():
    report = read(ALERT)
    assert report == Report(
        action="opened",
        fingerprint="https://bugs.test 6937032e-8a4e-4ad2-b400-5e3996cc1a54",
        title="KeyError: 'id'",
        facts=(
            ("Type", "KeyError"),
            ("Value", "'id'"),
            ("Where", "/checkout"),
            ("Project", "Shop"),
            ("Bugsink issue", "SHOP-1"),
            ("Releases", "shop@1.4.1, shop@1.4.2"),
            ("First seen", "2026-01-01T00:00:00Z"),
            ("Last seen", "2026-01-02T00:00:00Z"),
            ("Events", "3"),
        ),
        url="https://bugs.test/issues/issue/6937032e/event/last/",
        release="shop@1.4.2",
        dedupe=report.dedupe,
        problem_id="6937032e-8a4e-4ad2-b400-5e3996cc1a54",
        seen_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )
    assert report.dedupe


@pytest.mark.parametrize(
    ("reason", "action"),
    [("NEW", "opened"), ("REGRESSED", "regressed"), ("UNMUTED", "unmuted"), ("TEST", "test")],
)
def test_each_reason_has_its_action(reason, action):
    assert read(without(alert_reason=reason)).action == action


def test_why_an_issue_was_unmuted_is_told():
    assert (
        read(without(alert_reason="UNMUTED", unmute_reason="More than 2 events")).text == "More than 2 events"
    )


def test_the_test_button_is_no_problem_of_anyones():
    """Its body is constants: were it read as an alert, every project's test would meet in one ticket."""
    report = read(without(alert_reason="TEST"))
    assert (report.action, report.fingerprint, report.dedupe) == ("test", "test", None)


# -- which reports are the same --------------------------------------------------------------------------------------


def test_the_same_issue_is_one_problem_whatever_happens_to_it():
    changed = {
        "alert_reason": "REGRESSED",
        "title": "other",
        "url": "https://BUGS.test/else",
        "last_seen": "later",
    }
    assert read(without(**changed)).fingerprint == read(ALERT).fingerprint


def test_the_same_id_at_two_instances_is_two_problems():
    urls = [
        "https://bugs.test/x",
        "https://other.test/x",
        "http://bugs.test/x",
        "https://bugs.test:8443/x",
        "",
    ]
    assert len({read(without(url=url)).fingerprint for url in urls}) == len(urls)


def test_credentials_in_the_address_are_no_part_of_a_problem():
    assert read(without(url="https://ann:secret@bugs.test/x")).fingerprint == read(ALERT).fingerprint


def test_new_comes_once_in_the_life_of_an_issue():
    """Bugsink sends it again only if a proxy repeats the request."""
    assert read(without(last_seen="later", digested_event_count=9)).dedupe == read(ALERT).dedupe


@pytest.mark.parametrize("reason", ["REGRESSED", "UNMUTED"])
def test_other_reasons_come_once_for_each_change(reason):
    first = read(without(alert_reason=reason))
    assert read(without(alert_reason=reason)).dedupe == first.dedupe
    assert read(without(alert_reason=reason, last_seen="later")).dedupe != first.dedupe
    assert read(ALERT).dedupe != first.dedupe


# -- other versions, other senders -----------------------------------------------------------------------------------


def test_fields_of_a_later_version_are_ignored():
    assert read({**ALERT, "severity": {"new": [1]}, "": None}) == read(ALERT)


@pytest.mark.parametrize("name", sorted(ALERT.keys() - {"id", "alert_reason"}))
def test_any_other_field_is_done_without(name):
    report = read(without(name))
    assert report.action == "opened"
    assert report.title


def test_an_alert_of_nothing_but_its_id_and_reason_is_enough():
    report = read({"id": "1", "alert_reason": "NEW"})
    assert (report.title, report.url, report.release) == ("(no title)", "", "")
    assert not any(value for _, value in report.facts)


@pytest.mark.parametrize("name", ["id", "alert_reason"])
@pytest.mark.parametrize("value", [None, "", 5, ["x"]])
def test_without_its_id_or_its_reason_the_sender_is_told_which(name, value):
    with pytest.raises(Unreadable) as caught:
        read(without(**{name: value}))
    assert caught.value.field == name


@pytest.mark.parametrize("body", [None, [], [ALERT], "NEW", 5, True])
def test_what_is_no_object_is_no_alert(body):
    with pytest.raises(Unreadable):
        read(body)


@pytest.mark.parametrize("reason", ["RESOLVED", "new", "NEW "])
def test_a_reason_of_a_later_version_parks_the_report(reason):
    """It is kept for when we know the word: not the sender's mistake, so not Unreadable."""
    with pytest.raises(ValueError, match=reason) as caught:
        read(without(alert_reason=reason))
    assert not isinstance(caught.value, Unreadable)


@pytest.mark.parametrize(
    "url", ["http://[", "https://bugs.test:x/", "//", "nonsense", "javascript:x", "http://[::1]:9/x"]
)
def test_an_odd_address_does_not_matter(url):
    assert read(without(url=url)).url == url


def test_endless_releases_are_cut():
    report = read(without(events_at=[f"shop@{n}" for n in range(1000)] + [None, 5, ""]))
    assert len(dict(report.facts)["Releases"]) < 500
    assert report.release == "shop@999"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(ALERT)), anything, max_size=4))
def test_any_value_in_any_field_comes_to_a_decision(changed):
    try:
        report = read({**ALERT, **changed})
    except ValueError:
        return
    texts = [report.fingerprint, report.title, report.text, report.url, report.release, report.dedupe or ""]
    texts += [word for fact in report.facts for word in fact]
    assert all(isinstance(text, str) for text in texts)
    assert report.fingerprint
    assert report.title


@QUICK
@given(anything)
def test_any_body_comes_to_a_decision(body):
    with pytest.raises(Unreadable):
        read(body)


# -- recorded bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CUSTOM, reason="no recorded bodies of a real Bugsink beside the checkout")
def test_every_recorded_alert_is_read():
    wanted = {"new": "opened", "regressed": "regressed", "unmuted": "unmuted", "test": "test"}
    reports = {}
    for file in CUSTOM:
        body = json.loads(file.read_text("utf-8"))["body_json"]
        report = reports[file.name] = read(body)
        assert report.action == wanted[file.name.removesuffix(".json").split("-")[1]]
        assert report.title == body["title"]
        if report.action != "test":
            assert report.url == body["url"]
            assert dict(report.facts)["Bugsink issue"] == body["friendly_id"]
            assert report.fingerprint.endswith(body["id"])
            assert report.release == (body.get("events_at") or [""])[-1]
    assert {report.action for report in reports.values()} == set(wanted.values())
    one_issue = [
        reports[f"custom-{name}.json"].fingerprint
        for name in ("new", "regressed", "unmuted-by-time", "unmuted-by-volume")
    ]
    assert len(set(one_issue)) == 1
    assert "mute" in reports["custom-unmuted-by-time.json"].text
    # nothing that came over the wire twice may count once, and nothing once twice
    dedupes = [report.dedupe for report in reports.values() if report.dedupe]
    assert len(set(dedupes)) == len(dedupes)
