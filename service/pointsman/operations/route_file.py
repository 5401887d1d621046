"""Load the routes of a configuration file without a database or secrets, and read requests as intake does.

Literal secrets are kept; missing ones are replaced by a placeholder. Signatures are not checked.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, is_reference
from pointsman.config.settings import Settings
from pointsman.domain.routing import Match, Options, Route
from pointsman.errors import ConfigError
from pointsman.intake.errors import InvalidRequest
from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import kept_headers, read_reports
from pointsman.plugin_api import PluginSettings, Report, Secret
from pointsman.plugin_host import factory, snapshot
from pointsman.plugin_host.bootstrap import environment_defaults
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.registry import Registry

_PLACEHOLDER = Secret("whsec_" + base64.b64encode(b"placeholder for a missing secret").decode())
"""Replaces a secret that is not available: long enough, and in the format of signing secrets."""


class _PlaceholderSecrets:
    """Resolves secrets without a store: literals stay as they are, and missing ones become the placeholder."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._literals: list[str] = []

    def resolve(self, reference: Mapping[str, str]) -> Secret:
        if "sealed" in reference:
            return Secret(self._literals[int(reference["sealed"])])
        try:
            return self._vault.resolve(reference)
        except ValueError:
            return _PLACEHOLDER

    def seal(self, secret: str) -> dict[str, str]:
        self._literals.append(secret)
        return {"sealed": str(len(self._literals) - 1)}


@dataclass(slots=True, frozen=True)
class RouteFile:
    """A configuration file with everything that is needed to evaluate its routes."""

    name: str
    sources: Mapping[str, config_file.Source]
    slugs: Sequence[str]
    """The destinations; routes refer to them by index."""
    routes: Sequence[Route]
    registry: Registry
    secrets: _PlaceholderSecrets
    redact: Sequence[str] = ()
    """Each destination's redaction level."""
    warnings: Sequence[str] = ()
    """Warnings about the routes."""


def load_routes(settings: Settings, file: Path | None) -> RouteFile:
    """Load a configuration file. Raises ConfigError with every mistake in it."""
    if file is None:
        raise ConfigError(["no configuration file: name one with --config, or set POINTSMAN_CONFIG"])
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from None
    registry = Registry.load(allow=settings.plugins)
    secrets = _PlaceholderSecrets(Vault(()))
    kinds = snapshot.installed_kinds(registry, environment_defaults(settings))
    desired = config_file.read(
        text, file.name, msgspec.structs.replace(kinds, check=_check_settings), secrets
    )
    slugs = [destination.slug for destination in desired.destinations]
    return RouteFile(
        name=file.name,
        sources={source.slug: source for source in desired.sources},
        slugs=slugs,
        routes=[_route(route, slugs) for route in desired.routes],
        registry=registry,
        secrets=secrets,
        redact=[destination.redact for destination in desired.destinations],
        warnings=[warning for warning in desired.warnings if "[[route]]" in warning],
    )


def read_request(
    routes: RouteFile, slug: str | None, headers: Sequence[str], raw: bytes
) -> tuple[LiveSource, Sequence[Report]]:
    """Return the source of a request and the reports in it. The source has a plugin.

    ``slug`` may be None if only one source is configured. Raises ConfigError if the request can't be read.
    """
    source = _source(routes, slug)
    all_headers = {"content-type": "application/json", **dict(map(_header, headers))}
    try:
        decoded = decode(raw)
        reports, error = read_reports(source, kept_headers(source, all_headers), raw, decoded)
    except InvalidRequest as refused:
        details = [refused.detail, *(f"{field}: {message}" for field, message in refused.fields.items())]
        reason = "; ".join(detail for detail in details if detail)
        raise ConfigError(
            [f"the request would be refused: {refused.summary}: {reason}; fix it, or name its --source"]
        ) from None
    if error is not None:
        raise ConfigError(
            [f"the request would be stored, but not processed: {error}; see what its --source's kind accepts"]
        )
    return source, reports


def _check_settings(kind: type[PluginSettings], values: Mapping[str, Any]) -> PluginSettings | None:
    """Validate settings, but accept those that are invalid only because a secret is the placeholder."""
    try:
        return factory.make_settings(kind, values)
    except ValueError:
        if _PLACEHOLDER in values.values():
            return None
        raise


def _route(route: config_file.Route, slugs: Sequence[str]) -> Route:
    return Route(
        route.position,
        msgspec.convert(route.match, Match),
        tuple(slugs.index(slug) for slug in route.destinations),
        route.continues,
        msgspec.convert(route.options, Options),
    )


def _source(routes: RouteFile, slug: str | None) -> LiveSource:
    """Return the named source, or the only one, with its plugin."""
    names = ", ".join(sorted(routes.sources)) or "none"
    if slug is None:
        if len(routes.sources) != 1:
            raise ConfigError(
                [f"{routes.name}: which source is the request for? Name it with --source: {names}"]
            )
        slug = next(iter(routes.sources))
    if slug not in routes.sources:
        raise ConfigError([f"{routes.name}: there is no [[source]] with slug {slug!r}; there are {names}"])
    source = routes.sources[slug]
    values = {
        key: routes.secrets.resolve(value) if is_reference(value) else value
        for key, value in source.settings.items()
    }
    kind = routes.registry.sources[source.kind]
    try:
        plugin = kind(factory.make_settings(kind.Settings, values))
    except Exception as error:  # noqa: BLE001 - plugin code
        raise ConfigError([f"{routes.name}: [[source]] {slug}: {type(error).__name__}: {error}"]) from None
    return LiveSource(0, slug, source.kind, plugin, ())


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError([f"--header {text!r}: write a name, a colon and a value"])
    return name.strip().lower(), value.strip()
