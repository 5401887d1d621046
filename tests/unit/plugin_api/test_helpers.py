"""Helpers for authors of trackers, tested with plain values."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import (
    Actor,
    Draft,
    Finding,
    Marker,
    Misconfigured,
    NotFound,
    Refused,
    Response,
    Secret,
    UnknownOutcome,
)
from pointsman.plugin_api import helpers as h

MARKER = Marker("pm1-0190b5a0-7c11-7000-8000-000000000001-0123456789abcdef")
OTHER = Marker("pm1-0190b5a0-7c11-7000-8000-0000000000ff-fedcba9876543210")
SIZES = [len, h.utf8_size, h.utf16_size]

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# -- texts -------------------------------------------------------------------------------------------------------


def test_a_clean_text_has_no_nul_and_no_lone_surrogate():
    assert h.clean_text("a\x00b\ud800c") == "ab?c"


@pytest.mark.parametrize("size", SIZES)
@relaxed
@given(text=st.text(max_size=60), limit=st.integers(-3, 70))
def test_a_cut_text_is_the_longest_beginning_within_the_limit(size, text, limit):
    cut = h.cut_text(text, limit, size)
    assert text.startswith(cut) and (size(cut) <= limit or cut == "")
    if len(cut) < len(text):
        assert size(text[: len(cut) + 1]) > limit


@pytest.mark.parametrize(
    ("text", "size", "title"),
    [
        ("a\nb\t here ", len, "a b here"),
        ("\x00 \n", len, "(no title)"),
        ("x" * 11, len, "x" * 9 + "…"),
        ("ä" * 6, h.utf8_size, "äää…"),
        ("😀" * 6, h.utf16_size, "😀" * 4 + "…"),
    ],
)
def test_a_title_is_one_line_within_the_limit(text, size, title):
    assert h.title_line(text, 10, size) == title
    assert size(title) <= 10


def test_a_short_text_has_no_control_characters():
    assert h.short_text("a\nb\u202e" + "c" * 100, 5) == "abccc"
    assert h.short_text(7) == h.short_text(None) == ""


def test_label_names_are_cleaned_and_not_repeated():
    assert h.label_names(["Bug", " two  words "], ["bug", "", "x" * 11], limit=10) == ("Bug", "two words")
    assert h.label_names(["Bug", "bug", "a,b"], limit=9, key=str, fits=lambda name: "," not in name) == (
        "Bug",
        "bug",
    )


def test_notes_say_what_was_cut():
    draft = Draft(title="x" * 300, body="y" * 900, marker=MARKER)
    body = h.embed_marker(draft.body, MARKER, 500)
    notes = h.cut_notes(draft, body, title_limit=255, body_limit=500, unit="bytes")
    assert notes == [
        "the title was longer than 255 bytes and is cut",
        "the text was longer than 500 bytes and is cut",
    ]
    assert h.cut_notes(draft, draft.body, title_limit=300, body_limit=900) == []


# -- markers -----------------------------------------------------------------------------------------------------


def test_a_marker_is_the_last_line_and_is_found_again():
    body = h.embed_marker("Hello\n", MARKER, 1000)
    assert body == f"Hello\n\n<!-- pointsman: {MARKER.text} -->"
    assert h.find_markers(body) == h.find_markers(body.replace("\n", "\r\n")) == (MARKER.text,)
    assert h.embed_marker(" \n", MARKER, 1000) == f"<!-- pointsman: {MARKER.text} -->"
    assert h.find_markers(None) == ()


def test_a_quoted_marker_is_removed():
    nested = f"<!-- poi<!-- pointsman: {OTHER.text} -->ntsman: {OTHER.text} -->"
    for text in (h.embed_marker("quoted", OTHER, 1000), nested):
        assert h.find_markers(h.embed_marker(text, MARKER, 1000)) == (MARKER.text,)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("```python\nraise", "```python\nraise\n```"),
        ("~~~~\n```\nraise", "~~~~\n```\nraise\n~~~~"),
        ("```\ndone\n```", "```\ndone\n```"),
        ("`" * 100 + "\nx", "`" * 100 + "\nx"),
    ],
)
def test_an_open_code_fence_is_closed_before_the_marker(text, closed):
    assert h.embed_marker(text, MARKER, 1000).removesuffix(f"\n\n<!-- pointsman: {MARKER.text} -->") == closed


@pytest.mark.parametrize("size", SIZES)
@relaxed
@given(text=st.text() | st.text(alphabet="`~\nx ä😀"), limit=st.integers(220, 400))
def test_every_text_fits_and_keeps_its_marker(size, text, limit):
    body = h.embed_marker(text, MARKER, limit, size)
    assert size(body) <= limit
    assert h.find_markers(body)[-1] == MARKER.text


def test_a_text_that_just_fits_is_not_cut():
    space = 200 - len(h.embed_marker("", MARKER, 200)) - 2
    assert h.CUT_NOTE not in h.embed_marker("x" * space, MARKER, 200)
    assert h.CUT_NOTE in h.embed_marker("x" * (space + 1), MARKER, 200)


# -- untrusted JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 0, -1, 2**63, "1", 1.0, [1]])
def test_what_is_no_positive_number_counts_as_none(value):
    assert h.positive_int({"id": value}, "id") is None
    assert h.positive_int([value], "id") is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-01T10:00:00+01:00", dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)),
        ("2017-09-15 16:50:55 UTC", dt.datetime(2017, 9, 15, 16, 50, 55, tzinfo=dt.UTC)),
        ("2026-03-01T10:00:00", dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        (7, None),
    ],
)
def test_times_are_read_in_utc(text, time):
    assert h.parse_time(text) == time


def test_a_time_is_written_rounded_down():
    time = dt.datetime(2026, 3, 1, 10, 0, 0, 999999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert h.format_time(time) == "2026-03-01T09:00:00Z"


def test_accounts_and_references_are_read():
    raw = {"id": 7, "login": "ann\n", "number": 12, "html_url": "javascript:x", "web_url": "https://t/12"}
    assert h.account(raw, "name", "login") == Actor("7", "ann")
    assert h.account({"login": "ann"}, "login") == Actor("ann", "ann")
    assert h.account({}, "login") is h.account("x", "login") is None
    ref = h.issue_ref(raw, "number", "html_url", "web_url", prefix="#")
    assert ref is not None and (ref.remote_id, ref.key, ref.url) == ("12", "#12", "https://t/12")
    comment = h.comment_ref(raw, "html_url")
    assert comment is not None and (comment.remote_id, comment.url) == ("7", "")
    assert h.issue_ref({}, "number") is h.comment_ref(None) is None
    assert h.text_at({"a": {"b": "c"}}, "a", "b") == "c"
    assert h.text_at({"a": 1}, "a", "b") == h.text_at([], "a") == ""
    assert h.objects_at({"a": [{}, 1]}, "a") == [{}]
    assert h.objects_at({"a": {}}, "a") == h.objects_at(None, "a") == []


# -- paging ------------------------------------------------------------------------------------------------------


def response(body: object, status: int = 200) -> Response:
    return Response(method="GET", path="/x", status=status, headers={}, body=json.dumps(body).encode())


async def read(pages: list[object], *, max_pages: int = 5) -> list[dict[str, int]]:
    async def fetch(page: int) -> Response:
        return response(pages[page - 1])

    def next_page(page: h.Page) -> int | None:
        return page.number + 1 if page.read < 3 else None

    return [
        item async for item in h.read_pages(fetch, next_page, doing="list the hooks", max_pages=max_pages)
    ]


async def test_all_pages_are_read_in_order():
    assert await read([[{"n": 1}], [], [{"n": 2}, {"n": 3}]]) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("pages", [[{"n": 1}], [[1]], [[{}], "x"]])
async def test_a_response_that_is_no_list_of_objects_proves_nothing(pages):
    with pytest.raises(UnknownOutcome, match="could not list the hooks"):
        await read(pages)


async def test_a_list_that_is_too_long_raises_at_its_end():
    with pytest.raises(UnknownOutcome, match="more than 2 pages"):
        await read([[{}], [{}], [{}]], max_pages=2)


# -- webhook registration ----------------------------------------------------------------------------------------


class Hook(NamedTuple):
    number: int
    url: str


class Hooks(h.WebhookRegistration[Hook]):
    def __init__(self, *hooks: Hook, error: Exception | None = None) -> None:
        super().__init__("the settings page")
        self.hooks = list(hooks)
        self.error = error
        self.log: list[str] = []

    async def read_all(self):
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return list(self.hooks)

    async def create(self, url, secret):
        self.hooks.append(Hook(1, url))
        self.log.append("created")
        return Finding(level="ok", message="created")

    async def repair(self, webhook, url, secret):
        self.log.append(f"repaired {webhook.number}")
        return Finding(level="ok", message="repaired")

    def explain(self, error, url):
        return Finding(level="warning", message="by hand") if error.status == 403 else None


async def test_a_missing_webhook_is_created_once():
    hooks = Hooks(Hook(9, "https://elsewhere"))
    await asyncio.gather(*(hooks.ensure("https://p/x", Secret("s")) for _ in range(3)))
    assert hooks.log == ["created", "repaired 1", "repaired 1"]


async def test_several_webhooks_are_reported_and_not_touched():
    hooks = Hooks(Hook(5, "https://p/x"), Hook(3, "https://p/x"))
    matching = await hooks.ensure("https://p/x", Secret("s"))
    assert (matching.level, hooks.log) == ("warning", [])
    assert "2 webhooks lead to Pointsman: 3, 5" in matching.message and "the settings page" in matching.remedy


async def test_a_missing_right_is_explained_and_other_errors_are_raised():
    matching = await Hooks(error=Misconfigured("no", status=403)).ensure("https://p/x", Secret("s"))
    assert matching.message == "by hand"
    with pytest.raises(Refused):
        await Hooks(error=Refused("no", status=422)).ensure("https://p/x", Secret("s"))


# -- requests ----------------------------------------------------------------------------------------------------


def test_only_numbers_go_into_paths():
    assert h.number_in_path("12", "issue") == "12"
    for odd in ("", "../1", "\u0661", "1a"):
        with pytest.raises(NotFound, match="is no issue number"):
            h.number_in_path(odd, "issue")


def test_a_success_about_something_else_is_an_unknown_outcome():
    error = h.unexpected_response(response({"welcome": "proxy"}), "close the issue")
    assert (
        error.status == 200
        and "proxy" in error.excerpt
        and error.message.startswith("could not close the issue")
    )
