"""The plan of a simulated world, with the faults to inject, and the result of its run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pointsman.plugin_api import Quota

LEASE_SECONDS, TIMEOUT_SECONDS, SETTLE_SECONDS, LATENESS_SECONDS = 30.0, 5.0, 6.0, 4.0
"""Lateness: a request takes effect at most this long after its timeout, which is less than the settle time."""


@dataclass(frozen=True)
class Off:
    """Safeguards to switch off, to prove that the simulation notices."""

    find: bool = False
    fence: bool = False
    settle: bool = False
    intent: bool = False


@dataclass(frozen=True)
class Plan:
    """Numbers of replicas, tickets and faults."""

    replicas: int = 3
    tickets: int = 6
    destinations: int = 2
    comments: int = 3
    trouble_seconds: float = 60.0
    drain_seconds: float = 1800.0
    kills: int = 4
    pauses: int = 6
    restarts: int = 1
    outages: int = 1
    tracker_trouble: float = 0.5
    database_trouble: float = 0.03
    limit: Quota | None = None
    width: int = 128
    off: Off = field(default_factory=Off)


@dataclass
class Result:
    """Counts of a run; everything but ``accepted``, ``effects`` and ``happened`` is 0 or empty when all is well."""

    seed: int
    accepted: int = 0
    effects: int = 0
    lost: int = 0
    duplicates: int = 0
    misordered: int = 0
    stuck: int = 0
    virtual_seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether no guarantee was violated."""
        return not (self.lost or self.duplicates or self.misordered or self.stuck or self.broken)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: lost {self.lost}, duplicate {self.duplicates}, misordered {self.misordered}, "
            f"stuck {self.stuck}, broken {self.broken[:3]}"
        )
