"""What a simulated world has in store, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pointsman.plugin_api import Quota

LEASE_SECONDS, TIMEOUT_SECONDS, SETTLE_SECONDS, LATENESS_SECONDS = 30.0, 5.0, 6.0, 4.0
"""A request that takes effect later than its answer does so within the time that the tracker is given to settle."""


@dataclass(frozen=True)
class Off:
    """Safeguards that are switched off."""

    find: bool = False
    fence: bool = False
    settle: bool = False
    intent: bool = False


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    replicas: int = 3
    tickets: int = 6
    places: int = 2
    comments: int = 3
    trouble_seconds: float = 60.0
    patience_seconds: float = 1800.0
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
    """What became of it."""

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
        return not (self.lost or self.duplicates or self.misordered or self.stuck or self.broken)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: lost {self.lost}, duplicate {self.duplicates}, misordered {self.misordered}, "
            f"stuck {self.stuck}, broken {self.broken[:3]}"
        )
