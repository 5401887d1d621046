"""Watching what shows: exceptions with their causes, values, log lines."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator


class Watch(logging.Handler):
    """Keeps every log line."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        said = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            said += "\n" + visible_text(record.exc_info[1])
        self.lines.append(said)


@contextlib.contextmanager
def capture_logs() -> Iterator[Watch]:
    """All that is logged meanwhile, from info upwards."""
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
    """All the words that a value shows; of an exception, its causes and attributes too."""
    if not isinstance(value, BaseException):
        return f"{value!r}\n{value!s}"
    words: list[str] = []
    known: set[int] = set()
    rest: list[BaseException | None] = [value]
    while rest:
        error = rest.pop()
        if error is None or id(error) in known:
            continue
        known.add(id(error))
        words += [repr(error), str(error), repr(getattr(error, "__dict__", {}))]
        words += traceback.format_exception_only(error)
        rest += [error.__cause__, error.__context__]
    return "\n".join(words)
