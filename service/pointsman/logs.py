"""Logs: one rich line per request and per attempt; JSON for machines, coloured text for people; never a secret."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import msgspec
import structlog

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2028\u2029\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")
_BEARER = re.compile(r"(?i)\b(bearer|token|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_INTAKE = re.compile(r"(/intake/[^/\s]+/)[^\s/?\"']+")
_TOKENS = re.compile(
    r"\b(gh[pousr]_[A-Za-z0-9_.-]{16,}|github_pat_[A-Za-z0-9_]{20,}|ATATT[A-Za-z0-9_=-]{20,}|glpat-[A-Za-z0-9_.-]{16,})"
)
_LIMIT = 2000
_encode = msgspec.json.Encoder().encode


def scrub(text: str) -> str:
    """Text without control characters, credentials in addresses, bearer tokens and tokens of known shapes."""
    # most texts are ids and words: nearly all looks are cheap ones that find nothing
    if "/" in text:
        text = _INTAKE.sub(r"\1***", _USERINFO.sub("***@", text))
    if " " in text:
        text = _BEARER.sub(r"\1 ***", text)
    if "_" in text or "ATATT" in text or "glpat-" in text:
        text = _TOKENS.sub("***", text)
    if not text.isprintable():
        text = _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return text if len(text) <= _LIMIT else text[:_LIMIT] + "…"


_harmless = re.compile(r"[0-9a-f:.-]{0,64}").fullmatch
"""Ids and addresses: no secret of a known shape is written with these signs alone."""
_scrub_short = lru_cache(512)(scrub)
_SHORT = 64


def _scrub_value(value: Any, depth: int = 4) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth and isinstance(value, dict):
        return {scrub(str(key)): _scrub_value(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_scrub_value(inner, depth - 1) for inner in value]
    return scrub(repr(value))


def _scrub_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if type(value) is str:
            if _harmless(value) is None:
                # a few words stand in every line
                event[key] = _scrub_short(value) if len(value) <= _SHORT else scrub(value)
        elif type(value) is not int and not key.startswith("_"):
            # what starts so is structlog's own, such as the record of another library
            event[key] = _scrub_value(value)
    if isinstance(said := event.get("event"), str) and "\n" in said:
        event["event"] = said.replace("\n", "\\n")
    return event


class _Now:
    """The time as lines have it; the text of a second is made once."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def __call__(self) -> str:
        second, nanos = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{nanos // 1000:06d}Z"


_now = _Now()


def _line(_: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """All that is done to a line of our own, in one go: there is one for each request."""
    event["level"] = "error" if name == "exception" else name
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_, name, event)
    event = _scrub_event(_, name, event)
    event["timestamp"] = _now()
    return event


def _json(event: MutableMapping[str, Any], **_: Any) -> str:
    """A line in ASCII. Nearly all are ASCII anyway, and the quick encoder is ten times as quick."""
    try:
        line = _encode(event)
    except (TypeError, ValueError, OverflowError):
        return json.dumps(event, default=repr)
    return line.decode() if line.isascii() else json.dumps(event, default=repr)


class _Out:
    """The stream that lines go to. Those of requests wait for the loop's next turn and leave together, in one call of the
    system: where many reports are committed at once, so many are answered in one turn. Any other line takes them along
    at once, so the order stays and an error is never late; a process that ends by itself, or by an error, writes the rest.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: deque[str] = deque()
        self._due = False

    def each(self, line: str) -> None:
        """A line that may wait for the next turn."""
        self._waiting.append(f"{line}\n")
        if self._due:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.push()
            return
        self._due = True
        loop.call_soon(self.push)

    def push(self) -> None:
        """Write what waits. One by one from the queue, as another thread may log at the same time."""
        self._due = False
        lines: list[str] = []
        while self._waiting:
            try:
                lines.append(self._waiting.popleft())
            except IndexError:
                break
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()

    def write(self, text: str) -> int:
        """Write at once."""
        self.push()
        return self._stream.write(text)

    def flush(self) -> None:
        """Hand on to the system."""
        self._stream.flush()


class _Quick:
    """The short way of a line in JSON, while logging is as ``configure`` left it."""

    def __init__(self) -> None:
        self.out: _Out | None = None
        self.processors: Any = None

    def fits(self) -> bool:
        """Whether nobody listens in between, and the level is wanted."""
        processors = structlog.get_config()["processors"]
        # tests that capture lines change the list in place
        return processors is self.processors and len(processors) == 2 and processors[0] is _line

    def push(self) -> None:
        """At the end."""
        if self.out is not None:
            self.out.push()


_quick = _Quick()
atexit.register(_quick.push)


def configure(form: Literal["json", "pretty"], *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process, libraries included."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub_event,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=(stream or sys.stderr).isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    processors = [_line, renderer]
    out: Any = stream or sys.stderr
    _quick.push()
    _quick.out = _quick.processors = None
    if form == "json" and number <= logging.INFO:
        out = _quick.out = _Out(out)
        _quick.processors = processors
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


class _Logger:
    """A logger that is made anew only when logging was configured anew, not for each line."""

    __slots__ = ("_made", "_processors", "_room")

    def __init__(self, room: str) -> None:
        self._room = room
        self._processors: Any = None
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        processors = structlog.get_config()["processors"]
        if processors is not self._processors:
            self._processors, self._made = processors, structlog.get_logger(room=self._room).bind()
        return getattr(self._made, name)

    def each(self, event: str, words: Mapping[str, Any]) -> None:
        """A line of which there is one for each request, at level info: what becomes of it is the same, but quicker."""
        out = _quick.out
        if out is None or not _quick.fits():
            self.info(event, **words)
            return
        out.each(_json(_line(None, "info", {"room": self._room, **words, "event": event})))


def logger(room: str) -> Any:
    """A logger for one room of the house."""
    return _Logger(room)
