"""How issues and destinations stand, and why there is no issue, in plain words. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from pointsman.console.messages import Tone, Words, failure, outcome
from pointsman.console.timeline import DEAD, LEASED, PARKED, PENDING, parked_sentence
from pointsman.content.sanitize import one_line
from pointsman.domain.routing import NOTHING, UNKNOWN, Facts, Match, Route, verdict
from pointsman.storage.db import Row

ORPHANED = 2
BREAKER_OPEN = 2
MAIL, SOURCE = 2, 3
LASTING_FAILURES = 3
"""So many failures in a row are no passing trouble any more."""


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's issue at one destination, or why there is none yet."""

    destination: str
    tracker: str
    key: str
    url: str
    closed: bool
    words: Words
    error: str = ""
    next_at: dt.datetime | None = None
    command: str = ""

    @property
    def linked(self) -> bool:
        """Whether there is an issue."""
        return bool(self.key)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A destination, as it stands."""

    slug: str
    name: str
    tracker: str
    words: Words
    waiting: int
    parked: int
    failures: int
    failed_at: dt.datetime | None
    failure: str
    excerpt: str
    blocked_until: dt.datetime | None
    polled_to: dt.datetime | None
    command: str = ""

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look."""
        return self.words.tone == "bad" or self.parked > 0


# -- issues --------------------------------------------------------------------------------------------------------


def issue(link: Row, place: Row | None, now: dt.datetime, lane: Sequence[Row] = ()) -> Issue:
    """A link, or a link to be. ``place`` is how its destination stands, ``lane`` its deliveries."""
    words = _issue_words(link, place, now)
    waits = link["lane_state"] != 0
    head = _head(lane, link["head_state"])
    due_at = head["due_at"] if head is not None and link["lane_state"] == 1 else None
    return Issue(
        destination=link["destination"],
        tracker=link["tracker"],
        key=one_line(link["remote_key"] or "", 120),
        url=link["url"] or "",
        closed=link["remote_state"] == 2,
        words=words,
        error=one_line(link["last_error"] or "", 2000) if waits else "",
        next_at=due_at if due_at is not None and due_at > now else None,
        command=f"pointsman replay {head['lane_id']}/{head['seq']}"
        if head is not None and link["lane_state"] == PARKED
        else "",
    )


def _issue_words(link: Row, place: Row | None, now: dt.datetime) -> Words:
    if link["state"] == ORPHANED:
        return Words(
            "orphaned",
            "bad",
            "The issue is gone from its destination: deleted, or moved away. What is still to be delivered waits for "
            "a person.",
        )
    if link["lane_state"] == PARKED:
        return Words("parked", "bad", parked_sentence(link["parked_why"]))
    if link["lane_state"] == 0:
        if link["remote_key"]:
            return Words("in step", "good")
        return Words("no issue", "wait", "Nothing waits to be delivered, and no issue is linked.")
    if place is not None and place["paused_why"]:
        return paused(place)
    if link["last_class"]:
        return outcome(link["last_class"])
    if place is not None and _held(place, now):
        return Words("held back", "wait", "The destination is given a rest after a failure.")
    if link["lane_state"] == LEASED:
        return Words("on its way", "wait", "It is being delivered right now.")
    return Words("waits", "wait", "It waits for its turn.")


def _head(lane: Sequence[Row], head_state: int | None) -> Row | None:
    """The delivery that a lane is at: its first pending one, or the dead one that the pending ones wait behind."""
    pending = min((row["seq"] for row in lane if row["state"] == PENDING), default=None)
    if head_state == DEAD:
        dead = [row for row in lane if row["state"] == DEAD and (pending is None or row["seq"] < pending)]
        return max(dead, key=lambda row: row["seq"], default=None)
    return next((row for row in lane if row["state"] == PENDING and row["seq"] == pending), None)


def no_issue(routes: Sequence[Route], facts: Facts) -> list[str]:
    """What each route of today says of a ticket that has no destination."""
    if not routes:
        return ["No route is configured."]
    return [_route_says(route, facts) for route in routes]


def _route_says(route: Route, facts: Facts) -> str:
    said = verdict(route, facts)
    if not said.matched:
        wanted, got = one_line(said.wanted, 120), one_line(said.got, 120)
        if said.pending:
            return f"Route {route.position} takes it once its threshold is met: {said.against} {wanted}."
        known = {NOTHING: "this ticket has none", UNKNOWN: "what this ticket has is not kept"}
        of_ticket = known.get(got, f"this ticket's is {got}")
        return f"Route {route.position} takes only {said.against} {wanted}, and {of_ticket}."
    if not route.destinations:
        return f"Route {route.position} takes {'everything' if route.match == Match() else 'it'}, to no destination."
    return f"Route {route.position} would take it, had it been there when the ticket was opened."


# -- destinations --------------------------------------------------------------------------------------------------


def destination(row: Row, now: dt.datetime, *, problem: str = "", mail_off: bool = False) -> Place:
    """A destination. ``problem``: why it can't be used as it is configured; ``mail_off``: no mail server is set."""
    words = _place_words(row, now, problem, mail_off=mail_off and row["kind"] == MAIL)
    commands: Mapping[str, str] = {
        "paused": f"pointsman destinations --resume {row['slug']}",
        "parked lanes": f"pointsman deliveries --destination {row['slug']}",
    }
    command = commands.get(words.label, "")
    if not command and words.tone == "bad" and row["kind"] != MAIL:
        command = f"pointsman doctor {row['slug'].removeprefix('@source:')}"
    failed = row["failed_at"] is not None
    said = one_line(f"{row['failure_type'] or ''}: {row['failure_message'] or ''}", 2000)
    return Place(
        slug=row["slug"],
        name=_name(row),
        tracker=row["tracker"],
        words=words,
        waiting=row["waiting_lanes"],
        parked=row["parked_lanes"],
        failures=row["failures"] if failed else 0,
        failed_at=row["failed_at"],
        failure=_with_status(said, row["failure_status"]) if failed else "",
        excerpt=(row["failure_excerpt"] or "")[:4000] if failed else "",
        blocked_until=_held_until(row, now),
        polled_to=row["polled_to"],
        command=command,
    )


def _name(row: Row) -> str:
    if row["kind"] == MAIL:
        return "Mail to ticket owners"
    if row["kind"] == SOURCE:
        return f"Told to the source {row['slug'].removeprefix('@source:')}"
    return str(row["slug"])


def paused(row: Row) -> Words:
    """Why nothing is delivered to a paused destination."""
    if row["retired"] or row["paused_why"] == "retired":
        return Words("retired", "calm", "It is no longer configured. Its tickets stay; nothing is delivered.")
    if row["paused_why"] != "operator":
        why = one_line(row["paused_why"], 200)
        return Words("paused", "bad", f"Pointsman paused it: {why}. Nothing is lost; deliveries wait.")
    return Words("paused", "wait", "An operator paused it. Nothing is lost; deliveries wait.")


def _place_words(row: Row, now: dt.datetime, problem: str, *, mail_off: bool) -> Words:
    if row["retired"] or row["paused_why"]:
        return paused(row)
    if mail_off:
        tone: Tone = "bad" if row["waiting_lanes"] else "calm"
        return Words(
            "off",
            tone,
            "No mail server is set: give POINTSMAN_SMTP_URL and POINTSMAN_MAIL_FROM. Mails wait until then.",
        )
    if problem:
        return Words("can't be used", "bad", one_line(problem, 500))
    if row["failed_at"] is not None:
        words = failure(row["failure_type"])
        return msgspec.structs.replace(words, tone="bad") if row["failures"] >= LASTING_FAILURES else words
    if row["parked_lanes"]:
        return Words("parked lanes", "bad", "It works, but some tickets' deliveries wait for a person.")
    if _held(row, now):
        return Words("held back", "wait", "It asked for a rest, or is given one. It goes on by itself.")
    return Words("working", "good")


def _held(row: Row, now: dt.datetime) -> bool:
    return _held_until(row, now) is not None


def _held_until(row: Row, now: dt.datetime) -> dt.datetime | None:
    """Until when nothing is sent there: it asked for that, or its breaker is open. None: it may be sent to."""
    times = [row["blocked_until"], row["open_until"] if row["breaker"] == BREAKER_OPEN else None]
    return max((one for one in times if one is not None and one > now), default=None)


def _with_status(text: str, status: int | None) -> str:
    return text if status is None or str(status) in text else f"{text} (status {status})"
