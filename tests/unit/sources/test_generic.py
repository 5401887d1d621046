"""Any JSON: fields picked by expressions, and signatures of senders of any kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Report, Secret, Unreadable
from pointsman.sources.generic import Generic, GenericSettings
from source_examples import (
    DEPLOYMENT,
    GENERIC,
    GENERIC_STANDARD,
    SECRET,
    WHSEC,
    deployment,
    hex_of,
    standard,
)

QUICK = settings(deadline=None, max_examples=100)


def make(**values):
    return Generic(GenericSettings(**{"title": "title", **values}))


def read(source, body, headers=None):
    return list(source.read_report(headers or {}, b"", body))


def test_fields_are_picked():
    [report] = read(GENERIC.make(), DEPLOYMENT)
    assert report == Report(
        action="opened",
        fingerprint="deploy shop production",
        title="The deployment of shop failed",
        code="pulling\nimage not found",
        facts=(("Service", "shop"),),
        url="https://ci.example.com/17",
        environment="production",
        release="1.4.2",
        dedupe="17",
        dedupe_by="state",
    )


def test_values_of_the_action_are_looked_up():
    source = GENERIC.make()
    assert [report.action for report in read(source, deployment(type="deploy.succeeded"))] == ["resolved"]
    assert read(source, deployment(type="whatever")) == []


def test_without_a_mapping_the_action_is_one_of_ours():
    source = make(action="what")
    assert read(source, {"title": "t", "what": "regressed"})[0].action == "regressed"
    with pytest.raises(Unreadable) as caught:
        read(source, {"title": "t", "what": "exploded"})
    assert caught.value.field == "action" and "exploded" in str(caught.value)


def test_resolved_closes_only_if_that_is_set():
    body = {"title": "t", "what": "resolved"}
    assert read(make(action="what"), body)[0].close_reason is None
    assert read(make(action="what", close_on_resolved=True), body)[0].close_reason == "completed"


def test_without_a_fingerprint_the_title_names_the_problem():
    assert read(make(), {"title": "it broke"})[0].fingerprint == "it broke"


def test_a_long_fingerprint_keeps_telling_problems_apart():
    first, other = (read(make(), {"title": "x" * 9000 + end})[0].fingerprint for end in "ab")
    assert first != other and len(first) < 500


def test_a_list_is_several_reports():
    reports = read(GENERIC_STANDARD.make(), {"findings": [{"name": "a"}, {"name": "b"}]})
    assert [report.title for report in reports] == ["a", "b"]
    assert read(GENERIC_STANDARD.make(), {"findings": []}) == []


@pytest.mark.parametrize(
    ("values", "body", "field"),
    [
        ({}, {}, "title"),
        ({}, {"title": "  "}, "title"),
        ({}, None, "title"),
        ({"fingerprint": "id"}, {"title": "t"}, "fingerprint"),
        ({"text": "join(',', tags)"}, {"title": "t", "tags": 1}, "text"),
        ({"reports": "all"}, {"title": "t"}, "reports"),
        ({"reports": "all"}, {"all": [{"title": "t"}, {}]}, "reports[1].title"),
        ({"facts": {"A": "abs(a)"}}, {"title": "t", "a": "x"}, "facts.A"),
    ],
)
def test_what_does_not_fit_is_named(values, body, field):
    with pytest.raises(Unreadable) as caught:
        read(make(**values), body)
    assert caught.value.field == field and str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"title": ""}, "title is missing"),
        ({"title": "a..b"}, "title: 'a..b' is no JMESPath"),
        ({"text": "upper(a)"}, "text: .* can't work"),
        ({"facts": {"A": "["}}, "facts.A"),
        ({"actions": {"x": "explode"}}, "actions.x: 'explode' is no action"),
        ({"signing_secret": Secret("short")}, "signing_secret"),
        ({"signing_secret": Secret("not base64 at all"), "signature": "standard-webhooks"}, "signing_secret"),
    ],
)
def test_settings_that_can_not_work_are_refused(values, expected):
    with pytest.raises(ValueError, match=expected):
        make(**values)


def test_the_prefix_of_a_signature_is_demanded():
    source = make(signing_secret=Secret(SECRET), signature_prefix="sha256=")
    signature = hex_of(SECRET, b"{}")
    assert source.verify({"x-signature-256": f"sha256={signature}"}, b"{}")
    assert not source.verify({"x-signature-256": signature}, b"{}")
    assert not source.verify({"x-signature": f"sha256={signature}"}, b"{}")


def test_standard_webhooks_may_have_the_older_names_of_svix():
    source = make(signature="standard-webhooks", signing_secret=Secret(WHSEC))
    headers = {name.replace("webhook-", "svix-"): value for name, value in standard(WHSEC, b"{}").items()}
    assert source.verify(headers, b"{}")
    assert not source.verify(headers, b"[]")
    [report] = read(source, {"title": "t"}, headers)
    assert (report.dedupe, report.dedupe_by) == (f"webhook\n{headers['svix-id']}\n0", "request")


def test_each_request_can_count():
    [report] = read(make(dedupe="none"), {"title": "t"})
    assert report.dedupe == ""
    [report] = read(make(), {"title": "t"})
    assert report.dedupe is None


def test_standard_webhooks_name_the_message():
    source = make(signature="standard-webhooks", signing_secret=Secret(WHSEC))
    headers = dict(standard(WHSEC, b"{}"))
    assert source.verify(headers, b"{}")
    assert not source.verify({**headers, "webhook-timestamp": "1700000000"}, b"{}")
    first, other = ({"webhook-id": message_id} for message_id in ("msg_1", "msg_2"))
    signs = [read(source, {"title": "t"}, message_id)[0].dedupe for message_id in (first, other, first)]
    assert signs[0] == signs[2] != signs[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abct"), inner, max_size=3),
    max_leaves=20,
)
EXPRESSIONS = [
    "a",
    "a.b",
    "*.a",
    "[]",
    "a[?b > `1`].c",
    "sort_by(a, &b)",
    "to_number(a)",
    "join(' ', a)",
    "a || b",
    "@",
]


@QUICK
@given(JSON, st.sampled_from(EXPRESSIONS), st.sampled_from(EXPRESSIONS), st.sampled_from(["", *EXPRESSIONS]))
def test_any_json_gets_a_decision(body, title, named, many):
    source = make(title=title, fingerprint=named, reports=many, facts={"A": title})
    try:
        assert all(report.title.strip() and report.fingerprint for report in read(source, body))
    except Unreadable as error:
        assert error.field and str(error)  # noqa: PT017


@QUICK
@given(st.binary(max_size=100), st.text(max_size=100), st.sampled_from(["hex", "base64"]))
def test_any_bytes_get_a_decision(body, signature, encoding):
    source = make(signing_secret=Secret(SECRET), signature_encoding=encoding)
    assert source.verify({"x-signature-256": signature}, body) is False
