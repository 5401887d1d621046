"""What the routes of a configuration file make of one request: read as the intake would, decided as it would be.

It needs neither a database nor secrets: nothing is signed or sent, and what is not there is stood in for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, is_reference
from pointsman.config.settings import Settings
from pointsman.content import fingerprint_template
from pointsman.content.sanitize import one_line
from pointsman.domain import quiet_hours as quiet
from pointsman.domain.routing import (
    Match,
    MatchResult,
    Options,
    QuietHours,
    RecurrenceRule,
    Route,
    evaluate_history,
    facts_of,
    match_route,
    prefilter,
)
from pointsman.errors import ConfigError
from pointsman.intake.errors import InvalidRequest
from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import kept_headers, read_reports
from pointsman.plugin_api import PluginSettings, Report, Secret
from pointsman.plugin_host import snapshot
from pointsman.plugin_host.bootstrap import process_defaults
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.registry import Registry

_STAND_IN = Secret("whsec_" + base64.b64encode(b"stands in for one that's missing").decode())
"""For a secret that is not there: long enough, and in the form that signing secrets have."""


NO_TICKET = {
    "test": "it is a test, and kept",
    "resolved": "its own is told that it is over, if there is an open one",
    "commented": "its own is told",
}
"""Actions that open none, and what they do."""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said of a report."""

    position: int
    name: str
    matches: bool
    says: str
    against: str = ""
    wanted: str = ""
    got: str = ""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A destination that was chosen, and its quiet hours."""

    slug: str
    quiet_hours: QuietHours | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One report of the request, and what the rules say of it. ``held``: it waits for a threshold."""

    action: str
    kind: str
    title: str
    fingerprint: str
    fingerprint_by: str
    environment: str
    level: str
    release: str
    tags: tuple[tuple[str, str], ...]
    rules: tuple[Ruling, ...]
    destinations: tuple[Goal, ...]
    held: bool
    recurrence: Sequence[RecurrenceRule]


class _Secrets:
    """Secrets where nothing is kept: literals stay what they are, and what is not there is stood in for."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._literals: list[str] = []

    def resolve(self, reference: Mapping[str, str]) -> Secret:
        if "sealed" in reference:
            return Secret(self._literals[int(reference["sealed"])])
        try:
            return self._vault.resolve(reference)
        except ValueError:
            return _STAND_IN

    def seal(self, secret: str) -> dict[str, str]:
        self._literals.append(secret)
        return {"sealed": str(len(self._literals) - 1)}


@dataclass(slots=True, frozen=True)
class Rules:
    """A configuration file, with all that is needed to ask its routes."""

    file: str
    sources: Mapping[str, config_file.Source]
    slugs: Sequence[str]
    routes: Sequence[Route]
    registry: Registry
    secrets: _Secrets
    redacts: Sequence[str] = ()
    """What each destination has masked."""
    warnings: Sequence[str] = ()
    """What is odd about the routes."""


def load(settings: Settings, file: Path | None) -> Rules:
    """The routes of a file. Raises ConfigError with every mistake in it."""
    if file is None:
        raise ConfigError(["no configuration file: name one with --config, or set POINTSMAN_CONFIG"])
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from None
    registry = Registry.load(allow=settings.plugins)
    secrets = _Secrets(Vault(()))
    kinds = snapshot.kinds(registry, process_defaults(settings))
    desired = config_file.read(text, file.name, msgspec.structs.replace(kinds, check=_lenient), secrets)
    slugs = [one.slug for one in desired.destinations]
    return Rules(
        file=file.name,
        sources={one.slug: one for one in desired.sources},
        slugs=slugs,
        routes=[_route(one, slugs) for one in desired.routes],
        registry=registry,
        secrets=secrets,
        redacts=[one.redact for one in desired.destinations],
        warnings=[one for one in desired.warnings if "[[route]]" in one],
    )


def _lenient(kind: type[PluginSettings], values: Mapping[str, Any]) -> PluginSettings | None:
    """Settings that can't be because a secret is not the real one are no mistake here."""
    try:
        return snapshot.make_settings(kind, values)
    except ValueError:
        if _STAND_IN in values.values():
            return None
        raise


def _route(one: config_file.Route, slugs: Sequence[str]) -> Route:
    return Route(
        one.position,
        msgspec.convert(one.match, Match),
        tuple(slugs.index(slug) for slug in one.destinations),
        one.continues,
        msgspec.convert(one.options, Options),
    )


def ask(rules: Rules, slug: str | None, headers: Sequence[str], raw: bytes) -> list[Reading]:
    """What the routes say of each report in a request to a source. Raises ConfigError for what can't be read."""
    source, reports = read_request(rules, slug, headers, raw)
    assert source.plugin is not None
    return [_reading(rules, source.slug, source.plugin.ticket_kind, report) for report in reports]


def read_request(
    rules: Rules, slug: str | None, headers: Sequence[str], raw: bytes
) -> tuple[LiveSource, Sequence[Report]]:
    """The reports in a request, and the source it is for, which has a reader. Raises ConfigError for what can't be read."""
    source = _source(rules, slug)
    given = {"content-type": "application/json", **dict(map(_header, headers))}
    try:
        decoded = decode(raw)
        reports, error = read_reports(source, kept_headers(source, given), raw, decoded)
    except InvalidRequest as refused:
        details = [refused.detail, *(f"{field}: {message}" for field, message in refused.fields.items())]
        reason = "; ".join(detail for detail in details if detail)
        raise ConfigError(
            [f"the request would be refused: {refused.summary}: {reason}; mend it, or name its --source"]
        ) from None
    if error is not None:
        raise ConfigError(
            [f"the request would be kept, but not be read: {error}; see what its --source's kind takes"]
        )
    return source, reports


def _source(rules: Rules, slug: str | None) -> LiveSource:
    """The source as it would read."""
    there = ", ".join(sorted(rules.sources)) or "none"
    if slug is None:
        if len(rules.sources) != 1:
            raise ConfigError([f"{rules.file}: whose request is it? Name one with --source: {there}"])
        slug = next(iter(rules.sources))
    if slug not in rules.sources:
        raise ConfigError([f"{rules.file}: there is no [[source]] with slug {slug!r}; there are {there}"])
    wanted = rules.sources[slug]
    values = {
        key: rules.secrets.resolve(value) if is_reference(value) else value
        for key, value in wanted.settings.items()
    }
    kind = rules.registry.sources[wanted.kind]
    try:
        reader = kind(snapshot.make_settings(kind.Settings, values))
    except Exception as error:  # noqa: BLE001 - a stranger's code
        raise ConfigError([f"{rules.file}: [[source]] {slug}: {type(error).__name__}: {error}"]) from None
    return LiveSource(0, slug, wanted.kind, reader, ())


def _header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon or not name.strip():
        raise ConfigError([f"--header {given!r}: write a name, a colon and a value"])
    return name.strip().lower(), value.strip()


def _reading(rules: Rules, source: str, kind: str, report: Report) -> Reading:
    facts = facts_of(source, kind, report)
    fit = prefilter(rules.routes, facts)
    choice = evaluate_history(fit, met=kind == "support")
    named = (
        fingerprint_template.compute_fingerprint(fit, source, kind, report)
        if kind == "alert"
        else fingerprint_template.FingerprintResult("")
    )
    by = "the source's kind" if named.fingerprint else "nothing: a problem of its own"
    if named.position is not None:
        by = f"route {named.position}"
        if named.problem:
            by = f"the source's kind, as the template of route {named.position} failed: {named.problem}"
    goals = {
        number: Goal(slug=rules.slugs[number], quiet_hours=quiet.quiet_hours_for(choice.routes, number))
        for number in choice.destinations
    }
    return Reading(
        action=report.action,
        kind=kind,
        title=report.title,
        fingerprint=named.fingerprint,
        fingerprint_by=by,
        environment=report.environment,
        level=report.level,
        release=report.release,
        tags=report.facts,
        rules=tuple(_rulings(rules, [match_route(route, facts) for route in rules.routes])),
        destinations=tuple(goals.values()),
        held=choice.below_threshold,
        recurrence=choice.options.recurrence,
    )


def _rulings(rules: Rules, verdicts: Sequence[MatchResult]) -> Iterator[Ruling]:
    taken = None
    for route, said in zip(rules.routes, verdicts, strict=True):
        name = route.options.name
        if taken is not None:
            says = f"is not asked: route {taken} took it"
            yield Ruling(position=route.position, name=name, matches=False, says=says)
            continue
        if said.matched:
            named = ", ".join(rules.slugs[one] for one in route.destinations) or "nowhere"
            says = f"matches: to {named}{', and the next is asked too' if route.continues else ''}"
            taken = None if route.continues else route.position
        elif said.pending:
            says = f"matches but for its threshold: {said.failed_field} {said.expected}"
        else:
            says = f"does not match: {said.failed_field}: wanted {said.expected}, got {said.actual}"
        yield Ruling(
            position=route.position,
            name=name,
            matches=said.matched,
            says=says,
            against=said.failed_field,
            wanted=said.expected,
            got=said.actual,
        )


# -- in words ----------------------------------------------------------------------------------------------------


def lines(read: Sequence[Reading], *, explain: bool) -> Iterator[str]:
    """What was found, for a terminal. ``explain``: with what was read, and each rule's verdict."""
    if not read:
        yield "the request is fine and concerns nobody: nothing would be kept"
    for number, one in enumerate(read, 1):
        if len(read) > 1:
            yield f"report {number} of {len(read)}"
        if explain:
            yield from _read(one)
            for rule in one.rules:
                name = f" ({one_line(rule.name, 60)})" if rule.name else ""
                yield f"route {rule.position}{name} {one_line(rule.says, 300)}"
        yield from _decided(one)


def _read(one: Reading) -> Iterator[str]:
    for label, value in (
        ("action", one.action),
        ("kind", one.kind),
        ("title", one.title),
        ("fingerprint", f"{one.fingerprint or '-'} (by {one.fingerprint_by})"),
        ("environment", one.environment),
        ("level", one.level),
        ("release", one.release),
        *((f"tags.{name}", value) for name, value in one.tags if value),
    ):
        yield f"{one_line(label, 40):<14}  {one_line(value, 200) or '-'}"


def _decided(one: Reading) -> Iterator[str]:
    if one.action in NO_TICKET:
        yield f"opens no ticket: {NO_TICKET[one.action]}"
        return
    if one.held:
        yield "goes nowhere yet: it is counted until a threshold is met"
    elif not one.destinations:
        yield "goes nowhere"
    for goal in one.destinations:
        yield f"goes to {goal.slug}{_quiet(goal.quiet_hours)}"
    if one.destinations and one.kind == "alert":
        said = "; ".join(map(_again, one.recurrence))
        yield f"if it comes back: {said or 'as is usual'}"


def _quiet(hours: QuietHours | None) -> str:
    if hours is None:
        return ""
    days = ", ".join(hours.days) or "every day"
    return f", but not from {hours.start} to {hours.end} {hours.zone} ({days})"


def _again(rule: RecurrenceRule) -> str:
    reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason or []
    given = [
        *([f"closed as {' or '.join(reasons)}"] if reasons else []),
        *([f"closed for {rule.closed_for}"] if rule.closed_for is not None else []),
        *([f"in the {rule.release} release"] if rule.release is not None else []),
    ]
    return f"{rule.then} if {' and '.join(given)}" if given else rule.then
