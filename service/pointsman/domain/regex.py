"""Regular expressions of operators on untrusted texts: RE2, whose running time is linear in the text."""

from __future__ import annotations

import functools
from typing import Any

import re2

MAX_PATTERN_LENGTH = 1000
MAX_TEXT_LENGTH = 500
"""Only the first characters of a text are searched."""


@functools.lru_cache(maxsize=500)
def compiled(pattern: str) -> Any:
    """Return the compiled expression. Raises ValueError with the cause."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise ValueError(f"it has more than {MAX_PATTERN_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 2 * 2**20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        cause = error.args[0] if error.args else error
        message = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        raise ValueError(message) from error


def matches(pattern: str, text: str) -> bool:
    """Return whether the expression matches somewhere in the beginning of the text."""
    return compiled(pattern).search(text[:MAX_TEXT_LENGTH].encode("utf-8", "replace")) is not None
