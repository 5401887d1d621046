"""The bus and what it holds."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from pointsman.bus.worker import Bus
from pointsman.storage.queue import Lane
from service_fixture import until


def _lane() -> Lane:
    return Lane(7, 1, uuid.uuid4(), uuid.uuid4(), 1, 0.0)


class Claims:
    """Gives what it was told to give, and renews all."""

    def __init__(self, *given: Lane) -> None:
        self.given = list(given)
        self.renewed: list[Lane] = []

    async def claim(self, room: int) -> list[Lane]:
        return [self.given.pop(0)] if self.given else []

    async def renew(self, lanes: list[Lane]) -> set[int]:
        self.renewed = lanes
        return {lane.id for lane in lanes}


async def test_a_lane_that_was_lost_and_came_back_is_worked_by_its_new_lease_alone():
    """Its old work ends, and its end does not take the new lease from the keeper."""
    lost, back = _lane(), _lane()
    claims: Any = Claims(lost)
    ended: list[Lane] = []

    async def carry(lane: Lane) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(lane)

    bus = Bus(claims, carry, keep_every_seconds=0.01)
    async with bus.running(drain_seconds=0.0):

        async def renewed(lane: Lane) -> bool:
            return any(one is lane for one in claims.renewed)

        await until(lambda: renewed(lost))
        claims.given.append(back)
        bus.wake()
        await until(lambda: renewed(back))
        assert [one is lost for one in ended] == [True]
        assert bus.held == 1
        claims.renewed = []
        await until(lambda: renewed(back))
        assert bus.held == 1
    assert len(ended) == 2
    assert bus.held == 0
