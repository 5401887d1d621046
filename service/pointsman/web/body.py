"""Bodies: read up to a limit, decoded with care. Any bytes come to a decision."""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pointsman.content.sanitize import clean_json
from pointsman.web.admission import LOAN, Room
from pointsman.web.problems import Problem
from pointsman.web.timeouts import Patience

INTAKE_LIMIT = 256 * 1024
DEPTH_LIMIT = 64
DIGITS_LIMIT = 4300  # of one integer, as Python and msgspec have it

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_DECODER = msgspec.json.Decoder()


async def read(request: web.Request, limit: int, room: Room, patience: Patience) -> bytes:
    """The whole body, counted after decompression. It must come in time and at some pace; ``room`` lends the memory
    until the request is answered. Raises Problem, or Overloaded where there is no room.
    """
    encoding = request.headers.get("Content-Encoding", "")
    if not encoding and (whole := _all_there(request, limit)) is not None:
        request[LOAN].take(room, len(whole))
        return whole
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate"):
        raise Problem("unsupported-type", "send the body plain, or with Content-Encoding gzip or deflate")
    if (request.content_length or 0) > limit:
        raise Problem("too-large", f"at most {limit} bytes are taken")
    inflate = _Inflate(encoding, limit) if encoding in ("gzip", "deflate") else None
    loan = request[LOAN]
    chunks: list[bytes] = []
    size = came = 0
    began = asyncio.get_running_loop().time()
    end = began + patience.body
    try:
        async with asyncio.timeout_at(min(end, began + patience.body_grace)) as timer:
            async for chunk in request.content.iter_any():
                came += len(chunk)
                timer.reschedule(
                    min(end, began + patience.body_grace + came / patience.body_bytes_per_second)
                )
                plain = inflate.feed(chunk) if inflate is not None else chunk
                size += len(plain)
                if size > limit:
                    raise Problem("too-large", f"at most {limit} bytes are taken")
                loan.take(room, len(plain))
                chunks.append(plain)
    except TimeoutError:
        raise Problem(
            "timeout", f"the body was not there after {patience.body:g} s, or came too slowly"
        ) from None
    except ConnectionError as error:
        raise Problem("bad-request", "the connection ended before the body did") from error
    except (HttpProcessingError, web.RequestPayloadError, zlib.error, ValueError) as error:
        raise Problem("bad-request", "the body can't be read as its headers say") from error
    if inflate is not None and not inflate.ended:
        raise Problem("bad-request", "the compressed body ends too early")
    return b"".join(chunks)


def _all_there(request: web.Request, limit: int) -> bytes | None:
    """The body, if it came with its head, as nearly all do: then there is nothing to wait for."""
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    whole = content.read_nowait()
    if len(whole) > limit:
        raise Problem("too-large", f"at most {limit} bytes are taken")
    return whole


class _Inflate:
    """Decompression that never makes more than the limit out of whatever it is fed."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._zlib = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
        self._room = limit + 1

    def feed(self, chunk: bytes) -> bytes:
        """What a piece becomes; one byte over the limit at most."""
        plain = self._zlib.decompress(chunk, max_length=self._room) if self._room else b"\0"
        self._room -= min(self._room, len(plain))
        return plain

    @property
    def ended(self) -> bool:
        """Whether the stream came to its end."""
        return self._zlib.eof


def need_json(request: web.Request) -> None:
    """Refuse a body that says it is something else than JSON."""
    given = request.headers.get("Content-Type", "")
    if given == "application/json":
        return
    kind = given.partition(";")[0].strip().lower()
    if kind and kind not in ("application/json", "text/json") and not kind.endswith("+json"):
        raise Problem("unsupported-type", "send JSON, with Content-Type: application/json")


def decode(body: bytes) -> Any:
    """A body as JSON, its texts free of NUL and lone surrogates. Raises Problem with the position."""
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    if too_deep(body):
        raise Problem("invalid-json", f"it is nested deeper than {DEPTH_LIMIT} levels")
    try:
        value = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return clean_json(_decode_slowly(body))
    if b"\\u" in body or b"\x00" in body:
        return clean_json(value)
    return value


def _decode_slowly(body: bytes) -> Any:
    """For what msgspec refuses: lone surrogates, which real senders produce, are taken; the rest gets a position."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem("invalid-json", f"it is not UTF-8 at byte {error.start}") from None
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_float, parse_int=_int)
    except json.JSONDecodeError as error:
        raise Problem("invalid-json", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise Problem("invalid-json", str(error) if isinstance(error, ValueError) else "too deep") from None


def _no_constant(name: str) -> Any:
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
    """Whether brackets nest deeper than the limit; linear in the size of the body."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > DEPTH_LIMIT:
            return True
    return False
