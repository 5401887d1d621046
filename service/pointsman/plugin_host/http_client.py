"""HTTP client for one destination or source: credentials, time limits, size limits and the egress policy."""

from __future__ import annotations

import json as _json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from pointsman import __version__
from pointsman.logs import scrub
from pointsman.plugin_api import Connection, Refused, Response, Unavailable, UnknownOutcome
from pointsman.plugin_api.known_secrets import forms_of, mask_secrets
from pointsman.plugin_host.egress_policy import BlockedAddress, EgressPolicy, socket_factory

RESPONSE_LIMIT = 5 * 2**20

# Errors that can only happen before a request was sent.
_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    BlockedAddress,
)

_WRITES: ContextVar[list[str]] = ContextVar("writes")
_MAY_WRITE: ContextVar[Callable[[], bool]] = ContextVar("may_write")
_READS = frozenset({"GET", "HEAD"})
_CREDENTIAL_HEADERS = frozenset({"authorization", "private-token", "x-api-key", "cookie"})


def track_writes(may_write: Callable[[], bool] = lambda: True) -> None:
    """Start to record, in this task, whether a request was sent that may change something.

    ``may_write`` is called again right before bytes go to the socket, after every wait for a connection: the process may
    have been suspended meanwhile and its lease may have expired.
    """
    _WRITES.set([])
    _MAY_WRITE.set(may_write)


def write_may_have_left() -> bool:
    """Return whether a request that changes something may have been sent since track_writes.

    Returns True where track_writes was not called.
    """
    writes = _WRITES.get(None)
    return writes is None or bool(writes)


async def _refuse_expired_write(_: aiohttp.ClientSession, __: Any, sending: Any) -> None:
    if sending.method.upper() not in _READS and (may := _MAY_WRITE.get(None)) is not None and not may():
        raise Unavailable(
            "the lease expired before the request was sent; the replica that has it now goes on"
        )


def _trace_config() -> aiohttp.TraceConfig:
    """Return hooks that aiohttp calls right before it writes bytes.

    https://docs.aiohttp.org/en/stable/tracing_reference.html
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_refuse_expired_write)
    trace.on_request_chunk_sent.append(_refuse_expired_write)
    return trace


class HttpClient:
    """ApiClient that the host gives to a plugin."""

    def __init__(self, connection: Connection, policy: EgressPolicy, *, timeout_seconds: float) -> None:
        self._base = connection.base_url.rstrip("/")
        self._origin = origin_of(self._base)
        self._headers = connection.headers
        self._policy = policy
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=min(10.0, timeout_seconds), connect=timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            host = urlsplit(self._base).hostname or ""
            connector = aiohttp.TCPConnector(
                socket_factory=socket_factory(host, self._policy), limit=32, ttl_dns_cache=30
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"pointsman/{__version__}"},
                auto_decompress=True,
                trace_configs=[_trace_config()],
            )
            # aiohttp repeats GET, PUT and DELETE by itself when a kept-alive connection is cut, and has no option for it
            self._session._retry_connection = False  # noqa: SLF001
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request, at most once, and read the whole response. Redirects are not followed.

        Raises Unavailable if nothing was sent, and UnknownOutcome if the request may have been processed.
        """
        url = path if path.startswith(("http://", "https://")) else f"{self._base}/{path.lstrip('/')}"
        try:
            is_same_origin = origin_of(url) == self._origin
        except ValueError:
            is_same_origin = False
        if not is_same_origin:
            raise Unavailable(f"{method} to another origin than the destination's is refused")
        if _has_dot_segment(url):
            raise Refused(f"{method} to a path with a step of dots is refused: an id is . or ..")
        sent = {name: value.reveal() for name, value in self._headers.items()} | dict(headers or {})
        body = None
        if json is not None:
            body = _json.dumps(json, ensure_ascii=True).encode()
            sent["Content-Type"] = "application/json"
        operation = f"{method} {urlsplit(url).path}"
        if method.upper() not in _READS and (writes := _WRITES.get(None)) is not None:
            writes.append(operation)
        try:
            async with self._open().request(
                method, url, params=params, data=body, headers=sent, allow_redirects=False
            ) as answer:
                content = await _read(answer, operation)
                response = Response(
                    method=method,
                    path=urlsplit(url).path,
                    status=answer.status,
                    headers={name.lower(): value for name, value in answer.headers.items()},
                    body=content,
                )
                return _without_secrets(response, sent)
        except _NOT_SENT as error:
            raise Unavailable(f"{operation}: can't connect: {_cause(error)}") from error
        except TimeoutError as error:
            raise UnknownOutcome(f"{operation}: no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # without its cause: the text of an HTTP error may quote what was sent
            raise UnknownOutcome(
                scrub(f"{operation}: the answer was cut: {type(error).__name__}: {error}")
            ) from None


def _has_dot_segment(url: str) -> bool:
    """Return whether a step of the path is ``.`` or ``..``, which HTTP clients and servers resolve to another path.

    Ids of untrusted origin become steps of paths, and quoting leaves dots as they are.
    """
    return any(unquote(step) in (".", "..") for step in urlsplit(url).path.split("/"))


def _without_secrets(response: Response, sent: Mapping[str, str]) -> Response:
    """Return a response without the secrets of this process, unless it is data of a successful request.

    Errors often quote the credential of the request, and their texts are stored and shown.
    """
    if response.ok and "json" in response.headers.get("content-type", ""):
        return response
    credentials = [value for name, value in sent.items() if name.lower() in _CREDENTIAL_HEADERS]
    extra = forms_of([*credentials, *(value.partition(" ")[2] for value in credentials)])
    text = response.body.decode("utf-8", "surrogateescape")
    masked = mask_secrets(text, extra)
    return msgspec.structs.replace(
        response,
        headers={name: mask_secrets(value, extra) for name, value in response.headers.items()},
        body=response.body if masked == text else masked.encode("utf-8", "surrogateescape"),
    )


async def _read(answer: aiohttp.ClientResponse, operation: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_chunked(65536):
        size += len(chunk)
        if size > RESPONSE_LIMIT:
            raise UnknownOutcome(
                f"{operation}: answered more than {RESPONSE_LIMIT} bytes", status=answer.status, is_json=False
            )
        chunks.append(chunk)
    return b"".join(chunks)


class Origin(NamedTuple):
    """Scheme, host in lower case and port of a URL, as in RFC 6454."""

    scheme: str
    host: str
    port: int | None


def origin_of(url: str) -> Origin:
    """Return the origin of a URL, with the default port of its scheme. Raises ValueError for an invalid port."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return Origin(parts.scheme, (parts.hostname or "").lower(), port)


def _cause(error: BaseException) -> str:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(inner) or type(inner).__name__
