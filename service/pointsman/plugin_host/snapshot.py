"""Immutable snapshot of the configuration with its live instances, and the reloader that replaces it as a whole."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, secret_fields
from pointsman.crypto import hmac_sha256
from pointsman.domain.routing import Route
from pointsman.domain.states import DeliveryKind, DestinationKind
from pointsman.domain.ticket import PlannedDelivery, Ticket
from pointsman.domain.token_bucket import rate_limits_of, shared_limit
from pointsman.logs import logger
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.factory import (
    InstanceFactory,
    make_settings,
    source_feedback_destination,
)
from pointsman.plugin_host.http_client import HttpClient
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.registry import Registry
from pointsman.storage import config as rows
from pointsman.storage import rate_limits
from pointsman.storage import sources as source_rows
from pointsman.storage.db import Database

log = logger("config")


@dataclass(slots=True, frozen=True)
class ConfigSnapshot:
    """Sources, destinations and routes of one configuration version."""

    version: int
    installation_id: uuid.UUID
    marker_key: bytes
    mail_id: int | None
    sources: Mapping[str, LiveSource]
    destinations: Mapping[int, LiveDestination]
    routes: Sequence[Route]
    source_slugs: Mapping[int, str] = field(default_factory=dict)
    feedback_destinations: Mapping[int, int] = field(default_factory=dict)
    """Id of the feedback destination by source id."""

    def source_of(self, source_id: int) -> LiveSource | None:
        """Return the source with this id."""
        return next((source for source in self.sources.values() if source.id == source_id), None)

    def sources_wanting_comments(self) -> Sequence[int]:
        """Return the ids of sources that get a comment about each new issue."""
        return [
            source.id
            for source in self.sources.values()
            if source.id in self.feedback_destinations and source.capabilities.comment
        ]

    def claimable_destinations(self) -> Sequence[int]:
        """Return the ids of the destinations that this replica works on.

        Lanes of retired destinations wait. A destination whose tracker can't be created is claimed, so that its
        problem becomes a failure that operators see.
        """
        return [
            destination.id
            for destination in self.destinations.values()
            if destination.in_use or destination.kind == DestinationKind.MAIL
        ]

    def destination(self, slug: str) -> LiveDestination | None:
        """Return the tracker destination with this slug."""
        for destination in self.destinations.values():
            if destination.slug == slug and destination.kind == DestinationKind.TRACKER:
                return destination
        return None

    def marker_of(self, ticket: Ticket, delivery: PlannedDelivery) -> uuid.UUID:
        """Return the marker of a delivery.

        It is derived from slugs, fingerprint and event, so that it is the same after a restored backup or a replay.
        """
        destination = self.destinations[delivery.destination_id].slug
        operation = (
            "create"
            if delivery.kind is DeliveryKind.CREATE
            else f"{delivery.kind.name.lower()} {delivery.event_n}"
        )
        parts = (
            self.source_slugs[ticket.source_id],
            ticket.fingerprint,
            str(ticket.generation),
            destination,
            operation,
        )
        return uuid.uuid5(self.installation_id, "\n".join(parts))

    @property
    def mask_key(self) -> bytes:
        """Return the key for placeholders of masked secrets. The marker key itself signs markers only."""
        return hmac_sha256(self.marker_key, b"masks")

    def marker_text(self, marker: uuid.UUID) -> str:
        """Return the text form of a marker, signed with the installation's key."""
        return f"pm1-{marker}-{hmac_sha256(self.marker_key, marker.bytes).hex()[:12]}"

    def marker_from(self, text: str) -> uuid.UUID | None:
        """Return the marker of a text form, or None if its signature is not ours."""
        try:
            marker = uuid.UUID(text[4:40])
        except ValueError:
            return None
        is_ours = hmac.compare_digest(
            self.marker_text(marker).encode(), text.encode("utf-8", "surrogateescape")
        )
        return marker if is_ours else None


def installed_kinds(
    registry: Registry, defaults: Mapping[str, Mapping[str, Any]]
) -> config_file.InstalledKinds:
    """Return the kinds that a configuration file may name."""
    return config_file.InstalledKinds(
        sources={name: source.Settings for name, source in registry.sources.items()},
        trackers={name: tracker.Settings for name, tracker in registry.trackers.items()},
        check=make_settings,
        secret_fields=secret_fields,
        defaults=defaults,
    )


class ConfigReloader:
    """Load the configuration, and load it again after another replica or a command changed it."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        vault: Vault,
        policy: EgressPolicy,
        defaults: Mapping[str, Mapping[str, Any]],
        *,
        mails: bool = True,
        public_url: str = "",
    ) -> None:
        self._database = database
        self._factory = InstanceFactory(registry, vault, policy, defaults, public_url)
        self._mails = mails
        self._current: ConfigSnapshot | None = None
        self._lock = asyncio.Lock()

    @property
    def current(self) -> ConfigSnapshot:
        """Return the current snapshot."""
        assert self._current is not None, "load first"
        return self._current

    async def refresh(self) -> bool:
        """Reload if the stored version changed. Return whether it did."""
        async with self._lock:
            if self._current is not None:
                version = await rows.version(self._database)
                if version == self._current.version:
                    return False
            async with self._database.transaction() as con:
                loaded = await rows.load(con)
            previous = self._current
            snapshot = self._build(loaded)
            if await self._sync_source_destinations(snapshot):
                async with self._database.transaction() as con:
                    loaded = await rows.load(con)
                snapshot = self._build(loaded)
            await rate_limits.record_credentials(
                self._database,
                {
                    destination.id: destination.credential
                    for destination in snapshot.destinations.values()
                    if destination.tracker is not None
                },
            )
            self._current = snapshot
        if previous is not None:
            kept = {id(client) for client in _clients(self._current)}
            for client in _clients(previous):
                if id(client) not in kept:
                    await client.close()
            log.info("configuration loaded", version=loaded.version)
        return True

    async def close(self) -> None:
        """Close all connections to trackers and sources."""
        if self._current is not None:
            for client in _clients(self._current):
                await client.close()

    async def _sync_source_destinations(self, snapshot: ConfigSnapshot) -> bool:
        """Keep one feedback destination for each source that takes feedback. Return whether any was added or retired."""
        live = [source for source in snapshot.sources.values() if source.plugin is not None]
        broken = [source.id for source in snapshot.sources.values() if source.plugin is None]
        return await source_rows.configure_feedback(
            self._database,
            with_api=[source.id for source in live if source.client is not None],
            with_feedback=[source.id for source in live if source.capabilities.writes_back],
            unchanged=broken,
        )

    def _build(self, loaded: rows.ConfigRows) -> ConfigSnapshot:
        previous = self._current
        sources = {
            row.slug: self._factory.build_source(
                row, previous.source_of(row.id) if previous is not None else None
            )
            for row in loaded.sources
            if not row.retired
        }
        by_feedback_slug = {feedback_slug(slug): source for slug, source in sources.items()}
        destinations = {
            row.id: source_feedback_destination(row, by_feedback_slug.get(row.slug))
            if row.kind == DestinationKind.SOURCE
            else self._factory.build_destination(
                row, previous.destinations.get(row.id) if previous is not None else None
            )
            for row in loaded.destinations
        }
        _assign_rate_limits(destinations.values())
        ids = {destination.slug: destination.id for destination in destinations.values()}
        mail = [
            destination.id
            for destination in destinations.values()
            if destination.kind == DestinationKind.MAIL
        ]
        return ConfigSnapshot(
            version=loaded.version,
            installation_id=loaded.installation_id,
            marker_key=loaded.marker_key,
            mail_id=mail[0] if mail and self._mails else None,
            sources=sources,
            destinations=destinations,
            routes=[row.to_route(ids) for row in loaded.routes],
            source_slugs={row.id: row.slug for row in loaded.sources},
            feedback_destinations={
                by_feedback_slug[destination.slug].id: destination.id
                for destination in destinations.values()
                if destination.kind == DestinationKind.SOURCE and destination.tracker is not None
            },
        )


def feedback_slug(slug: str) -> str:
    """Return the slug of a source's feedback destination; no configuration file can use it."""
    return f"@source:{slug}"


def _clients(snapshot: ConfigSnapshot) -> Sequence[HttpClient]:
    """Return the HTTP clients of a snapshot without duplicates."""
    clients = [destination.client for destination in snapshot.destinations.values()]
    clients += [source.client for source in snapshot.sources.values()]
    return list({id(client): client for client in clients if client is not None}.values())


def _assign_rate_limits(destinations: Iterable[LiveDestination]) -> None:
    """Give all destinations with the same credential the same rate limits, since trackers count per credential."""
    sharing: dict[bytes | int, list[LiveDestination]] = {}
    for destination in destinations:
        if destination.tracker is not None:
            sharing.setdefault(destination.credential or destination.id, []).append(destination)
    for group in sharing.values():
        writes_per_minute = shared_limit(destination.limits.writes_per_minute for destination in group)
        for destination in group:
            destination.rate_limits = rate_limits_of(destination.capabilities.quotas, writes_per_minute)
