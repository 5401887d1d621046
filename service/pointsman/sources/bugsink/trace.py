"""Format a stack trace from an event's frames: files, lines, functions, and source around the application's own calls.

Values of local variables are never shown: they may contain customers' data. The event is untrusted, so any value may
have any type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api.helpers import text_at
from pointsman.sources.json_access import items, nested

LIMIT = 16_000
_EXCEPTIONS, _FRAMES, _AROUND = 8, 60, 2


def stack_trace(data: Mapping[str, Any]) -> str:
    """Return the exceptions of an event, last first, each with its calls, most recent first; empty without any."""
    values = items(nested(data, "exception"), "values") or items(data, "exception")
    parts: list[str] = []
    for number, value in enumerate(reversed(values[-_EXCEPTIONS:])):
        if not isinstance(value, dict):
            continue
        if number:
            parts.append("\nCaused by:")
        parts.append(_exception_line(value))
        parts += _call_lines(items(nested(value, "stacktrace"), "frames"))
    return _shorten("\n".join(parts))


def _exception_line(value: Mapping[str, Any]) -> str:
    kind, message = text_at(value, "type"), text_at(value, "value")
    return (
        f"{kind}: {message}"[:1100]
        if kind and message
        else (kind or message or "(an exception without a name)")[:1100]
    )


def _call_lines(frames: Sequence[Any]) -> list[str]:
    if not frames:
        return []
    lines = ["(most recent call first)"]
    shown = list(reversed(frames))
    middle = len(shown) - _FRAMES
    if middle > 0:
        shown = [*shown[: _FRAMES - 10], None, *shown[-10:]]
    known = any(isinstance(call, dict) and call.get("in_app") is True for call in frames)
    for frame in shown:
        if frame is None:
            lines.append(f"  … {middle} calls left out …")
        elif isinstance(frame, dict):
            lines += _frame_lines(frame, known=known)
    return lines


def _frame_lines(frame: Mapping[str, Any], *, known: bool) -> list[str]:
    """Return the lines of one call, with source lines for the application's own calls where the event marks them."""
    location = text_at(frame, "filename") or text_at(frame, "module") or text_at(frame, "abs_path") or "?"
    number = frame.get("lineno")
    line = number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 10**9 else 0
    function = text_at(frame, "function")
    head = f"  {location[-200:]}{f':{line}' if line else ''}{f' in {function[:200]}' if function else ''}"
    here = text_at(frame, "context_line")
    if not here or (known and frame.get("in_app") is not True):
        return [head]
    before = [_text(line_text) for line_text in items(frame, "pre_context")[-_AROUND:]]
    after = [_text(line_text) for line_text in items(frame, "post_context")[:_AROUND]]
    lines = [head]
    for offset, code in enumerate([*before, here, *after], -len(before)):
        sign = ">" if offset == 0 else " "
        lines.append(f"    {sign} {f'{line + offset:<4}' if line else ''} {code[:200]}".rstrip())
    return lines


def _shorten(trace: str) -> str:
    if len(trace) <= LIMIT:
        return trace
    return f"{trace[:LIMIT].rpartition(chr(10))[0]}\n… the rest is left out …"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
