"""Decode request bodies from JSON within limits of depth and size."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from pointsman.content.sanitize import clean_json
from pointsman.intake.errors import InvalidBody

DEPTH_LIMIT = 64
DIGITS_LIMIT = 4300
"""Most digits of one integer; the limit of Python and msgspec."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_DECODER = msgspec.json.Decoder()


def decode(body: bytes) -> Any:
    """Decode a body, with NUL and lone surrogates replaced in its texts. Raises InvalidBody with the position."""
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    if too_deep(body):
        raise InvalidBody(f"it is nested deeper than {DEPTH_LIMIT} levels")
    try:
        value = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return clean_json(_decode_slowly(body))
    if b"\\u" in body or b"\x00" in body:
        return clean_json(value)
    return value


def _decode_slowly(body: bytes) -> Any:
    """Decode what msgspec refuses: real senders produce lone surrogates; other errors get a position."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidBody(f"it is not UTF-8 at byte {error.start}") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
    except json.JSONDecodeError as error:
        raise InvalidBody(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidBody(str(error) if isinstance(error, ValueError) else "too deep") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _int(text: str) -> int:
    if len(text) > DIGITS_LIMIT:
        raise ValueError("a number is too large")
    return int(text)


def too_deep(body: bytes) -> bool:
    """Return whether brackets nest deeper than DEPTH_LIMIT, in time linear in the size of the body."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > DEPTH_LIMIT:
            return True
    return False
