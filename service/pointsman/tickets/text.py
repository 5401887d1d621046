"""Strangers' text made fit to be shown: cleaned, cut, and inert in Markdown.

Values are data, never markup: what comes through here gives no mention, no reference, no image, no raw HTML and no
marker of ours when a tracker renders it.
"""

from __future__ import annotations

import re
from typing import Any

# Control characters but tab and line feed; zero-width and bidirectional marks; tag characters; lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEWLINES = re.compile("\r\n?|[\x85\u2028\u2029]")

_SPECIAL = re.compile(r"([\\`*\[~]|<(?=[\w/!?])|&(?=#?\w{1,32};)|(?<![^\W_])_|_(?![^\W_]))")
_LEAD = re.compile(r"^[ \t]+", re.MULTILINE)
_LINE_START = re.compile(r"^([#>|+=-]|:(?=-))", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)])", re.MULTILINE)
_COMMAND = re.compile(r"^/(?=\S)", re.MULTILINE)
_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
_MENTION = re.compile(r"(?i)@(?=\S)|[#!](?=\w)|(?:https?|ftp):(?=//)|www(?=\.)")
_REFERENCE = re.compile(r"(?i)(GH-|(?<![A-Z0-9])[A-Z][A-Z0-9]+-)(?=\d)")
_HASH = re.compile(r"(?i)\b(?=[a-f]*\d)[0-9a-f]{7,64}\b")
_FOUR = re.compile(r"....(?=.)")
# what GFM makes a link of by itself: https://github.github.com/gfm/#autolinks-extension-
_URL = re.compile(r"(?i)(?:(?:https?|ftp)://|(?<![^\W_])www\.)[^\s<>\"'`]+")
_LINKABLE = re.compile(
    r"https?://([\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?(?:[/?#][^\s<>\"'`()\\]*)?", re.ASCII | re.IGNORECASE
)
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TITLE = re.compile(r"@(?=\w)|[#!](?=\d)")
_JOINER = "\u2060"


def clean(text: str) -> str:
    """Text without what terminals, databases and readers stumble over; lines end with a line feed."""
    text = _SURROGATE.sub("\ufffd", _NEWLINES.sub("\n", text))
    return _HARMFUL.sub("", text)


def clean_json(value: Any) -> Any:
    """The same for every text in a decoded JSON value, keys too. Walks without recursion."""
    if isinstance(value, str):
        return clean_stored(value)
    if not isinstance(value, (dict, list)):
        return value
    root: list[Any] = [value]
    todo: list[tuple[Any, Any, Any]] = [(root, 0, value)]
    while todo:
        holder, place, node = todo.pop()
        made: Any
        if isinstance(node, dict):
            made = {}
            for key, inner in node.items():
                todo_key = clean_stored(key)
                made[todo_key] = inner
            items: Any = list(made.items())
        else:
            made = list(node)
            items = list(enumerate(made))
        holder[place] = made
        for key, inner in items:
            if isinstance(inner, str):
                made[key] = clean_stored(inner)
            elif isinstance(inner, (dict, list)):
                todo.append((made, key, inner))
    return root[0]


def clean_stored(text: str) -> str:
    """Text that Postgres takes: no NUL and no lone surrogate, otherwise untouched."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return _SURROGATE.sub("\ufffd", text).replace("\x00", "\ufffd")


def one_line(text: str, limit: int = 255) -> str:
    """One line of at most ``limit`` characters; what was cut is marked by an ellipsis."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, with a word about it where something was cut."""
    if len(text) <= limit:
        return text
    left = f"\n… ({len(text) - limit} more characters)"
    return text[:limit] + left


def inline_code(value: str, limit: int = 1000) -> str:
    """A one-line value as inline code, whatever it holds."""
    line = one_line(value, limit)
    if not line:
        return "–"
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block_code(value: str, limit: int = 20_000) -> str:
    """Many lines as a code block, its fence longer than any run of backticks inside."""
    body = cut(clean(value).strip("\n"), limit)
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{body}\n{fence}"


def _inert(text: str) -> str:
    text = _SPECIAL.sub(r"\\\1", text)
    text = _LINE_START.sub(r"\\\1", text)
    text = _NUMBERED.sub(r"\1\\", text)
    text = _COMMAND.sub(f"{_JOINER}/", text)
    text = _MENTION.sub(rf"\g<0>{_JOINER}", text)
    text = _REFERENCE.sub(rf"\1{_JOINER}", text)
    return _HASH.sub(lambda found: _FOUR.sub(rf"\g<0>{_JOINER}", found[0]), text)


def prose(text: str, limit: int = 30_000) -> str:
    """Prose as Markdown that reads the same and does nothing. Links stay readable, as code."""
    text = _LEAD.sub("", cut(clean(text).strip(), limit))
    parts: list[str] = []
    at = 0
    for url in _URL.finditer(text):
        parts += [_inert(text[at : url.start()]), inline_code(url.group(), 2000)]
        at = url.end()
    parts.append(_inert(text[at:]))
    # a line break of the writer is a line break for the reader
    return _BREAK.sub("  \n", "".join(parts))


def title(text: str, limit: int = 1000) -> str:
    """A title: one line of plain text, in which nobody is called and no issue is referred to."""
    return _TITLE.sub(rf"\g<0>{_JOINER}", one_line(text, limit))


def link(label: str, url: str, *, shows_host: bool = False) -> str:
    """A link with our own words for a label; only to http and https, else the address as code.

    Where a stranger gave the address, the reader sees which host it leads to.
    """
    found = _LINKABLE.fullmatch(url)
    if found is None or clean(url) != url:
        return f"{label}: {inline_code(url)}" if url else ""
    return f"[{label}]({_ENTITY.sub('&amp;', url)})" + (f" ({inline_code(found[1])})" if shows_host else "")
