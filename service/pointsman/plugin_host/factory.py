"""Build live sources and destinations from their rows: resolve secrets, open connections, instantiate plugins.

An error of a plugin becomes the ``problem`` of its source or destination and affects no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, decode_secret, is_reference, secret_fields
from pointsman.crypto import sha256
from pointsman.domain.states import DestinationKind
from pointsman.logs import logger, scrub
from pointsman.plugin_api import (
    Connection,
    PluginSettings,
    Secret,
    Source,
    Tracker,
)
from pointsman.plugin_api.client import NoApiClient
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.http_client import HttpClient, origin_of
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.source_as_tracker import SourceAsTracker
from pointsman.storage import config as rows

log = logger("config")


@dataclass(slots=True, frozen=True)
class InstanceFactory:
    """Factory of live sources and destinations. ``defaults`` are settings that the process supplies, by tracker."""

    registry: Registry
    vault: Vault
    policy: EgressPolicy
    defaults: Mapping[str, Mapping[str, Any]]
    public_url: str = ""

    def build_source(self, row: rows.SourceRow, previous: LiveSource | None) -> LiveSource:
        """Build a source. Reuse the plugin and connections of ``previous`` if nothing changed."""
        digests, problem, plugin = [], "", None
        client: HttpClient | None = None
        build_inputs: Any = None
        for token in row.tokens:
            try:
                digests.append(_token_digest(self.vault, token))
            except ValueError as error:
                problem = f"token: {error}"
        kind = self.registry.sources.get(row.kind)
        if kind is None:
            problem = (
                f"no plugin provides the kind {row.kind!r}; install one, its reports are kept until then"
            )
        else:
            try:
                plugin, client, build_inputs = self._build_plugin(row, kind, previous)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                problem = scrub(f"{type(error).__name__}: {error}")
        if problem:
            log.warning("source has a problem", source=row.slug, problem=problem)
        limits = msgspec.convert(row.limits, config_file.SourceLimits)
        url = intake_url(self.public_url, row.slug) if self.public_url else ""
        return LiveSource(
            row.id, row.slug, row.kind, plugin, tuple(digests), problem, limits, client, build_inputs, url
        )

    def _build_plugin(
        self, row: rows.SourceRow, kind: type[Source], previous: LiveSource | None
    ) -> tuple[Source, HttpClient | None, Any]:
        """Return the plugin instance, its client, and the values that both were built from."""
        resolved = self._resolve_secrets(row.settings)
        build_inputs = (row.id, row.slug, row.kind, resolved)
        if previous is not None and previous.plugin is not None and previous.build_inputs == build_inputs:
            return previous.plugin, previous.client, build_inputs
        settings = make_settings(kind.Settings, resolved)
        connection = kind.connection(settings)
        if connection is None:
            plugin, client = kind(settings, NoApiClient()), None
        else:
            client = self._client(connection, kind)
            plugin = kind(settings, client)
        return plugin, client, build_inputs

    def build_destination(
        self, row: rows.DestinationRow, previous: LiveDestination | None
    ) -> LiveDestination:
        """Build a destination. Reuse tracker, connections and account of ``previous`` if nothing changed."""
        destination = LiveDestination(
            row.id, row.slug, row.kind, row.tracker, redact=row.redact, retired=row.retired
        )
        destination.limits = msgspec.convert(row.limits, config_file.DestinationLimits)
        if row.kind != DestinationKind.TRACKER or row.retired:
            return destination
        if self.public_url:
            destination.webhook_url = webhook_url(self.public_url, row.tracker, row.slug)
        try:
            destination.webhook_secrets = tuple(
                self.vault.resolve(reference).reveal().encode() for reference in row.webhook_secrets
            )
            resolved = self._resolve_secrets({**self.defaults.get(row.tracker, {}), **row.settings})
            destination.build_inputs = (row.tracker, resolved)
            if (
                previous is not None
                and previous.build_inputs == destination.build_inputs
                and previous.tracker is not None
            ):
                destination.tracker, destination.client = previous.tracker, previous.client
                destination.account, destination.credential = previous.account, previous.credential
                return destination
            kind = self.registry.trackers.get(row.tracker)
            if kind is None:
                raise ValueError(f"no plugin provides the tracker {row.tracker!r}; install one")  # noqa: TRY301
            settings = make_settings(kind.Settings, resolved)
            connection = kind.connection(settings)
            if connection is not None:
                destination.client = self._client(connection, kind)
                destination.credential = credential_digest(connection, settings)
            destination.tracker = kind(settings, destination.client or NoApiClient())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            destination.problem = scrub(f"{type(error).__name__}: {error}")
            log.warning("destination has a problem", destination=row.slug, problem=destination.problem)
        return destination

    def _resolve_secrets(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings with each secret reference replaced by its secret."""
        return {
            key: self.vault.resolve(value) if is_reference(value) else value for key, value in values.items()
        }

    def _client(self, connection: Connection, kind: type[Source | Tracker]) -> HttpClient:
        return HttpClient(connection, self.policy, timeout_seconds=kind.capabilities.request_timeout_seconds)


def source_feedback_destination(row: rows.DestinationRow, source: LiveSource | None) -> LiveDestination:
    """Return the destination through which a source gets feedback about its problems."""
    destination = LiveDestination(row.id, row.slug, row.kind, row.tracker, retired=row.retired)
    if row.retired:
        return destination
    if source is None or source.plugin is None:
        destination.problem = source.problem if source is not None else "its source is no longer configured"
    elif source.capabilities.writes_back:
        destination.tracker, destination.client = (
            SourceAsTracker(source.plugin, source.plugin.client),
            source.client,
        )
    return destination


def make_settings(kind: type[PluginSettings], values: Mapping[str, Any]) -> PluginSettings:
    """Convert resolved values to a plugin's settings. Raises ValueError that names the field."""
    return msgspec.convert(dict(values), kind, dec_hook=decode_secret)


def webhook_url(public_url: str, tracker: str, slug: str) -> str:
    """Return the URL for webhooks of a destination's tracker."""
    return f"{public_url}/webhooks/{tracker}/{slug}"


def intake_url(public_url: str, slug: str) -> str:
    """Return the URL for reports of a source, with TOKEN in place of its token."""
    return f"{public_url}/intake/{slug}/TOKEN"


def credential_digest(connection: Connection, settings: PluginSettings) -> bytes:
    """Return a digest that identifies a credential: origin, headers and account of the connection.

    Where the plugin names no account, the secrets of its settings are included: it may create tokens from them later.
    """
    origin = origin_of(connection.base_url)
    identity = [f"{origin.scheme}://{origin.host}:{origin.port}"]
    identity += sorted(f"{name.lower()}: {value.reveal()}" for name, value in connection.headers.items())
    if connection.account:
        identity.append(f"account: {connection.account}")
    else:
        identity += [
            f"{name}: {secret.reveal().strip()}"
            for name in sorted(secret_fields(type(settings)))
            for secret in _secrets_in(getattr(settings, name))
        ]
    return sha256("\0".join(identity).encode("utf-8", "surrogateescape"))


def _secrets_in(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _secrets_in(inner)


def _token_digest(vault: Vault, token: Mapping[str, str]) -> bytes:
    if digest := token.get("sha256"):
        return bytes.fromhex(digest)
    return sha256(vault.resolve(token).reveal().encode())
