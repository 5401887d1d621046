"""Fit texts into what a tracker accepts."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

from pointsman.plugin_api.values import Draft

Size = Callable[[str], int]
"""Measures a text in the unit of a tracker's limit: ``len`` for characters, ``utf8_size``, ``utf16_size``."""

CUT_NOTE = "\n\n*(The text was longer and is cut here.)*"
"""The end of a text that had to be cut."""
NO_TITLE = "(no title)"


def utf8_size(text: str) -> int:
    """Return the number of bytes in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def utf16_size(text: str) -> int:
    """Return the number of UTF-16 code units, as Java and JavaScript count characters."""
    return len(text.encode("utf-16-le", "replace")) // 2


def clean_text(text: str) -> str:
    """Remove NUL and replace lone surrogates, which few databases accept."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def cut_text(text: str, limit: int, size: Size = len) -> str:
    """Return the longest beginning of the text whose size is at most ``limit``."""
    if size(text) <= limit:
        return text
    return text[: bisect.bisect_right(range(len(text)), max(limit, 0), key=lambda end: size(text[:end])) - 1]


def short_text(value: object, limit: int = 80) -> str:
    """Return the beginning of an untrusted text without control characters, for a message; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(char for char in clean_text(value[: limit * 2]) if char.isprintable())[:limit]


def one_line(text: str) -> str:
    """Return the text as one line; a text without letters becomes ``(no title)``."""
    return " ".join(clean_text(text).split()) or NO_TITLE


def title_line(text: str, limit: int, size: Size = len) -> str:
    """Return the text as one line within the limit; a line that was cut ends in an ellipsis."""
    line = one_line(text)
    if size(line) <= limit:
        return line
    return cut_text(line, limit - size("…"), size).rstrip() + "…"


def label_names(
    *groups: Iterable[str],
    limit: int,
    key: Callable[[str], str] = str.casefold,
    fits: Callable[[str], bool] = lambda _: True,
) -> tuple[str, ...]:
    """Return the label names that a tracker accepts, without repetitions.

    ``limit`` is the most characters of a name, ``key`` says which names are the same label, ``fits`` is the tracker's own
    condition.
    """
    names: dict[str, str] = {}
    for label in (label for group in groups for label in group):
        name = " ".join(clean_text(label).split())
        if 0 < len(name) <= limit and fits(name):
            names.setdefault(key(name), name)
    return tuple(names.values())


def cut_notes(
    draft: Draft, body: str, *, title_limit: int, body_limit: int, unit: str = "characters", size: Size = len
) -> list[str]:
    """Return the notes for ``IssueRef.notes`` about what had to be cut; ``body`` is the text that was sent."""
    notes = []
    if size(one_line(draft.title)) > title_limit:
        notes.append(f"the title was longer than {title_limit} {unit} and is cut")
    if CUT_NOTE in body and CUT_NOTE not in draft.body:
        notes.append(f"the text was longer than {body_limit} {unit} and is cut")
    return notes
