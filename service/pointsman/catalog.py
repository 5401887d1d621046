"""The configuration, alive: sources that can read, destinations with their trackers, routes. Replaced as a whole."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pointsman import config
from pointsman.delivery.client import HttpClient
from pointsman.delivery.guard import Policy
from pointsman.delivery.pace import paces_of, shared_limit
from pointsman.delivery.source_lanes import Back
from pointsman.live import MAIL, SOURCE, TRACKER, LiveDestination, LiveSource
from pointsman.logs import logger
from pointsman.plugin_api import (
    Connection,
    Misconfigured,
    PluginSettings,
    Secret,
    Source,
    Tracker,
    TrackerClient,
)
from pointsman.plugins import Registry
from pointsman.signing import hmac_sha256, sha256
from pointsman.storage import budgets
from pointsman.storage import config as rows
from pointsman.storage import sources as source_rows
from pointsman.storage.db import Database, uuid5
from pointsman.tickets.routes import Route
from pointsman.tickets.ticket import Kind, Promise, Ticket
from pointsman.vault import Vault, decode_secret, is_reference, secret_fields

__all__ = [
    "MAIL",
    "SOURCE",
    "TRACKER",
    "Catalog",
    "CatalogKeeper",
    "LiveDestination",
    "LiveSource",
    "credential_of",
    "intake_url",
    "kinds",
    "make_settings",
    "webhook_url",
]

log = logger("catalog")


@dataclass(slots=True, frozen=True)
class Catalog:
    """One state of the configuration."""

    version: int
    installation_id: uuid.UUID
    marker_key: bytes
    mail_id: int | None
    sources: Mapping[str, LiveSource]
    destinations: Mapping[int, LiveDestination]
    routes: Sequence[Route]
    source_slugs: Mapping[int, str] = field(default_factory=dict)
    backs: Mapping[int, int] = field(default_factory=dict)
    """The destination by which each source is told how its problems stand, by source."""

    def source_of(self, source_id: int) -> LiveSource | None:
        """A source by its number."""
        return next((one for one in self.sources.values() if one.id == source_id), None)

    def commented(self) -> Sequence[int]:
        """The sources that are told where issues were made."""
        return [one.id for one in self.sources.values() if one.id in self.backs and one.capabilities.comment]

    def destination(self, slug: str) -> LiveDestination | None:
        """A tracker destination by its slug."""
        for one in self.destinations.values():
            if one.slug == slug and one.kind == TRACKER:
                return one
        return None

    def marker_of(self, ticket: Ticket, promise: Promise) -> uuid.UUID:
        """The marker of a delivery: the same again after a database was restored, or a source was replayed."""
        destination = self.destinations[promise.destination_id].slug
        what = "create" if promise.kind is Kind.CREATE else f"{promise.kind.name.lower()} {promise.event_n}"
        parts = (
            self.source_slugs[ticket.source_id],
            ticket.fingerprint,
            str(ticket.generation),
            destination,
            what,
        )
        return uuid5(self.installation_id, "\n".join(parts))

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


def kinds(registry: Registry, defaults: Mapping[str, Mapping[str, Any]]) -> config.Kinds:
    """What the configuration file may name."""
    return config.Kinds(
        sources={name: one.Settings for name, one in registry.sources.items()},
        trackers={name: one.Settings for name, one in registry.trackers.items()},
        check=make_settings,
        secret_fields=secret_fields,
        defaults=defaults,
    )


def make_settings(kind: type[PluginSettings], values: Mapping[str, Any]) -> PluginSettings:
    """A plugin's settings from resolved values; ValueError (with the field) for what can't be."""
    return msgspec.convert(dict(values), kind, dec_hook=decode_secret)


class CatalogKeeper:
    """Loads the configuration, and again when another replica or the command line changed it."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        vault: Vault,
        policy: Policy,
        defaults: Mapping[str, Mapping[str, Any]],
        *,
        mails: bool = True,
        public_url: str = "",
    ) -> None:
        self._database = database
        self._registry = registry
        self._vault = vault
        self._policy = policy
        self._defaults = defaults
        self._mails = mails
        self._public_url = public_url
        self._current: Catalog | None = None
        self._lock = asyncio.Lock()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def current(self) -> Catalog:
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
            if await self._settle_sources(made):
                async with self._database.transaction() as con:
                    loaded = await rows.load(con)
                made = self._build(loaded)
            await budgets.note_credentials(
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
        self.on_change()
        return True

    async def close(self) -> None:
        """Close all connections to trackers."""
        if self._current is not None:
            for one in _clients(self._current):
                await one.close()

    async def _settle_sources(self, made: Catalog) -> bool:
        """Sources that are told something have a destination for it; whether one came or went."""
        live = [one for one in made.sources.values() if one.reader is not None]
        broken = [one.id for one in made.sources.values() if one.reader is None]
        return await source_rows.settle(
            self._database,
            with_api=[one.id for one in live if one.client is not None],
            told=[one.id for one in live if one.capabilities.writes_back],
            as_they_are=broken,
        )

    def _build(self, loaded: rows.Rows) -> Catalog:
        sources = {row.slug: self._source(row) for row in loaded.sources if not row.retired}
        by_back = {back_slug(slug): one for slug, one in sources.items()}
        destinations = {
            row.id: _back(row, by_back.get(row.slug)) if row.kind == SOURCE else self._destination(row)
            for row in loaded.destinations
        }
        _set_budgets(destinations.values())
        ids = {one.slug: one.id for one in destinations.values()}
        mail = [one.id for one in destinations.values() if one.kind == MAIL]
        return Catalog(
            version=loaded.version,
            installation_id=loaded.installation_id,
            marker_key=loaded.marker_key,
            mail_id=mail[0] if mail and self._mails else None,
            sources=sources,
            destinations=destinations,
            routes=[row.rule(ids) for row in loaded.routes],
            source_slugs={row.id: row.slug for row in loaded.sources},
            backs={
                by_back[one.slug].id: one.id
                for one in destinations.values()
                if one.kind == SOURCE and one.tracker is not None
            },
        )

    def _source(self, row: rows.SourceRow) -> LiveSource:
        digests, problem, reader = [], "", None
        client: HttpClient | None = None
        same: Any = None
        for token in row.tokens:
            try:
                digests.append(_digest(self._vault, token))
            except ValueError as error:
                problem = f"token: {error}"
        kind = self._registry.sources.get(row.kind)
        if kind is None:
            problem = f"no plugin brings the kind {row.kind!r}; install it, its reports are kept until then"
        else:
            try:
                reader, client, same = self._reader(row, kind)
            except Exception as error:  # noqa: BLE001 - a stranger's code
                problem = f"{type(error).__name__}: {error}"
        if problem:
            log.warning("source has a problem", source=row.slug, problem=problem)
        limits = msgspec.convert(row.limits, config.SourceLimits)
        return LiveSource(row.id, row.slug, row.kind, reader, tuple(digests), problem, limits, client, same)

    def _reader(self, row: rows.SourceRow, kind: type[Source]) -> tuple[Source, HttpClient | None, Any]:
        """The source itself, with its connection, and what both were made from."""
        resolved = {
            key: self._vault.resolve(value) if is_reference(value) else value
            for key, value in row.settings.items()
        }
        same = (row.id, row.slug, row.kind, resolved)
        old = self._current.source_of(row.id) if self._current is not None else None
        if old is not None and old.reader is not None and old.same == same:
            return old.reader, old.client, same
        settings = make_settings(kind.Settings, resolved)
        connection = kind.connection(settings)
        if connection is None:
            made, client = kind(settings), None
        else:
            timeout = kind.capabilities.request_timeout_seconds
            client = HttpClient(connection, self._policy, timeout_seconds=timeout)
            made = kind(settings, client)
        if self._public_url:
            made.intake_url = intake_url(self._public_url, row.slug)
        return made, client, same

    def _destination(self, row: rows.DestinationRow) -> LiveDestination:
        made = LiveDestination(
            row.id, row.slug, row.kind, row.tracker, redact=row.redact, retired=row.retired
        )
        made.limits = msgspec.convert(row.limits, config.DestinationLimits)
        if row.kind != TRACKER or row.retired:
            return made
        try:
            made.webhook_secrets = tuple(
                self._vault.resolve(one).reveal().encode() for one in row.webhook_secrets
            )
            values = {**self._defaults.get(row.tracker, {}), **row.settings}
            resolved = {
                key: self._vault.resolve(value) if is_reference(value) else value
                for key, value in values.items()
            }
            made.same = (row.tracker, resolved)
            old = self._current.destinations.get(row.id) if self._current is not None else None
            if old is not None and old.same == made.same and old.tracker is not None:
                made.tracker, made.client, made.account = old.tracker, old.client, old.account
                made.credential = old.credential
                return made
            kind = self._registry.trackers.get(row.tracker)
            if kind is None:
                raise ValueError(f"no plugin brings the tracker {row.tracker!r}; install it")  # noqa: TRY301
            settings = make_settings(kind.Settings, resolved)
            connection = kind.connection(settings)
            client: TrackerClient
            if connection is None:
                client = _NoClient()
            else:
                client = made.client = self._client(connection, kind)
                made.credential = credential_of(connection, settings)
            made.tracker = kind(settings, client)
            if self._public_url:
                made.tracker.webhook_url = webhook_url(self._public_url, row.tracker, row.slug)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            made.problem = f"{type(error).__name__}: {error}"
            log.warning("destination has a problem", destination=row.slug, problem=made.problem)
        return made

    def _client(self, connection: Connection, kind: type[Tracker]) -> HttpClient:
        return HttpClient(connection, self._policy, timeout_seconds=kind.capabilities.request_timeout_seconds)


def webhook_url(public_url: str, tracker: str, slug: str) -> str:
    """Where a destination's tracker reaches us."""
    return f"{public_url}/webhooks/{tracker}/{slug}"


def intake_url(public_url: str, slug: str) -> str:
    """Where a source reaches us, without its token."""
    return f"{public_url}/intake/{slug}/TOKEN"


def back_slug(slug: str) -> str:
    """The name of the destination by which a source is told something; no name that a file could give."""
    return f"@source:{slug}"


def _back(row: rows.DestinationRow, source: LiveSource | None) -> LiveDestination:
    """The destination by which a source is told how its problems stand."""
    made = LiveDestination(row.id, row.slug, row.kind, row.tracker, retired=row.retired)
    if row.retired:
        return made
    if source is None or source.reader is None:
        made.problem = source.problem if source is not None else "its source is no longer configured"
    elif source.capabilities.writes_back:
        made.tracker, made.client = Back(source.reader, source.reader.client), source.client
    return made


def _clients(catalog: Catalog) -> Sequence[HttpClient]:
    """The connections of a configuration, each once."""
    found = [one.client for one in catalog.destinations.values()]
    found += [one.client for one in catalog.sources.values()]
    return list({id(one): one for one in found if one is not None}.values())


def credential_of(connection: Connection, settings: PluginSettings) -> bytes:
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


def _set_budgets(destinations: Iterable[LiveDestination]) -> None:
    """A budget is the credential's: what one destination was told holds for all that share it."""
    sharing: dict[bytes | int, list[LiveDestination]] = {}
    for one in destinations:
        if one.tracker is not None:
            sharing.setdefault(one.credential or one.id, []).append(one)
    for group in sharing.values():
        writes_per_minute = shared_limit(one.limits.writes_per_minute for one in group)
        for one in group:
            one.budgets = paces_of(one.capabilities.budgets, writes_per_minute)


class _NoClient:
    """For trackers that said they need no HTTP."""

    async def request(self, *_: Any, **__: Any) -> Any:
        raise Misconfigured("this tracker declared no connection")


def _digest(vault: Vault, token: Mapping[str, str]) -> bytes:
    if digest := token.get("sha256"):
        return bytes.fromhex(digest)
    return sha256(vault.resolve(token).reveal().encode())
