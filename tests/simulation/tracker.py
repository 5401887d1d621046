"""The fake tracker: it drops, delays, applies late, fails and limits, and has a log of what took effect."""

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
    """A place where issues live, with its log of effects. What reached it takes effect whoever still listens."""

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
        """Kind, issue and marker, in the order in which they took effect."""
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
            raise Unavailable("no answer")
        return [] if self.world.plan.off.find else look()

    async def _write(self, kind: str, issue: str | None, marker: str) -> Any:
        """One request that changes something."""
        world, dice = self.world, self.world.dice
        world.sent(self, marker)
        self.calls.append(world.loop.now)
        takes, roll = dice.uniform(0.01, 0.4), dice.random()
        trouble = world.tracker_trouble
        if world.loop.now < self.down_until:
            await asyncio.sleep(takes)
            raise Unavailable("connection refused")
        kinds = ("refused", "limited", "answer lost", "never came", "late", "error after", "error before")
        what = kinds[int(roll / trouble * len(kinds))] if trouble and roll < trouble else "well"
        world.happened[what] += 1
        made: asyncio.Future[Any] = world.loop.create_future()

        async def apply(after: float) -> None:
            await asyncio.sleep(after)
            ref = self._apply(kind, issue, marker)
            if not made.done():
                made.set_result(ref)

        match what:
            case "well":
                world.outside(apply(takes))
                await asyncio.sleep(takes)
                return await made
            case "refused":
                await asyncio.sleep(takes)
                raise Unavailable("503")
            case "limited":
                await asyncio.sleep(takes)
                raise RateLimited("429", retry_after=float(dice.randrange(1, 15)))
            case "answer lost" | "error after":
                world.outside(apply(takes))
                await asyncio.sleep(takes)
                raise UnknownOutcome("connection reset")
            case "error before":
                await asyncio.sleep(takes)
                raise UnknownOutcome("500")
            case "late":
                # it gives up at once, or after the time limit; the request goes its way
                gives_up = dice.choice((takes, TIMEOUT_SECONDS))
                world.outside(apply(gives_up + dice.uniform(0.0, LATENESS_SECONDS)))
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
        self.world.say(f"tracker {self.destination_id} {kind} {issue} {marker[4:12]}")
        return IssueRef(issue, issue) if kind == "create" else CommentRef(f"{issue}:{marker}")
