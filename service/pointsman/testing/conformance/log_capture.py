"""Capture everything that is visible: exceptions with their causes, values, log lines."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator


class Watch(logging.Handler):
    """Stores every log line."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store one line."""
        line = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + visible_text(record.exc_info[1])
        self.lines.append(line)


@contextlib.contextmanager
def capture_logs() -> Iterator[Watch]:
    """Capture everything that is logged meanwhile, from level INFO upwards."""
    root, watch = logging.getLogger(), Watch()
    before = root.level
    root.addHandler(watch)
    root.setLevel(logging.INFO)
    try:
        yield watch
    finally:
        root.setLevel(before)
        root.removeHandler(watch)


def visible_text(value: object) -> str:
    """Return all text that a value shows; for an exception, its causes and attributes too."""
    if not isinstance(value, BaseException):
        return f"{value!r}\n{value!s}"
    texts: list[str] = []
    known: set[int] = set()
    rest: list[BaseException | None] = [value]
    while rest:
        error = rest.pop()
        if error is None or id(error) in known:
            continue
        known.add(id(error))
        texts += [repr(error), str(error), repr(getattr(error, "__dict__", {}))]
        texts += traceback.format_exception_only(error)
        rest += [error.__cause__, error.__context__]
    return "\n".join(texts)
