"""Webhooks of Sentry and GlitchTip: their reports and signatures."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Report, Secret, Unreadable
from pointsman.sources.sentry import Sentry, SentrySettings
from source_examples import EVENT, GLITCHTIP, ISSUE, METRIC, SECRET, hex_of, resource, sentry, uptime

QUICK = settings(deadline=None, max_examples=100)
SOURCE, CLOSING = Sentry(SentrySettings()), Sentry(SentrySettings(close_on_resolved=True))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)


def read(kind, body, source=SOURCE):
    return list(source.read_report(resource(kind) if kind else {}, b"", body))


def test_an_issue_is_read_with_all_it_says():
    [report] = read("issue", sentry("created", issue=ISSUE))
    assert (report.action, report.fingerprint) == ("opened", "issue 1170820242")
    assert (report.title, report.level) == ("KeyError: 'basket'", "error")
    assert report.url == "https://acme.sentry.io/issues/1170820242/"
    assert ("Sentry issue", "SHOP-1") in report.facts


def test_an_event_has_environment_release_and_trace_but_no_local_variables():
    [report] = read("event_alert", sentry("triggered", event=EVENT, triggered_rule="Loud"))
    assert (report.environment, report.release) == ("production", "shop@1.4.2")
    assert "shop/views.py" in report.code and "4111" not in repr(report)
    assert "ada@customer.example" not in repr(report) and "id:17" not in repr(report)


def test_issue_alert_and_error_are_one_problem():
    about = [
        read("issue", sentry("created", issue=ISSUE)),
        read("event_alert", sentry("triggered", event=EVENT)),
        read("error", sentry("created", error={**EVENT, "issue_id": None})),
        read("activity_alert", sentry("triggered", issue=ISSUE)),
    ]
    assert {report.fingerprint for [report] in about} == {"issue 1170820242"}


@pytest.mark.parametrize(
    ("action", "substatus", "meant"),
    [
        ("created", "new", ["opened"]),
        ("unresolved", "regressed", ["regressed"]),
        ("unresolved", "ongoing", ["regressed"]),
        ("unresolved", "escalating", ["unmuted"]),
        ("resolved", None, ["resolved"]),
        ("archived", "archived_forever", []),
        ("assigned", "new", []),
        ("of a later version", None, []),
    ],
)
def test_each_action_of_an_issue_has_its_meaning(action, substatus, meant):
    assert [
        report.action for report in read("issue", sentry(action, issue={**ISSUE, "substatus": substatus}))
    ] == meant


def test_resolved_closes_only_if_that_is_set():
    body = sentry("resolved", issue=ISSUE)
    assert [report.close_reason for report in read("issue", body)] == [None]
    assert [report.close_reason for report in read("issue", body, CLOSING)] == ["completed"]
    assert [report.close_reason for report in read("issue", sentry("archived", issue=ISSUE), CLOSING)] == [
        "not_planned"
    ]


@pytest.mark.parametrize("kind", ["installation", "comment", "seer", "something new"])
def test_what_is_not_about_problems_concerns_nobody(kind):
    assert read(kind, sentry("created", comment="x")) == []


def test_a_metric_is_a_problem_of_its_rule():
    loud = read("metric_alert", sentry("critical", metric_alert=METRIC, web_url="https://x.example"))
    over = read("metric_alert", sentry("resolved", metric_alert={**METRIC, "id": "9"}), CLOSING)
    assert (loud[0].action, loud[0].level, loud[0].title) == ("opened", "critical", "Too many errors")
    assert loud[0].fingerprint == over[0].fingerprint
    assert (over[0].action, over[0].close_reason) == ("resolved", "completed")


def test_without_the_header_the_data_tell_the_resource():
    assert read("", sentry("created", issue=ISSUE))[0].action == "opened"
    with pytest.raises(Unreadable) as caught:
        read("", {"message": "from the legacy plugin"})
    assert caught.value.field == "data" and "internal integration" in str(caught.value)


def test_each_attachment_of_glitchtip_is_a_report_and_counts_each_time():
    first, other = read("", GLITCHTIP)
    assert (first.fingerprint, other.fingerprint) == ("issue 41", "issue 42")
    assert (first.environment, first.release, first.dedupe) == ("production", "1.4.2", "")
    assert first.url == "https://glitchtip.example.com/acme/issues/41"


def test_a_monitor_of_glitchtip_goes_down_and_up():
    [down], [up] = (
        read("", uptime("The monitored site has gone down.")),
        read("", uptime("The monitored site is back up.")),
    )
    assert (down.action, up.action) == ("opened", "resolved") and down.fingerprint == up.fingerprint


def test_a_test_of_glitchtip_is_one():
    assert read("", {"text": "GlitchTip Test Notification", "attachments": []})[0].action == "test"


def test_both_secrets_are_valid_at_once():
    signed = Sentry(SentrySettings(signing_secret=Secret(SECRET), next_signing_secret=Secret("the-next-one")))
    for secret in (SECRET, "the-next-one"):
        assert signed.verify({"sentry-hook-signature": hex_of(secret, b"{}")}, b"{}")
    assert not signed.verify({"sentry-hook-signature": hex_of("the-last-one", b"{}")}, b"{}")


@pytest.mark.parametrize(
    "values", [{"signing_secret": Secret("short")}, {"next_signing_secret": Secret("long enough")}]
)
def test_settings_that_protect_nothing_are_refused(values):
    with pytest.raises(ValueError, match="signing_secret"):
        SentrySettings(**values)


@QUICK
@given(JSON, st.sampled_from(["", "issue", "event_alert", "metric_alert", "error", "activity_alert"]))
def test_any_data_get_a_decision(data, kind):
    for body in (data, sentry("created", issue=data, event=data, metric_alert=data, error=data)):
        try:
            assert all(type(report) is Report for report in read(kind, body))
        except Unreadable as error:
            assert str(error)  # noqa: PT017


@QUICK
@given(st.binary(max_size=200), st.text(max_size=80))
def test_any_bytes_get_a_decision(body, signature):
    signed = Sentry(SentrySettings(signing_secret=Secret(SECRET)))
    assert signed.verify({"sentry-hook-signature": signature}, body) is False
    assert signed.verify({"sentry-hook-signature": hex_of(SECRET, body)}, body) is True
