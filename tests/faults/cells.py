"""Cells of the tracker's fault matrix (call, status, time of the effect, body) and the outcome that each must have.

``expected`` states the rules of the retry policy a second time, independently.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

CALLS = ("create", "comment", "close", "find issue", "find comment")
WHENS = ("never", "applied", "late")
BODIES = ("none", "html", "cut", "wrong", "huge")
STATUSES = (
    *(200, 201, 202, 204, 206, 301, 307, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 418, 422, 423),
    *(429, 451, 500, 502, 503, 504),
)

_REFUSED = {400, 413, 415, 422}
_MOVED = {301, 302, 307, 308}


class Cell(NamedTuple):
    """One fault of one call."""

    call: str
    status: int
    when: str
    body: str

    @property
    def legal(self) -> bool:
        """Whether the fault is possible: a refused request must not take effect."""
        if self.when == "never":
            return True
        return not self.call.startswith("find") and self.expected() <= {"unknown", "unavailable"}

    def expected(self) -> set[str]:
        """Return the outcomes that the service may assign to such a response."""
        # closing is idempotent and reading changes nothing, so their outcome needs no verification
        unknown = {"unknown"} if self.call in ("create", "comment") else {"unavailable"}
        # a response that is too long is not read, whatever its status
        return unknown if self.body == "huge" else _by_status(self.call, self.status, unknown)

    def ends(self) -> str:
        """Return the final state: ``done``, ``dead``, ``parked``, or ``waits`` for an operator to repair the destination."""
        classes = self.expected()
        if classes <= {"unknown", "unavailable", "conflict", "limited", "blocked"}:
            return "done"
        if classes == {"refused"}:
            return "dead"
        return "parked" if classes == {"orphan"} else "waits"


def _by_status(call: str, status: int, unknown: set[str]) -> set[str]:
    about_issue = call in ("comment", "close", "find comment")
    match status:
        case 401:
            return {"auth"}
        case 403:
            # a response without a text is about the account, any other may be about this one issue
            return {"misconfigured", "blocked"} if about_issue else {"misconfigured"}
        case 405:
            return {"blocked"} if about_issue else {"misconfigured"}
        case 423:
            return {"misconfigured"}
        case 404 | 410:
            return {"orphan"} if about_issue else {"misconfigured"}
        case 409:
            return {"conflict"}
        case 412:
            return {"unknown"} if call == "create" else {"refused"}
        case 429:
            return {"limited"}
        case _ if status in _REFUSED:
            return {"refused"}
        case _ if status in _MOVED:
            return {"moved", "misconfigured"}
        case _:
            return unknown


def every() -> list[Cell]:
    """Return all possible cells."""
    return [
        cell
        for cell in itertools.starmap(Cell, itertools.product(CALLS, STATUSES, WHENS, BODIES))
        if cell.legal
    ]


def pairwise(dice: random.Random) -> list[Cell]:
    """Return few cells that contain every possible pair of values."""
    left = every()
    dice.shuffle(left)
    missing = {pair for cell in left for pair in _pairs(cell)}
    chosen = []
    while missing:
        best = max(left[:400], key=lambda cell: len(missing & _pairs(cell)))
        if not missing & _pairs(best):
            best = next(cell for cell in left if missing & _pairs(cell))
        chosen.append(best)
        missing -= _pairs(best)
        left.remove(best)
        dice.shuffle(left)
    return chosen


def _pairs(cell: Cell) -> set[Any]:
    named = zip(Cell._fields, cell, strict=True)
    return set(itertools.combinations(named, 2))


def fault(cell: Cell) -> dict[str, Any]:
    """Return the fault in the form that the tracker process reads."""
    fields: dict[str, Any] = {"status": cell.status, "times": 1}
    match cell.body:
        case "html":
            fields["body"] = "<html><body><h1>It did not work</h1></body></html>"
        case "cut":
            fields["body"] = '{"id": 50, "number": 1, "title": "Ord'
        case "wrong":
            fields["body"] = "[1, null, 3]"
        case "huge":
            fields["megabytes"] = 6
    if cell.when == "applied":
        fields["applied"] = True
    elif cell.when == "late":
        fields["late_seconds"] = 1.0
    if cell.status == 429:
        fields["headers"] = {"Retry-After": "1"}
    repo = "/api/v1/repos/acme/shop/issues"
    fields["match"] = {
        "create": f"POST {repo}",
        "comment": f"POST {repo}",
        "close": f"PATCH {repo}",
        "find issue": f"GET {repo}",
        "find comment": f"GET {repo}",
    }[cell.call]
    return fields


def in_chunks(cells: list[Cell], size: int) -> Iterable[list[Cell]]:
    """Split the cells into lists of at most ``size``."""
    for start in range(0, len(cells), size):
        yield cells[start : start + size]
