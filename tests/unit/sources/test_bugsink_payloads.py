"""Bugsink's other bodies: the kind Slack of its old versions, and our app inside it with its signature; stack traces."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Secret, Unreadable
from pointsman.sources.bugsink import payloads as bodies
from pointsman.sources.bugsink.source import Bugsink, BugsinkSettings
from pointsman.sources.bugsink.trace import LIMIT, stack_trace

QUICK = settings(deadline=None, max_examples=60)
REAL = Path(__file__).parents[4] / "shared" / "data" / "bugsink"
SLACK = sorted(REAL.glob("slack-*.json"))
ISSUE = "6937032e-8a4e-4ad2-b400-5e3996cc1a54"


def slack(reason="NEW", *, title="KeyError: 'id'", why="", link="view on Bugsink", header=None):
    section = [{"type": "section", "text": {"type": "plain_text", "text": f"{reason} issue"}}]
    if why:
        section.append({"type": "section", "text": {"type": "mrkdwn", "text": why}})
    return {
        "text": title,
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": header or title}},
            *section,
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "*project*: Shop &amp; Co"}]},
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": f"<https://bugs.test/issues/issue/{ISSUE}/event/last/|{link}>",
                },
            },
        ],
    }


def test_a_slack_body_names_the_problem_that_a_custom_body_names():
    report = bodies.read(slack())
    custom = bodies.read(
        {
            "id": ISSUE,
            "alert_reason": "NEW",
            "title": "KeyError: 'id'",
            "url": f"https://bugs.test/issues/issue/{ISSUE}/event/last/",
        }
    )
    assert (report.fingerprint, report.problem_id, report.dedupe) == (
        custom.fingerprint,
        ISSUE,
        custom.dedupe,
    )
    assert (report.action, report.title) == ("opened", "KeyError: 'id'")
    assert dict(report.facts) == {"Project": "Shop & Co"}


def test_a_second_regression_is_not_the_repeat_of_the_first():
    """Its body is the same, byte for byte, and Bugsink sends each once."""
    report = bodies.read(slack("REGRESSED"))
    assert (report.action, report.dedupe) == ("regressed", "")


def test_why_it_is_loud_again_stands_in_a_slack_body():
    assert bodies.read(slack("UNMUTED", why="More than 2 events")).text == "More than 2 events"
    assert bodies.read(slack("UNMUTED")).text == ""


def test_before_2_0_7_the_header_has_the_reason_and_the_link_the_title():
    body = slack(header="REGRESSED issue", link="KeyError: 'id' &lt;x&gt;")
    del body["text"], body["blocks"][1]
    report = bodies.read(body)
    assert (report.action, report.title, report.problem_id) == ("regressed", "KeyError: 'id' <x>", ISSUE)


def test_the_slack_test_has_no_address_and_is_a_test():
    body = {
        "text": "Test message",
        "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "TEST issue"}}],
    }
    assert bodies.read(body).action == "test"


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x", "blocks": []},
        {"text": "x", "blocks": [None, 5, {"text": 5}, {"fields": [None]}]},
        {"text": "x", "blocks": [{"text": {"text": "NEW issue"}}]},
        {
            "text": "x",
            "blocks": [
                {"text": {"text": "NEW issue"}},
                {"text": {"text": "<https://x.test/|view on Bugsink>"}},
            ],
        },
    ],
)
def test_what_only_looks_like_slack_is_refused(body):
    with pytest.raises(Unreadable):
        bodies.read(body)


@pytest.mark.skipif(not SLACK, reason="no recorded bodies of a real Bugsink beside the checkout")
def test_every_recorded_slack_body_is_read():
    wanted = {"new": "opened", "regressed": "regressed", "unmuted": "unmuted", "test": "test"}
    for file in SLACK:
        body = json.loads(file.read_text("utf-8"))["body_json"]
        report = bodies.read(body)
        assert report.action == wanted[file.name.removesuffix(".json").split("-")[1]]
        if report.action != "test":
            assert report.problem_id in report.url
            assert report.title == body["text"]
            assert bool(report.text) == (report.action == "unmuted")


# -- our app inside Bugsink ------------------------------------------------------------------------------------------

APP = {
    "id": ISSUE,
    "alert_reason": "NEW",
    "title": "KeyError: 'id'",
    "url": f"https://bugs.test/issues/issue/{ISSUE}/event/last/",
    "events_at": ["shop@1", "shop@2"],
    "pointsman": {
        "version": 1,
        "event": {
            "id": "ad502583-66c9-4317-88fb-795a16e107b5",
            "level": "error",
            "environment": "staging",
            "release": "shop@1",
            "server_name": "web-1",
            "tags": [["tenant", "acme"], ["user.email", "ada@customer.example"], ["bad"], 5],
            "stacktrace": "KeyError: 'id'\n  shop.py:1 in f",
        },
    },
}


def test_our_app_tells_environment_release_and_trace_at_once():
    report = bodies.read(APP)
    assert (report.environment, report.level, report.release) == ("staging", "error", "shop@1")
    assert report.code.startswith("KeyError")
    assert report.event_id == "ad502583-66c9-4317-88fb-795a16e107b5"
    facts = dict(report.facts)
    assert (facts["Environment"], facts["Server"], facts["Tags"]) == ("staging", "web-1", "tenant=acme")


def test_with_and_without_our_app_an_alert_counts_once():
    plain = {name: value for name, value in APP.items() if name != "pointsman"}
    assert (bodies.read(plain).dedupe, bodies.read(plain).fingerprint) == (
        bodies.read(APP).dedupe,
        bodies.read(APP).fingerprint,
    )


KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def signed(body: bytes, *, at=None, key=KEY, name="msg_1"):
    at = str(int(time.time()) if at is None else at)
    signature = base64.b64encode(
        hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    ).decode()
    return {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": f"v1,other v1,{signature}"}


def test_a_signing_secret_demands_the_signature():
    source = Bugsink(BugsinkSettings(signing_secret=Secret(SECRET)))
    assert source.verify(signed(b"{}"), b"{}")
    assert not source.verify(signed(b"{}"), b"{ }")
    assert not source.verify(signed(b"{}", key=b"x" * 32), b"{}")
    assert not source.verify(signed(b"{}", at=time.time() - 3600), b"{}")
    assert not source.verify({**signed(b"{}"), "webhook-id": "msg_2"}, b"{}")
    assert not source.verify({}, b"{}")
    assert Bugsink(BugsinkSettings()).verify({}, b"{}")


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"url": "https://bugs.test"}, "belong together"),
        ({"token": Secret("x")}, "belong together"),
        ({"url": "bugs.test", "token": Secret("x")}, "must begin"),
        ({"signing_secret": Secret("whsec_short")}, "signing_secret"),
    ],
)
def test_settings_that_can_not_be_are_named(values, expected):
    with pytest.raises(ValueError, match=expected):
        BugsinkSettings(**values)


def test_what_a_source_can_do_follows_from_its_settings():
    plain = Bugsink(BugsinkSettings()).capabilities
    assert not (plain.enrich or plain.backfill or plain.writes_back)
    whole = Bugsink(BugsinkSettings(url="https://bugs.test", token=Secret("x"), resolve="no")).capabilities
    assert whole.enrich and whole.backfill and whole.comment and not whole.set_state


# -- stack traces ----------------------------------------------------------------------------------------------------


def test_a_trace_has_causes_lines_and_no_local_variables():
    cause = {
        "type": "ZeroDivisionError",
        "value": "division by zero",
        "stacktrace": {
            "frames": [
                {
                    "filename": "lib.py",
                    "lineno": 3,
                    "function": "call",
                    "context_line": "    f()",
                    "in_app": False,
                },
                {
                    "filename": "shop.py",
                    "lineno": 13,
                    "function": "average",
                    "in_app": True,
                    "pre_context": ["a", "b", "def average(basket):"],
                    "context_line": "    return 1 / 0",
                    "post_context": ["", "c", "d"],
                    "vars": {"card": "'4111'"},
                },
            ]
        },
    }
    trace = stack_trace(
        {"exception": {"values": [cause, {"type": "PaymentError", "value": "no", "stacktrace": None}]}}
    )
    assert trace.startswith("PaymentError: no\n\nCaused by:\nZeroDivisionError: division by zero\n")
    assert (
        "  shop.py:13 in average\n      11   b\n      12   def average(basket):\n    > 13       return 1 / 0"
        in trace
    )
    assert "lib.py:3 in call" in trace
    assert "    f()" not in trace
    assert "4111" not in trace


def test_an_endless_trace_is_cut_in_the_middle():
    frames = [
        {"filename": "deep.py", "lineno": n, "function": "f" * 300, "context_line": "x" * 500}
        for n in range(1, 5000)
    ]
    trace = stack_trace(
        {"exception": {"values": [{"type": "RecursionError", "stacktrace": {"frames": frames}}]}}
    )
    assert len(trace) <= LIMIT + 50
    assert "calls left out" in trace or "left out" in trace


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "exception",
                    "values",
                    "stacktrace",
                    "frames",
                    "filename",
                    "lineno",
                    "context_line",
                    "pre_context",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@QUICK
@given(st.dictionaries(st.sampled_from(["exception", "tags", "level"]), anything, max_size=3))
def test_any_event_comes_to_a_trace(data):
    assert isinstance(stack_trace(data), str)
    assert isinstance(bodies.tags_of(data.get("tags")), tuple)


@QUICK
@given(
    st.dictionaries(
        st.sampled_from(["blocks", "text", "alert_reason", "pointsman", "id"]), anything, max_size=4
    )
)
def test_any_body_comes_to_a_decision(body):
    try:
        report = bodies.read(body)
    except ValueError:
        return
    assert report.fingerprint


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([*"aZ.-:/?#@[] \n\t\0ä℀%", "//", "80", ":8000", "b.test", "::1"]), max_size=8)
)
def test_an_origin_is_the_same_on_the_short_way(pieces):
    """A fingerprint holds it: it must come out as taking the address apart would have it."""
    for scheme in ("http://", "https://", "HTTPS://", ""):
        url = scheme + "".join(pieces)
        try:
            parts = urlsplit(url)
        except ValueError:
            assert bodies.instance_of(url) == ""
        else:
            wanted = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower() if parts.netloc else ""
            assert bodies.instance_of(url) == wanted
