"""Runtime instances of configured sources and destinations."""

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
    """A configured source with its plugin. Without a plugin (``problem`` has the reason) its reports are parked."""

    id: int
    slug: str
    kind: str
    plugin: Source | None
    digests: tuple[bytes, ...]
    problem: str = ""
    limits: config_file.SourceLimits = field(default_factory=config_file.SourceLimits)
    client: HttpClient | None = None
    """Client of the source's API, if it has one."""
    build_inputs: Any = None
    """Values that the instance was built from: an unchanged source keeps its plugin and connections over a reload."""
    intake_url: str = ""
    """Public URL of its intake, with ``TOKEN`` in place of its token; empty without a public address."""

    @property
    def capabilities(self) -> SourceCapabilities:
        """Return the plugin's capabilities; none without a plugin."""
        return self.plugin.capabilities if self.plugin is not None else SourceCapabilities()

    @property
    def new_tickets_per_minute(self) -> int | None:
        """Return the limit of new tickets per minute before throttling; 0 for no limit, None for the default."""
        return self.limits.new_tickets_per_minute

    @property
    def owns_tickets(self) -> bool:
        """Return whether the source's token gives access to the source's own tickets."""
        return self.plugin is not None and self.plugin.owns_tickets


@dataclass(slots=True)
class LiveDestination:
    """A configured destination with its tracker. Without a tracker (``problem`` has the reason) its deliveries wait."""

    id: int
    slug: str
    kind: DestinationKind
    tracker_kind: str
    tracker: Tracker | None = None
    client: HttpClient | None = None
    webhook_secrets: tuple[bytes, ...] = ()
    limits: config_file.DestinationLimits = field(default_factory=config_file.DestinationLimits)
    redact: str = "normal"
    """How much of an outgoing text is masked: ``normal``, ``strict``, ``off``."""
    credential: bytes | None = None
    """Digest that identifies the credential; destinations with the same digest share its rate limits."""
    rate_limits: tuple[RateLimit, ...] = ()
    """Rate limits for writes, the slowest first."""
    problem: str = ""
    retired: bool = False
    account: Actor | None = None
    """Our account there, once it was fetched."""
    build_inputs: Any = None
    """Values that the instance was built from: an unchanged destination keeps its tracker and connections."""
    webhook_url: str = ""
    """Public URL of its webhooks, empty without a public address."""

    @property
    def capabilities(self) -> TrackerCapabilities:
        """Return the tracker's capabilities; none without a tracker."""
        return self.tracker.capabilities if self.tracker is not None else TrackerCapabilities()

    @property
    def in_use(self) -> bool:
        """Return whether the configuration uses it: there is a tracker, or a problem that prevents one."""
        return self.tracker is not None or bool(self.problem)

    def require_tracker(self) -> Tracker:
        """Return the tracker. Raises Misconfigured with the cause if there is none."""
        if self.tracker is None:
            raise Misconfigured(self.problem or f"destination {self.slug} has no tracker")
        return self.tracker
