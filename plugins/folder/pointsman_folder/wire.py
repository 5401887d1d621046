"""Read and write issue files: front matter, text, comments. Bytes in, values or bytes out; no I/O.

The format; a person may edit any part of it::

    ---
    title: Checkout fails
    status: open
    reason:
    created: 2026-03-01T09:00:00Z
    updated: 2026-03-01T09:00:00Z
    labels: backend, urgent
    marker: pm1-...
    ---

    What happened.

    ## Comment · 2026-03-01 10:00 UTC
    <!-- pm1-... -->

    It happened again.

Reading works on bytes, so that unknown content is kept as it is.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman.plugin_api import CloseReason, State

HEAD_LIMIT = 65536
TITLE_LIMIT = 255
"""The front matter must end within this many bytes from the file's beginning."""

_BOM = b"\xef\xbb\xbf"
_KEY = re.compile(rb"[ \t]*([A-Za-z][A-Za-z0-9_-]{0,63})[ \t]*:(.*)", re.DOTALL)
_FILE_NAME = re.compile(r"([0-9]{1,9})(?:-.*)?\.[mM][dD]", re.DOTALL)
_PLAIN_SCALAR = re.compile(r"[^\W_](?:[^:#\"'\\]|:(?! |$))*", re.DOTALL)
_COMMENT = re.compile(rb"^## Comment \xc2\xb7 [^\r\n]*\r?\n<!-- (\S+) -->[ \t]*\r?$", re.MULTILINE)
_COMMENT_HEADING = "## Comment \u00b7"

_REASONS: Mapping[str, CloseReason] = {
    **dict.fromkeys(("closed", "close", "done", "completed", "complete", "fixed", "resolved", "solved"), "completed"),
    **dict.fromkeys(
        ("not planned", "wontfix", "won't fix", "won't do", "wont fix", "wont do", "cancelled", "canceled", "rejected"),
        "not_planned",
    ),
    **dict.fromkeys(("duplicate", "dup"), "duplicate"),
}  # fmt: skip


class Line(NamedTuple):
    """One ``key: value`` line: its value, and the position in the file of the part after the colon."""

    value: str
    start: int
    stop: int


class Head(NamedTuple):
    """The front matter of a file.

    The first line of a key counts; ``fence`` is the position of the closing ``---`` and ``stop`` that of the text.
    """

    lines: dict[str, Line]
    fence: int
    stop: int
    newline: bytes

    def value(self, key: str) -> str:
        """Return the value of a key, empty if the key is missing."""
        line = self.lines.get(key)
        return line.value if line else ""


def number_of(name: str) -> int | None:
    """Return the issue number in a file name, None for a name that is not an issue's."""
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else None


def file_name(number: int, title: str) -> str:
    """Return a name such as ``0001-checkout-fails.md``: letters a to z, digits and dashes, whatever the title
    contains.
    """
    plain = unicodedata.normalize("NFKD", title[:400].casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].rstrip("-")
    return f"{number:04d}-{slug or 'issue'}.md"


def one_line(text: str) -> str:
    """Return the text without line breaks and control characters."""
    clean = "".join(" " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else char for char in text)
    return " ".join(clean.split())


def read_head(data: bytes) -> Head | None:
    """Return the front matter at the beginning of a file, None if there is none: then it is no issue.

    A byte order mark, CRLF, blank lines before it and irregular spacing are accepted.
    """
    at = len(_BOM) if data.startswith(_BOM) else 0
    lines: dict[str, Line] = {}
    opened = False
    newline = b"\n"
    while at < min(len(data), HEAD_LIMIT):
        end = data.find(b"\n", at)
        next_at = len(data) if end < 0 else end + 1
        line = data[at:next_at]
        if b"\0" in line:
            return None
        text = line.strip()
        if not opened:
            if text and text != b"---":
                return None
            opened = bool(text)
            newline = b"\r\n" if line.endswith(b"\r\n") else b"\n"
        elif text == b"---":
            return Head(lines, at, next_at, newline)
        elif match := _KEY.fullmatch(line):
            stop = at + len(line.rstrip(b"\r\n"))
            value = match[2].decode("utf-8", "replace")
            lines.setdefault(
                match[1].decode().lower(), Line(_read_value(value), min(at + match.start(2), stop), stop)
            )
        at = next_at
    return None


def _read_value(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text[1:-1]
        return str(value)
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def _write_value(text: str) -> str:
    """Return a value that YAML readers understand too, quoted where necessary."""
    text = one_line(text)
    if not text or _PLAIN_SCALAR.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _word(text: str) -> str:
    text = text.partition(" #")[0].strip().strip("\"'").replace("\u2019", "'")
    return " ".join(re.split(r"[\s_-]+", text.casefold())).strip()


def read_state(head: Head, *, in_closed: bool) -> tuple[State, CloseReason | None]:
    """Return the state and the reason. A file in ``closed/`` is closed whatever its status line says."""
    status = _word(head.value("status"))
    reason_by_status = _REASONS.get(status)
    if reason_by_status is None and not in_closed:
        return "open", None
    reason = _REASONS.get(_word(head.value("reason")))
    return "closed", reason or reason_by_status or "completed"


def says_closed(head: Head) -> bool:
    """Return whether the status line itself says closed."""
    return _word(head.value("status")) in _REASONS


def edit_head(data: bytes, head: Head, values: Mapping[str, str]) -> bytes:
    """Return the file with these keys' lines changed (or added at the end of the front matter), the rest byte for
    byte.
    """
    edits: list[tuple[int, int, bytes]] = []
    for key, value in values.items():
        text = _write_value(value).encode("utf-8", "replace")
        replacement = b" " + text if text else b""
        line = head.lines.get(key)
        if line:
            edits.append((line.start, line.stop, replacement))
        elif text:
            edits.append((head.fence, head.fence, key.encode() + b":" + replacement + head.newline))
    edits.sort(key=lambda edit: edit[0])
    for start, stop, replacement in reversed(edits):
        data = data[:start] + replacement + data[stop:]
    return data


def new_state(data: bytes, head: Head, state: State, reason: CloseReason | None) -> bytes:
    """Return the file with another status and reason, everything else byte for byte."""
    why = (reason or "completed") if state == "closed" else ""
    return edit_head(data, head, {"status": state, "reason": why})


def cut_title(title: str) -> str:
    """Return a title of one line that leaves space for the rest of the front matter; an ellipsis marks a cut."""
    line = one_line(title)
    return line if len(line) <= TITLE_LIMIT else line[: TITLE_LIMIT - 1].rstrip() + "…"


def new_text(data: bytes, head: Head, title: str, body: str, now: dt.datetime) -> bytes:
    """Return the file with another title and body; comments and the other lines of the front matter stay."""
    first_comment = _COMMENT.search(data, head.stop)
    tail = data[first_comment.start() :] if first_comment else b""
    text = _text(body, head.newline)
    changed = data[: head.stop] + head.newline + text + (head.newline + tail if tail else b"")
    return edit_head(changed, head, {"title": cut_title(title), "updated": _stamp(now)})


def new_issue(title: str, body: str, marker: str, labels: Sequence[str], now: dt.datetime) -> bytes:
    """Return the bytes of a new file."""
    values = {
        "title": cut_title(title),
        "status": "open",
        "reason": "",
        "created": _stamp(now),
        "updated": _stamp(now),
        "labels": ", ".join(one_line(label).replace(",", " ") for label in labels),
        "marker": marker,
    }
    rows = [f"{key}: {_write_value(value)}".rstrip() for key, value in values.items()]
    head = "\n".join(["---", *rows, "---", "", ""])
    return head.encode("utf-8", "replace") + _text(body, b"\n")


def new_comment(data: bytes, head: Head, body: str, marker: str, now: dt.datetime) -> bytes:
    """Return the file with one more comment at its end."""
    gap = b"" if data.endswith(b"\n") else head.newline
    heading = (
        f"{_COMMENT_HEADING} {now.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC\n<!-- {one_line(marker)} -->\n\n"
    )
    section = heading.encode("utf-8", "replace").replace(b"\n", head.newline)
    return data + gap + head.newline + section + _text(body, head.newline)


def comment_markers(data: bytes, head: Head) -> tuple[str, ...]:
    """Return the markers of all comments, oldest first."""
    return tuple(match[1].decode("utf-8", "replace") for match in _COMMENT.finditer(data, head.stop))


def _text(body: str, newline: bytes) -> bytes:
    """Return Markdown as it is stored in a file; a line that looks like one of our comment headings gets a backslash."""
    lines = body.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip("\n").split("\n")
    safe = ["\\" + line if line.startswith(_COMMENT_HEADING) else line for line in lines]
    return ("\n".join(safe) + "\n").encode("utf-8", "replace").replace(b"\n", newline)


def _stamp(when: dt.datetime) -> str:
    return f"{when.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
