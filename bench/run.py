"""Measure Pointsman and others on one machine in one run: ``make bench``.

Every round runs each contestant once, in rotating order, with a fresh database on the same PostgreSQL. The table shows
medians over the rounds; ``--json`` writes every figure of every round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import delivery
import idle
import intake
import latency
import msgspec
from environment import HERE, PEERS, Environment
from scale import QUICK, Figures, Scale
from table import DELIVERY, IDLE, INTAKE, LATENCY, Line, lines, markdown, number

from pointsman import logs

Measure = Callable[[Environment, Scale, str], Awaitable[Figures]]

MEASURES: dict[str, tuple[Measure, Sequence[str]]] = {
    INTAKE: (intake.measure, intake.CONTESTANTS),
    DELIVERY: (delivery.measure, delivery.CONTESTANTS),
    LATENCY: (latency.measure, latency.CONTESTANTS),
    IDLE: (idle.measure, idle.CONTESTANTS),
}
BUSY_PERCENT = 10.0
FOREIGN = {"pgqueuer", "procrastinate"}


class Result(msgspec.Struct):
    """Content of the file of ``--json``."""

    machine: dict[str, str | float]
    scale: Scale
    lines: list[Line] = msgspec.field(default_factory=list)
    rounds: dict[str, list[Figures]] = msgspec.field(default_factory=dict)


def chosen(only: str) -> list[tuple[str, str]]:
    """Return the measures and contestants to run; ``intake,delivery/full`` names a whole measure and one contestant."""
    wanted = set(only.split(",")) - {""}
    known = {
        *MEASURES,
        *(f"{measure}/{name}" for measure, (_, contestants) in MEASURES.items() for name in contestants),
    }
    if wanted - known:
        raise SystemExit(
            f"--only does not know {', '.join(sorted(wanted - known))}; it knows {', '.join(sorted(known))}"
        )
    selected = []
    for measure, (_, contestants) in MEASURES.items():
        for contestant in contestants:
            name = f"{measure}/{contestant}"
            if wanted and not wanted & {measure, name}:
                continue
            if contestant in FOREIGN and not PEERS.exists():
                print_progress(f"{name} is left out: {PEERS} does not exist, make bench creates it")
                continue
            selected.append((measure, contestant))
    return selected


async def busy_percent() -> float:
    """Return how busy the machine is before the measurement."""

    def ticks() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = ticks()
    await asyncio.sleep(1.0)
    all_after, idle_after = ticks()
    return 100.0 - (idle_after - idle_before) / max(1, all_after - all_before) * 100.0


async def run(scale: Scale, contestants: Sequence[tuple[str, str]], folder: Path, result: Result) -> None:
    """Run all rounds and store their figures in the result."""
    result.machine["busy_percent_before"] = busy = round(await busy_percent(), 1)
    if busy > BUSY_PERCENT:
        print_progress(f"this machine is {busy:.0f} % busy with other work: the figures will be useless")
    async with Environment.ready(folder) as environment:
        result.machine["postgres"] = environment.server.version
        for round_number in range(scale.rounds):
            for measure, (measure_round, _) in MEASURES.items():
                names = [contestant for other, contestant in contestants if other == measure]
                shift = round_number % len(names) if names else 0
                for contestant in names[shift:] + names[:shift]:
                    name = f"{measure}/{contestant}"
                    figures = await measure_round(environment, scale, contestant)
                    result.rounds.setdefault(name, []).append(figures)
                    text = ", ".join(f"{key} {number(value)}" for key, value in figures.items())
                    print_progress(f"{round_number + 1}/{scale.rounds} {name}: {text}")


def print_progress(text: str) -> None:
    """Print progress to standard error; only the table goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, str | float]:
    """Return a description of the machine."""
    return {
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="measures, or measure/contestant, with commas between")
    parser.add_argument("--rounds", type=int, help=f"default {Scale().rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each intake round, default {Scale().seconds:g}")
    parser.add_argument("--waiting", type=int, help=f"deliveries of each round, default {Scale().waiting}")
    parser.add_argument(
        "--finished", type=int, help=f"finished deliveries in the full tables, default {Scale().finished:,}"
    )
    parser.add_argument(
        "--blocked", type=int, help=f"blocked lanes in the full tables, default {Scale().blocked:,}"
    )
    parser.add_argument("--idle-seconds", type=float, help=f"default {Scale().idle_seconds:g}")
    parser.add_argument(
        "--quick", action="store_true", help="only check that everything runs; the figures have no meaning"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    parser.add_argument(
        "--data", type=Path, default=HERE / ".data", help="where Postgres and the full tables are kept"
    )
    return parser.parse_args()


def main() -> None:
    """Run the chosen measures and print the table."""
    arguments = options()
    logs.configure("json", level="error")
    named = {
        name: value
        for name in ("rounds", "seconds", "waiting", "finished", "blocked", "idle_seconds")
        if (value := getattr(arguments, name)) is not None
    }
    scale = msgspec.structs.replace(QUICK if arguments.quick else Scale(), **named)
    result = Result(machine=machine(), scale=scale)
    contestants = chosen(arguments.only)
    try:
        asyncio.run(run(scale, contestants, arguments.data.resolve(), result))
    finally:
        # figures from before a failure are shown all the same
        result.lines = lines(
            result.rounds, waiting=scale.waiting, finished=scale.finished, blocked=scale.blocked
        )
        table = markdown(result.lines)
        print(table)
        if arguments.markdown:
            arguments.markdown.write_text(table + "\n", "utf-8")
        if arguments.json:
            arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


if __name__ == "__main__":
    main()
