"""Read request bodies up to a limit and within a deadline."""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pointsman.web.admission import LOAN, Room
from pointsman.web.problems import Problem
from pointsman.web.timeouts import Patience

INTAKE_LIMIT = 256 * 1024


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
