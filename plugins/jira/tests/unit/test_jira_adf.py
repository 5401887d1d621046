"""Markdown becomes a document that Jira takes, whatever the Markdown is."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_jira import adf

quick = settings(max_examples=150, deadline=None)
pieces = st.sampled_from(
    ["# ", "> ", "- ", "1. ", "    ", "```", "```py\n", "`", "**", "*", "~~", "_", "[a](http://x.yz)", "[a](/rel)",
     "![i](http://x.yz/a.png)", "<b>", "<!-- -->", "| a | b |\n|---|---|\n| c | d |\n", "---\n", "\n", "\n\n", "  \n",
     "word", " ", "\\", "&amp;", "@user", "<a@b.cd>", "javascript:alert(1)", "\0", "\ud800", "é", "\u2028", "😀"]
)  # fmt: skip
markdown = st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map("".join))

INLINE = {"text", "hardBreak"}
INSIDE = {"paragraph", "bulletList", "orderedList", "codeBlock"}
CHILDREN = {
    "doc": INSIDE | {"heading", "blockquote", "rule", "table"},
    "paragraph": INLINE,
    "heading": INLINE,
    "codeBlock": {"text"},
    "blockquote": INSIDE,
    "bulletList": {"listItem"},
    "orderedList": {"listItem"},
    "listItem": INSIDE,
    "table": {"tableRow"},
    "tableRow": {"tableHeader", "tableCell"},
    "tableHeader": {"paragraph"},
    "tableCell": {"paragraph"},
}
FULL = {"blockquote", "bulletList", "orderedList", "listItem", "table", "tableHeader", "tableCell"}


def check(node, parent=None):
    """The rules of the format, as far as this renderer can reach them."""
    kind = node["type"]
    assert set(node) <= {"type", "attrs", "content", "text", "marks", "version"}
    if kind == "text":
        assert node["text"]
        marks = [mark["type"] for mark in node.get("marks", ())]
        assert len(marks) == len(set(marks))
        assert node.get("marks", ["none"])
        if parent == "codeBlock":
            assert not marks
        if "code" in marks:
            assert set(marks) <= {"code", "link"}
        for mark in node.get("marks", ()):
            if mark["type"] == "link":
                assert mark["attrs"]["href"].startswith(("http://", "https://", "mailto:"))
        return
    if kind in {"rule", "hardBreak"}:
        assert set(node) == {"type"}
        return
    content = node.get("content", [])
    assert content or kind not in FULL
    if kind == "listItem":
        assert content[0]["type"] in {"paragraph", "codeBlock"}
    for child in content:
        assert child["type"] in CHILDREN[kind], (kind, child["type"])
        check(child, kind)


def text_of(node):
    return node.get("text", "") + "".join(text_of(child) for child in node.get("content", ()))


def blocks(text):
    return adf.document(text)["content"]


def text(content, *marks):
    node = {"type": "text", "text": content}
    return (
        {**node, "marks": [mark if isinstance(mark, dict) else {"type": mark} for mark in marks]}
        if marks
        else node
    )


def link(href):
    return {"type": "link", "attrs": {"href": href}}


def paragraph(*inline):
    return {"type": "paragraph", "content": list(inline)} if inline else {"type": "paragraph"}


@quick
@given(markdown)
def test_any_text_becomes_a_valid_document(text_input):
    document = adf.document(text_input)
    check(document)
    assert document == adf.document(text_input)
    json.dumps(document).encode()


@quick
@given(markdown, st.integers(0, 300))
def test_a_cut_document_is_valid_and_short(text_input, limit):
    for created in (adf.document(text_input, limit), adf.plain_document(text_input, limit)):
        check(created)
        assert len(text_of(created)) <= limit + 120


@quick
@given(
    st.lists(st.sampled_from(["> ", "- ", "1. ", "  ", "# ", "| a |\n|---|\n", "\n"]), max_size=60).map(
        "".join
    )
)
def test_no_word_is_lost_in_nesting(around):
    assert "needle" in text_of(adf.document(around + "needle"))


def test_marks_and_their_order():
    assert blocks("a **b *c* ~~d~~** `e`") == [
        paragraph(
            text("a "),
            text("b ", "strong"),
            text("c", "strong", "em"),
            text(" ", "strong"),
            text("d", "strong", "strike"),
            text(" "),
            text("e", "code"),
        )
    ]


def test_code_stands_with_a_link_at_most():
    assert blocks("**`a`** [`b`](https://x.yz) [**c**](https://x.yz)") == [
        paragraph(
            text("a", "code"),
            text(" "),
            text("b", link("https://x.yz"), "code"),
            text(" "),
            text("c", link("https://x.yz"), "strong"),
        )
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[x](https://a.bc/d?e=f)", [text("x", link("https://a.bc/d?e=f"))]),
        ("<mailto:a@b.cd>", [text("mailto:a@b.cd", link("mailto:a@b.cd"))]),
        ("[x](javascript:alert)", [text("[x](javascript:alert)")]),
        ("[x](/relative)", [text("x (/relative)")]),
        ("[x](ftp://a.bc)", [text("x (ftp://a.bc)")]),
        ("[x](http://)", [text("x (http://)")]),
        ("[x](http://[)", [text("x (http://%5B)")]),
        ("![alt](https://a.bc/i.png)", [text("alt", link("https://a.bc/i.png"))]),
        ("![](https://a.bc/i.png)", [text("https://a.bc/i.png", link("https://a.bc/i.png"))]),
        ("[![alt](https://a.bc/i.png)](https://d.ef)", [text("alt", link("https://d.ef"))]),
        ("@user [~accountid:5b10] <b>x</b>", [text("@user [~accountid:5b10] <b>x</b>")]),
        ("a\nb", [text("a b")]),
        ("a  \nb", [text("a"), {"type": "hardBreak"}, text("b")]),
        ("**\u200b**", None),
    ],
)
def test_inline(source, expected):
    created = adf.document(source)
    check(created)
    if expected is not None:
        assert created["content"] == [paragraph(*expected)]


def test_blocks():
    source = "# H\n\n- a\n  1. b\n- c\n\n5. five\n\n> q\n\n```py title\nx = 1\n```\n\n    indented\n\n---\n\n```\n```\n"
    assert blocks(source) == [
        {"type": "heading", "attrs": {"level": 1}, "content": [text("H")]},
        {
            "type": "bulletList",
            "content": [
                {
                    "type": "listItem",
                    "content": [
                        paragraph(text("a")),
                        {
                            "type": "orderedList",
                            "attrs": {"order": 1},
                            "content": [{"type": "listItem", "content": [paragraph(text("b"))]}],
                        },
                    ],
                },
                {"type": "listItem", "content": [paragraph(text("c"))]},
            ],
        },
        {
            "type": "orderedList",
            "attrs": {"order": 5},
            "content": [{"type": "listItem", "content": [paragraph(text("five"))]}],
        },
        {"type": "blockquote", "content": [paragraph(text("q"))]},
        {"type": "codeBlock", "attrs": {"language": "py"}, "content": [text("x = 1")]},
        {"type": "codeBlock", "content": [text("indented")]},
        {"type": "rule"},
        {"type": "codeBlock"},
    ]


def test_a_table():
    [table] = blocks("| a | **b** |\n|---|---|\n| 1 |  |\n")
    cell = {"attrs": {}, "type": "tableCell"}
    assert table["content"] == [
        {
            "type": "tableRow",
            "content": [
                {"type": "tableHeader", "attrs": {}, "content": [paragraph(text("a"))]},
                {"type": "tableHeader", "attrs": {}, "content": [paragraph(text("b", "strong"))]},
            ],
        },
        {
            "type": "tableRow",
            "content": [{**cell, "content": [paragraph(text("1"))]}, {**cell, "content": [paragraph()]}],
        },
    ]


def test_a_quote_holds_only_what_it_may():
    [quote] = blocks("> # Head\n> > inner\n>\n> ---\n>\n> | a | b |\n> |---|---|\n> | 1 | 2 |\n")
    assert quote == {
        "type": "blockquote",
        "content": [
            paragraph(text("Head", "strong")),
            paragraph(text("inner")),
            paragraph(text("---")),
            paragraph(text("a | "), text("b")),
            paragraph(text("1 | "), text("2")),
        ],
    }


def test_a_list_item_begins_with_a_paragraph():
    [outer] = blocks("- - a")
    assert outer["content"][0]["content"][0] == paragraph()
    check({"type": "doc", "content": [outer]})


def test_empty_text_is_an_empty_document():
    assert adf.document(" \n") == {"version": 1, "type": "doc", "content": []}


def test_a_long_text_is_cut_and_says_so():
    document = adf.document("# Head\n\n" + "word " * 20000)
    assert adf.size(document["content"]) < 25_000
    assert "100008 characters" in text_of(document["content"][-1])
    assert text_of(document).startswith("Headword")
    whole = adf.document("word " * 4000)
    assert "Cut here" not in text_of(whole)


def test_a_long_trace_is_cut_inside_its_block():
    content = blocks("before\n\n```\n" + "line\n" * 9000 + "```\n")
    assert [node["type"] for node in content] == ["paragraph", "codeBlock", "paragraph"]
    assert len(text_of(content[1])) > 20_000


def test_control_characters_do_not_reach_jira():
    payload = json.dumps(adf.document("a\x00b\x1bc\ud800d\n\n```\n\x07\n```"))
    assert not any(bad in payload for bad in ("\\u0000", "\\u001b", "\\u0007", "\\ud800"))


def test_the_plain_form_is_paragraphs_without_marks():
    assert adf.plain_document("# a **b**\n\n- c") == {
        "version": 1,
        "type": "doc",
        "content": [paragraph(text("# a **b**")), paragraph(text("- c"))],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "![",
        "[](",
        "*a **b ",
        "`",
        "> ",
        "- ",
        "- a\n",
        "|a",
        "<",
        "&",
        "_a",
        "~~",
        "[a](b",
        "> - ",
        "[a] ",
    ],
)
def test_no_text_takes_long(piece):
    definition = "[a]: http://x.yz/" + "z" * 1500 + "\n\n"
    before = time.process_time()
    document = adf.document(definition + piece * (40_000 // len(piece)))
    assert time.process_time() - before < 8  # a quadratic parser would need minutes
    assert len(json.dumps(document)) < 2_000_000
