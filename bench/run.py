"""What Pointsman is measured by, beside others, on one machine, in one run: ``make bench``.

Every round runs each contestant once, in an order that turns, with a fresh database on the same Postgres. The table
shows medians over the rounds; ``--json`` keeps every figure of every round.
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

import idle
import intake
import latency
import msgspec
from ground import HERE, PEERS, Ground
from scale import QUICK, Figures, Scale
from table import DELIVERY, IDLE, INTAKE, LATENCY, Line, lines, markdown, number

import delivery
from pointsman import logs

Measure = Callable[[Ground, Scale, str], Awaitable[Figures]]

MEASURES: dict[str, tuple[Measure, Sequence[str]]] = {
    INTAKE: (intake.measure, intake.CONTESTANTS),
    DELIVERY: (delivery.measure, delivery.CONTESTANTS),
    LATENCY: (latency.measure, latency.CONTESTANTS),
    IDLE: (idle.measure, idle.CONTESTANTS),
}
BUSY_PERCENT = 10.0
FOREIGN = {"pgqueuer", "procrastinate"}


class Result(msgspec.Struct):
    """What ``--json`` keeps."""

    machine: dict[str, str | float]
    scale: Scale
    lines: list[Line] = msgspec.field(default_factory=list)
    rounds: dict[str, list[Figures]] = msgspec.field(default_factory=dict)


def chosen(only: str) -> list[tuple[str, str]]:
    """Measures and contestants to run: ``intake,delivery/full`` names a whole measure and one contestant."""
    wanted = set(only.split(",")) - {""}
    known = {*MEASURES, *(f"{measure}/{one}" for measure, (_, those) in MEASURES.items() for one in those)}
    if wanted - known:
        raise SystemExit(
            f"--only does not know {', '.join(sorted(wanted - known))}; it knows {', '.join(sorted(known))}"
        )
    found = []
    for measure, (_, contestants) in MEASURES.items():
        for contestant in contestants:
            name = f"{measure}/{contestant}"
            if wanted and not wanted & {measure, name}:
                continue
            if contestant in FOREIGN and not PEERS.exists():
                say(f"{name} is left out: {PEERS} is not there, make bench makes it")
                continue
            found.append((measure, contestant))
    return found


async def busy_percent() -> float:
    """How much of the machine works already, before we begin."""

    def ticks() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = ticks()
    await asyncio.sleep(1.0)
    all_after, idle_after = ticks()
    return 100.0 - (idle_after - idle_before) / max(1, all_after - all_before) * 100.0


async def run(scale: Scale, contestants: Sequence[tuple[str, str]], folder: Path, result: Result) -> None:
    """All rounds, into the result."""
    result.machine["busy_percent_before"] = busy = round(await busy_percent(), 1)
    if busy > BUSY_PERCENT:
        say(f"this machine is {busy:.0f} % busy with something else: figures will be of no use")
    async with Ground.ready(folder) as ground:
        result.machine["postgres"] = ground.server.version
        for turn in range(scale.rounds):
            for measure, (take, _) in MEASURES.items():
                those = [contestant for of, contestant in contestants if of == measure]
                shift = turn % len(those) if those else 0
                for contestant in those[shift:] + those[:shift]:
                    name = f"{measure}/{contestant}"
                    figures = await take(ground, scale, contestant)
                    result.rounds.setdefault(name, []).append(figures)
                    told = ", ".join(f"{key} {number(value)}" for key, value in figures.items())
                    say(f"{turn + 1}/{scale.rounds} {name}: {told}")


def say(words: str) -> None:
    """How far it is; the table alone goes to the output."""
    print(words, file=sys.stderr, flush=True)


def machine() -> dict[str, str | float]:
    """What it runs on."""
    return {
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def options() -> argparse.Namespace:
    """The command line."""
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
        "--quick", action="store_true", help="only to see that all of it runs; the figures say nothing"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    parser.add_argument(
        "--data", type=Path, default=HERE / ".data", help="where Postgres and the full tables are kept"
    )
    return parser.parse_args()


def main() -> None:
    """Run what was asked for, print the table."""
    given = options()
    logs.configure("json", level="error")
    named = {
        name: value
        for name in ("rounds", "seconds", "waiting", "finished", "blocked", "idle_seconds")
        if (value := getattr(given, name)) is not None
    }
    scale = msgspec.structs.replace(QUICK if given.quick else Scale(), **named)
    result = Result(machine=machine(), scale=scale)
    contestants = chosen(given.only)
    try:
        asyncio.run(run(scale, contestants, given.data.resolve(), result))
    finally:
        # what was seen before something failed is shown all the same
        result.lines = lines(
            result.rounds, waiting=scale.waiting, finished=scale.finished, blocked=scale.blocked
        )
        table = markdown(result.lines)
        print(table)
        if given.markdown:
            given.markdown.write_text(table + "\n", "utf-8")
        if given.json:
            given.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


if __name__ == "__main__":
    main()
