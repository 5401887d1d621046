"""The common part of the fake trackers: a real HTTP server on loopback, a log of effects, faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web


@dataclass(slots=True)
class Effect:
    """One thing that really happened at the tracker."""

    kind: Literal["issue", "comment", "state", "edit", "label", "hook", "delete"]
    key: str
    marker: str = ""
    detail: str = ""
    at: float = field(default_factory=time.time)


@dataclass(slots=True)
class Fault:
    """Something that goes wrong with a request whose ``METHOD /path`` contains ``match``.

    ``status`` answers so; ``reset`` cuts the connection; ``hang_seconds`` waits first. With ``applied`` the request
    takes effect all the same, which is the hard case: the caller can't know.
    """

    match: str = ""
    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    hang_seconds: float = 0.0
    applied: bool = False
    times: int = 1


class FakeTracker:
    """A tracker's double: subclass it, add routes in ``routes``, record what happens with ``effect``."""

    def __init__(self, *, port: int = 0) -> None:
        self.effects: list[Effect] = []
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self._port = port
        self._runner: web.AppRunner | None = None
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        """The calls this tracker knows."""
        raise NotImplementedError

    def record_effect(self, kind: Any, key: str, marker: str = "", detail: str = "") -> None:
        """Write down that something took effect."""
        self.effects.append(Effect(kind, key, marker, detail))

    def issues_created(self) -> int:
        """How many issues were really created."""
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
        """The server is gone for a while: connections are refused, what it knows is kept."""
        await self.__aexit__()
        try:
            yield
        finally:
            await self.__aenter__()

    def _take_fault(self, said: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in said and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    @web.middleware
    async def _with_faults(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        said = f"{request.method} {request.path}"
        self.requests.append((request.method, request.path_qs))
        fault = self._take_fault(said)
        if fault is None:
            return await handler(request)
        answer = None
        if fault.applied:
            answer = await handler(request)
        if fault.hang_seconds:
            await asyncio.sleep(fault.hang_seconds)
        if fault.reset:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        if fault.status is not None:
            return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
        return answer if answer is not None else await handler(request)

    async def post_webhook(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a webhook call and give the status of the answer."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as answer,
        ):
            await answer.read()
            return answer.status
