"""Routes: ordered rules that determine the destinations of tickets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from pointsman.domain.duration import parse_duration
from pointsman.domain.regex import matches
from pointsman.plugin_api import Report

DEFAULT_WINDOW_SECONDS = 86400


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The conditions of a route on a report and the history of its problem. An empty match applies to every ticket."""

    source: str | None = None
    kind: str | None = None
    """``alert`` or ``support``."""
    environment: str | list[str] | None = None
    """One of these."""
    level: str | list[str] | None = None
    release: str | list[str] | None = None
    tags: dict[str, str | list[str]] = {}
    """Each of these facts of the report has (one of) these values."""
    title: str | None = None
    """A regular expression (RE2) that matches somewhere in the title."""
    occurrences: int | None = None
    """The problem was reported so often ``within`` this time, this report included."""
    within: str | None = None
    """A duration such as ``10m``."""
    unseen_for: str | None = None
    """The problem was not reported for so long before this report; a new problem matches."""


class RecurrenceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule for a problem that recurs after its ticket was closed; the first matching rule applies."""

    then: Literal["reopen", "new", "comment", "ignore"]
    reason: str | list[str] | None = None
    """The reason of the closing: ``completed``, ``not_planned``, ``duplicate``."""
    closed_for: str | None = None
    """The ticket has been closed at least so long."""
    release: Literal["same", "other"] | None = None
    """Whether the report names the release that was reported last before the closing."""


class QuietHours(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"start": "from", "end": "to"},
):
    """A daily period in which nothing is posted; deliveries are postponed to its end."""

    start: str
    end: str
    zone: str = "UTC"
    days: list[str] = []
    """``mon`` to ``sun``, the days on which it starts; empty: every day."""


class TemplateSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The operator's templates; the built-in ones are used for what is left out."""

    title: str | None = None
    body: str | None = None
    comment: str | None = None
    mail_subject: str | None = None
    mail_body: str | None = None


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The options that a route sets for its tickets."""

    name: str = ""
    fingerprint: str | None = None
    """A template that replaces the fingerprint of the source."""
    recurrence: list[RecurrenceRule] = []
    quiet_hours: QuietHours | None = None
    templates: TemplateSet = TemplateSet()
    requester: bool = False
    """Whether issues may contain the requester's name and e-mail address."""


class Route(msgspec.Struct, frozen=True):
    """A route, with the ids of its destinations."""

    position: int
    match: Match
    destinations: tuple[int, ...]
    continues: bool = False
    """Whether later routes are evaluated too after this one matched."""
    options: Options = Options()


class Facts(msgspec.Struct, frozen=True):
    """The fields of a report that routes can match.

    ``tags`` are names and values; a name can occur more than once. None: the tags are unknown.
    """

    source: str
    kind: str
    environment: str = ""
    level: str = ""
    release: str = ""
    title: str = ""
    tags: tuple[tuple[str, str], ...] | None = ()


def facts_of(source: str, kind: str, report: Report) -> Facts:
    """Return the facts of a report."""
    return Facts(source, kind, report.environment, report.level, report.release, report.title, report.facts)


class History(msgspec.Struct, frozen=True):
    """The history of a problem at the time of a report, as far as routes can match it."""

    occurrences_within: Mapping[int, int] = {}
    """The number of reports within so many seconds, this report included; for each of ``occurrence_windows()``."""
    unseen_seconds: float | None = None
    """Seconds since the previous report; None for the first report."""
    closed_seconds: float | None = None
    """Seconds since the ticket was closed; None if it is open, or if there is none."""
    close_reason: str = ""
    """``completed``, ``not_planned``, ``duplicate``; empty if unknown."""
    release: str = ""
    """The release that was reported last before this report."""


class MatchResult(msgspec.Struct, frozen=True):
    """Whether a route matches; if not, the first field that does not, with what was expected and what it was.

    ``pending``: only a threshold is not reached.
    """

    position: int
    matched: bool
    failed_field: str = ""
    expected: str = ""
    actual: str = ""
    pending: bool = False


class Choice(msgspec.Struct, frozen=True):
    """The combined result of all routes: the destinations, and the routes that match, in order."""

    destinations: tuple[int, ...] = ()
    routes: tuple[Route, ...] = ()
    pending: tuple[Route, ...] = ()
    """Routes that would match but for a threshold."""

    @property
    def options(self) -> Options:
        """Return the options of the first matching route."""
        return self.routes[0].options if self.routes else Options()

    @property
    def below_threshold(self) -> bool:
        """Return whether no route matches, and some would but for a threshold."""
        return bool(self.pending) and not self.routes


NOTHING, UNKNOWN = "nothing", "not known here"
"""Texts for a field that is empty in the report, and for a field that is unknown."""
EXACT_FIELDS = ("source", "kind", "environment", "level", "release")
"""The fields that are compared exactly, in the order of evaluation."""


def match_route(route: Route, facts: Facts, history: History | None = None) -> MatchResult:
    """Return whether a route matches, and if not, why. Without ``history`` no threshold is reached."""
    match = route.match
    failed = _failed_field(match, facts)
    if failed:
        expected, actual = _describe_field(match, facts, failed)
        return MatchResult(
            route.position, matched=False, failed_field=failed, expected=expected, actual=actual
        )
    failed = "" if facts.kind == "support" else _failed_threshold(match, history)
    if failed:
        expected, actual = _describe_threshold(match, history, failed)
        return MatchResult(
            route.position, matched=False, failed_field=failed, expected=expected, actual=actual, pending=True
        )
    return MatchResult(route.position, matched=True)


def prefilter(routes: Sequence[Route], facts: Facts) -> tuple[Route, ...]:
    """Return the routes that may match a report, whatever its history: up to the first that matches and stops."""
    candidates = []
    for route in routes:
        if not _failed_field(route.match, facts):
            candidates.append(route)
            if not (route.continues or has_threshold(route)):
                break
    return tuple(candidates)


def evaluate_history(
    candidates: Sequence[Route], history: History | None = None, *, met: bool = False
) -> Choice:
    """Evaluate the thresholds of candidate routes. A route below its threshold is skipped and stops nothing.

    ``met``: all thresholds count as reached, as for support tickets, which are reported once.
    """
    destinations: dict[int, None] = {}
    matching, pending = [], []
    for route in candidates:
        if not met and _failed_threshold(route.match, history):
            pending.append(route)
            continue
        matching.append(route)
        destinations.update(dict.fromkeys(route.destinations))
        if not route.continues:
            break
    return Choice(tuple(destinations), tuple(matching), tuple(pending))


def has_threshold(route: Route) -> bool:
    """Return whether a route depends on the history of the problem."""
    return route.match.occurrences is not None or route.match.unseen_for is not None


def occurrence_windows(routes: Sequence[Route]) -> tuple[int, ...]:
    """Return the spans, in seconds, within which these routes count occurrences."""
    return tuple(sorted({window for route in routes if (window := _window(route.match)) is not None}))


def referenced_fields(routes: Sequence[Route]) -> frozenset[str]:
    """Return the names of the facts that any of these routes matches."""
    return frozenset(
        name
        for route in routes
        for name in (*EXACT_FIELDS, "title", "tags")
        if getattr(route.match, name) not in (None, {})
    )


def _failed_field(match: Match, facts: Facts) -> str:
    """Return the first field of a report that does not match; empty if all do.

    Called for every report and route, so it does not loop over names.
    """
    if match.source is not None and match.source != facts.source:
        return "source"
    if match.kind is not None and match.kind != facts.kind:
        return "kind"
    if match.environment is not None and not _is_any_of(match.environment, facts.environment):
        return "environment"
    if match.level is not None and not _is_any_of(match.level, facts.level):
        return "level"
    if match.release is not None and not _is_any_of(match.release, facts.release):
        return "release"
    return _failed_tag_or_title(match, facts) if match.tags or match.title is not None else ""


def _failed_tag_or_title(match: Match, facts: Facts) -> str:
    for tag, expected in match.tags.items():
        for name, value in facts.tags or ():
            if name == tag and _is_any_of(expected, value):
                break
        else:
            return f"tags.{tag}"
    return "title" if match.title is not None and not matches(match.title, facts.title) else ""


def _is_any_of(expected: str | list[str], actual: str) -> bool:
    return expected == actual if isinstance(expected, str) else actual in expected


def _window(match: Match) -> int | None:
    """Return the span in which a route counts occurrences; None if it does not count."""
    if match.occurrences is None:
        return None
    return parse_duration(match.within) if match.within is not None else DEFAULT_WINDOW_SECONDS


def _failed_threshold(match: Match, history: History | None) -> str:
    """Return the first threshold that is not reached; empty if all are."""
    window = _window(match)
    if window is not None and (
        history is None or history.occurrences_within.get(window, 1) < (match.occurrences or 0)
    ):
        return "occurrences"
    if match.unseen_for is not None and (
        history is None
        or (history.unseen_seconds is not None and history.unseen_seconds < parse_duration(match.unseen_for))
    ):
        return "unseen_for"
    return ""


def _describe_field(match: Match, facts: Facts, field: str) -> tuple[str, str]:
    """Return the expected and the actual value of a field, for people."""
    if field == "title":
        return f"with {match.title}", facts.title or NOTHING
    if field.startswith("tags."):
        tag = field.removeprefix("tags.")
        values = [value for name, value in facts.tags or () if name == tag]
        return _any_of(match.tags[tag]), UNKNOWN if facts.tags is None else _any_of(values)
    return _any_of(getattr(match, field)), _any_of(getattr(facts, field))


def _any_of(values: str | Sequence[str]) -> str:
    alternatives = [values] if isinstance(values, str) else values
    return " or ".join(value or NOTHING for value in alternatives) or NOTHING


def _describe_threshold(match: Match, history: History | None, threshold: str) -> tuple[str, str]:
    """Return the expected and the actual value of a threshold, for people."""
    if threshold == "occurrences":
        window = _window(match) or 0
        actual = UNKNOWN if history is None else str(history.occurrences_within.get(window, 1))
        return f"{match.occurrences} within {match.within}", actual
    actual = UNKNOWN
    if history is not None:
        actual = f"reported {history.unseen_seconds or 0:.0f} s before"
    return f"not reported for {match.unseen_for}", actual
