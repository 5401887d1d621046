"""Read and check the ``[[route]]`` tables of the configuration file. Pure."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pointsman.content import fingerprint_template, templates
from pointsman.domain import quiet_hours as quiet
from pointsman.domain.duration import parse_duration
from pointsman.domain.regex import compiled
from pointsman.domain.routing import EXACT_FIELDS, Match, Options, QuietHours, RecurrenceRule, TemplateSet

REASONS = ("completed", "not_planned", "duplicate")
LEVELS = ("debug", "info", "notice", "warn", "warning", "error", "critical", "fatal")
"""Common levels of sources. A level may be any word, so a near miss is only a warning."""
_HOUR = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"continues": "continue"}):
    """``[[route]]`` table: which tickets go to which destinations."""

    match: Match = Match()
    destination: str | list[str] = []
    continues: bool = False
    name: str = ""
    fingerprint: str | None = None
    recurrence: str | list[RecurrenceRule] = []
    quiet_hours: QuietHours | None = None
    templates: TemplateSet = TemplateSet()
    requester: bool = False


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Desired row of a route."""

    position: int
    match: dict[str, Any]
    destinations: list[str]
    continues: bool
    options: dict[str, Any] = {}


class RouteChecker:
    """Checker of route tables.

    ``wrong`` and ``warn`` are called with the label of the table and a message of key, problem and cure.
    """

    def __init__(
        self,
        sources: set[str],
        destinations: set[str],
        wrong: Callable[[str, str], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self.sources = sources
        self.destinations = destinations
        self.wrong = wrong
        self.warn = warn
        self._before: list[tuple[Match, int]] = []
        """Matches of the routes so far that do not continue, with their positions."""
        self._names: dict[str, int] = {}

    def route(self, label: str, position: int, table: RouteTable) -> Route:
        """Check one route table. Call in the order of the file."""
        slugs = [table.destination] if isinstance(table.destination, str) else list(table.destination)
        for slug in slugs:
            if slug not in self.destinations:
                self.wrong(label, f"destination: there is no [[destination]] with slug {slug!r}")
        for key, message in self._in_match(table.match):
            self.wrong(label, f"match.{key}: {message}")
        self._reached(label, position, table)
        options = Options(
            name=table.name,
            fingerprint=table.fingerprint,
            recurrence=self._recurrence(label, table.recurrence),
            quiet_hours=table.quiet_hours,
            templates=table.templates,
            requester=table.requester,
        )
        for key, message in (
            *_in_recurrence(options.recurrence),
            *_in_quiet_hours(options.quiet_hours),
            *_in_templates(options),
        ):
            self.wrong(label, f"{key}: {message}")
        for key, message in self._oddities(position, table):
            self.warn(label, f"{key}: {message}")
        return Route(
            position=position,
            match=msgspec.to_builtins(table.match),
            destinations=slugs,
            continues=table.continues,
            options={key: value for key, value in msgspec.to_builtins(options).items() if value != {}},
        )

    def _in_match(self, match: Match) -> Iterator[tuple[str, str]]:
        if match.source is not None and match.source not in self.sources:
            yield "source", f"there is no [[source]] with slug {match.source!r}"
        if match.kind not in (None, "alert", "support"):
            yield "kind", f"{match.kind!r} is neither alert nor support"
        asked = {name: getattr(match, name) for name in EXACT_FIELDS}
        for key, wanted in (
            *asked.items(),
            *((f"tags.{name}", values) for name, values in match.tags.items()),
        ):
            if wanted == []:
                yield key, "an empty list fits nothing; name what fits, or leave it out"
        yield from _title(match.title)
        yield from _duration("within", match.within)
        yield from _duration("unseen_for", match.unseen_for)
        yield from _count(match)

    def _reached(self, label: str, position: int, table: RouteTable) -> None:
        """Warn if an earlier route takes every ticket that this one matches."""
        for taken, by in self._before:
            if taken in (Match(), table.match):
                matched = "everything" if taken == Match() else "the same"
                self.warn(
                    label,
                    f"match: is never reached: number {by} takes {matched} and does not continue;"
                    " put it before that, or write continue = true there",
                )
                break
        if not table.continues:
            self._before.append((table.match, position))

    def _oddities(self, position: int, table: RouteTable) -> Iterator[tuple[str, str]]:
        levels = [table.match.level] if isinstance(table.match.level, str) else table.match.level or []
        for level in levels:
            near = difflib.get_close_matches(level.lower(), LEVELS, 1, 0.75)
            if near and level not in LEVELS:
                yield "match.level", f"{level!r} is not what sources say; did you mean {near[0]!r}?"
        if table.name:
            other = self._names.setdefault(table.name, position)
            if other != position:
                yield "name", f"{table.name!r} is the name of number {other} too; give each its own"
        if table.fingerprint is not None and table.match.kind == "support":
            yield "fingerprint", "is for alerts; each support ticket is a thing of its own"

    def _recurrence(self, label: str, configured: str | list[RecurrenceRule]) -> list[RecurrenceRule]:
        if not isinstance(configured, str):
            return configured
        try:
            return [msgspec.convert({"then": configured}, RecurrenceRule)]
        except msgspec.ValidationError:
            self.wrong(label, f"recurrence: {configured!r} is none of reopen, new, comment, ignore")
            return []


def _title(pattern: str | None) -> Iterator[tuple[str, str]]:
    if pattern is None:
        return
    try:
        compiled(pattern)
    except ValueError as error:
        cure = "RE2 knows no look-around and no back references: https://github.com/google/re2/wiki/Syntax"
        yield "title", f"{pattern[:80]!r} is no regular expression that can be used: {error}; {cure}"


def _count(match: Match) -> Iterator[tuple[str, str]]:
    if match.occurrences is not None and match.occurrences < 1:
        yield "occurrences", f"{match.occurrences} is met before anything happens; write 1 or more"
    if match.occurrences is not None and match.within is None:
        yield "occurrences", 'needs a time span; add within, such as within = "10m"'
    if match.within is not None and match.occurrences is None:
        yield "within", "needs a number; add occurrences, such as occurrences = 5"
    if match.kind == "support" and match.occurrences is not None:
        yield (
            "occurrences",
            "people ask once, and no threshold holds them back; leave it out, or ask for alerts",
        )


def _duration(key: str, duration: str | None) -> Iterator[tuple[str, str]]:
    if duration is not None:
        try:
            parse_duration(duration)
        except ValueError as error:
            yield key, str(error)


def _in_recurrence(rules: list[RecurrenceRule]) -> Iterator[tuple[str, str]]:
    for number, rule in enumerate(rules):
        at = f"recurrence[{number}]"
        reasons = [rule.reason] if isinstance(rule.reason, str) else rule.reason
        if reasons == []:
            yield f"{at}.reason", "an empty list fits nothing; leave it out"
        for reason in reasons or []:
            if reason not in REASONS:
                yield f"{at}.reason", f"{reason!r} is none of {', '.join(REASONS)}"
        yield from _duration(f"{at}.closed_for", rule.closed_for)


def _in_quiet_hours(hours: QuietHours | None) -> Iterator[tuple[str, str]]:
    if hours is None:
        return
    wrong = False
    for key, hour in (("from", hours.start), ("to", hours.end)):
        if not _HOUR.fullmatch(hour):
            wrong = True
            yield f"quiet_hours.{key}", f"{hour!r} is no time of day: write 00:00 to 23:59"
    try:
        zoneinfo.ZoneInfo(hours.zone)
    except (KeyError, ValueError, OSError):
        wrong = True
        yield (
            "quiet_hours.zone",
            f"{hours.zone!r} is no time zone known here: write one such as Europe/Berlin or UTC",
        )
    for day in hours.days:
        if day not in quiet.DAYS:
            wrong = True
            yield "quiet_hours.days", f"{day!r} is none of {', '.join(quiet.DAYS)}"
    if not wrong:
        try:
            quiet.validate(hours)
        except ValueError as error:
            yield "quiet_hours", str(error)


def _in_templates(options: Options) -> Iterator[tuple[str, str]]:
    if options.fingerprint is not None:
        try:
            fingerprint_template.check(options.fingerprint)
        except ValueError as error:
            yield "fingerprint", f"the template can't be used: {error}"
    for name in TemplateSet.__struct_fields__:
        template = getattr(options.templates, name)
        if template is not None:
            try:
                templates.check(template)
            except ValueError as error:
                yield f"templates.{name}", f"the template can't be used: {error}"
