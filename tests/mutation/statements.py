"""Mutants of the queue's statements that lack one predicate; the lane model or a test must kill each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase

from pointsman.storage.queries import Queries, queries
from simulation.environment import Environment
from simulation.machine import play

ROOT = Path(__file__).parents[2]
TESTS = ("tests/integration/storage/test_queue.py", "tests/integration/storage/test_circuit_breaker.py")
_PREDICATE = re.compile(
    r"(?<=[\s(])(?P<predicate>(?:\w+\.)?(?P<column>lease_id|state|lease_until|head_seq)(?: \+ 0)? (?:=|<>|<|>|<=) "
    r"(?P<value>now\(\)|\$\d|\d|[\w.]+))(?=[\s),]|$)"
)
_BEFORE = re.compile(r"\b(where|and|on|or|when|not)\s+\(?$")

#: Predicates that another predicate implies, with the reason to keep them.
REDUNDANT = {
    ("has_due_work", "state = 2"): "lease_until is null unless it is leased; the index needs it",
    ("has_due_work", "lease_until < now()"): "only decides whether to poll; a needless poll does no harm",
    ("has_due_work", "l.state = 1"): "see above",
    ("lock_claimable_destinations", "l.state = 1"): "see above: the claim checks again",
    ("release_expired_leases", "state = 2"): "lease_until is null unless it is leased; the index needs it",
    (
        "replay_passed",
        "head_seq > dead.seq",
    ): "the head is dead only in a parked lane, which is replayed before; not so in a race",
    ("load_next_deliveries", "l.lease_id = asked.lease_id"): "callers look up the rows by lane and lease",
    (
        "load_next_deliveries",
        "l.state = 2",
    ): "a lane has a lease if and only if it is leased (lane_lease_is_whole)",
    ("lock_lane", "state = 2"): "see above",
    ("record_intents", "l.state = 2"): "see above",
    ("renew_leases", "l.state = 2"): "see above",
    ("renew_leases", "state = 2"): "see above; the lanes are locked at that point",
    ("release_lane", "state = 2"): "see above",
    ("finish_deliveries", "l.state = 2"): "see above",
    ("finish_deliveries", "l.state = 2, at all places"): "see above",
    ("schedule_retry", "state = 2"): "see above",
    ("confirm_not_applied", "l.state = 2"): "see above",
    ("dead_letter_delivery", "state = 2"): "see above",
    ("park_lane", "state = 2"): "see above",
    (
        "finish_deliveries",
        "l.lease_id = a.lease_id",
    ): "checked when lanes are locked and again when they move",
    ("lock_lane", "lease_id = $2"): "only waits; the following statement checks again",
    ("replay_parked", "lane.state = 3"): "checked above already; here for a lane that was replayed meanwhile",
}


class Mutant(NamedTuple):
    """Statement without one of its predicates."""

    file: str
    name: str
    removed: str
    sql: str

    def __str__(self) -> str:
        return f"{self.file}.sql {self.name} without {self.removed}"


def mutants(file: str = "queue") -> Iterator[Mutant]:
    """Yield every statement without one of its predicates; repeated predicates are also removed at all places at once."""
    statements = queries(file)
    for name in statements:
        sql = statements[name]
        predicates = [match for match in _PREDICATE.finditer(sql) if _BEFORE.search(sql[: match.start()])]
        for predicate in predicates:
            yield Mutant(file, name, predicate["predicate"], _without(sql, [predicate]))
        for removed, times in Counter(match["predicate"] for match in predicates).items():
            if times > 1:
                same = [match for match in predicates if match["predicate"] == removed]
                yield Mutant(file, name, f"{removed}, at all places", _without(sql, same))


def _without(sql: str, predicates: list[re.Match[str]]) -> str:
    for match in reversed(predicates):
        kind = {"lease_id": "uuid", "head_seq": "bigint"}.get(match["column"], "smallint")
        # the parameter must remain, else PostgreSQL could not infer its type
        instead = f"{match['value']}::{kind} is not null" if match["value"].startswith("$") else "true"
        sql = f"{sql[: match.start()]}({instead} /* {match['predicate']} */){sql[match.end() :]}"
    return sql


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Replace the statement by the mutant for the time of the context."""
    statements: Queries = queries(mutant.file)
    original = statements._statements[mutant.name]
    statements._statements[mutant.name] = mutant.sql
    try:
        yield
    finally:
        statements._statements[mutant.name] = original


def killed_by_model(environment: Environment, mutant: Mutant, examples: int) -> bool:
    """Return whether the lane model differs from the mutant."""
    with mutated(mutant):
        try:
            play(environment, examples=examples, fixed=True, phases=(Phase.generate,))
        except Exception:  # noqa: BLE001
            return True
    return False


def killed_by_tests(mutant: Mutant, server_dsn: str) -> bool:
    """Return whether a test of the queue fails with the mutant."""
    environ = {
        **os.environ,
        "POINTSMAN_TEST_DATABASE_URL": server_dsn,
        "MUTANT": json.dumps(mutant),
        "PYTHONPATH": str(ROOT / "tests"),
    }
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "mutation.plugin", "-x", "-q", *TESTS],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        check=False,
    )
    return completed.returncode == 1
