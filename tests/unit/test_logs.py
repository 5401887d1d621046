"""Test the log: one event is one line, and no line contains a secret or forges another."""

import io
import json
import logging
import subprocess
import sys
import time

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import logs
from pointsman.plugin_api import Secret

QUICK = settings(deadline=None, max_examples=50)
SECRET = "hunter2hunter2hunter2"


@pytest.fixture
def lines():
    """What was logged as JSON, one value a line."""
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"GET /intake/shop/{SECRET}",
        f"GET /intake/shop/{SECRET}?key=1 HTTP/1.1",
        f"https://pointsman.test/intake/shop/{SECRET}/",
        f"postgresql://pointsman:{SECRET}@db/x",
        f"postgresql://pointsman:{SECRET}@{SECRET}@db/x",
        f"smtp://{SECRET}@mail:25",
        f"can't reach https://ann:{SECRET}@forgejo.lan/api: refused",
        f"Authorization: Bearer {SECRET}",
        f"authorization: token {SECRET}",
        f"Basic {SECRET}==",
        f"ghp_{SECRET}",
        f"github_pat_{SECRET}_{SECRET}",
        f"the token ATATT{SECRET}=ABC was refused",
    ],
)
def test_credentials_are_taken_out_and_the_rest_stays(text):
    scrubbed = logs.scrub(text)
    assert SECRET not in scrubbed
    assert "hunter2" not in scrubbed
    assert "***" in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "attempt done",
        "POST /intake/shop",
        "GET https://forgejo.lan:3000/api/v1/repos/a/b/issues?page=2",
        "mail to the owner, 10:30: see C:\\x and a@b.test",
        "Grüße, 你好",
    ],
)
def test_plain_words_are_left_alone(text):
    assert logs.scrub(text) == text


def test_where_a_credential_was_is_still_told():
    assert logs.scrub(f"postgresql://u:{SECRET}@db:5432/x?a=b") == "postgresql://***@db:5432/x?a=b"
    assert logs.scrub(f"POST /intake/shop/{SECRET}?a=b") == "POST /intake/shop/***?a=b"


HARMFUL = [
    chr(n) for n in [*range(9), 11, 12, 13, *range(14, 32), 127, 0x85, 0x9B, 0xAD, 0x61C, 0x200B, 0x200E]
]
HARMFUL += [*"\u202a\u202e\u2028\u2029\u2066\u2069\ufeff", "\U000e0041", "\ud800"]


@pytest.mark.parametrize("sign", HARMFUL, ids=[f"U+{ord(character):04X}" for character in HARMFUL])
def test_signs_that_move_hide_or_colour_text_are_spelt_out(sign):
    scrubbed = logs.scrub(f"a{sign}b")
    assert sign not in scrubbed
    assert scrubbed == f"a\\u{ord(sign):04x}b"


def test_an_endless_text_is_cut():
    assert len(logs.scrub("x" * 10**6)) < 2100


@QUICK
@given(st.text(st.characters(exclude_categories=[])), st.text(max_size=10))
def test_any_text_becomes_printable(text, key):
    scrubbed = logs.scrub(text)
    scrubbed.encode()
    assert len(scrubbed.replace("\n", " ").splitlines()) <= 1


# -- lines -------------------------------------------------------------------------------------------------------------

FORGERY = 'x\n{"event": "forged"}\r\n2026 [info] forged\u2028\x1b[2Jz'


@QUICK
@given(st.text(st.characters(exclude_categories=[])))
def test_one_event_is_one_line_whatever_it_says(text):
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    logs.logger("test").info(text, value=text, many=[text], deep={text: {"a": text}}, error=ValueError(text))
    logging.getLogger("library").warning("%s", text)
    output = stream.getvalue()
    assert output.count("\n") == 2
    assert len(output.splitlines()) == 2
    for line in output.splitlines():
        assert line.isascii()
        assert json.loads(line)["event"] is not None


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_text_can_not_forge_a_line_in_either_form(form):
    stream = io.StringIO()
    logs.configure(form, stream=stream)
    logs.logger("test").info(FORGERY, value=FORGERY, many=[FORGERY])
    logging.getLogger("library").warning(FORGERY)
    logging.getLogger("library").warning("%s", FORGERY)
    output = stream.getvalue()
    assert len(output.splitlines()) == 3
    assert "\x1b[2J" not in output


def test_secrets_are_taken_out_of_values_of_any_shape(lines):
    dsn = f"postgresql://u:{SECRET}@db/x"
    logs.logger("test").info(
        dsn,
        text=dsn,
        many=[dsn],
        deep={"a": {"b": (dsn,)}, dsn: 1},
        error=OSError(dsn),
        secret=Secret(SECRET),
    )
    logging.getLogger("library").warning("can't reach %s", dsn)
    logging.getLogger("library").warning("can't reach %(dsn)s", {"dsn": dsn})
    assert len(lines()) == 3
    assert "hunter2" not in str(lines())


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_secrets_are_taken_out_of_tracebacks(form):
    stream = io.StringIO()
    logs.configure(form, stream=stream)

    def fail():
        raise OSError(f"can't reach postgresql://u:{'hunter2' * 2}@db\x1b[31m")

    try:
        fail()
    except OSError:
        logs.logger("test").exception("it failed")
        logging.getLogger("library").exception("it failed")
    output = stream.getvalue()
    assert output.count("can't reach postgresql://***@db") == 2
    assert "hunter2hunter2" not in output
    assert "\x1b[31m" not in output


def test_numbers_and_nothing_stay_what_they_are(lines):
    logs.logger("bus").info("claimed", lanes=3, ms=1.5, full=False, holder=None)
    (line,) = lines()
    assert {name: line[name] for name in ("event", "logger", "level", "lanes", "ms", "full", "holder")} == {
        "event": "claimed",
        "logger": "bus",
        "level": "info",
        "lanes": 3,
        "ms": 1.5,
        "full": False,
        "holder": None,
    }
    assert line["timestamp"]


def test_below_the_level_nothing_is_said():
    stream = io.StringIO()
    logs.configure("json", level="warning", stream=stream)
    logs.logger("test").info("quiet")
    logging.getLogger("library").info("quiet")
    logs.logger("test").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_libraries_speak_from_warning_on_whatever_our_level_is():
    stream = io.StringIO()
    logs.configure("json", level="debug", stream=stream)
    logging.getLogger("library").info("chatter")
    logs.logger("test").debug("ours")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["ours"]


@pytest.mark.parametrize(
    "piece", ["://", "/intake/", "token ", "ghp_", "a@", "\x00", "Bearer  ", "ATATT-", "://a"]
)
def test_the_time_to_scrub_grows_with_the_size_only(piece):
    def seconds(size):
        text = piece * (size // len(piece))
        best = float("inf")
        for _ in range(2):
            begun = time.process_time()
            logs.scrub(text)
            best = min(best, time.process_time() - begun)
        return best

    small = max(seconds(2**12), 0.001)
    assert seconds(2**15) < 8 * small * 4


# -- order, capture, level and exit -----------------------------------------------------------------------------------


async def test_any_other_line_takes_those_that_wait_along_at_once(lines):
    log = logs.logger("web")
    log.info("request", n=1)
    log.error("trouble")
    logging.getLogger("library").warning("more trouble")
    assert [line["event"] for line in lines()] == ["request", "trouble", "more trouble"]
    log.info("request", n=2)
    logs.configure("json", stream=io.StringIO())
    assert lines()[-1]["n"] == 2


def test_a_logger_follows_the_latest_configuration(lines):
    log = logs.logger("web")
    log.info("first")
    stream = io.StringIO()
    logs.configure("json", level="warning", stream=stream)
    log.info("second")
    log.warning("third")
    assert [line["event"] for line in lines()] == ["first"]
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["third"]


def test_whoever_captures_lines_gets_those_of_requests_too(lines):
    with structlog.testing.capture_logs() as captured:
        logs.logger("web").info("request", n=1)
    assert [line["n"] for line in captured] == [1]
    assert lines() == []


@pytest.mark.parametrize("form", ["json", "pretty"])
@pytest.mark.parametrize(("level", "count"), [("debug", 1), ("info", 1), ("warning", 0)])
def test_lines_of_requests_follow_form_and_level(form, level, count):
    stream = io.StringIO()
    logs.configure(form, level=level, stream=stream)
    logs.logger("web").info("request", n=1)
    assert len(stream.getvalue().splitlines()) == count


@pytest.mark.parametrize("last", ["", "raise SystemExit(3)", "1 / 0"])
def test_a_process_that_ends_writes_the_lines_that_wait(last):
    program = f"""
import asyncio
from pointsman import logs
logs.configure("json")
async def main():
    asyncio.get_running_loop().stop()
    logs.logger("web").info("request", n=1)
    {last or "pass"}
asyncio.new_event_loop().run_until_complete(main())
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert '"n":1' in process.stderr
