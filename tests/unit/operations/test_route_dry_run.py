"""`pointsman route`: evaluate the routes of a file without database, secrets or network."""

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pointsman.cli.main import main
from source_examples import alert

FILE = """
[[source]]
slug = "shop"
kind = "bugsink"
token = { env = "NOT_SET" }
settings = { url = "https://bugsink.example.com", token = { env = "NOT_SET_EITHER" } }

[[source]]
slug = "metrics"
kind = "alertmanager"
token = "a-literal-token"
settings = {}

[[source]]
slug = "helpdesk"
kind = "tickets"
token = { file = "/nowhere/token" }

[[destination]]
slug = "issues"
tracker = "forgejo"
settings = { url = "https://x.example.com", repository = "a/b", token = { env = "NOT_SET" } }

[[destination]]
slug = "archive"
tracker = "folder"
settings = { path = "/tmp/issues" }

[[route]]
name = "archive"
match = { kind = "alert" }
destination = "archive"
continue = true

[[route]]
match.title = "(?i)zero"

[[route]]
name = "payments"
match.tags = { service = "pay" }
destination = "issues"
fingerprint = "{{ source }}/{{ tags.service }}"
recurrence = [{ then = "new", reason = "completed", closed_for = "7d" }, { then = "reopen" }]
quiet_hours = { from = "22:00", to = "07:00", zone = "Europe/Berlin" }

[[route]]
match = { source = "metrics", occurrences = 5, within = "10m" }
destination = "issues"

[[route]]
match = { source = "shop", environment = ["production", "staging"] }
destination = "issues"
"""
FIRING = {
    "version": "4",
    "status": "firing",
    "groupLabels": {},
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Slow\x1b[31m", "service": "pay"},
            "annotations": {},
            "startsAt": "2026-11-20T10:00:00Z",
            "fingerprint": "ab",
        }
    ],
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("POINTSMAN", "FORGEJO", "DATABASE_URL"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("POINTSMAN_LOG", "json")
    file = tmp_path / "routes.toml"
    file.write_text(FILE, "utf-8")

    def run(body, *arguments, code=0, config=str(file)):
        stdin = body if isinstance(body, (str, bytes)) else json.dumps(body)
        options = ["--config", config] if config else []
        result = CliRunner().invoke(main, ["route", *options, *arguments], input=stdin)
        assert result.exit_code == code, result.output
        return result

    run.file = file
    return run


def test_every_rule_s_verdict_is_shown_in_order_and_what_comes_of_them(run):
    lines = run(FIRING, "--explain", "--source", "metrics").stdout.splitlines()
    assert lines == [
        "action          opened",
        "kind            alert",
        "title           Slow[31m",
        "fingerprint     route:metrics/pay (by route 3)",
        "environment     -",
        "level           -",
        "release         -",
        "tags.Began      2026-11-20T10:00:00Z",
        "tags.alertname  Slow[31m",
        "tags.service    pay",
        "route 1 (archive) matches: to archive, and the next route is evaluated too",
        "route 2 does not match: title: wanted with (?i)zero, got Slow[31m",
        "route 3 (payments) matches: to issues",
        "route 4 is not evaluated: route 3 took it",
        "route 5 is not evaluated: route 3 took it",
        "goes to archive",
        "goes to issues, but not from 22:00 to 07:00 Europe/Berlin (every day)",
        "if it recurs: the default rule applies",
    ]


def test_without_explain_only_the_conclusion_is_shown(run):
    assert run(alert(title="Division by ZERO"), "--source", "shop").stdout.splitlines() == [
        "goes to archive",
        "if it recurs: the default rule applies",
    ]


def test_a_report_below_its_threshold_goes_nowhere_yet(run):
    run.file.write_text(
        FILE.replace('match = { kind = "alert" }', 'match = { source = "helpdesk" }'), "utf-8"
    )
    other = {**FIRING, "alerts": [{**FIRING["alerts"][0], "labels": {"alertname": "Slow"}}]}
    lines = run(other, "--explain", "--source", "metrics").stdout.splitlines()
    assert "route 4 matches once its threshold is reached: occurrences 5 within 10m" in lines
    assert "route 5 does not match: source: wanted shop, got metrics" in lines
    assert lines[-1] == "goes to no destination yet: it is counted until a threshold is reached"


def test_recurrence_is_that_of_the_first_rule_that_took_it(run):
    run.file.write_text(FILE.replace('match = { kind = "alert" }', 'match = { source = "shop" }'), "utf-8")
    lines = run(FIRING, "--source", "metrics").stdout.splitlines()
    assert lines[-1] == "if it recurs: new if closed as completed and closed for 7d; reopen"


def test_a_person_s_request_is_a_problem_of_its_own(run):
    lines = run({"title": "Help"}, "--explain", "--source", "helpdesk").stdout.splitlines()
    assert "fingerprint     - (by nothing: each report is a problem of its own)" in lines
    assert "route 1 (archive) does not match: kind: wanted alert, got support" in lines
    assert lines[-1] == "goes to no destination"


def test_json_says_the_same_and_more(run):
    (result,) = json.loads(run(FIRING, "--json", "--source", "metrics").stdout)
    assert result["fingerprint"] == "route:metrics/pay"
    assert result["title"] == "Slow\x1b[31m"
    assert [route["matches"] for route in result["routes"]] == [True, False, True, False, False]
    assert result["routes"][1]["failed_field"] == "title"
    assert [target["slug"] for target in result["destinations"]] == ["archive", "issues"]
    assert result["below_threshold"] is False


def test_several_reports_of_one_request_are_distinguished(run):
    first = FIRING["alerts"][0]
    both = {**FIRING, "alerts": [first, {**first, "labels": {"alertname": "zero"}, "fingerprint": "cd"}]}
    lines = run(both, "--source", "metrics").stdout.splitlines()
    assert lines[0] == "report 1 of 2"
    assert lines[lines.index("report 2 of 2") + 1] == "goes to archive"


def test_what_opens_no_ticket_says_so(run):
    test = run(alert("TEST"), "--source", "shop").stdout
    assert test == "opens no ticket: it is a test message, which is only stored\n"
    over = {
        **FIRING,
        "alerts": [{**FIRING["alerts"][0], "status": "resolved", "endsAt": "2026-11-20T11:00:00Z"}],
    }
    lines = run(over, "--explain", "--source", "metrics").stdout.splitlines()
    assert "fingerprint     route:metrics/pay (by route 3)" in lines
    assert (
        lines[-1] == "opens no ticket: the open ticket of its problem, if there is one, is marked as resolved"
    )


def test_a_template_that_fails_leaves_the_kind_s_fingerprint_and_is_shown(run):
    run.file.write_text(FILE.replace("{{ source }}/{{ tags.service }}", "{{ 1 // 0 }}"), "utf-8")
    output = run(FIRING, "--explain", "--source", "metrics").stdout
    assert "because the template of route 3 failed: ZeroDivisionError" in output


def test_headers_are_shown_to_the_kind_as_the_intake_does(run):
    """Sentry names the resource of a request only in a header."""
    sentry = FILE.replace('"alertmanager"', '"sentry"').replace(
        "{}", '{ signing_secret = { env = "NOT_SET" } }'
    )
    run.file.write_text(sentry, "utf-8")
    body = {"action": "created", "data": {"issue": {"id": "1", "title": "Zero"}}}
    with_header = run(body, "--json", "--source", "metrics", "--header", "SENTRY-hook-resource: issue").stdout
    assert json.loads(with_header)[0]["title"] == "Zero"
    other = run(body, "--source", "metrics", "--header", "Sentry-Hook-Resource: comment").stdout
    assert other == "the request is valid and contains no report: nothing would be stored\n"


def test_the_file_may_come_from_the_environment_and_the_body_from_a_file(run, tmp_path, monkeypatch):
    monkeypatch.setenv("POINTSMAN_CONFIG", str(run.file))
    (tmp_path / "body.json").write_text(json.dumps(FIRING), "utf-8")
    result = run("", "--source", "metrics", "--file", str(tmp_path / "body.json"), config=None)
    assert "goes to issues" in result.stdout


def test_the_only_source_needs_no_name(run):
    run.file.write_text('[[source]]\nslug = "only"\nkind = "tickets"\ntoken = "12345678"\n', "utf-8")
    assert run({"title": "Help"}).stdout == "goes to no destination\n"


@pytest.mark.parametrize(
    ("body", "arguments", "problems"),
    [
        ("{", ["--source", "shop"], ["not valid JSON", "line 1"]),
        ("", ["--source", "shop"], ["not valid JSON"]),
        ("[" * 500, ["--source", "shop"], ["nested deeper"]),
        (b"\xff", ["--source", "shop"], ["not UTF-8"]),
        ("5", ["--source", "shop"], ["refused"]),
        ({"a": 1}, ["--source", "shop"], ["alert_reason", "--source"]),
        ({}, [], ["which source is the request for", "--source", "helpdesk, metrics, shop"]),
        ({}, ["--source", "nobody"], ["no [[source]] with slug 'nobody'", "helpdesk, metrics, shop"]),
        (FIRING, ["--source", "metrics", "--header", "x"], ["--header 'x'", "colon"]),
        ({}, ["--source", "metrics", "--file", "/nowhere.json"], ["--file /nowhere.json", "can't be read"]),
    ],
)
def test_what_can_not_be_read_is_reported_and_ends_with_2(run, body, arguments, problems):
    error = run(body, *arguments, code=2).stderr
    assert error.startswith("pointsman: ")
    for problem in problems:
        assert problem in error


def test_without_a_file_the_remedy_is_shown(run):
    assert "--config" in run({}, config=None, code=2).stderr
    assert "can't be read" in run({}, config="/nowhere.toml", code=2).stderr


def test_mistakes_and_oddities_of_the_file_are_reported(run):
    run.file.write_text(FILE.replace('"(?i)zero"', '"("'), "utf-8")
    assert "match.title" in run({}, "--source", "shop", code=2).stderr
    run.file.write_text(FILE + '[[route]]\n[[route]]\nmatch.kind = "alert"\n', "utf-8")
    assert "never reached" in run(FIRING, "--source", "metrics").stderr


def test_the_example_of_the_page_is_true(run, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "routes.md").read_text("utf-8")
    blocks = {
        language: re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        for language in ("toml", "json", "console")
    }
    run.file.write_text(blocks["toml"][0], "utf-8")
    body = tmp_path / "body.json"
    body.write_text(blocks["json"][0], "utf-8")
    called, _, shown = blocks["console"][-1].partition("\n")
    arguments = called.removeprefix("$ pointsman route ").replace("body.json", str(body)).split()
    arguments[arguments.index("pointsman.toml")] = str(run.file)
    assert run("", *arguments, config=None).stdout == shown
