"""Untrusted text stays readable and triggers nothing on a tracker."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pointsman.content import render, sanitize
from pointsman.domain.states import TicketKind

QUICK = settings(deadline=None, max_examples=30)

# CommonMark with the extensions of GitHub and Forgejo; raw HTML is on, so that a leak is visible.
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
JOINER = "\u2060"

PIECES = [
    *"#>+-=*_~`|\\/[]()<>!&;:.@'\"\n\t ",
    *(
        "\n\n",
        "\r\n",
        "  ",
        "    ",
        "\n    ",
        "\n\t",
        "---",
        "***",
        "___",
        "===",
        "\n===\n",
        "\n-\n",
        "\n:-\n",
        "|-|",
    ),
    *(
        "# ",
        "## x",
        "> ",
        "- ",
        "+ ",
        "* ",
        "1. ",
        "2) ",
        "- [ ] ",
        "123456789. ",
        "```",
        "````",
        "~~~",
        "\n```js\n",
    ),
    *("**b**", "_i_", "__b__", "~~s~~", "a_b_c", "`c`", "``c``", "\\`", "\\*", "\\\\", "\\\n"),
    *(
        "[a](http://x.test)",
        "[a](javascript:x)",
        "![a](http://x.test/i.png)",
        "[a]: http://x.test",
        "[a]",
        "[^1]",
        "](",
    ),
    *(
        "<b>",
        "</b>",
        "<!--",
        "-->",
        "<!-- pointsman: pm1-0 -->",
        "<script>",
        "<a href='x'>",
        "<?x?>",
        "<![CDATA[",
        "<!X>",
    ),
    *(
        "<http://x.test>",
        "<a@b.test>",
        "&lt;",
        "&#64;",
        "&#x40;",
        "&amp;",
        "&copy",
        "&",
        "\u00a0",
        "\u3000",
        "\x85",
    ),
    *(
        "@name",
        "@org/team",
        "@-x",
        "@_x",
        "a@b.test",
        "#12",
        "!7",
        "o/r#12",
        "o/r@abc1234",
        "GH-12",
        "gh-1",
        "ABC-1",
    ),
    *(
        "\u00e9GH-1",
        "_GH-1",
        "deadbeef1",
        "6937032e-8a4e",
        "0123456789abcdef0123456789abcdef01234567",
        "closes #1",
    ),
    *(
        "http://x.test",
        "HTTPS://X.test/a_b?c=*d*&e",
        "ftp://x.test/a",
        "www.x.test",
        "https://x.test/`a",
        "http://",
        "://",
    ),
    *(
        "/close",
        "\n/assign @a",
        "a|b",
        "\n|a|b|\n|-|-|\n",
        ":tada:",
        "\u200b",
        "\u202e",
        "\ufeff",
        "\x00",
        "\x1b[31m",
    ),
    *(
        JOINER,
        "\ud800",
        "\U000e0041",
        "\u00df",
        "\u4e2d",
        "\u2460",
        "\u00b2",
        "\u0301",
        "\U0001f600",
        "word",
        "Word.",
        "12",
    ),
]
strange = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)


def blocks(markdown):
    """The kinds of blocks that a parser sees, paragraphs left out."""
    return [
        token.type
        for token in PARSER.parse(markdown)
        if token.type not in ("paragraph_open", "paragraph_close", "inline")
    ]


def inlines(markdown):
    """Everything inside blocks."""
    return [child for token in PARSER.parse(markdown) for child in token.children or ()]


def shown(markdown, *, code=True):
    """Return the visible text; without ``code``, code is replaced by a space."""
    parts = []
    for token in PARSER.parse(markdown):
        for child in token.children or ():
            if child.type == "text":
                parts.append(child.content)
            elif child.type == "code_inline":
                parts.append(child.content if code else " ")
            elif child.type in ("softbreak", "hardbreak"):
                parts.append("\n")
        if token.type in ("fence", "code_block") and code:
            parts.append(token.content)
        parts.append("\n")
    return "".join(parts)


def letters(value):
    """A text without the joiners that break references, and without whitespace."""
    return "".join(value.replace(JOINER, "").split())


ALIVE = re.compile(
    r"""(?xi) @[\w-] | [#!]\d | GH-\d | \b[A-Z][A-Z0-9]+-\d | (?:https?|ftp)://[^\s<>"'`] | (?<![^\W_])www\.[^\s<>"'`]
    | ^/\w | \b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b """,
    re.MULTILINE,
)


def alive(markdown):
    """Return texts that a tracker would turn into a mention, reference, link or command."""
    return ALIVE.findall(shown(markdown, code=False))


# -- prose -------------------------------------------------------------------------------------------------------


@settings(QUICK, max_examples=60)
@given(strange)
@example("|a|\n:-")
@example("a\n\n\tcode")
@example("a\n\n \tcode")
@example("Visit www.x.test or FTP://x.test")
@example("see http://x.test - and\n- more")
@example("\\http://x.test\\")
def test_prose_reads_the_same_and_is_nothing_but_paragraphs(value):
    is_nothing_but_words(value)


@pytest.mark.parametrize(
    "around", ["{}", "{} word", "word\n{} word", "word\n\n{}word", "word {}", "{0}{0}\n{0}", "a{}b"]
)
def test_each_piece_of_markup_alone_is_nothing_but_words(around):
    for piece in PIECES:
        value = around.format(piece)
        is_nothing_but_words(value)
        assert not alive(sanitize.prose(value))


def is_nothing_but_words(value):
    markdown = sanitize.prose(value)
    assert blocks(markdown) == []
    kinds = {child.type for child in inlines(markdown)}
    assert kinds <= {"text", "softbreak", "hardbreak", "code_inline"}
    assert letters(shown(markdown)) == letters(sanitize.clean(value))


@settings(QUICK, max_examples=60)
@given(strange)
@example("@_x @-x @org/team mail@x.test &#64;name")
@example("closes o/r#12, GH-12, ABC-1, \u00e9GH-1, _GH-1")
def test_prose_calls_nobody_and_refers_to_nothing(value):
    markdown = sanitize.prose(value)
    assert not alive(markdown)
    # the only code in prose are addresses and commits: they stay readable, and cannot be clicked by mistake
    code = [child.content for child in inlines(markdown) if child.type == "code_inline"]
    assert all(re.match(r"(?i)(https?|ftp)://|www\.|[0-9a-f]{7}", token) for token in code)


@pytest.mark.parametrize(
    "plain",
    [
        "It doesn't work since 10:30 - see the well-known page 2.5 (or 3.1).",
        "Wer hätte das gedacht? 3 < 4 & 5 > 4; snake_case_name stays.",
        "Path a/b/c, 50% off, 5 €, x=1, \"quoted\", 'single', e.g. this…",
        "C# and R&D: a | b",
    ],
)
def test_plain_sentences_are_left_alone(plain):
    assert sanitize.prose(plain) == plain


def test_paragraphs_and_line_breaks_of_the_writer_are_kept():
    rendered = PARSER.render(sanitize.prose("Hello,\n\nfirst\nsecond\n\n\nBye"))
    assert rendered == "<p>Hello,</p>\n<p>first<br />\nsecond</p>\n<p>Bye</p>\n"


def test_text_around_an_address_keeps_its_spaces():
    assert shown(sanitize.prose("see  http://x.test/a   and www.y.test now")).strip() == (
        "see  http://x.test/a   and www.y.test now"
    )


def test_prose_is_cut_and_says_how_much_is_missing():
    text = shown(sanitize.prose("a" * 50, limit=20)).strip()
    assert text.startswith("a" * 20 + "\n")
    assert "30" in text


# -- code --------------------------------------------------------------------------------------------------------


@QUICK
@given(strange)
def test_inline_code_shows_one_line_as_it_is(value):
    line = sanitize.one_line(value, 1000)
    (*before, code, after) = inlines(f"- **x:** {sanitize.inline_code(value)} y")
    if line:
        assert (code.type, code.content.replace(JOINER, ""), after.content) == ("code_inline", line, " y")
    assert not {token.type for token in before} - {"text", "strong_open", "strong_close"}


@QUICK
@given(strange)
def test_inline_code_is_inert_at_the_start_of_a_line_too(value):
    assert blocks(sanitize.inline_code(value)) == []
    assert {token.type for token in inlines(sanitize.inline_code(value))} <= {"code_inline", "text"}


@QUICK
@given(strange)
@example("a\n```\n# b\n````\n# c")
def test_block_code_is_one_block_with_every_line_in_it(value):
    before, fence, after = "before\n\n", sanitize.block_code(value), "\n\nafter"
    tokens = [token for token in PARSER.parse(before + fence + after) if token.type != "inline"]
    assert [token.type for token in tokens] == [
        *("paragraph_open", "paragraph_close"),
        "fence",
        *("paragraph_open", "paragraph_close"),
    ]
    assert tokens[2].content.replace(JOINER, "").strip("\n") == sanitize.clean(value).strip("\n")


# -- one line, links, cleaning -------------------------------------------------------------------------------------


@QUICK
@given(strange, st.integers(1, 40))
def test_one_line_is_one_clean_line_of_limited_length(value, limit):
    line = sanitize.one_line(value, limit)
    assert len(line) <= limit
    assert line.split() == line.split(" ") or line == ""
    assert line == sanitize.clean(line)
    assert sanitize.one_line(line, limit) == line


@QUICK
@given(strange)
@example("closes #12 @name o/r#7 !3")
def test_a_title_says_the_same_and_refers_to_nothing(value):
    title = sanitize.title(value)
    assert title.replace(JOINER, "").rstrip("…") in sanitize.one_line(value, 1000)
    assert "…" in title or title.replace(JOINER, "") == sanitize.one_line(value, 1000)
    assert not re.search(r"@\w|[#!]\d", title)
    assert "\n" not in title


@QUICK
@given(strange)
def test_cleaning_twice_is_cleaning_once(value):
    cleaned = sanitize.clean(value)
    assert sanitize.clean(cleaned) == cleaned
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", cleaned
    )
    cleaned.encode()


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | strange,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strange, inner, max_size=3),
        max_leaves=10,
    )
)
def test_cleaned_json_can_be_stored_and_keeps_its_shape(value):
    cleaned = sanitize.clean_json(value)

    def walk(before, after):
        if isinstance(before, str):
            assert after == sanitize.clean_stored(before)
            assert "\x00" not in after
            after.encode()
        elif isinstance(before, list):
            assert len(before) == len(after)
            for left, other in zip(before, after, strict=True):
                walk(left, other)
        elif isinstance(before, dict):
            for key, inner in before.items():
                # two keys may become one, then the last one counts
                if [sanitize.clean_stored(other) for other in before].count(sanitize.clean_stored(key)) == 1:
                    walk(inner, after[sanitize.clean_stored(key)])
            assert set(after) == {sanitize.clean_stored(key) for key in before}
        else:
            assert after == before

    walk(value, cleaned)


def test_json_of_any_depth_is_cleaned_without_recursion():
    value = "\x00"
    for _ in range(100_000):
        value = [value]
    cleaned = sanitize.clean_json(value)
    for _ in range(100_000):
        (cleaned,) = cleaned
    assert cleaned == "\ufffd"


@pytest.mark.parametrize(
    "url",
    [
        "https://bugs.test/issues/1/?a=1&b=2",
        "http://[2001:db8::1]:8000/x",
        "http://127.0.0.1:8000/issues/issue/6937032e/event/last/",
        "https://x.test/a?q=1&lt;=2&copy;",
        "https://x.test/[a]_*b*~c",
        "https://my_app:8000",
    ],
)
def test_a_link_leads_where_the_address_says_and_shows_the_host(url):
    opened, *_ = [
        token for token in inlines(sanitize.link("Open", url, shows_host=True)) if token.type == "link_open"
    ]
    expected = PARSER.normalizeLink(url)
    assert opened.attrs["href"] == expected
    assert re.search(r"//([^:/]+|\[.*\])", url)[1] in shown(sanitize.link("Open", url, shows_host=True))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://x.test",
        "https://github.test@evil.test/",
        "https://x.test/)](http://evil.test",
        "https://x.test/ ![a](http://evil.test)",
        "https://x.test/<b>",
        "https://x.test/\u202egnp.exe",
        "https://x.test/\x01@name",
        "https://exa\u200bmple.test",
        "https://",
        "http://x.test\\@evil.test",
        "http://x.test\n\n# heading",
    ],
)
def test_an_address_that_is_not_plain_http_is_shown_and_not_linked(url):
    markdown = sanitize.link("Open", url, shows_host=True)
    assert {token.type for token in inlines(markdown)} == {"text", "code_inline"}
    assert letters(shown(markdown)) == letters("Open:" + sanitize.clean(url))
    assert blocks(markdown) == []


def test_no_address_makes_no_link():
    assert sanitize.link("Open", "") == ""


# -- outgoing texts --------------------------------------------------------------------------------------------------

PAGE = "https://pointsman.test/console/tickets/x"

tickets = st.builds(
    render.TicketText,
    id=st.just("0192aaaa-0000-7000-8000-000000000000"),
    kind=st.sampled_from(TicketKind),
    title=strange,
    source=st.just("shop"),
    description=strange,
    reporter_name=strange,
    close_reason=st.sampled_from([None, "completed", "not_planned", "duplicate", "else"]),
    page=st.just(PAGE),
)
urls = st.just("https://bugs.test/issues/1") | strange
opening = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["opened", "regressed", "recurred", "unmuted", "NEW"]),
        "text": strange,
        "code": strange,
        "url": urls,
        "facts": st.lists(st.lists(strange, min_size=2, max_size=2), max_size=3),
    },
)


def only_ours(markdown, data):
    """Whatever strangers wrote: no HTML, no picture, no call, and no link but the report's own and ours."""
    tokens = PARSER.parse(markdown)
    kinds = {token.type for token in tokens} | {inline.type for inline in inlines(markdown)}
    assert kinds <= {
        *("paragraph_open", "paragraph_close", "inline", "text", "softbreak", "hardbreak", "code_inline"),
        *("strong_open", "strong_close", "link_open", "link_close", "fence", "hr"),
        *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    }
    links = {inline.attrs["href"] for inline in inlines(markdown) if inline.type == "link_open"}
    assert links <= {PAGE, PARSER.normalizeLink(data.get("url", ""))}
    assert all(link.lower().startswith(("http://", "https://")) for link in links)
    text = shown(markdown, code=False).replace("0192aaaa-0000-7000-8000-000000000000", "")
    assert not ALIVE.findall(text)
    return [token.type for token in tokens]


@settings(QUICK, max_examples=30)
@given(tickets, opening)
def test_an_issue_has_our_form_and_nothing_of_a_strangers_making(ticket, data):
    kinds = only_ours(render.issue_body(ticket, data), data)
    assert kinds.count("hr") == 1
    assert kinds.count("fence") == bool(data.get("code"))
    assert kinds.count("list_item_open") == sum(1 for _, value in data.get("facts", ()) if value)
    assert kinds.count("bullet_list_open") == any(value for _, value in data.get("facts", ()))


@settings(QUICK, max_examples=30)
@given(
    tickets,
    st.sampled_from(["commented", "regressed", "recurred", "unmuted", "else"]),
    opening,
    strange,
    strange,
)
def test_a_comment_has_our_form_and_nothing_of_a_strangers_making(ticket, kind, data, body, name):
    comment = {**data, "body": body, "author": {"name": name}} if kind == "commented" else data
    kinds = only_ours(render.comment_body(ticket, kind, comment), {} if kind == "commented" else data)
    assert "hr" not in kinds
    assert "fence" not in kinds


@settings(QUICK, max_examples=30)
@given(tickets, st.sampled_from(["closed", "reopened", "recurred"]))
def test_a_mail_is_three_paragraphs_and_its_subject_one_line(ticket, kind):
    mail = render.mail(ticket, kind)
    kinds = only_ours(mail.body, {})
    assert set(kinds) == {"paragraph_open", "inline", "paragraph_close"}
    assert len(kinds) == 9
    assert len(mail.subject.splitlines()) == 1
    assert mail.subject.startswith("Closed: " if kind == "closed" else "Reopened: ")
    assert sanitize.one_line(ticket.title, 150) in mail.subject


def test_the_requesters_address_stands_in_no_issue():
    """The seed's footer is opt-in; by default not even the template has a place for the address."""
    assert "email" not in "".join(render.TicketText.__struct_fields__)
    ticket = render.TicketText(id="1", kind=TicketKind.SUPPORT, title="t", source="s", reporter_name="Ann")
    data = {"body": "hello", "author": {"name": "Ann", "email": "ann@x.test"}}
    assert "x.test" not in render.comment_body(ticket, "commented", data)


# -- time ----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "[",
    "*",
    "`",
    "<!--",
    "_",
    "\\",
    "&",
    "@",
    "a-",
    "A",
    "0",
    "://",
    "http://",
    "www.",
    "\n",
    " ",
    "\t",
    "\n\t",
    "#1",
    *(
        "$",
        ":a",
        ":a:",
        "deadbeef",
        "a1-",
        "0-",
        "[[",
        "{+",
        "%{",
        "/issues/",
        "://a/",
        "<!-- pointsman",
        "&#x",
        "a@",
    ),
    *("\u2060", "\U0001f600", "é#", ":+", "\\(", "~~", "0192aaaa-0000-", "GHSA-"),
]


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_size_and_not_with_its_square(piece):
    """Eight times as much of the same thing takes about eight times as long, not sixty-four times."""

    def seconds(size):
        value = piece * (size // len(piece))
        best = float("inf")
        for _ in range(2):
            begun = time.process_time()
            sanitize.prose(value, limit=size)
            sanitize.inline_code(value, limit=size)
            sanitize.block_code(value, limit=size)
            sanitize.title(value, limit=size)
            best = min(best, time.process_time() - begun)
        return best

    small = max(seconds(2**12), 0.001)
    assert seconds(2**15) < 8 * small * 4
