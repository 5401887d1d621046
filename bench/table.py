"""Table of the figures: medians over the rounds, each compared with a peer or a goal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec
from scale import Figures


class Row(msgspec.Struct, frozen=True):
    """Row of the table: a figure of Pointsman, alone or compared; the goal applies to the ratio or to the figure."""

    measure: str
    ours: tuple[str, str]
    against: str
    other: tuple[str, str] | None
    goal: str
    unit: str = "/s"


INTAKE, DELIVERY, LATENCY, IDLE = "intake", "delivery", "latency", "idle"
_ACCEPTED, _DELIVERED = "Alerts accepted", "Deliveries, {waiting:,} waiting"

ROWS: Sequence[Row] = (
    Row(
        _ACCEPTED,
        ("intake/pointsman", "per_second"),
        "bare aiohttp handler: parse, 202",
        ("intake/bare", "per_second"),
        ">= 0.5",
    ),
    Row(
        _ACCEPTED,
        ("intake/pointsman", "per_second"),
        "aiohttp and one INSERT each",
        ("intake/insert", "per_second"),
        ">= 2.5",
    ),
    Row(
        "p99 of that",
        ("intake/pointsman", "p99_ms"),
        "bare aiohttp handler",
        ("intake/bare", "p99_ms"),
        "<= 3",
        "ms",
    ),
    Row(
        "Alerts accepted, 80 % of one ticket",
        ("intake/hot", "per_second"),
        "each a ticket of its own",
        ("intake/pointsman", "per_second"),
        ">= 0.9",
    ),
    Row(
        "Alerts accepted while delivering",
        ("intake/delivering", "per_second"),
        "while deliveries wait",
        ("intake/pointsman", "per_second"),
        "",
    ),
    Row(
        _DELIVERED,
        ("delivery/pointsman", "per_second"),
        "pgqueuer 1.6",
        ("delivery/pgqueuer", "per_second"),
        ">= 1.0",
    ),
    Row(
        _DELIVERED,
        ("delivery/pointsman", "per_second"),
        "procrastinate 3.10",
        ("delivery/procrastinate", "per_second"),
        ">= 10",
    ),
    Row(
        _DELIVERED,
        ("delivery/pointsman", "per_second"),
        "bare loop: claim 100, post, mark done",
        ("delivery/bare", "per_second"),
        ">= 0.7",
    ),
    Row(
        "Deliveries, {finished:,} finished, {blocked:,} lanes blocked",
        ("delivery/full", "per_second"),
        "empty tables",
        ("delivery/pointsman", "per_second"),
        ">= 0.95",
    ),
    Row(
        "Accept to tracker call, idle, p50",
        ("latency/pointsman", "begun_p50_ms"),
        "pgqueuer, enqueue to call",
        ("latency/pgqueuer", "begun_p50_ms"),
        "<= 1.0",
        "ms",
    ),
    Row(
        "Accept to tracker call, idle, p99",
        ("latency/pointsman", "begun_p99_ms"),
        "pgqueuer, enqueue to call",
        ("latency/pgqueuer", "begun_p99_ms"),
        "<= 1.0",
        "ms",
    ),
    Row("Most memory, taking alerts", ("intake/pointsman", "peak_mib"), "", None, "<= 150", "MiB"),
    Row("Most memory, delivering", ("delivery/pointsman", "peak_mib"), "", None, "<= 150", "MiB"),
    Row("Processor, idle", ("idle/pointsman", "core_percent"), "", None, "<= 0.5", "% of a core"),
    Row("Statements, idle", ("idle/pointsman", "statements_per_minute"), "", None, "<= 150", "/min"),
)


class Line(msgspec.Struct, frozen=True):
    """Row with its figures; ``ratio`` is None without a comparison."""

    measure: str
    figure: float
    unit: str
    against: str
    other: float | None
    ratio: float | None
    goal: str
    met: bool | None


def lines(seen: Mapping[str, Sequence[Figures]], **scale: int) -> list[Line]:
    """Return the rows that have figures."""
    rows = []
    for row in ROWS:
        ours = _median(seen, row.ours)
        other = _median(seen, row.other) if row.other is not None else None
        if ours is None or (row.other is not None and other is None):
            continue
        ratio = ours / other if other else None
        rows.append(
            Line(
                row.measure.format(**scale),
                ours,
                row.unit,
                row.against,
                other,
                ratio,
                row.goal,
                _met(row.goal, ours if row.other is None else ratio),
            )
        )
    return rows


def _median(seen: Mapping[str, Sequence[Figures]], where: tuple[str, str]) -> float | None:
    values = [figures[where[1]] for figures in seen.get(where[0], ())]
    return statistics.median(values) if values else None


def _met(goal: str, value: float | None) -> bool | None:
    if not goal or value is None:
        return None
    sign, _, limit = goal.partition(" ")
    return value >= float(limit) if sign == ">=" else value <= float(limit)


def number(value: float) -> str:
    """Format a number with three digits, more for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Line]) -> str:
    """Return the table in the form of docs/performance.md."""
    head = ("measure", "Pointsman", "beside", "", "ratio", "goal", "")
    verdicts = {True: "met", False: "**missed**", None: ""}
    cells = [
        (
            line.measure,
            f"{number(line.figure)} {line.unit}",
            line.against,
            f"{number(line.other)} {line.unit}" if line.other is not None else "",
            f"{line.ratio:.2f}" if line.ratio is not None else "",
            line.goal.replace(">=", "≥").replace("<=", "≤"),
            verdicts[line.met],
        )
        for line in rows
    ]
    widths = [max(len(row[at]) for row in (head, *cells)) for at in range(len(head))]

    def formatted(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * max(3, width) for width in widths) + " |"
    return "\n".join([formatted(head), rule, *map(formatted, cells)])
