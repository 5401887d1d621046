"""Load and store the configuration."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.config import file as config_file
from pointsman.domain.routing import Match, Options, Route
from pointsman.domain.states import DestinationKind
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.queries import queries

SQL = queries("config")


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A configured source; ``tokens`` are references or digests, never the secret."""

    id: int = 0
    slug: str
    kind: str
    settings: dict[str, Any]
    tokens: list[dict[str, str]]
    limits: dict[str, int] = {}
    retired: bool = False


class DestinationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A configured destination; secrets inside ``settings`` are references or sealed."""

    id: int = 0
    slug: str
    kind: DestinationKind = DestinationKind.TRACKER
    tracker: str
    settings: dict[str, Any]
    webhook_secrets: list[dict[str, str]]
    limits: dict[str, int] = {}
    redact: str = "normal"
    retired: bool = False


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A configured route, with its destinations by slug."""

    position: int
    match: dict[str, Any]
    destinations: list[str]
    continues: bool = False
    options: dict[str, Any] = {}

    def to_route(self, ids: Mapping[str, int]) -> Route:
        """Return the route, with the ids of its destinations."""
        return Route(
            position=self.position,
            match=msgspec.convert(self.match, Match),
            destinations=tuple(ids[slug] for slug in self.destinations),
            continues=self.continues,
            options=msgspec.convert(self.options, Options),
        )


class ConfigRows(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    version: int
    installation_id: uuid.UUID
    marker_key: bytes
    sources: list[SourceRow]
    destinations: list[DestinationRow]
    routes: list[RouteRow]


async def load(con: Connection | Database) -> ConfigRows:
    """Load the whole configuration."""
    installation = await con.fetchrow(SQL["installation"])
    assert installation is not None
    destinations = [_destination(row) for row in await con.fetch(SQL["list_destinations"])]
    slugs = {destination.id: destination.slug for destination in destinations}
    return ConfigRows(
        version=installation["config_version"],
        installation_id=uuid.UUID(str(installation["id"])),
        marker_key=installation["marker_key"],
        sources=[_source(row) for row in await con.fetch(SQL["list_sources"])],
        destinations=destinations,
        routes=[
            RouteRow(
                position=row["position"],
                match=json.loads(row["match"]),
                destinations=[slugs[destination_id] for destination_id in row["destinations"]],
                continues=row["continues"],
                options=json.loads(row["options"]),
            )
            for row in await con.fetch(SQL["list_routes"])
        ],
    )


async def version(database: Database) -> int:
    """Return the configuration version, which every apply raises."""
    number: int = await database.fetchval(SQL["config_version"])
    return number


async def lock(con: Connection) -> None:
    """Lock the configuration until the end of the transaction, so that one apply runs at a time."""
    await con.fetchrow(SQL["lock_config"])


async def write(
    con: Connection,
    *,
    sources: Sequence[config_file.Source],
    destinations: Sequence[config_file.Destination],
    routes: Sequence[config_file.Route] | None,
    retired_sources: Sequence[str],
    retired_destinations: Sequence[str],
    audit: Mapping[str, Any],
) -> None:
    """Store a configuration and raise its version. ``routes`` None keeps the stored routes."""
    for source in sources:
        await con.execute(
            SQL["upsert_source"],
            source.slug,
            source.kind,
            json.dumps(source.settings),
            json.dumps(source.tokens),
            json.dumps(source.limits),
        )
    for destination in destinations:
        await con.execute(
            SQL["upsert_destination"],
            destination.slug,
            destination.tracker,
            json.dumps(destination.settings),
            json.dumps(destination.webhook_secrets),
            json.dumps(destination.limits),
            destination.limits.get("at_once"),
            destination.redact,
        )
    if routes is not None:
        await con.execute(SQL["delete_provisioned_routes"])
        for route in routes:
            await con.execute(
                SQL["insert_route"],
                route.position,
                json.dumps(route.match),
                route.destinations,
                route.continues,
                json.dumps(route.options),
            )
    for slug in retired_sources:
        await con.execute(SQL["retire_source"], slug)
    for slug in retired_destinations:
        await con.execute(SQL["retire_destination"], slug)
    await con.execute(SQL["raise_config_version"])
    await con.execute(
        SQL["insert_audit_entry"], "operator", "apply", str(audit.get("file", "")), json.dumps(dict(audit))
    )


def _source(row: Row) -> SourceRow:
    return SourceRow(
        id=row["id"],
        slug=row["slug"],
        kind=row["kind"],
        settings=json.loads(row["settings"]),
        tokens=json.loads(row["tokens"]),
        limits=json.loads(row["limits"]),
        retired=row["retired"],
    )


def _destination(row: Row) -> DestinationRow:
    return DestinationRow(
        id=row["id"],
        slug=row["slug"],
        kind=DestinationKind(row["kind"]),
        tracker=row["tracker"],
        settings=json.loads(row["settings"]),
        webhook_secrets=json.loads(row["webhook_secrets"]),
        limits=json.loads(row["limits"]),
        redact=row["redact"],
        retired=row["retired"],
    )
