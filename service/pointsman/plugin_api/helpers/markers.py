"""Embed markers into Markdown, and find them again."""

from __future__ import annotations

import itertools
import re

from pointsman.plugin_api.helpers.texts import CUT_NOTE, Size, clean_text, cut_text
from pointsman.plugin_api.values import Marker

_MARKER = re.compile(r"<!--[ \t]{0,8}pointsman:[ \t]{0,8}(pm1-[0-9A-Za-z-]{1,120}?)[ \t]{0,8}-->")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_LONGEST_FENCE = 64
_MOST_MARKERS = 16


def find_markers(text: object) -> tuple[str, ...]:
    """Return the markers that ``embed_marker`` put into a text, in order, without repetitions; of an untrusted value."""
    if not isinstance(text, str):
        return ()
    return tuple(dict.fromkeys(match[1] for match in itertools.islice(_MARKER.finditer(text), _MOST_MARKERS)))


def embed_marker(text: str, marker: Marker, limit: int, size: Size = len) -> str:
    """Return the Markdown text with the marker as its last line, in an HTML comment that readers do not see.

    The result has at most the size ``limit``: a longer text is cut and says so. Markers that are in the text already come
    from a quotation of another issue, and are removed. A code fence that is left open is closed, or the marker would be
    shown as code.
    """
    last_line = f"<!-- pointsman: {marker.text} -->"
    text = _MARKER.sub("(marker)", clean_text(text)).rstrip()
    space = limit - size(last_line) - 2
    closing = _closing_fence(text)
    if size(text) + len(closing) > space:
        text = cut_text(text, space - size(CUT_NOTE) - _LONGEST_FENCE - 1, size).rstrip()
        closing = _closing_fence(text) + CUT_NOTE
    text += closing
    return f"{text}\n\n{last_line}" if text else last_line


def _closing_fence(text: str) -> str:
    """Return a line that closes the code fence which the text leaves open, empty if there is none."""
    fence = ""
    for match in _FENCE.finditer(text):
        if not fence:
            fence = match[1]
        elif match[1][0] == fence[0] and len(match[1]) >= len(fence):
            fence = ""
    return f"\n{fence}" if 0 < len(fence) <= _LONGEST_FENCE else ""
