"""The simulated tracker: it drops, delays, applies late, fails and limits, and logs which requests took effect."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

from pointsman.plugin_api import (
    CommentRef,
    IssueRef,
    RateLimited,
    TrackerCapabilities,
    Unavailable,
    UnknownOutcome,
)
from simulation.schedule import LATENESS_SECONDS, SETTLE_SECONDS, TIMEOUT_SECONDS

if TYPE_CHECKING:
    from simulation.model import World


class Tracker:
    """Tracker of one destination. A request that reached it takes effect even if the sender no longer waits."""

    def __init__(self, world: World, destination_id: int) -> None:
        self.world = world
        self.destination_id = destination_id
        settle = 0.0 if world.plan.off.settle else SETTLE_SECONDS
        self.capabilities = TrackerCapabilities(
            find=True,
            settle_seconds=(settle,),
            request_timeout_seconds=TIMEOUT_SECONDS,
            quotas=(world.plan.limit,) if world.plan.limit else (),
        )
        self.effects: list[tuple[str, str, str]] = []
        """Kind, issue and marker of each request, in the order in which they took effect."""
        self.calls: list[float] = []
        self.down_until = 0.0

    def _issues(self, marker: str) -> list[IssueRef]:
        return [IssueRef(issue, issue) for kind, issue, m in self.effects if kind == "create" and m == marker]

    async def create_issue(self, draft: Any) -> IssueRef:
        return await self._write("create", None, draft.marker.text)

    async def add_comment(self, issue: IssueRef, body: str, marker: Any) -> CommentRef:
        return await self._write("comment", issue.remote_id, marker.text)

    async def find_issue(self, marker: Any, since: dt.datetime) -> list[IssueRef]:
        return await self._read(lambda: self._issues(marker.text))

    async def find_comment(self, issue: IssueRef, marker: Any, since: dt.datetime) -> list[CommentRef]:
        return await self._read(
            lambda: [
                CommentRef(f"{i}:{m}")
                for kind, i, m in self.effects
                if kind == "comment" and i == issue.remote_id and m == marker.text
            ]
        )

    async def _read(self, look: Any) -> Any:
        dice = self.world.dice
        await asyncio.sleep(dice.uniform(0.01, 0.3))
        if self.world.loop.now < self.down_until or dice.random() < self.world.tracker_trouble / 2:
            raise Unavailable("no response")
        return [] if self.world.plan.off.find else look()

    async def _write(self, kind: str, issue: str | None, marker: str) -> Any:
        """Handle a request that creates an issue or a comment."""
        world, dice = self.world, self.world.dice
        world.sent(self, marker)
        self.calls.append(world.loop.now)
        duration, roll = dice.uniform(0.01, 0.4), dice.random()
        trouble = world.tracker_trouble
        if world.loop.now < self.down_until:
            await asyncio.sleep(duration)
            raise Unavailable("connection refused")
        kinds = ("refused", "limited", "response lost", "request lost", "late", "error after", "error before")
        fault = kinds[int(roll / trouble * len(kinds))] if trouble and roll < trouble else "none"
        world.happened[fault] += 1
        applied: asyncio.Future[Any] = world.loop.create_future()

        async def apply(after: float) -> None:
            await asyncio.sleep(after)
            ref = self._apply(kind, issue, marker)
            if not applied.done():
                applied.set_result(ref)

        match fault:
            case "none":
                world.run_detached(apply(duration))
                await asyncio.sleep(duration)
                return await applied
            case "refused":
                await asyncio.sleep(duration)
                raise Unavailable("503")
            case "limited":
                await asyncio.sleep(duration)
                raise RateLimited("429", retry_after=float(dice.randrange(1, 15)))
            case "response lost" | "error after":
                world.run_detached(apply(duration))
                await asyncio.sleep(duration)
                raise UnknownOutcome("connection reset")
            case "error before":
                await asyncio.sleep(duration)
                raise UnknownOutcome("500")
            case "late":
                # the sender gives up at once or at the timeout; the request still arrives
                gives_up = dice.choice((duration, TIMEOUT_SECONDS))
                world.run_detached(apply(gives_up + dice.uniform(0.0, LATENESS_SECONDS)))
                await asyncio.sleep(gives_up)
                raise UnknownOutcome("timed out")
            case _:
                await asyncio.sleep(TIMEOUT_SECONDS)
                raise UnknownOutcome("timed out")

    def _apply(self, kind: str, issue: str | None, marker: str) -> Any:
        if kind == "create":
            issue = f"{self.destination_id}-{len(self.effects) + 1}"
        assert issue is not None
        self.effects.append((kind, issue, marker))
        self.world.trace(f"tracker {self.destination_id} {kind} {issue} {marker[4:12]}")
        return IssueRef(issue, issue) if kind == "create" else CommentRef(f"{issue}:{marker}")
