"""Judge the effect of a text with two Markdown parsers and the rules of trackers.

markdown-it-py, which our mails and the plugin for Jira use, with tables, strikethrough and the linking of bare addresses;
and cmark-gfm, GitHub's own, with all of its extensions and footnotes. Raw HTML is on in both, so that a leak would show.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import cmarkgfm
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt

JOINER = "\u2060"

_MARKDOWN_IT = MarkdownIt("gfm-like", {"html": True, "linkify": True})
# the trackers do not link these either: host names without www, URLs without a scheme
_MARKDOWN_IT.linkify.set({"fuzzy_link": False}).add("//", None)
_EXTENSIONS = ["table", "autolink", "strikethrough", "tasklist"]
_OPTIONS = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES


@dataclass
class Seen:
    """Result of parsing: kinds of elements, text outside of code, whole text, and targets of links."""

    kinds: set = field(default_factory=set)
    prose: str = ""
    whole: str = ""
    links: set = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.seen = Seen()
        self._code = 0

    def handle_starttag(self, tag, attrs):
        self.seen.kinds.add(tag)
        if tag in ("code", "pre"):
            self._code += 1
            self.seen.prose += " "
        if tag == "a":
            self.seen.links.add(dict(attrs).get("href"))

    def handle_endtag(self, tag):
        self.seen.kinds.add(tag)
        if tag in ("code", "pre"):
            self._code -= 1
        if tag == "p":
            self.seen.prose += "\n\n"

    def handle_data(self, data):
        self.seen.whole += data
        if not self._code:
            self.seen.prose += data

    def handle_comment(self, data):
        self.seen.kinds.add("!--")

    def handle_decl(self, decl):
        self.seen.kinds.add("!")

    def handle_pi(self, data):
        self.seen.kinds.add("?")

    def unknown_decl(self, data):
        self.seen.kinds.add("![")


def _read(html):
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.seen


def by_markdown_it(markdown):
    return _read(_MARKDOWN_IT.render(markdown))


def by_cmark(markdown):
    return _read(cmarkgfm.markdown_to_html_with_extensions(markdown, _OPTIONS, _EXTENSIONS))


PARSERS = (by_markdown_it, by_cmark)

# Texts that GitHub, GitLab, Forgejo and Jira search for after Markdown, wider than in any of them.
ALIVE = {
    "a mention": r"@[\w-]",
    "an issue": r"[#!]\w|(?i:gh-\d|(?<![a-z0-9])[a-z][a-z0-9]*-\d|ghsa-\w)",
    "a GitLab reference": r"""[&^$]\d|\^alert|%[\w"{]|~[\w"]|\*iteration:|\[[\w-]+:\d""",
    "a commit": r"(?i)(?<!\w)[0-9a-f]{7,64}(?!\w)",
    "an address": r"(?i)\w://|(?<![^\W_])www\.|[\w.+-]@\w",
    "a formula": rf"(?<!{JOINER})\$|\$(?!{JOINER})",
    "an emoji": r":(?!\d+:)[\w+-]+:|:(?:100|1234):",
    "a comment": r"<!--",
    "GitLab's markup": r"\[TOC\]|\[\[|\{[+-]|\[[+-]|%\{",
}
# texts that are searched for in the raw text, independent of Markdown
RAW = {
    "a command": r"(?m)^[ \t]*/[a-zA-Z]",
    "a formula of Forgejo": r"(?m)^[ \t]*(?:[-*>][ \t]+)*\\\[",
    "a marker": r"(?i)<!--[ \t]*pointsman",
    "front matter": r"\A(?:---|\+\+\+|;;;)",
}


def alive(text):
    """Return the texts that a tracker would act on, by name."""
    return {name: match[0] for name, sign in ALIVE.items() if (match := re.search(sign, text))}


def alive_raw(markdown):
    return {name: match[0] for name, sign in RAW.items() if (match := re.search(sign, markdown))}


def letters(value):
    """A text without joiners and whitespace."""
    return "".join(value.replace(JOINER, "").split())
