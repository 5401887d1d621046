"""Read request bodies up to a size limit and within a deadline."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pointsman.web.admission import RESERVATION, MemoryBudget
from pointsman.web.problems import Problem
from pointsman.web.timeouts import HttpTimeouts

INTAKE_SETTING = "POINTSMAN_INTAKE_MAX_BYTES"
API_LIMIT = 1_310_720
"""Bytes of a ticket or comment: 100,000 characters, of which JSON makes 12 bytes each at most, and as much as 100 KiB."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encodings, with the parameter of zlib; x-gzip: RFC 9110, section 8.4.1.3."""


async def read(
    request: web.Request, limit: int, budget: MemoryBudget, timeouts: HttpTimeouts, *, setting: str = ""
) -> bytes:
    """Return the whole body, decompressed; ``limit`` is in bytes, before and after decompression.

    ``setting`` is the name of the setting of the limit, for the sender of a body that is too large.

    The bytes are reserved in ``budget`` until the request is answered. Raises Problem for a body that is too large, too
    slow or malformed, and Overloaded when the budget is used up.
    """
    reservation = request[RESERVATION]
    if (
        "Content-Encoding" not in request.headers
        and (received := _received_body(request, limit, setting)) is not None
    ):
        reservation.reserve(budget, len(received))
        return received
    body = bytearray()

    def keep(chunk: bytes) -> None:
        reservation.reserve(budget, len(chunk))
        body.extend(chunk)

    await receive(request, limit, timeouts, keep, setting=setting)
    return bytes(body)


async def receive(
    request: web.Request,
    limit: int,
    timeouts: HttpTimeouts,
    accept: Callable[[bytes], object],
    *,
    setting: str = "",
) -> None:
    """Pass the body on as it arrives, decompressed. Raises Problem as ``read`` does, and whatever ``accept`` raises."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _WINDOW_BITS and encoding not in ("", "identity"):
        raise Problem("unsupported-type", "send the body plain, or with Content-Encoding gzip or deflate")
    if (request.content_length or 0) > limit:
        raise _too_large(limit, setting)
    inflate = _Inflate(encoding, limit) if encoding in _WINDOW_BITS else None
    size = wire_size = 0
    started = asyncio.get_running_loop().time()
    deadline = started + timeouts.body
    try:
        async with asyncio.timeout_at(min(deadline, started + timeouts.body_grace)) as timer:
            async for chunk in request.content.iter_any():
                wire_size += len(chunk)
                if wire_size > limit:
                    raise _too_large(limit, setting)
                paced = started + timeouts.body_grace + wire_size / timeouts.body_bytes_per_second
                timer.reschedule(min(deadline, paced))
                plain = inflate.feed(chunk) if inflate is not None else chunk
                size += len(plain)
                if size > limit:
                    raise _too_large(limit, setting)
                accept(plain)
    except TimeoutError:
        raise Problem(
            "timeout", f"the body was not there after {timeouts.body:g} s, or came too slowly"
        ) from None
    except ConnectionError as error:
        raise Problem("bad-request", "the connection ended before the body did") from error
    except (HttpProcessingError, web.RequestPayloadError, zlib.error, ValueError) as error:
        raise Problem("bad-request", "the body can't be read as its headers say") from error
    if inflate is not None and not inflate.finished:
        raise Problem("bad-request", "the compressed body ends too early")


def _received_body(request: web.Request, limit: int, setting: str) -> bytes | None:
    """Return the body if it arrived together with the head, as most bodies do, else None.

    Reading it without a timer saves 5 % of the processor time of accepting a report.
    """
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    received = content.read_nowait()
    if len(received) > limit:
        raise _too_large(limit, setting)
    return received


def _too_large(limit: int, setting: str) -> Problem:
    cure = f"; {setting} of Pointsman sets another limit" if setting else ""
    return Problem("too-large", f"at most {limit} bytes are accepted{cure}")


class _Inflate:
    """Decompressor whose output never exceeds the limit by more than one byte, and whose input is one stream.

    A second member of a gzip file (RFC 1952, section 2.2) is refused like any bytes after the end: no sender is known to
    make one.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._zlib = zlib.decompressobj(wbits=_WINDOW_BITS[encoding])
        self._bytes_left = limit + 1

    def feed(self, chunk: bytes) -> bytes:
        """Return the decompressed bytes of a chunk. Raises Problem for bytes after the end of the stream."""
        if self._zlib.eof:
            raise _trailing_bytes()
        plain = self._zlib.decompress(chunk, max_length=self._bytes_left)
        if self._zlib.unused_data:
            raise _trailing_bytes()
        self._bytes_left -= len(plain)
        return plain

    @property
    def finished(self) -> bool:
        """Whether the compressed stream is complete."""
        return self._zlib.eof


def _trailing_bytes() -> Problem:
    return Problem("bad-request", "there are bytes after the end of the compressed body")
