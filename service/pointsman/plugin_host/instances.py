"""A source and a destination as they are in use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pointsman.config import file as config_file
from pointsman.domain.states import DestinationKind
from pointsman.domain.token_bucket import RateLimit
from pointsman.plugin_api import (
    Actor,
    Misconfigured,
    Source,
    SourceCapabilities,
    Tracker,
    TrackerCapabilities,
)
from pointsman.plugin_host.http_client import HttpClient


@dataclass(slots=True, frozen=True)
class LiveSource:
    """A source in use. Without a reader (``problem`` says why) its reports are parked."""

    id: int
    slug: str
    kind: str
    plugin: Source | None
    digests: tuple[bytes, ...]
    problem: str = ""
    limits: config_file.SourceLimits = field(default_factory=config_file.SourceLimits)
    client: HttpClient | None = None
    """Towards its API, if it has one."""
    build_inputs: Any = None
    """What it was made from: an unchanged source keeps its reader and connections over a reload."""

    @property
    def capabilities(self) -> SourceCapabilities:
        """What it can do; nothing, if it can't even read."""
        return self.plugin.capabilities if self.plugin is not None else SourceCapabilities()

    @property
    def new_tickets_per_minute(self) -> int | None:
        """How many tickets it may open in a minute before it counts as a storm; 0 for no cap, None if nobody said."""
        return self.limits.new_tickets_per_minute

    @property
    def owns_tickets(self) -> bool:
        """Whether its token reaches its own tickets."""
        return self.plugin is not None and self.plugin.owns_tickets


@dataclass(slots=True)
class LiveDestination:
    """A destination in use. Without a tracker (``problem`` says why) its deliveries wait."""

    id: int
    slug: str
    kind: DestinationKind
    tracker_kind: str
    tracker: Tracker | None = None
    client: HttpClient | None = None
    webhook_secrets: tuple[bytes, ...] = ()
    limits: config_file.DestinationLimits = field(default_factory=config_file.DestinationLimits)
    redact: str = "normal"
    """How much is masked of what goes there: ``normal``, ``strict``, ``off``."""
    credential: bytes | None = None
    """What tells the credential apart, a digest; destinations with the same one share its budgets. None without one."""
    rate_limits: tuple[RateLimit, ...] = ()
    """How fast it may be written to; the slowest first."""
    problem: str = ""
    retired: bool = False
    account: Actor | None = None
    """Who we are there, once that was asked."""
    build_inputs: Any = None
    """What it was made from: an unchanged destination keeps its tracker and connections over a reload."""

    @property
    def capabilities(self) -> TrackerCapabilities:
        """What its tracker can do; nothing, if there is none."""
        return self.tracker.capabilities if self.tracker is not None else TrackerCapabilities()

    def require_tracker(self) -> Tracker:
        """The tracker, or Misconfigured with the cause."""
        if self.tracker is None:
            raise Misconfigured(self.problem or f"destination {self.slug} has no tracker")
        return self.tracker
