"""Logs: one rich line per request and per attempt; JSON for machines, coloured text for people; never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

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
        if not key.startswith("_"):  # structlog's own, such as the record of another library
            event[key] = _scrub_value(value)
    if isinstance(said := event.get("event"), str):
        event["event"] = said.replace("\n", "\\n")
    return event


def configure(form: Literal["json", "pretty"], *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process, libraries included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub_event,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=(stream or sys.stderr).isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def logger(room: str) -> Any:
    """A logger for one room of the house."""
    return structlog.get_logger(room=room)
