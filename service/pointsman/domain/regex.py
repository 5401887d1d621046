"""Regular expressions of operators over strangers' texts: RE2, whose time grows with the text and no faster."""

from __future__ import annotations

import functools
from typing import Any

import re2

MAX_PATTERN_LENGTH = 1000
"""So many characters an expression may have."""
MAX_TEXT_LENGTH = 500
"""So many characters of a text are looked at."""


@functools.lru_cache(maxsize=500)
def compiled(pattern: str) -> Any:
    """The expression, made ready once. Raises ValueError with the cause."""
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
        said = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        raise ValueError(said) from error


def matches(pattern: str, text: str) -> bool:
    """Whether the expression is found somewhere in the text's beginning."""
    return compiled(pattern).search(text[:MAX_TEXT_LENGTH].encode("utf-8", "replace")) is not None
