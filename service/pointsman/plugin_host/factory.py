"""Sources and destinations made from their rows: settings with their secrets, connections, readers and trackers.

What a plugin fails at becomes the problem of its source or destination alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, decode_secret, is_reference, secret_fields
from pointsman.crypto import sha256
from pointsman.domain.states import DestinationKind
from pointsman.logs import logger
from pointsman.plugin_api import (
    ApiClient,
    Connection,
    Misconfigured,
    PluginSettings,
    Secret,
    Source,
    Tracker,
)
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.http_client import HttpClient
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.source_as_tracker import SourceAsTracker
from pointsman.storage import config as rows

log = logger("config")


@dataclass(slots=True, frozen=True)
class InstanceFactory:
    """What making needs. ``defaults`` are settings that the process supplies, by tracker."""

    registry: Registry
    vault: Vault
    policy: EgressPolicy
    defaults: Mapping[str, Mapping[str, Any]]
    public_url: str = ""

    def source(self, row: rows.SourceRow, old: LiveSource | None) -> LiveSource:
        """A source. ``old`` is how it was: unchanged, it keeps its reader and connections."""
        digests, problem, reader = [], "", None
        client: HttpClient | None = None
        same: Any = None
        for token in row.tokens:
            try:
                digests.append(_token_digest(self.vault, token))
            except ValueError as error:
                problem = f"token: {error}"
        kind = self.registry.sources.get(row.kind)
        if kind is None:
            problem = f"no plugin brings the kind {row.kind!r}; install it, its reports are kept until then"
        else:
            try:
                reader, client, same = self._build_plugin(row, kind, old)
            except Exception as error:  # noqa: BLE001 - a stranger's code
                problem = f"{type(error).__name__}: {error}"
        if problem:
            log.warning("source has a problem", source=row.slug, problem=problem)
        limits = msgspec.convert(row.limits, config_file.SourceLimits)
        return LiveSource(row.id, row.slug, row.kind, reader, tuple(digests), problem, limits, client, same)

    def _build_plugin(
        self, row: rows.SourceRow, kind: type[Source], old: LiveSource | None
    ) -> tuple[Source, HttpClient | None, Any]:
        """The source itself, with its connection, and what both were made from."""
        resolved = self._resolve_secrets(row.settings)
        same = (row.id, row.slug, row.kind, resolved)
        if old is not None and old.plugin is not None and old.build_inputs == same:
            return old.plugin, old.client, same
        settings = make_settings(kind.Settings, resolved)
        connection = kind.connection(settings)
        if connection is None:
            made, client = kind(settings), None
        else:
            client = self._client(connection, kind)
            made = kind(settings, client)
        if self.public_url:
            made.intake_url = intake_url(self.public_url, row.slug)
        return made, client, same

    def destination(self, row: rows.DestinationRow, old: LiveDestination | None) -> LiveDestination:
        """A place on a tracker. ``old`` is how it was: unchanged, it keeps its tracker, connections and account."""
        made = LiveDestination(
            row.id, row.slug, row.kind, row.tracker, redact=row.redact, retired=row.retired
        )
        made.limits = msgspec.convert(row.limits, config_file.DestinationLimits)
        if row.kind != DestinationKind.TRACKER or row.retired:
            return made
        try:
            made.webhook_secrets = tuple(
                self.vault.resolve(one).reveal().encode() for one in row.webhook_secrets
            )
            resolved = self._resolve_secrets({**self.defaults.get(row.tracker, {}), **row.settings})
            made.build_inputs = (row.tracker, resolved)
            if old is not None and old.build_inputs == made.build_inputs and old.tracker is not None:
                made.tracker, made.client, made.account = old.tracker, old.client, old.account
                made.credential = old.credential
                return made
            kind = self.registry.trackers.get(row.tracker)
            if kind is None:
                raise ValueError(f"no plugin brings the tracker {row.tracker!r}; install it")  # noqa: TRY301
            settings = make_settings(kind.Settings, resolved)
            connection = kind.connection(settings)
            client: ApiClient
            if connection is None:
                client = _NoClient()
            else:
                client = made.client = self._client(connection, kind)
                made.credential = credential_digest(connection, settings)
            made.tracker = kind(settings, client)
            if self.public_url:
                made.tracker.webhook_url = webhook_url(self.public_url, row.tracker, row.slug)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            made.problem = f"{type(error).__name__}: {error}"
            log.warning("destination has a problem", destination=row.slug, problem=made.problem)
        return made

    def _resolve_secrets(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with their secrets in place of what refers to them."""
        return {
            key: self.vault.resolve(value) if is_reference(value) else value for key, value in values.items()
        }

    def _client(self, connection: Connection, kind: type[Source | Tracker]) -> HttpClient:
        return HttpClient(connection, self.policy, timeout_seconds=kind.capabilities.request_timeout_seconds)


def source_feedback_destination(row: rows.DestinationRow, source: LiveSource | None) -> LiveDestination:
    """The destination by which a source is told how its problems stand."""
    made = LiveDestination(row.id, row.slug, row.kind, row.tracker, retired=row.retired)
    if row.retired:
        return made
    if source is None or source.plugin is None:
        made.problem = source.problem if source is not None else "its source is no longer configured"
    elif source.capabilities.writes_back:
        made.tracker, made.client = SourceAsTracker(source.plugin, source.plugin.client), source.client
    return made


def make_settings(kind: type[PluginSettings], values: Mapping[str, Any]) -> PluginSettings:
    """A plugin's settings from resolved values; ValueError (with the field) for what can't be."""
    return msgspec.convert(dict(values), kind, dec_hook=decode_secret)


def webhook_url(public_url: str, tracker: str, slug: str) -> str:
    """Where a destination's tracker reaches us."""
    return f"{public_url}/webhooks/{tracker}/{slug}"


def intake_url(public_url: str, slug: str) -> str:
    """Where a source reaches us, without its token."""
    return f"{public_url}/intake/{slug}/TOKEN"


def credential_digest(connection: Connection, settings: PluginSettings) -> bytes:
    """What tells a credential apart: a digest of the origin and of what the plugin signs in with. Where the plugin names
    no account, the secrets of its settings count too: a token may be made from them later.
    """
    parts = urlsplit(connection.base_url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    said = [f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"]
    said += sorted(f"{name.lower()}: {value.reveal()}" for name, value in connection.headers.items())
    if connection.account:
        said.append(f"account: {connection.account}")
    else:
        said += [
            f"{name}: {secret.reveal().strip()}"
            for name in sorted(secret_fields(type(settings)))
            for secret in _secrets_in(getattr(settings, name))
        ]
    return sha256("\0".join(said).encode("utf-8", "surrogateescape"))


def _secrets_in(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _secrets_in(inner)


class _NoClient:
    """For trackers that said they need no HTTP."""

    async def request(self, *_: Any, **__: Any) -> Any:
        raise Misconfigured("this tracker declared no connection")


def _token_digest(vault: Vault, token: Mapping[str, str]) -> bytes:
    if digest := token.get("sha256"):
        return bytes.fromhex(digest)
    return sha256(vault.resolve(token).reveal().encode())
