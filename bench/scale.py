"""Sizes of the measurements."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Figures: TypeAlias = dict[str, float]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of all measurements."""

    rounds: int = 3
    seconds: float = 8.0
    warm_up: float = 2.0
    waiting: int = 3000
    finished: int = 10_000_000
    blocked: int = 100_000
    alerts: int = 150
    pause: float = 0.1
    idle_seconds: float = 60.0


QUICK = Scale(
    rounds=1,
    seconds=0.5,
    warm_up=0.2,
    waiting=50,
    finished=100_000,
    blocked=1000,
    alerts=10,
    pause=0.02,
    idle_seconds=0.5,
)
