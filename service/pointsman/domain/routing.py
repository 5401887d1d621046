"""Routes: ordered rules that say which tickets go to which destinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from pointsman.domain.duration import parse_duration
from pointsman.domain.regex import matches
from pointsman.plugin_api import Report


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a rule asks of a report and its ticket; what it leaves out it does not ask. An empty match takes every ticket."""

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
    """A regular expression (RE2) that is found somewhere in the title."""
    occurrences: int | None = None
    """The problem was reported so often ``within`` so long, this report counted."""
    within: str | None = None
    """A duration such as ``10m``."""
    unseen_for: str | None = None
    """The problem was not reported for so long before this report; one that is new fits."""


class RecurrenceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule for a problem that comes back after its ticket was closed: the first that fits says what is done."""

    then: Literal["reopen", "new", "comment", "ignore"]
    reason: str | list[str] | None = None
    """How it was closed: ``completed``, ``not_planned``, ``duplicate``."""
    closed_for: str | None = None
    """It has been closed at least so long."""
    release: Literal["same", "other"] | None = None
    """Whether the report names the release that was reported last before it was closed."""


class QuietHours(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"start": "from", "end": "to"},
):
    """When nothing is posted; what comes meanwhile is posted when they end."""

    start: str
    end: str
    zone: str = "UTC"
    days: list[str] = []
    """``mon`` to ``sun``, the days on which they begin; none: every day."""


class TemplateSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Templates of one's own; what is left out is said in the built-in words."""

    title: str | None = None
    body: str | None = None
    comment: str | None = None
    mail_subject: str | None = None
    mail_body: str | None = None


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What else a rule says of the tickets that it takes."""

    name: str = ""
    fingerprint: str | None = None
    """A template that takes the place of the fingerprint that the source's kind gives."""
    recurrence: list[RecurrenceRule] = []
    quiet_hours: QuietHours | None = None
    templates: TemplateSet = TemplateSet()
    requester: bool = False
    """The requester's name and mail address may stand in the issue."""


class Route(msgspec.Struct, frozen=True):
    """One rule, with the ids of its destinations."""

    position: int
    match: Match
    destinations: tuple[int, ...]
    continues: bool = False
    options: Options = Options()


class Facts(msgspec.Struct, frozen=True):
    """What rules may ask of a report. ``tags`` are its facts: names and values, a name may come more than once; None: they
    are not known.
    """

    source: str
    kind: str
    environment: str = ""
    level: str = ""
    release: str = ""
    title: str = ""
    tags: tuple[tuple[str, str], ...] | None = ()


def facts_of(source: str, kind: str, report: Report) -> Facts:
    """What rules may ask of one report."""
    return Facts(source, kind, report.environment, report.level, report.release, report.title, report.facts)


class History(msgspec.Struct, frozen=True):
    """What rules may ask of the problem's past; as it is when the report has come."""

    occurrences_within: Mapping[int, int] = {}
    """How often it was reported within so many seconds, this report counted; for each of ``windows()``."""
    unseen_seconds: float | None = None
    """How long before this report it was last reported; None: never."""
    closed_seconds: float | None = None
    """How long its last ticket has been closed; None: it is open, or there was none."""
    close_reason: str = ""
    """How that was closed: ``completed``, ``not_planned``, ``duplicate``; empty if it was not said."""
    release: str = ""
    """The release that was reported last before this report."""


class MatchResult(msgspec.Struct, frozen=True):
    """What one rule said of a ticket. ``against`` names the first thing that did not fit, ``wanted`` and ``got`` say in
    words what the rule asks there and what it met.

    ``pending``: everything of the report fits, only the problem's past does not, or not yet.
    """

    position: int
    matched: bool
    failed_field: str = ""
    expected: str = ""
    actual: str = ""
    pending: bool = False


class Choice(msgspec.Struct, frozen=True):
    """What the rules say together: where a ticket goes, and the rules that took it, in their order."""

    destinations: tuple[int, ...] = ()
    routes: tuple[Route, ...] = ()
    pending: tuple[Route, ...] = ()
    """Rules that were asked and that nothing stood against but a threshold."""

    @property
    def options(self) -> Options:
        """What else is said of the ticket: the first rule that took it says it."""
        return self.routes[0].options if self.routes else Options()

    @property
    def below_threshold(self) -> bool:
        """Nothing took it, and something would but for its threshold: the ticket is below it."""
        return bool(self.pending) and not self.routes


NOTHING, UNKNOWN = "nothing", "not known here"
"""What a verdict got where a report says nothing, or where nobody can tell."""
WORDS = ("source", "kind", "environment", "level", "release")
"""What is asked of a report by its exact words, in the order of the verdicts."""


def match_route(route: Route, facts: Facts, history: History | None = None) -> MatchResult:
    """Whether a rule takes a ticket, and if not, what stood against it. Without ``history`` no threshold is met."""
    match = route.match
    against = _against(match, facts)
    if against:
        wanted, got = _words(match, facts, against)
        return MatchResult(route.position, matched=False, failed_field=against, expected=wanted, actual=got)
    against = "" if facts.kind == "support" else _below(match, history)
    if against:
        wanted, got = _past(match, history, against)
        return MatchResult(route.position, matched=False, failed_field=against, expected=wanted, actual=got, pending=True)
    return MatchResult(route.position, matched=True)


def prefilter(routes: Sequence[Route], facts: Facts) -> tuple[Route, ...]:
    """The rules that may take a report, whatever its problem's past: up to the first that takes it for sure and stops."""
    fit = []
    for route in routes:
        if not _against(route.match, facts):
            fit.append(route)
            if not (route.continues or has_threshold(route)):
                break
    return tuple(fit)


def evaluate_history(fit: Sequence[Route], history: History | None = None, *, met: bool = False) -> Choice:
    """What candidates say once the past is known. A rule below its threshold is passed over and stops nothing.

    ``met``: all thresholds are, as for people, who ask once and must not wait for what never comes.
    """
    chosen: dict[int, None] = {}
    took, pending = [], []
    for route in fit:
        if not met and _below(route.match, history):
            pending.append(route)
            continue
        took.append(route)
        chosen.update(dict.fromkeys(route.destinations))
        if not route.continues:
            break
    return Choice(tuple(chosen), tuple(took), tuple(pending))


def settle(routes: Sequence[Route], facts: Facts, history: History | None = None) -> Choice:
    """What the rules say of a report: the first that takes it decides, and those after it while rules continue."""
    return evaluate_history(prefilter(routes, facts), history, met=facts.kind == "support")


def choose(routes: Sequence[Route], facts: Facts, history: History | None = None) -> tuple[int, ...]:
    """The destinations alone."""
    return settle(routes, facts, history).destinations


def has_threshold(route: Route) -> bool:
    """Whether a rule asks for the problem's past."""
    return route.match.occurrences is not None or route.match.unseen_for is not None


def needs_history(routes: Sequence[Route]) -> bool:
    """Whether any of these rules does."""
    return any(has_threshold(route) for route in routes)


def occurrence_windows(routes: Sequence[Route]) -> tuple[int, ...]:
    """The spans, in seconds, within which these rules count occurrences."""
    return tuple(sorted({window for route in routes if (window := _window(route.match)) is not None}))


def referenced_fields(routes: Sequence[Route]) -> frozenset[str]:
    """Which facts of a report any of these rules asks for, by their names in ``Facts``."""
    return frozenset(
        name
        for route in routes
        for name in (*WORDS, "title", "tags")
        if getattr(route.match, name) not in (None, {})
    )


def _against(match: Match, facts: Facts) -> str:
    """The first thing in a report that does not fit; empty: all of it does. It is asked for every report: no loops over names."""
    if match.source is not None and match.source != facts.source:
        return "source"
    if match.kind is not None and match.kind != facts.kind:
        return "kind"
    if match.environment is not None and not _one_of(match.environment, facts.environment):
        return "environment"
    if match.level is not None and not _one_of(match.level, facts.level):
        return "level"
    if match.release is not None and not _one_of(match.release, facts.release):
        return "release"
    return _against_more(match, facts) if match.tags or match.title is not None else ""


def _against_more(match: Match, facts: Facts) -> str:
    for tag, wanted in match.tags.items():
        for name, value in facts.tags or ():
            if name == tag and _one_of(wanted, value):
                break
        else:
            return f"tags.{tag}"
    return "title" if match.title is not None and not matches(match.title, facts.title) else ""


def _one_of(wanted: str | list[str], got: str) -> bool:
    return wanted == got if isinstance(wanted, str) else got in wanted


def _window(match: Match) -> int | None:
    """Within how many seconds a rule counts; None: it does not count. A rule that never says it counts a day."""
    if match.occurrences is None:
        return None
    return parse_duration(match.within) if match.within is not None else 86400


def _below(match: Match, history: History | None) -> str:
    """The first thing in the problem's past that does not fit."""
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


def _words(match: Match, facts: Facts, against: str) -> tuple[str, str]:
    """What was wanted of the report, and what was got."""
    if against == "title":
        return f"with {match.title}", facts.title or NOTHING
    if against.startswith("tags."):
        tag = against.removeprefix("tags.")
        values = [value for name, value in facts.tags or () if name == tag]
        return _either(match.tags[tag]), UNKNOWN if facts.tags is None else _either(values)
    return _either(getattr(match, against)), _either(getattr(facts, against))


def _either(values: str | Sequence[str]) -> str:
    some = [values] if isinstance(values, str) else values
    return " or ".join(one or NOTHING for one in some) or NOTHING


def _past(match: Match, history: History | None, against: str) -> tuple[str, str]:
    """What was wanted of the past, and what was got."""
    if against == "occurrences":
        window = _window(match) or 0
        got = UNKNOWN if history is None else str(history.occurrences_within.get(window, 1))
        return f"{match.occurrences} within {match.within}", got
    got = UNKNOWN
    if history is not None:
        got = f"reported {history.unseen_seconds or 0:.0f} s before"
    return f"not reported for {match.unseen_for}", got
