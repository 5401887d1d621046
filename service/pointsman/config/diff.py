"""Compare the stored configuration with the desired one and plan the changes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from pointsman.config.file import DesiredConfig, Destination, Route, Source


class Change(msgspec.Struct, frozen=True):
    """One line of a plan."""

    verb: Literal["add", "change", "retire"]
    item: str
    detail: str = ""

    def __str__(self) -> str:
        sign = {"add": "+", "change": "~", "retire": "-"}[self.verb]
        return f"{sign} {self.item}{f' ({self.detail})' if self.detail else ''}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that applying a configuration makes, and the items to write."""

    changes: list[Change]
    sources: list[Source]
    destinations: list[Destination]
    routes: list[Route] | None
    retired_sources: list[str]
    retired_destinations: list[str]
    warnings: list[str]


class ConfiguredRow(Protocol):
    """Stored row of a source or destination."""

    @property
    def slug(self) -> str:
        """Return the slug."""
        ...

    @property
    def retired(self) -> bool:
        """Return whether the row is no longer configured."""
        ...


def plan(
    desired: DesiredConfig,
    sources: Sequence[ConfiguredRow],
    destinations: Sequence[ConfiguredRow],
    routes: Sequence[Any],
) -> Plan:
    """Plan the changes that turn the stored rows into the desired configuration."""
    changes: list[Change] = []
    put_sources = _changed_items("source", desired.sources, sources, changes)
    put_destinations = _changed_items("destination", desired.destinations, destinations, changes)
    old = [_comparable_route(route) for route in routes]
    new = [_comparable_route(route) for route in desired.routes]
    if old != new:
        detail = f"{len(old)} rules become {len(new)}" if len(old) != len(new) else "rules differ"
        changes.append(Change("change", "routes", detail))
    return Plan(
        changes=changes,
        sources=put_sources,
        destinations=put_destinations,
        routes=desired.routes if old != new else None,
        retired_sources=_retire_missing("source", desired.sources, sources, changes),
        retired_destinations=_retire_missing("destination", desired.destinations, destinations, changes),
        warnings=desired.warnings,
    )


def _comparable_route(route: Any) -> tuple[Any, ...]:
    return route.position, route.match, list(route.destinations), route.continues, route.options


def _changed_items(
    kind: str, desired: Sequence[Any], rows: Sequence[ConfiguredRow], changes: list[Change]
) -> list[Any]:
    current = {row.slug: row for row in rows if not row.retired}
    put = []
    for item in desired:
        row = current.get(item.slug)
        if row is None:
            changes.append(Change("add", f"{kind} {item.slug}"))
            put.append(item)
            continue
        differing = [
            name
            for name in item.__struct_fields__
            if _without_seal(getattr(item, name)) != _without_seal(getattr(row, name))
        ]
        if differing:
            changes.append(Change("change", f"{kind} {item.slug}", ", ".join(differing)))
            put.append(item)
    return put


def _retire_missing(
    kind: str, desired: Sequence[Any], rows: Sequence[ConfiguredRow], changes: list[Change]
) -> list[str]:
    wanted = {item.slug for item in desired}
    gone = [row.slug for row in rows if not row.retired and row.slug not in wanted and row.slug[0] != "@"]
    changes.extend(Change("retire", f"{kind} {slug}", "its tickets stay") for slug in gone)
    return gone


def _without_seal(value: Any) -> Any:
    """Return a value without ciphertexts of sealed secrets: each sealing differs, the digest beside it does not."""
    if isinstance(value, dict):
        return {key: _without_seal(inner) for key, inner in value.items() if key != "sealed"}
    if isinstance(value, (list, tuple)):
        return [_without_seal(inner) for inner in value]
    return value
