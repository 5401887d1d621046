"""A stack trace as text, from the event that an SDK sent. Pure.

The event is untrusted JSON: values that are not as documented are skipped, nothing raises. Values of local variables
are never read. https://develop.sentry.dev/sdk/data-model/event-payloads/stacktrace/
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EXCEPTIONS = 10
FRAMES_NEWEST, FRAMES_OLDEST = 40, 10
CONTEXT_LINES = 3
LINE_LENGTH = 200
CUT = "... the rest is left out ..."

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")


def stack_trace(data: Mapping[str, Any], limit: int = 16_000) -> str:
    """Return the exceptions of an event, the outermost first, each with its most recent call first; "" if there are
    no frames.

    Source lines are added to calls of the application's own code only. The result has at most ``limit`` characters.
    """
    exceptions = _values(data.get("exception"))
    stacks = [(_heading(item), _frames(item)) for item in reversed(exceptions)][:EXCEPTIONS]
    if not any(frames for _, frames in stacks):
        stacks = [(heading, frames) for heading, frames in _threads(data) if frames][:1]
    if not stacks:
        return ""
    lines: list[str] = []
    for number, (heading, frames) in enumerate(stacks):
        lines += ["", "Caused by"] if number else []
        lines += [heading] if heading else []
        lines += [] if number else ["(most recent call first)"]
        lines += _stack(frames)
    return shortened("\n".join(lines), limit)


def shortened(text: str, limit: int) -> str:
    """Return as many whole lines as fit, and a note about the rest."""
    if len(text) <= limit:
        return text
    kept = text[: max(0, limit - len(CUT) - 1)].rpartition("\n")[0]
    return f"{kept}\n{CUT}" if kept else ""


def plain(value: Any, length: int) -> str:
    """Return an untrusted value as one line of clean text; "" for anything but text and numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value)[: length * 4].translate(_CONTROLS).encode("utf-8", "replace").decode()
    return text if len(text) <= length else f"{text[: length - 3]}..."


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def _values(value: Any) -> Sequence[Mapping[str, Any]]:
    """Return the items of ``{"values": [...]}``, or of the bare list that old SDKs send."""
    matching = value.get("values") if isinstance(value, dict) else value
    return [item for item in matching if isinstance(item, dict)] if isinstance(matching, list) else []


def _threads(data: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Return stacks beside exceptions: of the event itself (a message with its stack), then of threads, the crashed
    one first.
    """
    yield "", _frames(data)
    for wanted in ("crashed", "current"):
        for thread in _values(data.get("threads")):
            if thread.get(wanted) is True:
                yield f"Thread {plain(thread.get('name'), 80)}".rstrip(), _frames(thread)


def _heading(exception: Mapping[str, Any]) -> str:
    kind = plain(exception.get("type"), 128)
    value = exception.get("value")
    first = next((line for line in value.splitlines() if line.strip()), "") if isinstance(value, str) else ""
    value = plain(first, 300)
    return f"{kind}: {value}" if kind and value else kind or value or "(an exception without a name)"


def _frames(holder: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the calls, the most recent first; SDKs send them in the opposite order."""
    frames = mapping(holder.get("stacktrace")).get("frames")
    return [item for item in reversed(frames) if isinstance(item, dict)] if isinstance(frames, list) else []


def _stack(frames: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    # an SDK marks what is the application's own, or what is not, or nothing at all
    marked = any(frame.get("in_app") is True for frame in frames)
    left_out = len(frames) - FRAMES_NEWEST - FRAMES_OLDEST
    for number, frame in enumerate(frames):
        if left_out > 0 and number == FRAMES_NEWEST:
            yield f"  ... {left_out} calls left out ..."
        if left_out > 0 and FRAMES_NEWEST <= number < FRAMES_NEWEST + left_out:
            continue
        yield f"  {_place(frame)}"
        if frame.get("in_app") is True or (not marked and frame.get("in_app") is not False):
            yield from _context(frame)


def _place(frame: Mapping[str, Any]) -> str:
    wanted = ("filename", "module", "abs_path")
    file = next(filter(None, (plain(frame.get(name), LINE_LENGTH) for name in wanted)), "?")
    line = plain(frame.get("lineno"), 10)
    function = plain(frame.get("function"), LINE_LENGTH)
    return file + (f":{line}" if line else "") + (f" in {function}" if function else "")


def _context(frame: Mapping[str, Any]) -> Iterator[str]:
    """Return the line that ran, marked, with its neighbours; nothing if the SDK sent none."""
    number, line = frame.get("lineno"), frame.get("context_line")
    if not isinstance(line, str) or not isinstance(number, int):
        return
    before = _lines(frame.get("pre_context"))[-CONTEXT_LINES:]
    after = _lines(frame.get("post_context"))[:CONTEXT_LINES]
    block = textwrap.dedent("\n".join(_code(item) for item in (*before, line, *after)))
    # an untrusted number may have any length
    first = number - len(before) if 0 < number < 10**7 else 1
    width = len(str(first + len(before) + len(after)))
    for place, text in enumerate(block.split("\n")):
        mark = ">" if place == len(before) else " "
        yield f"    {mark} {first + place:{width}}  {text}".rstrip()


def _lines(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _code(line: str) -> str:
    return plain(line[: LINE_LENGTH * 4].expandtabs(4), LINE_LENGTH)
