"""Test doubles of Forgejo in a separate process, so that the test's event loop is not the bottleneck.

Arguments: the number of trackers, the path of the log of effects, and a seed. The process prints its addresses as a line
of JSON and appends a line of JSON to the log for each request that took effect.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from pointsman.testing.fake import Fault
from pointsman_forgejo.testing import FakeForgejo
from pointsman_forgejo.testing.state import ForgejoComment, ForgejoIssue

REPOSITORY = "acme/shop"
TOKEN = "forgejo-token-of-the-tests"


@dataclass(slots=True)
class DelayedFault(Fault):
    """Fault whose request may take effect after the response, with a body of ``megabytes``."""

    late_seconds: float = 0.0
    megabytes: int = 0


class Tracker(FakeForgejo):
    """Tracker with one repository and random faults."""

    def __init__(self, name: str, effects: Any, dice: random.Random) -> None:
        super().__init__(repository=REPOSITORY, token=TOKEN)
        self.name = name
        self._file = effects
        self._dice = dice
        self._comment_text = ""
        self._changed: dict[int, None] = {}
        self.mix: dict[str, float] = {}
        self.slow_seconds = 2.5
        self.late_seconds = 2.0
        self.work_seconds = 0.0
        self.writing = 0
        self.max_writing = 0
        self.arrivals: list[tuple[float, str, int, bool]] = []
        self.faults_done: dict[str, int] = {}

    # -- log of effects -------------------------------------------------------------------------------------------

    def _add_comment(self, issue: ForgejoIssue, text: str, by: str) -> ForgejoComment:
        self._comment_text = text
        return super()._add_comment(issue, text, by)

    def record_effect(self, kind: Any, key: str, marker: str = "", detail: str = "") -> None:
        """Log that a request took effect, before the response is sent."""
        if key.isdigit():
            self._changed.pop(int(key), None)
            self._changed[int(key)] = None
        text = self._comment_text if kind == "comment" else detail
        line = {
            "at": time.time(),
            "destination": self.name,
            "kind": kind,
            "key": key,
            "marker": marker,
            "text": text,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    # -- faster lists of issues -------------------------------------------------------------------------------

    async def _get_issues(self, request: web.Request) -> web.Response:
        query = request.query
        if (
            set(query) - {"state", "type", "created_by", "since", "sort", "page", "limit"}
            or query.get("state") != "all"
            or query.get("sort", "latest") != "latest"
        ):
            return await super()._get_issues(request)
        since = dt.datetime.fromisoformat(query["since"]) if "since" in query else None
        page, limit = int(query.get("page", "1")), min(int(query.get("limit", "30")), self.page_max)
        if since is None:
            shown = [*self.issues]
        else:
            changed = (self.issues[number] for number in reversed(self._changed))
            recent = itertools.takewhile(
                lambda issue: issue.updated_at.replace(microsecond=0) >= since, changed
            )
            shown = [issue.number for issue in recent]
        shown.sort(reverse=True)
        issues = [self.issues[number] for number in shown[(page - 1) * limit : page * limit]]
        headers = {"X-Total-Count": str(len(shown))}
        return web.json_response([self._issue(issue) for issue in issues], headers=headers)

    # -- faults ------------------------------------------------------------------------------------------------

    def _dice_fault(self, request: web.Request) -> Fault | None:
        if not self.mix:
            return None
        roll = self._dice.random()
        for name, share in self.mix.items():
            roll -= share if request.method != "GET" else share / 4
            if roll < 0:
                self.faults_done[name] = self.faults_done.get(name, 0) + 1
                return self._fault(name)
        return None

    def _fault(self, name: str) -> Fault:
        match name:
            case "500":
                return Fault(status=500)
            case "500 applied":
                return Fault(status=500, applied=True)
            case "429":
                return Fault(status=429, headers={"Retry-After": "1"})
            case "applied, dropped":
                return Fault(reset=True, applied=True)
            case "applied, slow":
                return Fault(hang_seconds=self.slow_seconds, applied=True)
            case "dropped":
                return Fault(reset=True)
            case "late":
                return Fault(hang_seconds=self.late_seconds)
            case _:
                raise ValueError(name)

    @web.middleware
    async def _with_faults(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        # read now: the client may be gone when the request takes effect
        await request.read()
        call = f"{request.method} {request.path}"
        fault = self._take_fault(call) or self._dice_fault(request)
        writes = request.method != "GET"
        self.writing += writes
        self.max_writing = max(self.writing, self.max_writing)
        limited = fault is not None and fault.status == 429
        self.arrivals.append((time.time(), request.method, self.writing, limited))
        try:
            if self.work_seconds and writes:
                await asyncio.sleep(self.work_seconds)
            return await self._answer(request, handler, fault)
        finally:
            self.writing -= writes

    async def _answer(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        fault: Fault | None,
    ) -> web.StreamResponse:
        if fault is None:
            return await handler(request)
        response = await handler(request) if fault.applied else None
        if isinstance(fault, DelayedFault) and fault.late_seconds:
            self._later(request, handler, fault.late_seconds)
        if fault.hang_seconds:
            await asyncio.sleep(fault.hang_seconds)
        if fault.reset:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault.status is not None:
            body = fault.body
            if isinstance(fault, DelayedFault) and fault.megabytes:
                body = b"x" * (fault.megabytes * 2**20)
            return web.Response(status=fault.status, body=body, headers=fault.headers)
        return response if response is not None else await handler(request)

    def _later(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        after_seconds: float,
    ) -> None:
        async def apply() -> None:
            await asyncio.sleep(after_seconds)
            await handler(request)

        task = asyncio.create_task(apply())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


class Control:
    """Interface for the test: ``POST /configure`` and ``GET /state``."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self.trackers = trackers

    async def configure(self, request: web.Request) -> web.Response:
        """Set attributes of one tracker or of all."""
        body = await request.json()
        destination = body.pop("destination", None)
        for tracker in self.trackers:
            if destination in (None, tracker.name):
                for name, value in body.items():
                    if name == "faults":
                        tracker.faults.extend(
                            DelayedFault(**{**fault, "body": fault.get("body", "").encode()})
                            for fault in value
                        )
                    elif name == "forget":
                        tracker.arrivals.clear()
                        tracker.max_writing = 0
                    else:
                        assert hasattr(tracker, name), name
                        setattr(tracker, name, value)
        return web.json_response({})

    async def state(self, _: web.Request) -> web.Response:
        """Return the state of each tracker."""
        return web.json_response(
            {
                tracker.name: {
                    "issues": len(tracker.issues),
                    "states": {str(issue.number): issue.state for issue in tracker.issues.values()},
                    "writing": tracker.writing,
                    "max_writing": tracker.max_writing,
                    "arrivals": tracker.arrivals,
                    "faults": tracker.faults_done,
                    "faults_left": sum(fault.times for fault in tracker.faults),
                }
                for tracker in self.trackers
            }
        )


async def main() -> None:
    """Serve until standard input ends."""
    count, path, seed = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    with path.open("a", encoding="utf-8") as effects:
        trackers = [Tracker(f"destination-{number}", effects, dice) for number in range(count)]
        for tracker in trackers:
            await tracker.__aenter__()
        control = Control(trackers)
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes([web.post("/configure", control.configure), web.get("/state", control.state)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        addresses = {"control": address, "destinations": {tracker.name: tracker.url for tracker in trackers}}
        print(json.dumps(addresses), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
