"""Attacks on trackers by text, alone and mixed: two Markdown parsers show that they do nothing."""

import re
import tomllib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.content import render, sanitize
from pointsman.domain.states import TicketKind
from pointsman.plugin_api import Marker
from pointsman.plugin_api.helpers import find_markers
from pointsman_forgejo import wire as forgejo
from pointsman_github import wire as github
from pointsman_gitlab import wire as gitlab
from pointsman_jira import adf, wiki
from text_corpus.judges import ALIVE, JOINER, PARSERS, RAW, alive, alive_raw, letters

GROUPS = tomllib.loads((Path(__file__).parents[2] / "text_corpus" / "attacks.toml").read_text("utf-8"))
ATTACKS = [
    pytest.param(attack, id=f"{group}: {purpose}")
    for group, tries in GROUPS.items()
    for purpose, attack in tries.items()
]
TEXTS = [attack.values[0] for attack in ATTACKS]
QUICK = settings(deadline=None, max_examples=60)
MARKER = Marker("pm1-0192bbbb-0000-7000-8000-000000000000")
PAGE = "https://pointsman.test/console/tickets/x"
SIGNS = "@#!$%^&*~`_-+=:;<>[](){}|\\/\"'., \n\t\r"

# attacks next to each other, and torn apart
strange = st.lists(
    st.sampled_from(TEXTS)
    | st.sampled_from(TEXTS).flatmap(lambda attack: st.integers(0, len(attack)).map(lambda at: attack[at:]))
    | st.sampled_from(SIGNS)
    | st.text(max_size=4),
    max_size=6,
).map("".join)


def does_nothing_as_prose(value):
    markdown = sanitize.prose(value)
    assert not alive_raw(markdown)
    for parser in PARSERS:
        seen = parser(markdown)
        assert seen.kinds <= {"p", "br", "code"}, parser.__name__
        assert not alive(seen.prose), parser.__name__
        assert letters(seen.whole) == letters(sanitize.clean(value)), parser.__name__


def does_nothing_as_code(value):
    for code, kinds in (
        (sanitize.inline_code(value), {"p", "code"}),
        (sanitize.block_code(value), {"pre", "code"}),
    ):
        assert "<!-- pointsman" not in code
        for parser in PARSERS:
            seen = parser(code)
            assert seen.kinds <= kinds, parser.__name__
            assert not alive(seen.prose)


def does_nothing_as_title(value):
    title = sanitize.title(value)
    assert not re.search(r"://\S*/(?:issues|pull|merge_requests|commit|browse)/", title)
    text = re.sub(r"\w*://", "", title)  # a title is never searched for addresses to link
    active = alive(re.sub(r"(?i)www\.", "", text))
    active.pop("a formula", None)  # nor for formulas; figures alone are no commit there
    if re.fullmatch(r"\d+", active.get("a commit", "")):
        del active["a commit"]
    if active.get("GitLab's markup", "") != "%{":
        active.pop("GitLab's markup", None)
    if re.fullmatch(r"%\w|\*iteration:", active.get("a GitLab reference", "")) and "%1" not in title:
        del active["a GitLab reference"]
    assert not active
    assert len(title.splitlines()) <= 1
    assert len(title.encode("utf-16-le")) <= 2 * 255
    assert sanitize.title(title) == title


def test_the_corpus_is_large_and_says_what_each_is_after():
    assert len(TEXTS) >= 300
    assert len(set(TEXTS)) == len(TEXTS)
    assert all(purpose and purpose == purpose.strip() for tries in GROUPS.values() for purpose in tries)


def test_the_corpus_bites():
    """Without sanitizing, at least one parser shows most attacks as active; otherwise the parsers would prove nothing."""
    toothless = [
        text
        for text in TEXTS
        if not alive_raw(text)
        and not any(
            alive(seen.prose) or seen.kinds - {"p", "br"} for seen in (parser(text) for parser in PARSERS)
        )
        and sanitize.clean(text) == text
    ]
    assert len(toothless) < 0.12 * len(TEXTS), toothless
    hit = {name for text in TEXTS for parser in PARSERS for name in alive(parser(text).prose)}
    assert hit == set(ALIVE)
    assert {name for text in TEXTS for name in alive_raw(text)} == set(RAW)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_nothing(attack):
    does_nothing_as_prose(attack)
    does_nothing_as_code(attack)
    does_nothing_as_title(attack)


@QUICK
@given(strange)
def test_no_mixture_of_attacks_does_anything(value):
    does_nothing_as_prose(value)
    does_nothing_as_code(value)
    does_nothing_as_title(value)


@QUICK
@given(st.text(max_size=60))
def test_no_text_at_all_does_anything(value):
    does_nothing_as_prose(value)
    does_nothing_as_code(value)
    does_nothing_as_title(value)


@pytest.mark.parametrize("attack", ATTACKS)
def test_words_stay_findable(attack):
    """A search for a word of a report finds the issue: words, commits and URLs are not broken."""
    for word in re.findall(r"[^\W_]{2,}", sanitize.clean(attack).replace("3f2a91chttps", "")):
        assert word in sanitize.prose(attack)


@pytest.mark.parametrize("attack", GROUPS["unseen"].values())
def test_what_is_not_seen_is_not_sent(attack):
    for rendered in (
        sanitize.prose(attack),
        sanitize.title(attack),
        sanitize.inline_code(attack),
        sanitize.block_code(attack),
    ):
        for letter in rendered.replace(JOINER, "").replace("\n", ""):
            assert unicodedata.category(letter) not in {"Cc", "Cf", "Cs"}
            assert not re.match("VARIATION|HANGUL.*FILLER|COMBINING GRAPHEME", unicodedata.name(letter, ""))


def ticket(value):
    return render.TicketText(
        id="0192aaaa-0000-7000-8000-000000000000",
        kind=TicketKind.ALERT,
        title=value,
        source="shop",
        reporter_name=value,
        page=PAGE,
    )


def bodies(value):
    """Everything that goes to a tracker, with the attack at each place."""
    data = {"text": value, "code": value, "url": value, "facts": [[value, value], ["b", value]]}
    comment = {"body": value, "author": {"name": value}}
    return [
        render.issue_body(ticket(value), data),
        render.comment_body(ticket(value), "regressed", data),
        render.comment_body(ticket(value), "commented", comment),
    ]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_at_every_place_of_an_issue_does_nothing(attack):
    for markdown in bodies(attack):
        for parser in PARSERS:
            seen = parser(markdown)
            assert seen.kinds <= {"p", "br", "code", "pre", "ul", "li", "strong", "hr", "a"}
            assert seen.links <= {
                PAGE,
                *(parser(f"[x]({attack})").links if attack.lower().startswith("http") else ()),
            }
            assert not alive(seen.prose.replace("0192aaaa-0000-7000-8000-000000000000", ""))
        for wire in (forgejo, github, gitlab):
            sent = wire.marked_text(markdown, MARKER)
            assert find_markers(sent) == (MARKER.text,)
        assert not re.search(r"(?m)^/[A-Za-z_]+(?:\s|$)", gitlab.marked_text(markdown, MARKER))


def nodes(node):
    """A document's nodes, without those of its code."""
    yield node
    for child in node.get("content", ()) if node["type"] != "codeBlock" else ():
        yield from nodes(child)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_nothing_at_jira(attack):
    for markdown in bodies(attack):
        document = adf.document(markdown)
        assert {node["type"] for node in nodes(document)} <= {
            *("doc", "paragraph", "text", "hardBreak", "bulletList", "listItem", "rule", "codeBlock"),
        }
        texts = [
            node["text"]
            for node in nodes(document)
            if node["type"] == "text"
            and not {mark["type"] for mark in node.get("marks", ())} & {"code", "link"}
        ]
        assert not alive("\n".join(texts).replace("0192aaaa-0000-7000-8000-000000000000", ""))
        markup = re.sub(
            r"(?s)\{(code:text|code|noformat)\}\n.*?\n\{(?:code|noformat)\}", "", wiki.text(markdown)
        )
        assert not re.search(r"(?<!\\)\[~|(?<!\\)!\S+\.png|(?m:^h1\. )", markup)


def test_a_bracket_first_on_a_line_opens_no_formula():
    """Forgejo's parser takes ``\\[`` there for one that lasts to the end of the text."""
    assert sanitize.prose("[ERROR] x\n[WARN] y").splitlines() == [
        rf"{JOINER}\[{JOINER}ERROR] x  ",
        rf"{JOINER}\[{JOINER}WARN] y",
    ]


def test_a_link_to_another_issue_is_no_link_and_ours_are():
    for url in (
        "https://github.com/acme/shop/issues/12",
        "https://github.com/acme/shop/pull/12#discussion_r1",
        "https://github.com//acme//shop//commit/3f2a91c?x=1",
        "https://git.test/acme/shop/pulls/3/files",
        "https://gitlab.test/acme/sub/shop/-/merge_requests/12",
        "https://acme.atlassian.test/browse/PROJ-12",
    ):
        for parser in PARSERS:
            assert not parser(sanitize.link("Open", url, shows_host=True)).links
            assert parser(sanitize.link("ticket", url)).links == {url}
    for url in (
        "https://bugs.test/issues/issue/6937032e-0000-4000-8000-000000000000/event/last/",
        "https://sentry.test/organizations/acme/issues/123/",
        "https://help.test/tickets/12",
    ):
        assert PARSERS[1](sanitize.link("Open", url, shows_host=True)).links == {url}


@pytest.mark.parametrize("letter", ["a", "@b ", "\U0001f600", "#1", "é", "deadbeef1 ", ":tada:", "\u0301"])
@pytest.mark.parametrize("limit", [1, 2, 30, 255])
def test_a_title_fits_when_all_is_added(letter, limit):
    title = sanitize.title(letter * 600, limit)
    assert len(title.encode("utf-16-le")) <= 2 * limit
    assert sanitize.title(title, limit) == title
    assert title.endswith("…")
    assert limit < 30 or len(title) > limit // 5
