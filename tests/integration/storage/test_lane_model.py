"""Compare the statements of the queue with a model of them in plain Python, after each step of random sequences.

``make test`` runs a fixed selection; HYPOTHESIS_PROFILE=long runs 2,500 random examples of 50 steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from simulation.environment import Environment, open_environment
from simulation.machine import play

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = int(os.environ.get("LANE_MODEL_EXAMPLES", "2500" if LONG else "60"))


@pytest.fixture
def environment(server_dsn: str, template: str) -> Iterator[Environment]:
    with open_environment(server_dsn, template) as environment:
        yield environment


def test_the_queue_and_its_model_agree_whatever_is_done(environment: Environment):
    """Claims, renewals, intents, results, unknown outcomes, replays, stale leases, breakers, pauses, and passing time."""
    play(environment, examples=EXAMPLES, fixed=not LONG)
