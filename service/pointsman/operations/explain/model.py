"""Why there is an issue, or none: a ticket's story, step by step, told from its rows. Pure.

Each step says what happened and when; each destination says what it waits for now and what an operator can do.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman.content.redaction.outgoing_filter import masked_words
from pointsman.content.sanitize import one_line
from pointsman.domain.routing import Facts, Route, candidates, has_threshold, windows
from pointsman.domain.ticket import Kind, Status, TicketKind
from pointsman.operations.explain.routes import Rule, rules
from pointsman.storage.db import Row
from pointsman.storage.explain import Material

PENDING, DONE, DEAD = 0, 1, 2
IDLE, READY, LEASED, PARKED = 0, 1, 2, 3
HALF_OPEN, OPEN = 1, 2
ORPHANED = 2
MAIL, SOURCE = 2, 3
REPORT_PARKED, REPORT_TEST = 2, 3
STATES = {PENDING: "pending", DONE: "done", DEAD: "dead", 3: "skipped"}
ATTEMPTS_SHOWN = 10

_BY_ITSELF = "nothing: it goes on by itself"
NEXT: Mapping[str, str] = {
    "unavailable": _BY_ITSELF,
    "limited": _BY_ITSELF,
    "unknown": "nothing: the marker is looked for before anything is sent again",
    "not found yet": "nothing: the marker is looked for again",
    "conflict": _BY_ITSELF,
    "moved": _BY_ITSELF,
    "auth": "give it a valid credential; `pointsman doctor {slug}` says whether it fits",
    "misconfigured": "mend what the error names; `pointsman doctor {slug}` says whether it fits",
    "refused": "mend what the error names, then run `pointsman replay {delivery}`",
    "defect": "the log has the plugin's traceback: mend or update it, then run `pointsman replay {delivery}`",
    "expired": "mend what the last attempts say, then run `pointsman replay {delivery}`",
    "orphan": "nothing, if the issue was deleted on purpose; if it is there again, run `pointsman replay {delivery}`",
}
"""What an operator does after an outcome; ``done`` and ``found`` need nothing."""

FINAL = frozenset({"refused", "defect", "expired", "orphan"})
"""Outcomes that need a person once a lane is parked with them; before, the delivery is tried again."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. ``times``: so often in a row, the last time at ``until``."""

    at: dt.datetime
    what: str
    error: str = ""
    times: int = 1
    until: dt.datetime | None = None


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery and its attempts."""

    delivery: str
    kind: str
    state: str
    says: str
    attempts: tuple[Step, ...] = ()
    left_out: int = 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's lane at one destination: what it waits for, everything that holds it, and the next step."""

    destination: str
    tracker: str
    issue: str
    url: str
    because: str
    waits_for: tuple[str, ...]
    next: str
    deliveries: tuple[Promise, ...]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Without a ticket (a parked report, a test) only ``reports`` and ``next`` say something."""

    ticket: str = ""
    title: str = ""
    source: str = ""
    status: str = ""
    fingerprint: str = ""
    generation: int = 0
    occurrences: int = 0
    because: tuple[str, ...] = ()
    next: str = ""
    reports: tuple[Step, ...] = ()
    routes: tuple[Rule, ...] = ()
    places: tuple[Place, ...] = ()


def story(
    known: Material, routes: Sequence[Route], slugs: Mapping[int, str], asked: Row | None = None
) -> Story:
    """The story of a ticket. ``slugs``: destinations by id; ``asked``: the report that was asked about."""
    ticket = known.ticket
    facts = Facts(
        ticket["source"],
        TicketKind(ticket["kind"]).name.lower(),
        ticket["environment"],
        ticket["level"],
        ticket["release"],
        ticket["title"],
        tags=None,
    )
    places = tuple(_place(lane, known) for lane in known.lanes)
    said = tuple(rules(routes, slugs, facts))
    return Story(
        ticket=str(ticket["id"]),
        title=one_line(ticket["title"], 200),
        source=ticket["source"],
        status=Status(ticket["status"]).name.lower(),
        fingerprint=one_line(ticket["fingerprint"], 300),
        generation=ticket["generation"],
        occurrences=ticket["occurrences"],
        because=(*_below(known, routes, facts), *_because(ticket, places, said, known.storm_children)),
        reports=(*_asked(asked, known), *_events(known)),
        routes=said,
        places=places,
    )


def of_report(report: Row) -> Story:
    """The story of a report that has no ticket."""
    if report["state"] == REPORT_TEST:
        said, todo = "it was a test message: kept, and no ticket is made of it", ""
    else:
        said = f"it could not be decided on, and is parked: {one_line(report['error'] or '', 500)}"
        todo = f"install the release that understands it, then run `pointsman reports --rerun {report['id']}`"
    step = Step(at=report["received_at"], what=f"report {report['id']} accepted; {said}")
    return Story(
        source=report["source"], because=(f"There is no ticket: {said}.",), next=todo, reports=(step,)
    )


def _because(ticket: Row, places: Sequence[Place], rules: Sequence[Rule], children: int) -> Iterator[str]:
    if children:
        yield f"It lists {children} tickets that were too many at once for its source."
    if ticket["storm_parent"] is not None:
        yield (
            "It has no issue of its own: it came when its source opened more tickets than it may, and is listed in"
            f" ticket {ticket['storm_parent']}."
        )
    elif not ticket["held"] and not any(place.tracker != "mail" for place in places):
        yield "There is no issue: no route took the ticket to a destination when it was opened."
        if any(rule.matches for rule in rules):
            yield "A route of today would take it; a ticket keeps what it got when it was opened."
    yield from (place.because for place in places)


def _below(known: Material, routes: Sequence[Route], facts: Facts) -> Iterator[str]:
    """How far a ticket that is only counted is below its threshold."""
    if not known.ticket["held"]:
        return
    yield "It has no issue: it is below its threshold, and only counted."
    seen = known.held["seen"] if known.held is not None else []
    for route in filter(has_threshold, candidates(routes, facts)):
        asked = [f"not reported for {route.match.unseen_for}"] if route.match.unseen_for else []
        for span in windows([route]):
            since = known.held["now"] - dt.timedelta(seconds=span) if known.held is not None else None
            times = sum(since is not None and one > since for one in seen)
            asked.append(
                f"seen {times} of {route.match.occurrences} times within {route.match.within or '1d'}"
            )
        yield f"Route {route.position} would take it: {', '.join(asked)}."


# -- reports and routes ------------------------------------------------------------------------------------------


def _asked(report: Row | None, known: Material) -> Iterator[Step]:
    if report is None:
        return
    made = [event["kind"] for event in known.events if event["report_id"] == report["id"]]
    what = (
        f"it {' and '.join(made)} the ticket"
        if made
        else "a repeat of an open problem: counted, nothing was sent"
    )
    yield Step(at=report["received_at"], what=f"report {report['id']} (asked for) accepted; {what}")


def _events(known: Material) -> Iterator[Step]:
    for event in known.events:
        data = json.loads(event["data"]) if isinstance(event["data"], str) else event["data"]
        by = data.get("by") or data.get("destination")
        by = f" by {one_line(str(by), 120)}" if by else ""
        report = f", report {event['report_id']}" if event["report_id"] else ""
        yield Step(at=event["at"], what=f"event {event['n']}: {one_line(str(event['kind']), 80)}{by}{report}")


# -- destinations ------------------------------------------------------------------------------------------------


def _place(lane: Row, known: Material) -> Place:
    deliveries = [row for row in known.deliveries if row["lane_id"] == lane["id"]]
    head = next((row for row in deliveries if row["seq"] == lane["head_seq"]), None)
    waits = tuple(_waits(lane, head)) if lane["state"] != IDLE else ()
    return Place(
        destination=lane["destination"],
        tracker=lane["tracker"],
        issue=one_line(lane["remote_key"] or "", 120),
        url=lane["url"] or "",
        because=_stands(lane, head, waits, sum(row["state"] == DEAD for row in deliveries)),
        waits_for=waits,
        next=_next(lane, head),
        deliveries=tuple(_promise(row, lane, known.attempts) for row in deliveries),
    )


def _stands(lane: Row, head: Row | None, waits: Sequence[str], dead: int) -> str:
    if lane["destination_kind"] == MAIL:
        what = f"Mail ({lane['destination']})"
    elif lane["destination_kind"] == SOURCE:
        gone = ", which has the problem no more" if lane["link_state"] == ORPHANED else ""
        what = f"The source, told how it stands ({lane['destination']}){gone}"
    elif lane["remote_key"]:
        gone = ", which is gone there" if lane["link_state"] == ORPHANED else ""
        what = f"Issue {one_line(lane['remote_key'], 120)} at {lane['destination']}{gone}"
    else:
        what = f"No issue at {lane['destination']} yet"
    if lane["state"] == IDLE:
        given_up = f", and {dead} given up" if dead else ""
        return f"{what}: nothing waits to be delivered{given_up}."
    of = f"{_name(lane, head)} waits" if head is not None else "it waits"
    return f"{what}: {of}: {'; '.join(waits)}."


def _name(lane: Row, head: Row) -> str:
    return f"{Kind(head['kind']).name.lower()} {lane['id']}/{head['seq']}"


def _waits(lane: Row, head: Row | None) -> Iterator[str]:
    """Everything that holds a lane now, what lasts longest first."""
    now = lane["now"]
    if lane["retired"] or lane["paused_why"] == "retired":
        yield "the destination is retired: the configuration does not name it"
    elif lane["paused_why"]:
        yield f"the destination is paused ({one_line(lane['paused_why'], 200)})"
    if lane["state"] == PARKED:
        dead = f": it is dead ({head['last_class']})" if head is not None and head["state"] == DEAD else ""
        yield f"its lane is parked ({one_line(lane['parked_why'] or 'no reason given', 500)}){dead}"
        return
    if lane["state"] == LEASED:
        late = lane["lease_until"] < now
        until = at(lane["lease_until"])
        yield (
            f"replica {lane['holder']} let its lease run out at {until}"
            if late
            else (f"replica {lane['holder']} works on it, under a lease until {until}")
        )
        return
    yield from _held(lane, now)
    if head is not None and head["in_doubt"]:
        until, looks = head["doubt_until"], head["looks"]
        when = f"not before {at(until)}" if until is not None and until > now else "now"
        yield f"a request left and its outcome is not known: the marker is looked for {when}, {looks} looks so far"
    if lane["careful"]:
        until = lane["careful_until"]
        ends = f" until {at(until)}" if until is not None and until > now else ""
        yield f"careful mode{ends}: the tracker is asked before each write"
    if lane["due_at"] > now:
        why = f" after {head['last_class']}" if head is not None and head["last_class"] else ""
        yield f"it is due at {at(lane['due_at'])}{why}"
    else:
        ahead = "1000 or more" if lane["ahead"] >= 1000 else lane["ahead"]
        yield (
            f"it is due since {at(lane['due_at'])}, with {ahead} lanes before it and {lane['at_work']} of"
            f" {lane['max_inflight']} at work"
        )


def _held(lane: Row, now: dt.datetime) -> Iterator[str]:
    failure = (
        one_line(f"{lane['failure_type']}: {lane['failure_message'] or ''}", 500) if lane["failed_at"] else ""
    )
    last = (
        f"; the last of {lane['failures']} failures at {at(lane['failed_at'])}: {failure}" if failure else ""
    )
    if lane["breaker"] == OPEN:
        until = f" until {at(lane['open_until'])}, then one lane tries" if lane["open_until"] else ""
        yield f"the destination's breaker is open{until}{last}"
    elif lane["breaker"] == HALF_OPEN:
        yield f"the destination's breaker is half open: one lane tries for all{last}"
    if lane["blocked_until"] is not None and lane["blocked_until"] > now:
        yield f"the destination is held until {at(lane['blocked_until'])}{'' if lane['breaker'] else last}"
    if lane["limited_until"] is not None and lane["limited_until"] > now:
        yield f"the tracker asked to wait until {at(lane['limited_until'])}"


def _next(lane: Row, head: Row | None) -> str:
    """What an operator does about a lane; empty: nothing is wrong."""
    slug = lane["destination"]
    if lane["state"] == IDLE:
        return ""
    if lane["retired"] or lane["paused_why"] == "retired":
        return f"name {slug} in the configuration again, or leave it"
    if lane["paused_why"]:
        return f"run `pointsman destinations --resume {slug}` when it may go on"
    delivery = f"{lane['id']}/{lane['head_seq']}"
    parked = lane["state"] == PARKED
    why = (lane["parked_why"] if parked else head["last_class"] if head is not None else None) or ""
    if why in NEXT and (parked or why not in FINAL):
        return NEXT[why].format(slug=slug, delivery=delivery)
    if parked and head is None:
        return "nothing has to be delivered, so there is nothing to replay; the reason says what to look at"
    if parked and head is not None and head["in_doubt"]:
        return (
            f"look at the tracker yourself; if it is not there, run `pointsman replay {delivery} --not-there`,"
            f" else `pointsman replay {delivery}` once it can be asked"
        )
    if parked:
        return f"mend the reason, then run `pointsman replay {delivery}`"
    if (
        lane["state"] == READY
        and lane["due_at"] <= lane["now"] - dt.timedelta(minutes=1)
        and not lane["breaker"]
    ):
        return "see that the service runs: `pointsman destinations`, and /health/ready"
    return _BY_ITSELF


# -- deliveries --------------------------------------------------------------------------------------------------


def _promise(row: Row, lane: Row, attempts: Sequence[Row]) -> Promise:
    mine = [one for one in attempts if (one["lane_id"], one["seq"]) == (row["lane_id"], row["seq"])]
    steps = _folded(mine)
    return Promise(
        delivery=f"{row['lane_id']}/{row['seq']}",
        kind=Kind(row["kind"]).name.lower(),
        state=STATES.get(row["state"], str(row["state"])),
        says="; ".join(_of_delivery(row, lane)),
        attempts=tuple(steps[-ATTEMPTS_SHOWN:]),
        left_out=max(0, len(steps) - ATTEMPTS_SHOWN),
    )


def _of_delivery(row: Row, lane: Row) -> Iterator[str]:
    yield f"of event {row['event_n']}, made at {at(row['created_at'])}"
    if row["collapsed"]:
        yield f"stands for {row['collapsed']} later events too"
    yield from _of_draft(row)
    if row["state"] == DONE:
        found = ", found by its marker" if row["last_class"] == "found" else ""
        yield f"done at {at(row['done_at'])}{found}"
        return
    if row["attempts"]:
        yield f"{row['attempts']} attempts that count"
    if row["resent_at"]:
        yield f"sent again at {at(row['resent_at'])}, after every look found nothing"
    if row["state"] == DEAD:
        doubt = ", and still in doubt" if row["in_doubt"] else ""
        yield f"given up at {at(row['done_at'])} as {row['last_class']}{doubt}"
        if row["seq"] < lane["head_seq"]:
            yield f"its lane went on without it: `pointsman replay {row['lane_id']}/{row['seq']}` sends it last"
    elif row["state"] == PENDING and row["seq"] > lane["head_seq"]:
        yield "waits for the one before it"
    elif row["state"] == PENDING and row["attempts"]:
        yield f"given up at {at(row['expires_at'])} at the earliest"


def _of_draft(row: Row) -> Iterator[str]:
    if row["masked"]:
        yield f"masked before it left: {masked_words(json.loads(row['masked']))}"
    if row["template_problem"]:
        yield f"in the built-in words: {one_line(row['template_problem'], 500)}"


def _folded(attempts: Sequence[Row]) -> list[Step]:
    """Attempts; those in a row that ended alike as one."""
    steps: list[Step] = []
    for one in attempts:
        status = f" [{one['status']}]" if one["status"] is not None else ""
        what, error = f"{one['outcome']}{status}", one_line(one["error"] or "", 1000)
        if steps and (steps[-1].what, steps[-1].error) == (what, error):
            steps[-1] = msgspec.structs.replace(steps[-1], times=steps[-1].times + 1, until=one["started_at"])
        else:
            steps.append(Step(at=one["started_at"], what=what, error=error))
    return steps


def at(moment: dt.datetime | None) -> str:
    """A time in UTC, for people."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}" if moment is not None else "?"
