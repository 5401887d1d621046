"""The statements of the queue against a model of them in plain Python, step by step, in any order.

``make test`` plays a fixed selection; HYPOTHESIS_PROFILE=long plays 2,500 random examples of 50 steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from simulation.environment import Ground, on_ground
from simulation.machine import play

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = int(os.environ.get("LANE_MODEL_EXAMPLES", "2500" if LONG else "60"))


@pytest.fixture
def ground(server_dsn: str, template: str) -> Iterator[Ground]:
    with on_ground(server_dsn, template) as made:
        yield made


def test_the_queue_and_its_model_agree_whatever_is_done(ground: Ground):
    """Claims, renewals, intents, ends, doubts, replays, stale holders, breakers, pauses, and time that passes."""
    play(ground, examples=EXAMPLES, fixed=not LONG)
