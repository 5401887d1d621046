"""Compare what was accepted with what took effect at the tracker, and count what is left in the database.

Every 2xx is recorded in ``AcceptedReports``. The tracker's log of effects is independent of the service.
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

#: Counts that must be 0 after all deliveries.
STUCK = """
select (select count(*) from delivery where state = 0) as pending,
       (select count(*) from delivery where state = 0 and outcome_unknown) as outcome_unknown,
       (select count(*) from delivery where state = 2) as dead,
       (select count(*) from lane where state = 2) as leased,
       (select count(*) from lane where state = 3) as parked,
       (select count(*) from lane where state <> 2 and head_seq < next_seq) as unfinished
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """Request that took effect at the tracker."""

    destination: str
    kind: str
    key: str
    marker: str
    text: str
    at: float = 0.0


def effects(path: Path, start: int = 0) -> list[Effect]:
    """Read the tracker's log from a byte on, without a last line that is incomplete."""
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read().split(b"\n")[:-1]
    return [Effect(**json.loads(line)) for line in lines]


@dataclass
class AcceptedReports:
    """Accepted tickets and their updates.

    ``updates`` holds, for each order, ``note 1``, ``note 2``, ``closed``, ``open`` in the order of their 2xx.
    """

    updates: dict[int, list[str]] = field(default_factory=dict)
    accepted: int = 0
    """Number of 2xx responses."""

    def opened(self, order: int) -> None:
        """Record an accepted ticket."""
        self.updates.setdefault(order, [])
        self.accepted += 1

    def updated(self, order: int, change: str) -> None:
        """Record an accepted comment or change of state."""
        self.updates[order].append(change)
        self.accepted += 1


@dataclass
class Verdict:
    """Result of a comparison; everything but ``accepted`` and ``effects`` must be empty."""

    accepted: int = 0
    effects: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    misordered: list[str] = field(default_factory=list)
    stuck: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        accepted_reports: AcceptedReports,
        all_effects: Sequence[Effect],
        stuck: Mapping[str, Any] | None = None,
        *,
        repeated: int = 0,
        counted: int = 0,
    ) -> Self:
        """Compare; ``repeated`` reports of known problems were accepted, and their tickets count ``counted``."""
        verdict = cls(accepted_reports.accepted + repeated, len(all_effects))
        if counted < repeated:
            verdict.lost.append(f"{repeated - counted} reports of known problems")
        if counted > repeated:
            verdict.duplicates.append(f"{counted - repeated} reports of known problems")
        by_order = _by_order(all_effects)
        for order, updates in accepted_reports.updates.items():
            seen = by_order.get(order, [])
            if "issue" not in seen:
                verdict.lost.append(f"order {order}")
            verdict.lost += [
                f"order {order}: {update}"
                for update in updates
                if update.startswith("note") and update not in seen
            ]
            states = [update for update in updates if update in ("closed", "open")]
            applied = [update for update in seen if update in ("closed", "open")]
            if states and (applied[-1] if applied else "open") != states[-1]:
                verdict.lost.append(f"order {order}: {states[-1]}")
        for order, seen in by_order.items():
            verdict.duplicates += [
                f"order {order}: {update} x {times}"
                for update, times in Counter(seen).items()
                if times > 1 and update not in ("closed", "open")
            ]
            if violation := _misordered(seen, accepted_reports.updates.get(order, [])):
                verdict.misordered.append(f"order {order}: {violation}")
        if not verdict.duplicates:
            # duplicates whose texts contain no order
            verdict.duplicates += _duplicate_markers(all_effects)
        verdict.stuck = {name: int(count) for name, count in (stuck or {}).items() if count}
        return verdict

    @property
    def ok(self) -> bool:
        """Whether nothing is lost, duplicated, out of order or left over."""
        return not (self.lost or self.duplicates or self.misordered or self.stuck)

    def __str__(self) -> str:
        def some(items: list[str]) -> str:
            return f"{len(items)} ({'; '.join(items[:5])})" if items else "0"

        stuck = ", ".join(f"{count} {name}" for name, count in self.stuck.items()) or "0"
        return (
            f"accepted {self.accepted}, effects {self.effects}, lost {some(self.lost)}, "
            f"duplicates {some(self.duplicates)}, misordered {some(self.misordered)}, stuck {stuck}"
        )


def _by_order(all_effects: Iterable[Effect]) -> dict[int, list[str]]:
    """Return the effects on each order in order: ``issue``, ``note 3``, ``closed``, ``open``."""
    order_of: dict[tuple[str, str], int] = {}
    done: dict[int, list[str]] = defaultdict(list)
    for effect in all_effects:
        issue = (effect.destination, effect.key)
        if effect.kind == "issue" and (match := ISSUE.search(effect.text)):
            order_of[issue] = int(match[1])
            done[int(match[1])].append("issue")
        elif effect.kind == "comment" and (match := NOTE.search(effect.text)):
            done[int(match[2])].append(f"note {int(match[1])}")
        elif effect.kind == "state" and issue in order_of:
            done[order_of[issue]].append(effect.text)
    return done


def _misordered(seen: list[str], updates: list[str]) -> str:
    """Return a description of the first effect that came too early, or an empty text. Duplicates do not count."""
    position = {"issue": -1, **{update: number for number, update in enumerate(updates)}}
    first = list(dict.fromkeys(seen))
    known = [update for update in first if update in position]
    for earlier, later in itertools.pairwise(known):
        if position[earlier] > position[later]:
            return f"{earlier} before {later}"
    return ""


def _duplicate_markers(all_effects: Iterable[Effect]) -> list[str]:
    """Return the markers of which several issues or several comments exist."""
    counts = Counter(
        (effect.kind, effect.marker)
        for effect in all_effects
        if effect.marker and effect.kind in ("issue", "comment")
    )
    return [f"{kind} {marker} x {times}" for (kind, marker), times in counts.items() if times > 1]


async def stuck(dsn: str) -> dict[str, int]:
    """Return the counts of STUCK."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        return dict(await con.fetchrow(STUCK))
    finally:
        await con.close(timeout=5)


async def counted(dsn: str) -> int:
    """Return how many reports the tickets of known problems count."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        return await con.fetchval(
            "select coalesce(sum(occurrences), 0)::bigint from ticket where title = $1", KNOWN
        )
    finally:
        await con.close(timeout=5)


async def history(dsn: str, order: int, all_effects: Sequence[Effect]) -> list[str]:
    """Return the attempts, events and effects of an order as lines, in order of time."""
    con = await asyncpg.connect(dsn, timeout=20)
    try:
        rows = await con.fetch(
            "select extract(epoch from a.started_at)::float8 as at, extract(epoch from a.ended_at)::float8 as till,"
            " d.kind, a.seq, a.epoch, a.holder, a.outcome, a.status, a.error"
            " from attempt a join lane l on l.id = a.lane_id join ticket t on t.id = l.ticket_id"
            " left join delivery d on d.lane_id = a.lane_id and d.seq = a.seq where t.title = $1",
            f"Order {order} fails",
        )
        events = await con.fetch(
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
    lines += [(row["at"], f"event {row['n']}: {row['kind']} {row['data']}") for row in events]
    mentions = re.compile(rf"\b[Oo]rder {order}\b")
    issues = {
        (effect.destination, effect.key)
        for effect in all_effects
        if effect.kind == "issue" and mentions.search(effect.text)
    }
    lines += [
        (
            effect.at,
            f"at the tracker: {effect.kind} on {effect.destination} {effect.key}: {effect.text[:60]!r}",
        )
        for effect in all_effects
        if mentions.search(effect.text)
        or (effect.kind == "state" and (effect.destination, effect.key) in issues)
    ]
    return [f"{at:.3f} {line}" for at, line in sorted(lines)]
