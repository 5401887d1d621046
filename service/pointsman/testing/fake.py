"""Base of the trackers' test doubles: an HTTP server on loopback, a log of effects, faults on demand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web


@dataclass(slots=True)
class Effect:
    """One change that took effect at the double."""

    kind: Literal["issue", "comment", "state", "edit", "label", "hook", "delete"]
    key: str
    marker: str = ""
    detail: str = ""
    at: float = field(default_factory=time.time)


@dataclass(slots=True)
class Fault:
    """A fault for a request whose ``METHOD /path`` contains ``match``.

    ``status`` is the response; ``reset`` cuts the connection; ``hang_seconds`` delays the response. With ``applied``
    the request takes effect all the same, which is the hard case: the caller can't know. With ``quotes_request`` the
    body is an error message that contains every header of the request, its credential included.
    """

    match: str = ""
    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    hang_seconds: float = 0.0
    applied: bool = False
    quotes_request: bool = False
    times: int = 1


class FakeTracker:
    """Test double of a tracker: subclass it, add handlers in ``routes``, record changes with ``record_effect``."""

    def __init__(self, *, port: int = 0) -> None:
        self.effects: list[Effect] = []
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self._port = port
        self._runner: web.AppRunner | None = None
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        """Return the API calls that this tracker knows."""
        raise NotImplementedError

    def record_effect(self, kind: Any, key: str, marker: str = "", detail: str = "") -> None:
        """Record that something took effect."""
        self.effects.append(Effect(kind, key, marker, detail))

    def issues_created(self) -> int:
        """Return how many issues were created."""
        return sum(effect.kind == "issue" for effect in self.effects)

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._with_faults], client_max_size=32 * 2**20)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Stop the server for a while: connections are refused, its data stays."""
        await self.__aexit__()
        try:
            yield
        finally:
            await self.__aenter__()

    def _take_fault(self, request_line: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in request_line and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    @web.middleware
    async def _with_faults(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request_line = f"{request.method} {request.path}"
        self.requests.append((request.method, request.path_qs))
        fault = self._take_fault(request_line)
        if fault is None:
            return await handler(request)
        response = None
        if fault.applied:
            response = await handler(request)
        if fault.hang_seconds:
            await asyncio.sleep(fault.hang_seconds)
        if fault.reset:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        if fault.status is not None:
            body = _quote(request) if fault.quotes_request else fault.body
            return web.Response(status=fault.status, body=body, headers=fault.headers)
        return response if response is not None else await handler(request)

    async def post_webhook(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a webhook call and return the status of the response."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as response,
        ):
            await response.read()
            return response.status


def _quote(request: web.Request) -> bytes:
    """Return an error message with the headers of a request: as sent, and their base64 words decoded."""
    texts = []
    for name, value in request.headers.items():
        texts.append(f"{name}: {value}")
        for word in value.split():
            with contextlib.suppress(ValueError):
                texts.append(base64.b64decode(word, validate=True).decode())
    return json.dumps({"message": f"access denied, the request was {'; '.join(texts)}"}).encode()
