"""The judge: what was promised, against what really happened at the tracker, and what still waits in the database.

Pure but for the one question to the database. What is promised stands in the log of every 2xx; what happened stands in
the tracker's log of effects, which knows nothing of the service.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg

ISSUE = re.compile(r"Order (\d+) fails")
NOTE = re.compile(r"Note (\d+) on order (\d+)\b")

KNOWN = "A known problem"

#: What may never be left behind once everything is said to be done.
STUCK = """
select (select count(*) from delivery where state = 0) as pending,
       (select count(*) from delivery where state = 0 and in_doubt) as in_doubt,
       (select count(*) from delivery where state = 2) as dead,
       (select count(*) from lane where state = 2) as leased,
       (select count(*) from lane where state = 3) as parked,
       (select count(*) from lane where state <> 2 and head_seq < next_seq) as unfinished
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that took effect at the tracker, in the order of the log."""

    place: str
    kind: str
    key: str
    marker: str
    text: str
    at: float = 0.0


def effects(path: Path, start: int = 0) -> list[Effect]:
    """The tracker's log, from a byte on. A line that is being written counts when it is whole."""
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read().split(b"\n")[:-1]
    return [Effect(**json.loads(line)) for line in lines]


@dataclass
class Promises:
    """Every 2xx that was given: orders that have an issue, and what was said on each in order.

    ``said`` holds, for each order, ``note 1``, ``note 2``, ``closed``, ``open`` in the order of their 2xx.
    """

    said: dict[int, list[str]] = field(default_factory=dict)
    accepted: int = 0
    """How many 2xx were given."""

    def opened(self, order: int) -> None:
        """A ticket was taken."""
        self.said.setdefault(order, [])
        self.accepted += 1

    def says(self, order: int, what: str) -> None:
        """A comment or a change of state was taken."""
        self.said[order].append(what)
        self.accepted += 1


@dataclass
class Verdict:
    """How it ended."""

    accepted: int = 0
    effects: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    misordered: list[str] = field(default_factory=list)
    stuck: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        promises: Promises,
        happened: Sequence[Effect],
        stuck: Mapping[str, Any] | None = None,
        *,
        repeated: int = 0,
        counted: int = 0,
    ) -> Self:
        """Judge. ``repeated``: how many reports of known problems were taken. ``counted``: how many their tickets count."""
        made = cls(promises.accepted + repeated, len(happened))
        if counted < repeated:
            made.lost.append(f"{repeated - counted} reports of known problems")
        if counted > repeated:
            made.duplicates.append(f"{counted - repeated} reports of known problems")
        by_order = _by_order(happened)
        for order, said in promises.said.items():
            seen = by_order.get(order, [])
            if "issue" not in seen:
                made.lost.append(f"order {order}")
            made.lost += [
                f"order {order}: {what}" for what in said if what.startswith("note") and what not in seen
            ]
            states = [what for what in said if what in ("closed", "open")]
            ended = [what for what in seen if what in ("closed", "open")]
            if states and (ended[-1] if ended else "open") != states[-1]:
                made.lost.append(f"order {order}: {states[-1]}")
        for order, seen in by_order.items():
            made.duplicates += [
                f"order {order}: {what} x {times}"
                for what, times in Counter(seen).items()
                if times > 1 and what not in ("closed", "open")
            ]
            if wrong := _misordered(seen, promises.said.get(order, [])):
                made.misordered.append(f"order {order}: {wrong}")
        if not made.duplicates:
            # a double that no text shows
            made.duplicates += _twins(happened)
        made.stuck = {name: int(count) for name, count in (stuck or {}).items() if count}
        return made

    @property
    def ok(self) -> bool:
        """Whether every promise was kept once and in order, and nothing is left."""
        return not (self.lost or self.duplicates or self.misordered or self.stuck)

    def __str__(self) -> str:
        def some(words: list[str]) -> str:
            return f"{len(words)} ({'; '.join(words[:5])})" if words else "0"

        stuck = ", ".join(f"{count} {name}" for name, count in self.stuck.items()) or "0"
        return (
            f"accepted {self.accepted}, effects {self.effects}, lost {some(self.lost)}, "
            f"duplicates {some(self.duplicates)}, misordered {some(self.misordered)}, stuck {stuck}"
        )


def _by_order(happened: Iterable[Effect]) -> dict[int, list[str]]:
    """What was done for each order, in order: ``issue``, ``note 3``, ``closed``, ``open``."""
    order_of: dict[tuple[str, str], int] = {}
    done: dict[int, list[str]] = defaultdict(list)
    for effect in happened:
        place = (effect.place, effect.key)
        if effect.kind == "issue" and (found := ISSUE.search(effect.text)):
            order_of[place] = int(found[1])
            done[int(found[1])].append("issue")
        elif effect.kind == "comment" and (found := NOTE.search(effect.text)):
            done[int(found[2])].append(f"note {int(found[1])}")
        elif effect.kind == "state" and place in order_of:
            done[order_of[place]].append(effect.text)
    return done


def _misordered(seen: list[str], said: list[str]) -> str:
    """The first thing that was done before what was said before it. Doubles are judged elsewhere."""
    place = {"issue": -1, **{what: number for number, what in enumerate(said)}}
    first = list(dict.fromkeys(seen))
    known = [what for what in first if what in place]
    for one, following in itertools.pairwise(known):
        if place[one] > place[following]:
            return f"{one} before {following}"
    return ""


def _twins(happened: Iterable[Effect]) -> list[str]:
    """Markers that two issues, or two comments, carry."""
    counts = Counter(
        (effect.kind, effect.marker)
        for effect in happened
        if effect.marker and effect.kind in ("issue", "comment")
    )
    return [f"{kind} {marker} x {times}" for (kind, marker), times in counts.items() if times > 1]


async def stuck(dsn: str) -> dict[str, int]:
    """What is left in the database."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        return dict(await con.fetchrow(STUCK))
    finally:
        await con.close(timeout=5)


async def counted(dsn: str) -> int:
    """How many reports the tickets of known problems count."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        return await con.fetchval(
            "select coalesce(sum(occurrences), 0)::bigint from ticket where title = $1", KNOWN
        )
    finally:
        await con.close(timeout=5)


async def history(dsn: str, order: int, happened: Sequence[Effect]) -> list[str]:
    """Everything that is known about an order, in order of time: attempts as the service wrote them down, and effects."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        rows = await con.fetch(
            "select extract(epoch from a.started_at)::float8 as at, extract(epoch from a.ended_at)::float8 as till,"
            " d.kind, a.seq, a.epoch, a.holder, a.outcome, a.status, a.error"
            " from attempt a join lane l on l.id = a.lane_id join ticket t on t.id = l.ticket_id"
            " left join delivery d on d.lane_id = a.lane_id and d.seq = a.seq where t.title = $1",
            f"Order {order} fails",
        )
        told = await con.fetch(
            "select extract(epoch from e.at)::float8 as at, e.n, e.kind, left(e.data::text, 120) as data"
            " from event e join ticket t on t.id = e.ticket_id where t.title = $1",
            f"Order {order} fails",
        )
    finally:
        await con.close(timeout=5)
    lines = [
        (
            row["at"],
            (
                f"to {row['till']:.3f}: delivery {row['seq']} (kind {row['kind']}), claim {row['epoch']} of"
                f" {str(row['holder'])[:8]}: {row['outcome']} {row['status'] or ''} {row['error'] or ''}"
            ),
        )
        for row in rows
    ]
    lines += [(row["at"], f"event {row['n']}: {row['kind']} {row['data']}") for row in told]
    mine = re.compile(rf"\b[Oo]rder {order}\b")
    place = {(one.place, one.key) for one in happened if one.kind == "issue" and mine.search(one.text)}
    lines += [
        (one.at, f"at the tracker: {one.kind} on {one.place} {one.key}: {one.text[:60]!r}")
        for one in happened
        if mine.search(one.text) or (one.kind == "state" and (one.place, one.key) in place)
    ]
    return [f"{at:.3f} {line}" for at, line in sorted(lines)]
