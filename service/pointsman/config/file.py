"""Read and check the configuration file (TOML): sources, destinations, routes. Pure; ``config.diff`` compares it.

An error names file, table and key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from pointsman.config.route_file import Route, RouteChecker, RouteTable
from pointsman.crypto import MAX_WEBHOOK_SECRETS, MIN_WEBHOOK_SECRET_BYTES, sha256
from pointsman.errors import ConfigError
from pointsman.plugin_api import PluginSettings, Secret

__all__ = [
    "DesiredConfig",
    "Destination",
    "DestinationLimits",
    "DestinationTable",
    "InstalledKinds",
    "Route",
    "RouteTable",
    "SecretResolver",
    "Source",
    "SourceLimits",
    "SourceTable",
    "read",
]

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_T = TypeVar("_T", bound=msgspec.Struct)
_PATH = re.compile(r" - at `\$\.?(.*?)`$")


MIN_TOKEN_CHARACTERS, GOOD_TOKEN_CHARACTERS = 8, 20


class SourceLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``limits`` of a source.

    ``new_tickets_per_minute`` is how many tickets it may open in a minute before it is throttled; 0: no limit.
    ``settle_seconds`` is how long after a change of state the same words are a late copy.
    """

    new_tickets_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    settle_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None


class DestinationLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``limits`` of a destination.

    ``writes_per_minute`` replaces the limits that the tracker declares (0: no limit); ``at_once`` is the number of lanes
    that are processed in parallel.
    """

    writes_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    at_once: Annotated[int, Meta(ge=1, le=64)] | None = None


class SourceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[source]]`` table: an origin of reports."""

    slug: str
    kind: str
    token: str | dict[str, str] | None = None
    tokens: list[str | dict[str, str]] = []
    settings: dict[str, Any] = {}
    limits: SourceLimits = SourceLimits()


class DestinationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[destination]]`` table: a repository or project on a tracker."""

    slug: str
    tracker: str
    settings: dict[str, Any] = {}
    webhook_secrets: list[str | dict[str, str]] = []
    limits: DestinationLimits = DestinationLimits()
    redact: Literal["normal", "strict", "off"] = "normal"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Desired row of a source."""

    slug: str
    kind: str
    settings: dict[str, Any]
    tokens: list[dict[str, str]]
    limits: dict[str, int] = {}


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Desired row of a destination."""

    slug: str
    tracker: str
    settings: dict[str, Any]
    webhook_secrets: list[dict[str, str]]
    limits: dict[str, int] = {}
    redact: str = "normal"


class DesiredConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Whole desired configuration, with warnings about it."""

    sources: list[Source]
    destinations: list[Destination]
    routes: list[Route]
    warnings: list[str]


class SecretResolver(Protocol):
    """Resolver of secret references that can also seal literal secrets."""

    def resolve(self, reference: Mapping[str, str]) -> Secret:
        """Return the secret that a reference points to. Raises ValueError with the cure."""
        ...

    def seal(self, secret: str) -> dict[str, str]:
        """Return a literal secret in a form that may be stored. Raises ValueError with the cure."""
        ...


class InstalledKinds(msgspec.Struct, frozen=True):
    """Installed kinds of sources and trackers with their settings classes, and functions to check settings.

    ``check`` builds the settings from resolved values and raises ValueError for invalid ones; ``secret_fields`` returns
    the names of a settings class's secret fields; ``defaults`` are tracker settings that the process supplies.
    """

    sources: Mapping[str, type[PluginSettings]]
    trackers: Mapping[str, type[PluginSettings]]
    check: Callable[[type[PluginSettings], Mapping[str, Any]], Any]
    secret_fields: Callable[[type[PluginSettings]], frozenset[str]]
    defaults: Mapping[str, Mapping[str, Any]] = {}


class _FileChecker:
    """Checker of one file that collects all problems instead of stopping at the first."""

    def __init__(self, file: str, kinds: InstalledKinds, secrets: SecretResolver) -> None:
        self.file = file
        self.kinds = kinds
        self.secrets = secrets
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def wrong(self, label: str, message: str) -> None:
        self.problems.append(f"{self.file}: {label}: {message}")

    def warn(self, label: str, message: str) -> None:
        self.warnings.append(f"{self.file}: {label}: {message}")

    def read(self, text: str) -> DesiredConfig:
        """Return the checked configuration. Problems are collected, not raised."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{self.file}: no valid TOML: {error}")
            return DesiredConfig(sources=[], destinations=[], routes=[], warnings=[])
        for key in sorted(data.keys() - {"source", "destination", "route"}):
            self.wrong(f"[{key}]", "unknown table; there are [[source]], [[destination]] and [[route]]")
        sources = [self.source(label, table) for label, table in self.tables(data, "source", SourceTable)]
        destinations = [
            self.destination(label, table)
            for label, table in self.tables(data, "destination", DestinationTable)
        ]
        for table_name, slugs in (
            ("source", [source.slug for source in sources]),
            ("destination", [destination.slug for destination in destinations]),
        ):
            for slug in sorted({slug for slug in slugs if slugs.count(slug) > 1}):
                self.wrong(f"[[{table_name}]] {slug}", "slug: is used twice; give each its own")
        checker = RouteChecker(
            {source.slug for source in sources},
            {destination.slug for destination in destinations},
            self.wrong,
            self.warn,
        )
        routes = [
            checker.route(label, number, table)
            for number, (label, table) in enumerate(self.tables(data, "route", RouteTable), 1)
        ]
        return DesiredConfig(
            sources=sources, destinations=destinations, routes=routes, warnings=self.warnings
        )

    def tables(self, data: Mapping[str, Any], name: str, kind: type[_T]) -> Iterator[tuple[str, _T]]:
        """Yield the well-formed tables of one name, each with its label for messages."""
        tables = data.get(name, [])
        if not isinstance(tables, list):
            self.wrong(f"[{name}]", f"write [[{name}]] with two brackets: there may be many")
            return
        for number, table in enumerate(tables, 1):
            label = _table_label(name, number, table)
            try:
                converted = msgspec.convert(table, kind)
            except msgspec.ValidationError as error:
                self.wrong(label, _error_text(error))
                continue
            slug = getattr(converted, "slug", None)
            if slug is not None and not _SLUG.fullmatch(slug):
                self.wrong(
                    label, f"slug: {slug!r} must be lower-case letters, digits and hyphens, 63 at most"
                )
                continue
            yield label, converted

    def reference(self, label: str, key: str, value: str | dict[str, str]) -> Secret | None:
        """Return the secret that a value is or points to, or None after recording a problem."""
        if isinstance(value, str):
            self.warnings.append(
                f"{self.file}: {label}: {key}: the file contains a literal secret;"
                ' { env = "NAME" } or { file = "/path" } keep it out'
            )
            return Secret(value)
        if value.keys() - {"env", "file"} or len(value) != 1:
            self.wrong(label, f'{key}: write a text, {{ env = "NAME" }} or {{ file = "/path" }}')
            return None
        try:
            return self.secrets.resolve(value)
        except ValueError as error:
            self.wrong(label, f"{key}: {error}")
            return None

    def source(self, label: str, table: SourceTable) -> Source:
        """Check one ``[[source]]`` table."""
        tokens = []
        values = [*([table.token] if table.token is not None else []), *table.tokens]
        if not values:
            self.wrong(label, 'token: is missing; write token = { env = "NAME" }')
        for number, value in enumerate(values):
            key = "token" if table.token is not None and number == 0 else "tokens"
            secret = self.reference(label, key, value)
            if secret is None:
                continue
            if len(secret.reveal()) < MIN_TOKEN_CHARACTERS:
                self.wrong(
                    label,
                    f"{key}: is shorter than {MIN_TOKEN_CHARACTERS} characters; make one with `openssl rand -hex 24`",
                )
            elif len(secret.reveal()) < GOOD_TOKEN_CHARACTERS:
                self.warn(
                    label,
                    f"{key}: has fewer than {GOOD_TOKEN_CHARACTERS} characters and may be guessed; make one with"
                    " `openssl rand -hex 24`",
                )
            tokens.append(
                value if isinstance(value, dict) else {"sha256": sha256(secret.reveal().encode()).hex()}
            )
        kind = self.kinds.sources.get(table.kind)
        if kind is None:
            self.unknown(label, "kind", table.kind, self.kinds.sources)
            return Source(slug=table.slug, kind=table.kind, settings={}, tokens=tokens)
        return Source(
            slug=table.slug,
            kind=table.kind,
            settings=self.settings(label, kind, table.settings, {}),
            tokens=tokens,
            limits=msgspec.to_builtins(table.limits),
        )

    def destination(self, label: str, table: DestinationTable) -> Destination:
        """Check one ``[[destination]]`` table."""
        secrets = []
        if len(table.webhook_secrets) > MAX_WEBHOOK_SECRETS:
            self.wrong(
                label,
                f"webhook_secrets: give {MAX_WEBHOOK_SECRETS} at most; a change needs the old and the new one",
            )
        for value in table.webhook_secrets:
            secret = self.reference(label, "webhook_secrets", value)
            if secret is None:
                continue
            if not secret:
                self.wrong(label, "webhook_secrets: an empty secret verifies nothing; leave it out")
            elif len(secret.reveal().encode()) < MIN_WEBHOOK_SECRET_BYTES:
                self.wrong(
                    label,
                    f"webhook_secrets: a secret has fewer than {MIN_WEBHOOK_SECRET_BYTES} bytes and may be guessed; make"
                    " one with `openssl rand -hex 32`",
                )
            secrets.append(value if isinstance(value, dict) else self.sealed(label, "webhook_secrets", value))
        kind = self.kinds.trackers.get(table.tracker)
        if kind is None:
            self.unknown(label, "tracker", table.tracker, self.kinds.trackers)
            settings = {}
        else:
            settings = self.settings(label, kind, table.settings, self.kinds.defaults.get(table.tracker, {}))
        return Destination(
            slug=table.slug,
            tracker=table.tracker,
            settings=settings,
            webhook_secrets=secrets,
            limits=msgspec.to_builtins(table.limits),
            redact=table.redact,
        )

    def unknown(self, label: str, key: str, value: str, known: Mapping[str, Any]) -> None:
        """Record that no plugin provides a kind."""
        names = ", ".join(sorted(known)) or "none"
        self.wrong(label, f"{key}: no plugin provides {value!r}; installed: {names}. See `pointsman plugins`")

    def sealed(self, label: str, key: str, secret: str) -> dict[str, str]:
        """Return a literal secret in its sealed form, or {} after recording a problem."""
        try:
            return self.secrets.seal(secret)
        except ValueError as error:
            self.wrong(label, f"{key}: {error}")
            return {}

    def settings(
        self,
        label: str,
        kind: type[PluginSettings],
        configured: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Check a plugin's settings with the plugin's own class and return them in the form to store."""
        stored: dict[str, Any] = {}
        resolved: dict[str, Any] = {}
        complete = True
        secret_names = self.kinds.secret_fields(kind)
        for key, value in {**defaults, **configured}.items():
            if key not in secret_names:
                resolved[key] = value
                if key in configured:
                    stored[key] = value
                continue
            if not isinstance(value, (str, dict)):
                self.wrong(label, f"settings.{key}: write a text, {{ env = ... }} or {{ file = ... }}")
                complete = False
                continue
            secret = self.reference(label, f"settings.{key}", value)
            if secret is None:
                complete = False
                continue
            resolved[key] = secret
            if key in configured:
                stored[key] = (
                    value if isinstance(value, dict) else self.sealed(label, f"settings.{key}", value)
                )
        if complete:
            try:
                self.kinds.check(kind, resolved)
            except ValueError as error:
                message = _error_text(error)
                self.wrong(label, f"settings{': ' if message == str(error) else '.'}{message}")
        return stored


def _table_label(name: str, number: int, table: Any) -> str:
    slug = table.get("slug") if isinstance(table, dict) else None
    return f"[[{name}]] {slug if isinstance(slug, str) else f'number {number}'}"


def _error_text(error: Exception) -> str:
    """Return msgspec's message with the key in front."""
    text = str(error)
    path = _PATH.search(text)
    if path is None:
        return text
    key = path[1].strip(".")
    return f"{key}: {text[: path.start()]}" if key else text[: path.start()]


def read(text: str, file: str, kinds: InstalledKinds, secrets: SecretResolver) -> DesiredConfig:
    """Return the configuration that a file describes. Raises ConfigError with every mistake in it."""
    checker = _FileChecker(file, kinds, secrets)
    desired = checker.read(text)
    if checker.problems:
        raise ConfigError(checker.problems)
    return desired
