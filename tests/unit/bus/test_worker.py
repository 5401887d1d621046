"""Workers: handlers of kinds of destinations, and leases that are lost."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from pointsman.bus.worker import Handlers, Worker
from pointsman.storage.queue_values import Lane
from polling import until

TRACKER, MAIL = 1, 2


def _lane(destination_id: int = 1) -> Lane:
    return Lane(7, 1, uuid.uuid4(), uuid.uuid4(), destination_id, 0.0)


class FakeLanes:
    """Lanes that can be claimed in order; every lease is renewed."""

    def __init__(self, *due: Lane) -> None:
        self.due = list(due)
        self.renewed: list[Lane] = []
        self.released: list[Lane] = []

    async def claim(self, limit: int) -> list[Lane]:
        return [self.due.pop(0)] if self.due and limit else []

    async def renew(self, lanes: list[Lane]) -> set[int]:
        self.renewed = lanes
        return {lane.id for lane in lanes}

    async def release(self, lane: Lane, delay_seconds: float = 0.0) -> None:
        assert delay_seconds > 0
        self.released.append(lane)


async def test_a_lane_that_was_lost_and_came_back_is_worked_by_its_new_lease_alone():
    """The handler of the lost lease ends, and its end does not stop the renewal of the new lease."""
    lost, reclaimed = _lane(), _lane()
    lanes: Any = FakeLanes(lost)
    ended: list[Lane] = []

    async def handle(lane: Lane) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(lane)

    handlers = Handlers(lambda _: TRACKER)
    handlers.register(TRACKER, handle)
    worker = Worker(lanes, handlers, renew_every_seconds=0.01, drain_seconds=0.0)
    async with worker.running():

        async def is_renewed(lane: Lane) -> bool:
            return any(renewed is lane for renewed in lanes.renewed)

        await until(lambda: is_renewed(lost))
        lanes.due.append(reclaimed)
        worker.wake()
        await until(lambda: is_renewed(reclaimed))
        assert [lane is lost for lane in ended] == [True]
        assert worker.claimed_lanes == 1
        lanes.renewed = []
        await until(lambda: is_renewed(reclaimed))
        assert worker.claimed_lanes == 1
    assert len(ended) == 2
    assert worker.claimed_lanes == 0


async def test_a_lane_goes_to_the_handler_of_its_destinations_kind():
    handled: list[tuple[str, int]] = []

    async def send_to_tracker(lane: Lane) -> None:
        handled.append(("tracker", lane.destination_id))

    async def send_mail(lane: Lane) -> None:
        handled.append(("mail", lane.destination_id))

    handlers = Handlers({1: TRACKER, 2: MAIL}.get)
    handlers.register(TRACKER, send_to_tracker)
    handlers.register(MAIL, send_mail)
    lanes: Any = FakeLanes(_lane(1), _lane(2))
    worker = Worker(lanes, handlers)
    async with worker.running():

        async def both_handled() -> bool:
            worker.wake()
            return len(handled) == 2

        await until(both_handled)
    assert sorted(handled) == [("mail", 2), ("tracker", 1)]


async def test_a_lane_of_an_unknown_destination_is_released_for_a_while():
    """Another replica may already have the newer configuration."""
    lane = _lane()
    lanes: Any = FakeLanes(lane)
    worker = Worker(lanes, Handlers(lambda _: None))
    async with worker.running():

        async def released() -> bool:
            return lanes.released == [lane]

        await until(released)
