"""Alertmanager's webhook: groups of alerts, firing and resolved."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import MAX_REPORTS, Unreadable
from pointsman.sources.alertmanager import Alertmanager, AlertmanagerSettings
from source_examples import am_alert, am_group

QUICK = settings(deadline=None, max_examples=100)
SOURCE = Alertmanager(AlertmanagerSettings())
CLOSING = Alertmanager(AlertmanagerSettings(close_on_resolved=True))
GROUPS = Alertmanager(AlertmanagerSettings(ticket_per="group"))


def read(body, source=SOURCE):
    return list(source.read_report({}, b"", body))


def test_an_alert_is_read_with_all_it_says():
    [report] = read(am_group(am_alert(7)))
    assert (report.action, report.fingerprint) == ("opened", "0000000000000007")
    assert (report.title, report.text) == ("HighLatency: web-7 is slow", "p99 over 2 s for 10 minutes.")
    assert (report.level, report.environment) == ("critical", "production")
    assert report.url == "https://prometheus.example.com/graph?g0.expr=up"
    assert ("instance", "web-7:9100") in report.facts


def test_an_alert_that_goes_on_firing_is_a_repeat_and_one_that_fires_anew_is_not():
    def sign(**more):
        return read(am_group(am_alert(1, **more)))[0].dedupe

    assert sign() == sign(annotations={"summary": "slower"})
    assert sign() != sign(startsAt="2026-11-21T10:00:00Z")
    assert sign() != read(am_group(am_alert(1, "resolved")))[0].dedupe


def test_resolved_is_told_and_closes_only_if_that_is_set():
    body = am_group(am_alert(1, "resolved"))
    assert [(report.action, report.close_reason) for report in read(body)] == [("resolved", None)]
    assert [(report.action, report.close_reason) for report in read(body, CLOSING)] == [
        ("resolved", "completed")
    ]


def test_without_a_fingerprint_the_labels_name_the_alert_whatever_their_order():
    alert = am_alert(1, fingerprint="")
    other = {**alert, "labels": dict(reversed(alert["labels"].items()))}
    [first], [two] = read(am_group(alert)), read(am_group(other))
    assert first.fingerprint == two.fingerprint != ""
    assert read(am_group(am_alert(2, fingerprint="")))[0].fingerprint != first.fingerprint


@pytest.mark.parametrize("count", [1000, 1001, 1250])
def test_alerts_that_do_not_fit_in_are_told_of_as_one(count):
    reports = read(am_group(*(am_alert(n) for n in range(count))))
    assert len(reports) <= MAX_REPORTS
    alone = [report for report in reports if not report.fingerprint.startswith("group ")]
    rest = [report for report in reports if report.fingerprint.startswith("group ")]
    assert len(alone) == (1000 if count == 1000 else 999)
    if count > 1000:
        assert f"({count - 999} alerts)" in rest[0].title and "web-999 is slow" in rest[0].code
        assert f"… and {count - 999 - 30} more" in rest[0].code or count == 1001


def test_alerts_that_alertmanager_left_out_are_told_of():
    reports = read(am_group(am_alert(1), truncatedAlerts=12))
    assert [report.title for report in reports][1:] == ["HighLatency (12 alerts)"]


@pytest.mark.parametrize("source", [SOURCE, CLOSING])
def test_a_truncated_message_does_not_say_that_the_hidden_alerts_are_over(source):
    reports = read(am_group(am_alert(1, "resolved"), status="resolved", truncatedAlerts=12), source)
    assert [(report.action, report.fingerprint) for report in reports] == [("resolved", "0000000000000001")]
    whole = Alertmanager(AlertmanagerSettings(ticket_per="group", close_on_resolved=True))
    assert read(am_group(am_alert(1, "resolved"), status="resolved", truncatedAlerts=12), whole) == []
    assert read(am_group(am_alert(1), truncatedAlerts=12), whole)[0].action == "opened"


def test_a_group_can_be_a_ticket():
    single, more = am_group(am_alert(1)), am_group(am_alert(1), am_alert(2))
    [first], [second] = read(single, GROUPS), read(more, GROUPS)
    assert first.fingerprint == second.fingerprint and first.dedupe != second.dedupe
    assert read(am_group(am_alert(1, "resolved")), GROUPS)[0].action == "resolved"
    assert read(am_group(am_alert(1, "resolved"), am_alert(2)), GROUPS)[0].action == "opened"
    assert read(am_group(), GROUPS) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "alerts"),
        ({"alerts": {}}, "alerts"),
        ({"alerts": [1]}, "alerts[0].status"),
        (am_group(am_alert(1), am_alert(2) | {"status": "pending"}), "alerts[1].status"),
        ({"alerts": [{"status": "firing"}]}, "alerts[0].labels"),
    ],
)
def test_what_is_needed_is_asked_for(body, field):
    with pytest.raises(Unreadable) as caught:
        read(body)
    assert caught.value.field == field


@QUICK
@given(
    st.lists(
        st.fixed_dictionaries(
            {"status": st.sampled_from(["firing", "resolved"])},
            optional={
                "labels": st.dictionaries(
                    st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3
                ),
                "fingerprint": st.text(max_size=8),
                "startsAt": st.text(max_size=8) | st.none(),
            },
        ),
        max_size=120,
    ),
    st.integers(-1, 200),
    st.sampled_from([SOURCE, CLOSING, GROUPS]),
)
@example([{"status": "firing", "fingerprint": "\r"}], 0, SOURCE)
def test_any_alerts_get_a_decision(alerts, hidden, source):
    try:
        reports = read({"alerts": alerts, "truncatedAlerts": hidden}, source)
    except Unreadable as error:
        assert error.field  # noqa: PT017
    else:
        assert len(reports) <= MAX_REPORTS and all(report.fingerprint for report in reports)
