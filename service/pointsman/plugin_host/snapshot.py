"""The configuration, alive: sources that can read, destinations with their trackers, routes. Replaced as a whole."""

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
    credential_digest,
    intake_url,
    make_settings,
    source_feedback_destination,
    webhook_url,
)
from pointsman.plugin_host.http_client import HttpClient
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.registry import Registry
from pointsman.storage import config as rows
from pointsman.storage import rate_limits
from pointsman.storage import sources as source_rows
from pointsman.storage.db import Database

__all__ = [
    "ConfigReloader",
    "ConfigSnapshot",
    "LiveDestination",
    "LiveSource",
    "credential_digest",
    "intake_url",
    "installed_kinds",
    "make_settings",
    "webhook_url",
]

log = logger("config")


@dataclass(slots=True, frozen=True)
class ConfigSnapshot:
    """One state of the configuration."""

    version: int
    installation_id: uuid.UUID
    marker_key: bytes
    mail_id: int | None
    sources: Mapping[str, LiveSource]
    destinations: Mapping[int, LiveDestination]
    routes: Sequence[Route]
    source_slugs: Mapping[int, str] = field(default_factory=dict)
    feedback_destinations: Mapping[int, int] = field(default_factory=dict)
    """The destination by which each source is told how its problems stand, by source."""

    def source_of(self, source_id: int) -> LiveSource | None:
        """A source by its number."""
        return next((one for one in self.sources.values() if one.id == source_id), None)

    def sources_wanting_comments(self) -> Sequence[int]:
        """The sources that are told where issues were made."""
        return [
            one.id
            for one in self.sources.values()
            if one.id in self.feedback_destinations and one.capabilities.comment
        ]

    def destination(self, slug: str) -> LiveDestination | None:
        """A tracker destination by its slug."""
        for one in self.destinations.values():
            if one.slug == slug and one.kind == DestinationKind.TRACKER:
                return one
        return None

    def marker_of(self, ticket: Ticket, promise: PlannedDelivery) -> uuid.UUID:
        """The marker of a delivery: the same again after a database was restored, or a source was replayed."""
        destination = self.destinations[promise.destination_id].slug
        what = (
            "create"
            if promise.kind is DeliveryKind.CREATE
            else f"{promise.kind.name.lower()} {promise.event_n}"
        )
        parts = (
            self.source_slugs[ticket.source_id],
            ticket.fingerprint,
            str(ticket.generation),
            destination,
            what,
        )
        return uuid.uuid5(self.installation_id, "\n".join(parts))

    @property
    def mask_key(self) -> bytes:
        """What placeholders of masked secrets are made with: the markers' key is for markers alone."""
        return hmac_sha256(self.marker_key, b"masks")

    def marker_text(self, marker: uuid.UUID) -> str:
        """The marker as it stands in an issue; its tail can't be made without our key."""
        return f"pm1-{marker}-{hmac_sha256(self.marker_key, marker.bytes).hex()[:12]}"

    def marker_from(self, text: str) -> uuid.UUID | None:
        """The marker in a text, None if the text is none of ours."""
        try:
            marker = uuid.UUID(text[4:40])
        except ValueError:
            return None
        same = hmac.compare_digest(self.marker_text(marker).encode(), text.encode("utf-8", "surrogateescape"))
        return marker if same else None


def installed_kinds(registry: Registry, defaults: Mapping[str, Mapping[str, Any]]) -> config_file.InstalledKinds:
    """What the configuration file may name."""
    return config_file.InstalledKinds(
        sources={name: one.Settings for name, one in registry.sources.items()},
        trackers={name: one.Settings for name, one in registry.trackers.items()},
        check=make_settings,
        secret_fields=secret_fields,
        defaults=defaults,
    )


class ConfigReloader:
    """Loads the configuration, and again when another replica or the command line changed it."""

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
        self._make = InstanceFactory(registry, vault, policy, defaults, public_url)
        self._mails = mails
        self._current: ConfigSnapshot | None = None
        self._lock = asyncio.Lock()

    @property
    def current(self) -> ConfigSnapshot:
        """The configuration in force."""
        assert self._current is not None, "load first"
        return self._current

    async def refresh(self) -> bool:
        """Load anew if the configuration moved; whether it did."""
        async with self._lock:
            if self._current is not None:
                version = await rows.version(self._database)
                if version == self._current.version:
                    return False
            async with self._database.transaction() as con:
                loaded = await rows.load(con)
            old = self._current
            made = self._build(loaded)
            if await self._sync_source_destinations(made):
                async with self._database.transaction() as con:
                    loaded = await rows.load(con)
                made = self._build(loaded)
            await rate_limits.record_credentials(
                self._database,
                {one.id: one.credential for one in made.destinations.values() if one.tracker is not None},
            )
            self._current = made
        if old is not None:
            kept = {id(one) for one in _clients(self._current)}
            for one in _clients(old):
                if id(one) not in kept:
                    await one.close()
            log.info("configuration loaded", version=loaded.version)
        return True

    async def close(self) -> None:
        """Close all connections to trackers."""
        if self._current is not None:
            for one in _clients(self._current):
                await one.close()

    async def _sync_source_destinations(self, made: ConfigSnapshot) -> bool:
        """Sources that are told something have a destination for it; whether one came or went."""
        live = [one for one in made.sources.values() if one.plugin is not None]
        broken = [one.id for one in made.sources.values() if one.plugin is None]
        return await source_rows.configure_feedback(
            self._database,
            with_api=[one.id for one in live if one.client is not None],
            with_feedback=[one.id for one in live if one.capabilities.writes_back],
            unchanged=broken,
        )

    def _build(self, loaded: rows.Rows) -> ConfigSnapshot:
        old = self._current
        sources = {
            row.slug: self._make.source(row, old.source_of(row.id) if old is not None else None)
            for row in loaded.sources
            if not row.retired
        }
        by_back = {feedback_slug(slug): one for slug, one in sources.items()}
        destinations = {
            row.id: source_feedback_destination(row, by_back.get(row.slug))
            if row.kind == DestinationKind.SOURCE
            else self._make.destination(row, old.destinations.get(row.id) if old is not None else None)
            for row in loaded.destinations
        }
        _assign_rate_limits(destinations.values())
        ids = {one.slug: one.id for one in destinations.values()}
        mail = [one.id for one in destinations.values() if one.kind == DestinationKind.MAIL]
        return ConfigSnapshot(
            version=loaded.version,
            installation_id=loaded.installation_id,
            marker_key=loaded.marker_key,
            mail_id=mail[0] if mail and self._mails else None,
            sources=sources,
            destinations=destinations,
            routes=[row.rule(ids) for row in loaded.routes],
            source_slugs={row.id: row.slug for row in loaded.sources},
            feedback_destinations={
                by_back[one.slug].id: one.id
                for one in destinations.values()
                if one.kind == DestinationKind.SOURCE and one.tracker is not None
            },
        )


def feedback_slug(slug: str) -> str:
    """The name of the destination by which a source is told something; no name that a file could give."""
    return f"@source:{slug}"


def _clients(snapshot: ConfigSnapshot) -> Sequence[HttpClient]:
    """The connections of a configuration, each once."""
    found = [one.client for one in snapshot.destinations.values()]
    found += [one.client for one in snapshot.sources.values()]
    return list({id(one): one for one in found if one is not None}.values())


def _assign_rate_limits(destinations: Iterable[LiveDestination]) -> None:
    """A budget is the credential's: what one destination was told holds for all that share it."""
    sharing: dict[bytes | int, list[LiveDestination]] = {}
    for one in destinations:
        if one.tracker is not None:
            sharing.setdefault(one.credential or one.id, []).append(one)
    for group in sharing.values():
        writes_per_minute = shared_limit(one.limits.writes_per_minute for one in group)
        for one in group:
            one.rate_limits = rate_limits_of(one.capabilities.quotas, writes_per_minute)
