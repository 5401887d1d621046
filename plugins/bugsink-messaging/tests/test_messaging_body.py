import base64
import datetime as dt
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from pointsman_bugsink_messaging import body, signing

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text("utf-8"))
CANONICAL = {"id": "1", "title": "Boom", "fixed_at": [], "events_at": [f"shop@{n}" for n in range(100)]}
OURS = {"id": "msg_1", "history_id": None}
IDS = {"id": "2", "event_id": "3"}


def event(trace="", tags=()):
    return {"id": "2", "environment": "production", "tags": list(tags), "stacktrace": trace}


def decoded(*args, **more):
    return json.loads(body.alert_body(*args, **more))


def test_bugsinks_fields_stay_as_they_are_and_ours_stand_apart():
    created = decoded(CANONICAL, OURS, event())
    assert created.pop("pointsman") == {
        "version": 1,
        "id": "msg_1",
        "history_id": None,
        "event": event(),
        "left_out": [],
    }
    assert created == CANONICAL


def test_without_an_event():
    assert decoded(CANONICAL, OURS, None)["pointsman"]["event"] is None


def test_text_is_utf_8_whatever_it_holds():
    created = body.alert_body({"title": "Käse \ud800 \0"}, OURS, None)
    assert "Käse ? \\u0000".encode() in created


@pytest.mark.parametrize(
    ("limit", "left_out"),
    [
        (9000, []),
        (8000, ["releases"]),
        (7000, ["releases", "tags"]),
        (3000, ["releases", "tags", "stacktrace"]),
        (10, ["releases", "tags", "stacktrace"]),
    ],
)
def test_what_is_too_large_is_left_out_the_dearest_last(limit, left_out):
    received = event("call\n" * 1000, [["key", "v" * 200]] * 5)
    kept = json.dumps(received)
    created = body.alert_body(CANONICAL, OURS, received, limit_bytes=limit)
    ours = json.loads(created)["pointsman"]
    assert ours["left_out"] == left_out
    assert len(created) <= max(limit, 1000)
    assert (ours["event"]["stacktrace"] == received["stacktrace"]) == ("stacktrace" not in left_out)
    assert json.loads(created)["events_at"][-1] == "shop@99"
    assert json.dumps(received) == kept, "what was given stays as it was"


def test_of_an_event_what_bugsink_made_of_it_counts_first():
    created = body.event_part(
        {
            "level": "warning",
            "environment": "staging",
            "release": "a\nb",
            "user": {"email": "ada@customer.example"},
        },
        ids=IDS,
        columns={"level": "error", "environment": ""},
        tags=[("browser.name", "Firefox")],
    )
    assert created == {
        "id": "2",
        "event_id": "3",
        "level": "error",
        "environment": "staging",
        "release": "a b",
        "server_name": "",
        "transaction": "",
        "platform": "",
        "tags": [["browser.name", "Firefox"]],
        "stacktrace": "",
    }
    assert body.event_part(None, ids={}, columns={}, tags=[])["stacktrace"] == ""


def test_tags_of_persons_and_what_stands_elsewhere_are_not_sent():
    kept = [("zone", "b"), ("handled", "no"), ("username_style", "short")]
    remaining = (
        "user",
        "user.email",
        "ip_address",
        "trace",
        "trace.span",
        "url",
        "release",
        "environment",
        "level",
    )
    matching = body.event_tags([*kept, *((key, "x") for key in remaining), ("empty", "")])
    assert matching == sorted(list(item) for item in kept)
    assert len(body.event_tags([(f"t{n}", "x") for n in range(99)])) == body.TAGS


def test_a_test_has_no_issue_behind_it():
    created = json.loads(
        body.body_of_test(project=7, project_name="Shop", url="https://b.example/7", ours=OURS)
    )
    assert (created["alert_reason"], created["project"], created["project_name"]) == ("TEST", 7, "Shop")
    assert created["pointsman"]["event"] is None


def test_times_are_written_as_bugsink_writes_them():
    moment = dt.datetime(2026, 3, 1, 10, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert body.stamp(moment) == "2026-03-01T08:00:00.000000Z"


def test_the_recorded_request_verifies_by_the_words_of_the_readme():
    headers = RECORDED["headers"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{RECORDED['body']}".encode()
    key = base64.b64decode(RECORDED["secret"].removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == expected
    created = signing.headers(
        signing.key_of(RECORDED["secret"]),
        headers["webhook-id"],
        int(headers["webhook-timestamp"]),
        RECORDED["body"].encode(),
    )
    assert created == headers


def test_the_recorded_body_is_as_the_readme_says():
    text = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    reported = {name for row in rows for name in row.replace("`", "").replace(",", " ").split()}
    ours = json.loads(RECORDED["body"])["pointsman"]
    assert set(ours) - {"version"} <= reported
    assert set(ours["event"]) <= reported
    for line in text.partition("looks like this:\n\n```text\n")[2].partition("\n```")[0].split("\n"):
        assert line in ours["event"]["stacktrace"].split("\n")
