"""Strangers' text made fit to be shown: cleaned, cut, and inert in Markdown.

Values are data, never markup: what comes through here gives no mention, no reference, no image, no raw HTML and no
marker of ours when a tracker renders it.
"""

from __future__ import annotations

import re
from typing import Any

# Control characters but tab and line feed; what no reader sees (zero-width and bidirectional marks, fillers, tag
# characters, the variation selectors that letters can be hidden in); lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEWLINES = re.compile("\r\n?|[\x85\u2028\u2029]")

# Most trackers look for names and numbers in the text that a reader sees, when Markdown's backslashes are gone. What
# helps there is a character between, which is not seen.
_JOINER = "\u2060"

_SPECIAL = re.compile(r"([\\`*\[~$]|<(?=[\w/!?])|&(?=#?\w{1,32};)|(?<![^\W_])_|_(?![^\W_]))")
_LEAD = re.compile(r"^[ \t]+", re.MULTILINE)
_LINE_START = re.compile(r"^([#>|+=:;-])", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)])", re.MULTILINE)
# A line with one of these first: a command for GitLab and for bots, and a formula for Forgejo, whose parser takes \[ for
# the start of one, up to the end of the text.
_COMMAND_START = re.compile(r"^(?=/\S|\\\[)", re.MULTILINE)
_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
# The end counts as a colon: one of ours may follow.
_EMOJI = r":(?!\d+(?::|\Z))(?=[\w+\\-]+(?::|\Z))|:(?=(?:100|1234)(?::|\Z))"
# Backslashes stand before Markdown's signs when this is looked for.
_REFERENCE_SIGNS = re.compile(
    r"(?i)@(?=\S)|[#!](?=\\?\w)|[&^](?=\d|alert)"  # people, issues, merge requests, epics
    r"""|%(?=\\?[\w"{])|~(?=\\?[\w"])|\*(?=iteration:)"""  # GitLab's milestones, placeholders, labels
    r"|\[(?=\\?[\w\[^!+-])|\{(?=[+-])"  # its [TOC], [issue:1] and changes
    r"|\\\\(?=\()|\$|<(?=!-)"  # formulas; comments
    r"|:(?=//)|www(?=\.)|" + _EMOJI
)
# Outside of a formula GitHub takes no notice of a backslash before a dollar, unless something stands before both.
_DOLLAR = re.compile(r"(?=\\\$)")
_MAIL = re.compile(r"(?<=[\w.+-])(?=@)")
_REFERENCE = re.compile(r"(?i)(GHSA-(?=\w)|GH-(?=\d)|(?<![A-Z0-9])[A-Z][A-Z0-9]*-(?=\d))")
_COMMIT = r"(?<!\w)[0-9a-f]{7,64}(?!\w)"
_UUID = r"(?<!\w)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?!\w)"
# what GFM makes a link of by itself: https://github.github.com/gfm/#autolinks-extension-
_URL = r"(?:(?:https?|ftp)://|(?<![^\W_])www\.)[^\s<>\"'`]+"
_VERBATIM = re.compile(f"(?i){_URL}|{_UUID}|{_COMMIT}")
"""Shown as code: readable, still found and copied, and nothing to be clicked by mistake."""
_LEFT_COMMIT = re.compile(f"(?i){_COMMIT}")
_LINKABLE = re.compile(
    r"https?://([\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?([/?#][^\s<>\"'`()\\]*)?", re.ASCII | re.IGNORECASE
)
# A link to another issue makes that issue say so, for everybody who reads it.
_ISSUE_URL_PATH = re.compile(
    r"(?i)/+(?!organizations/)[^/]+/+(?:[^/]+/+)+?(?:-/+)?"
    r"(?:issues|pulls?|discussions|merge_requests|work_items|epics|commits?)/+[0-9a-f]+(?![^/?#])|/+browse/+[a-z]\w*-\d"
)
_ENTITY = re.compile(r"&(?=#?\w+;)")
_MARKER_START = re.compile(r"(?i)<!--(?=[ \t]*pointsman)")
_RUNS = re.compile("`+")

_TITLE = re.compile(
    r"(?i)@(?=\S)|[#!](?=\w)|[&^](?=\d|alert)|%(?=[\d\"{])|~(?=[\w\"])|\$(?=\d)|\[(?=\w+:\d)|<(?=!-)|"
    + _EMOJI
)
_TITLE_URL = re.compile(r"://\S*")
_TITLE_ISSUE_URL = re.compile(
    r"(?i)/(?:issues|pulls?|discussions|merge_requests|work_items|epics|commits?|browse)/"
)
# not of figures alone: those are order numbers, and somebody will look for them
_TITLE_COMMIT = re.compile(r"(?i)(?<!\w)(?=\d*[a-f])[0-9a-f]{7,64}(?!\w)")
_FOUR = re.compile(r"....(?=.)")


def clean(text: str) -> str:
    """Text without what terminals, databases and readers stumble over; lines end with a line feed."""
    if text.isascii():
        # nearly all lines, and nothing to look for in them
        return text if text.isprintable() else _HARMFUL.sub("", _NEWLINES.sub("\n", text))
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
        cleaned: Any
        if isinstance(node, dict):
            cleaned = {}
            for key, inner in node.items():
                todo_key = clean_stored(key)
                cleaned[todo_key] = inner
            items: Any = list(cleaned.items())
        else:
            cleaned = list(node)
            items = list(enumerate(cleaned))
        holder[place] = cleaned
        for key, inner in items:
            if isinstance(inner, str):
                cleaned[key] = clean_stored(inner)
            elif isinstance(inner, (dict, list)):
                todo.append((cleaned, key, inner))
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
    line = _break_markers(one_line(value, limit))
    if not line:
        return "–"
    if "`" not in line:
        return f"`{line}`"
    longest = max(map(len, _RUNS.findall(line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block_code(value: str, limit: int = 20_000) -> str:
    """Many lines as a code block, its fence longer than any run of backticks inside."""
    body = _break_markers(cut(clean(value).strip("\n"), limit))
    fence = "`" * max(3, max(map(len, _RUNS.findall(body)), default=0) + 1)
    return f"{fence}text\n{body}\n{fence}"


def _break_markers(code: str) -> str:
    """Code without our marker's form: plugins look for it in the raw text, where a fence means nothing."""
    return _MARKER_START.sub(rf"\g<0>{_JOINER}", code) if "<!--" in code else code


def _escape(text: str) -> str:
    text = _SPECIAL.sub(r"\\\1", text)
    text = _LINE_START.sub(r"\\\1", text)
    text = _NUMBERED.sub(r"\1\\", text)
    text = _COMMAND_START.sub(_JOINER, text)
    text = _REFERENCE_SIGNS.sub(rf"\g<0>{_JOINER}", text)
    text = _DOLLAR.sub(_JOINER, text)
    text = _MAIL.sub(_JOINER, text)
    text = _REFERENCE.sub(rf"\1{_JOINER}", text)
    # one that an address was glued to is left
    return _LEFT_COMMIT.sub(_break_commit, text)


def _break_commit(commit: re.Match[str]) -> str:
    return _FOUR.sub(rf"\g<0>{_JOINER}", commit[0])


def prose(text: str, limit: int = 30_000) -> str:
    """Prose as Markdown that reads the same and does nothing. Addresses and commits stay readable, as code."""
    text = _LEAD.sub("", cut(clean(text).strip(), limit))
    parts: list[str] = []
    at = 0
    for match in _VERBATIM.finditer(text):
        # clean, without spaces and without a code sign, so a single sign on each side will do
        parts += [_escape(text[at : match.start()]), f"`{match[0]}`"]
        at = match.end()
    parts.append(_escape(text[at:]))
    # a line break of the writer is a line break for the reader
    return _BREAK.sub("  \n", "".join(parts))


def title(text: str, limit: int = 255) -> str:
    """A title: one line of plain text, in which nobody is called and nothing is referred to.

    ``limit`` counts as the strictest of the trackers does, in units of UTF-16, after all that had to be added.
    """
    plain = one_line(text, limit)
    escaped = _escape_title(plain)
    kept = len(plain)
    while (over := _utf16_length(escaped) - limit) > 0:
        kept = min(kept - 1, max(kept - over, kept // 2))
        escaped = _escape_title(plain[:kept].rstrip(" …") + "…") if kept > 0 else "…"
        if kept <= 0:
            break
    return escaped


def _escape_title(line: str) -> str:
    line = _TITLE_COMMIT.sub(_break_commit, line)
    line = _TITLE_URL.sub(_break_issue_url, line)
    line = _TITLE.sub(rf"\g<0>{_JOINER}", line)
    return _REFERENCE.sub(rf"\1{_JOINER}", line)


def _break_issue_url(url: re.Match[str]) -> str:
    """The address of an issue broken, that of anything else as it is: trackers link no other address in a title."""
    return url[0].replace("://", f":{_JOINER}//") if _TITLE_ISSUE_URL.search(url[0]) else url[0]


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def link(label: str, url: str, *, shows_host: bool = False) -> str:
    """A link with our own words for a label; only to http and https, else the address as code.

    Where a stranger gave the address, the reader sees which host it leads to, and one that looks like another issue or
    commit is no link: trackers would tell everybody there of it.
    """
    match = _LINKABLE.fullmatch(url)
    if match is None or clean(url) != url or (shows_host and _ISSUE_URL_PATH.match(match[2] or "")):
        return f"{label}: {inline_code(url)}" if url else ""
    return f"[{label}]({_ENTITY.sub('&amp;', url)})" + (f" ({inline_code(match[1])})" if shows_host else "")
