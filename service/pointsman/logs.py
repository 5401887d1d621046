"""Logging: JSON for machines, coloured text for people, and no secrets in either."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import msgspec
import structlog

from pointsman.plugin_api import known_secrets

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
    """Return text without control characters, secrets of this process, credentials in addresses, bearer tokens and
    tokens of known shapes.
    """
    text = known_secrets.mask_secrets(text)
    # most texts are short: the substring checks skip nearly all regular expressions
    if "/" in text:
        text = _INTAKE.sub(r"\1***", _USERINFO.sub("***@", text))
    if " " in text:
        text = _BEARER.sub(r"\1 ***", text)
    if "_" in text or "ATATT" in text or "glpat-" in text:
        text = _TOKENS.sub("***", text)
    if not text.isprintable():
        text = _CONTROL.sub(lambda character: f"\\u{ord(character.group()):04x}", text)
    return text if len(text) <= _LIMIT else text[:_LIMIT] + "…"


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


# most texts are the same in every line: the cache saves a third of the time of a log line
_scrub_short = lru_cache(1024)(scrub)
known_secrets.on_change(_scrub_short.cache_clear)
_SHORT = 64


def _scrub_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Scrub all values of a log line, as a processor of structlog."""
    for key, value in event.items():
        if type(value) is str:
            event[key] = _scrub_short(value) if len(value) <= _SHORT else scrub(value)
        elif not key.startswith("_"):  # such keys are structlog's own, such as the record of another library
            event[key] = _scrub_value(value)
    if isinstance(message := event.get("event"), str) and "\n" in message:
        event["event"] = message.replace("\n", "\\n")
    return event


def _json(event: MutableMapping[str, Any], **_: Any) -> str:
    """Return a line of ASCII JSON."""
    try:
        line = _encode(event)
    except (TypeError, ValueError, OverflowError):
        return json.dumps(event, default=repr)
    return line.decode() if line.isascii() else json.dumps(event, default=repr)


def configure(form: Literal["json", "pretty"], *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process, libraries included."""
    stream = stream or sys.stderr
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
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    minimum = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(minimum, logging.WARNING))


class _Logger:
    """A logger that is bound again when logging is configured again, not for each line."""

    __slots__ = ("_bound", "_name", "_processors")

    def __init__(self, name: str) -> None:
        self._name = name
        self._processors: Any = None
        self._bound: Any = None

    def __getattr__(self, method: str) -> Any:
        processors = structlog.get_config()["processors"]
        if processors is not self._processors:
            self._processors, self._bound = processors, structlog.get_logger().bind(logger=self._name)
        return getattr(self._bound, method)


def logger(name: str) -> Any:
    """Return a logger; ``name`` is the field ``logger`` of its lines."""
    return _Logger(name)
