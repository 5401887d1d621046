"""The configuration, alive: sources that can read, destinations with their trackers, routes. Replaced as a whole."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pointsman import config
from pointsman.delivery.client import HttpClient
from pointsman.delivery.guard import Policy
from pointsman.logs import logger
from pointsman.plugin_api import (
    Actor,
    Capabilities,
    Connection,
    Misconfigured,
    PluginSettings,
    Source,
    Tracker,
    TrackerClient,
)
from pointsman.plugins import Registry
from pointsman.signing import hmac_sha256, sha256
from pointsman.storage import config as rows
from pointsman.storage.db import Database
from pointsman.tickets.routes import Match, Route
from pointsman.tickets.ticket import Kind, Promise, Ticket
from pointsman.vault import Vault, decode_secret, is_reference, secret_fields

log = logger("catalog")

TRACKER, MAIL = 1, 2


@dataclass(slots=True, frozen=True)
class LiveSource:
    """A source in use. Without a reader (``problem`` says why) its reports are parked."""

    id: int
    slug: str
    kind: str
    reader: Source | None
    digests: tuple[bytes, ...]
    problem: str = ""

    @property
    def owns_tickets(self) -> bool:
        """Whether its token reaches its own tickets."""
        return self.reader is not None and self.reader.owns_tickets


@dataclass(slots=True)
class LiveDestination:
    """A destination in use. Without a tracker (``problem`` says why) its deliveries wait."""

    id: int
    slug: str
    kind: int
    tracker_kind: str
    tracker: Tracker | None = None
    client: HttpClient | None = None
    webhook_secrets: tuple[bytes, ...] = ()
    problem: str = ""
    retired: bool = False
    account: Actor | None = None
    """Who we are there, once that was asked."""
    same: Any = None
    """What it was made from: an unchanged destination keeps its tracker and connections over a reload."""

    @property
    def capabilities(self) -> Capabilities:
        """What its tracker can do; nothing, if there is none."""
        return self.tracker.capabilities if self.tracker is not None else Capabilities()

    def need(self) -> Tracker:
        """The tracker, or Misconfigured with the cause."""
        if self.tracker is None:
            raise Misconfigured(self.problem or f"destination {self.slug} has no tracker")
        return self.tracker


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
        return uuid.uuid5(self.installation_id, "\n".join(parts))

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
            self._current = self._build(loaded)
        if old is not None:
            kept = {id(one.client) for one in self._current.destinations.values()}
            for one in old.destinations.values():
                if one.client is not None and id(one.client) not in kept:
                    await one.client.close()
            log.info("configuration loaded", version=loaded.version)
        self.on_change()
        return True

    async def close(self) -> None:
        """Close all connections to trackers."""
        if self._current is not None:
            for one in self._current.destinations.values():
                if one.client is not None:
                    await one.client.close()

    def _build(self, loaded: rows.Rows) -> Catalog:
        sources = {row.slug: self._source(row) for row in loaded.sources if not row.retired}
        destinations = {row.id: self._destination(row) for row in loaded.destinations}
        ids = {one.slug: one.id for one in destinations.values()}
        mail = [one.id for one in destinations.values() if one.kind == MAIL]
        return Catalog(
            version=loaded.version,
            installation_id=loaded.installation_id,
            marker_key=loaded.marker_key,
            mail_id=mail[0] if mail and self._mails else None,
            sources=sources,
            destinations=destinations,
            routes=[
                Route(
                    row.position,
                    msgspec.convert(row.match, Match),
                    tuple(ids[slug] for slug in row.destinations),
                    row.continues,
                )
                for row in loaded.routes
            ],
            source_slugs={row.id: row.slug for row in loaded.sources},
        )

    def _source(self, row: rows.SourceRow) -> LiveSource:
        digests, problem, reader = [], "", None
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
                reader = kind(make_settings(kind.Settings, row.settings))
            except Exception as error:  # noqa: BLE001 - a stranger's code
                problem = f"{type(error).__name__}: {error}"
        if problem:
            log.warning("source has a problem", source=row.slug, problem=problem)
        return LiveSource(row.id, row.slug, row.kind, reader, tuple(digests), problem)

    def _destination(self, row: rows.DestinationRow) -> LiveDestination:
        made = LiveDestination(row.id, row.slug, row.kind, row.tracker, retired=row.retired)
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


class _NoClient:
    """For trackers that said they need no HTTP."""

    async def request(self, *_: Any, **__: Any) -> Any:
        raise Misconfigured("this tracker declared no connection")


def _digest(vault: Vault, token: Mapping[str, str]) -> bytes:
    if digest := token.get("sha256"):
        return bytes.fromhex(digest)
    return sha256(vault.resolve(token).reveal().encode())
