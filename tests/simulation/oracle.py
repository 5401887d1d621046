"""Judge a finished run: nothing lost, nothing duplicated, nothing out of order, nothing stuck."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pointsman.domain.states import DeliveryState
from pointsman.plugin_api import Quota
from simulation.memory import HEAD_ONLY

if TYPE_CHECKING:
    from simulation.model import World
    from simulation.tracker import Tracker


def judge(world: World) -> None:
    """Count missing effects, repeated effects, effects out of order, and deliveries that are still pending."""
    result, memory = world.result, world.store.memory
    result.virtual_seconds = world.loop.now
    for tracker in world.trackers.values():
        first: dict[str, int] = {}
        for at, (_, _, marker) in enumerate(tracker.effects):
            result.effects += 1
            if marker in first:
                result.duplicates += 1
            first.setdefault(marker, at)
        issues = {marker: issue for _, issue, marker in reversed(tracker.effects)}
        for lane in memory.lanes.values():
            if lane.destination_id != tracker.destination_id:
                continue
            of_lane = sorted(
                (d for d in memory.deliveries.values() if d.lane_id == lane.id), key=lambda d: d.event_n
            )
            result.stuck += sum(d.state == DeliveryState.PENDING for d in of_lane)
            if HEAD_ONLY["schedule_retry"]:
                result.stuck += sum(d.state != DeliveryState.PENDING and d.outcome_unknown for d in of_lane)
            texts = [world.current.marker_text(d.marker) for d in of_lane]
            result.lost += sum(text not in first for text in texts)
            positions = [first[text] for text in texts if text in first]
            result.misordered += sum(a > b for a, b in itertools.pairwise(positions))
            result.misordered += len({issues[text] for text in texts if text in first}) > 1
        if world.plan.limit is not None:
            _judge_limit(world, tracker, world.plan.limit)
    planned = result.accepted * world.plan.destinations
    result.lost += max(0, planned - len(memory.deliveries))
    result.stuck += sum(lane.state != 0 for lane in memory.lanes.values())


def _judge_limit(world: World, tracker: Tracker, limit: Quota) -> None:
    calls = sorted(tracker.calls)
    start = 0
    for end, at in enumerate(calls):
        while calls[start] <= at - limit.seconds:
            start += 1
        if end - start + 1 > limit.calls:
            world.broken(f"{end - start + 1} writes within {limit.seconds:g} s")
            return
