"""Clean, cut and escape untrusted text for Markdown.

Values are data, never markup: sanitized text contains no mention, reference, image, raw HTML or marker of ours when a
tracker renders it.
"""

from __future__ import annotations

import re
from typing import Any

# Control characters except tab and line feed; invisible characters (zero-width and bidirectional marks, fillers, tag
# characters, variation selectors that can hide text); lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEWLINES = re.compile("\r\n?|[\x85\u2028\u2029]")

# Most trackers look for mentions and references in the rendered text, after Markdown's backslashes are removed. An
# invisible character in between prevents a match.
_JOINER = "\u2060"

_SPECIAL = re.compile(r"([\\`*\[~$]|<(?=[\w/!?])|&(?=#?\w{1,32};)|(?<![^\W_])_|_(?![^\W_]))")
_LEAD = re.compile(r"^[ \t]+", re.MULTILINE)
_LINE_START = re.compile(r"^([#>|+=:;-])", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)])", re.MULTILINE)
# Line starts with a meaning: a command for GitLab and for bots, and a formula for Forgejo, whose parser treats \[ as
# the start of a formula up to the end of the text.
_COMMAND_START = re.compile(r"^(?=/\S|\\\[)", re.MULTILINE)
_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
# The end of the text counts as a colon, since our own text may begin with one.
_EMOJI = r":(?!\d+(?::|\Z))(?=[\w+\\-]+(?::|\Z))|:(?=(?:100|1234)(?::|\Z))"
# Applied after Markdown's signs were escaped, hence the optional backslashes.
_REFERENCE_SIGNS = re.compile(
    r"(?i)@(?=\S)|[#!](?=\\?\w)|[&^](?=\d|alert)"  # people, issues, merge requests, epics
    r"""|%(?=\\?[\w"{])|~(?=\\?[\w"])|\*(?=iteration:)"""  # GitLab's milestones, placeholders, labels
    r"|\[(?=\\?[\w\[^!+-])|\{(?=[+-])"  # its [TOC], [issue:1] and changes
    r"|\\\\(?=\()|\$|<(?=!-)"  # formulas; comments
    r"|:(?=//)|www(?=\.)|" + _EMOJI
)
# Outside a formula GitHub ignores a backslash before a dollar sign, unless a character precedes both.
_DOLLAR = re.compile(r"(?=\\\$)")
_MAIL = re.compile(r"(?<=[\w.+-])(?=@)")
_REFERENCE = re.compile(r"(?i)(GHSA-(?=\w)|GH-(?=\d)|(?<![A-Z0-9])[A-Z][A-Z0-9]*-(?=\d))")
_COMMIT = r"(?<!\w)[0-9a-f]{7,64}(?!\w)"
_UUID = r"(?<!\w)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?!\w)"
# text that GFM links by itself: https://github.github.com/gfm/#autolinks-extension-
_URL = r"(?:(?:https?|ftp)://|(?<![^\W_])www\.)[^\s<>\"'`]+"
_VERBATIM = re.compile(f"(?i){_URL}|{_UUID}|{_COMMIT}")
"""Shown as code: readable, searchable and copyable, but not a link."""
_LEFT_COMMIT = re.compile(f"(?i){_COMMIT}")
_LINKABLE = re.compile(
    r"https?://([\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?([/?#][^\s<>\"'`()\\]*)?", re.ASCII | re.IGNORECASE
)
# A link to another issue adds a visible back reference to that issue.
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
# not digits alone: those may be order numbers that people search for
_TITLE_COMMIT = re.compile(r"(?i)(?<!\w)(?=\d*[a-f])[0-9a-f]{7,64}(?!\w)")
_FOUR = re.compile(r"....(?=.)")


def clean(text: str) -> str:
    """Return text without control and invisible characters and lone surrogates, with LF line ends."""
    if text.isascii():
        # the fast path for nearly all texts
        return text if text.isprintable() else _HARMFUL.sub("", _NEWLINES.sub("\n", text))
    text = _SURROGATE.sub("\ufffd", _NEWLINES.sub("\n", text))
    return _HARMFUL.sub("", text)


def clean_json(value: Any) -> Any:
    """Apply clean_stored to every text of a decoded JSON value, keys included. Works without recursion."""
    if isinstance(value, str):
        return clean_stored(value)
    if not isinstance(value, (dict, list)):
        return value
    root: list[Any] = [value]
    todo: list[tuple[Any, Any, Any]] = [(root, 0, value)]
    while todo:
        holder, index, node = todo.pop()
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
        holder[index] = cleaned
        for key, inner in items:
            if isinstance(inner, str):
                cleaned[key] = clean_stored(inner)
            elif isinstance(inner, (dict, list)):
                todo.append((cleaned, key, inner))
    return root[0]


def clean_stored(text: str) -> str:
    """Return text that PostgreSQL accepts: without NUL and lone surrogates, otherwise unchanged."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return _SURROGATE.sub("\ufffd", text).replace("\x00", "\ufffd")


def one_line(text: str, limit: int = 255) -> str:
    """Return one line of at most ``limit`` characters; an ellipsis marks a cut."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def cut(text: str, limit: int) -> str:
    """Return at most ``limit`` characters plus a note on how many were cut."""
    if len(text) <= limit:
        return text
    left = f"\n… ({len(text) - limit} more characters)"
    return text[:limit] + left


def inline_code(value: str, limit: int = 1000) -> str:
    """Return a value as one line of inline code."""
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
    """Return a text as a code block whose fence is longer than any run of backticks inside."""
    body = _break_markers(cut(clean(value).strip("\n"), limit))
    fence = "`" * max(3, max(map(len, _RUNS.findall(body)), default=0) + 1)
    return f"{fence}text\n{body}\n{fence}"


def _break_markers(code: str) -> str:
    """Break texts that look like our markers: plugins search for markers in the raw text, also inside code."""
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
    # commits directly beside a URL were not matched before
    return _LEFT_COMMIT.sub(_break_commit, text)


def _break_commit(commit: re.Match[str]) -> str:
    return _FOUR.sub(rf"\g<0>{_JOINER}", commit[0])


def prose(text: str, limit: int = 30_000) -> str:
    """Return prose as Markdown without active markup. URLs and commit ids become code, so they stay readable."""
    text = _LEAD.sub("", cut(clean(text).strip(), limit))
    parts: list[str] = []
    at = 0
    for match in _VERBATIM.finditer(text):
        # the match contains neither spaces nor backticks, so one backtick on each side is enough
        parts += [_escape(text[at : match.start()]), f"`{match[0]}`"]
        at = match.end()
    parts.append(_escape(text[at:]))
    # keep single line breaks as hard breaks
    return _BREAK.sub("  \n", "".join(parts))


def title(text: str, limit: int = 255) -> str:
    """Return a title: one line of plain text without mentions and references.

    ``limit`` is in UTF-16 code units, the strictest count of all trackers, and includes the inserted characters.
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
    """Break the URL of an issue; keep other URLs, since trackers do not link them in titles."""
    return url[0].replace("://", f":{_JOINER}//") if _TITLE_ISSUE_URL.search(url[0]) else url[0]


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def link(label: str, url: str, *, shows_host: bool = False) -> str:
    """Return a link to an http or https URL, else the URL as code. ``label`` is trusted text.

    ``shows_host`` is for untrusted URLs: the host is shown, and a URL of an issue or commit is not linked, since
    trackers would add a visible back reference there.
    """
    match = _LINKABLE.fullmatch(url)
    if match is None or clean(url) != url or (shows_host and _ISSUE_URL_PATH.match(match[2] or "")):
        return f"{label}: {inline_code(url)}" if url else ""
    return f"[{label}]({_ENTITY.sub('&amp;', url)})" + (f" ({inline_code(match[1])})" if shows_host else "")
