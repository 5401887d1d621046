"""Statements of the queue without one of the predicates that fence them off: each must be noticed by the model or a test."""

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
from simulation.environment import Ground
from simulation.machine import play

ROOT = Path(__file__).parents[2]
TESTS = ("tests/integration/storage/test_queue.py", "tests/integration/storage/test_circuit_breaker.py")
_PREDICATE = re.compile(
    r"(?<=[\s(])(?P<what>(?:\w+\.)?(?P<column>lease_id|state|lease_until|head_seq)(?: \+ 0)? (?:=|<>|<|>|<=) "
    r"(?P<value>now\(\)|\$\d|\d|[\w.]+))(?=[\s),]|$)"
)
_BEFORE = re.compile(r"\b(where|and|on|or|when|not)\s+\(?$")

ONLY_READ = frozenset({"issues_with_waiting_webhooks"})
"""They tell people or look for webhooks; nothing is fenced by them."""

#: Predicates that say again what another one says, and why each stands there all the same.
REDUNDANT = {
    ("has_due_work", "state = 2"): "lease_until is null unless it is leased; the index needs it",
    ("has_due_work", "lease_until < now()"): "only says whether to look; who looks in vain does no harm",
    ("has_due_work", "l.state = 1"): "see above",
    ("lock_claimable_destinations", "l.state = 1"): "see above: the claim asks again",
    ("release_expired_leases", "state = 2"): "lease_until is null unless it is leased; the index needs it",
    (
        "replay_passed",
        "head_seq > dead.seq",
    ): "a dead head is a parked lane's, and that is replayed before; in a race it is not",
    ("load_next_deliveries", "l.state = 2"): "a lane has a lease if and only if it is leased (lane_lease_is_whole)",
    ("lock_lane", "state = 2"): "see above",
    ("record_intents", "l.state = 2"): "see above",
    ("renew_leases", "l.state = 2"): "see above",
    ("renew_leases", "state = 2"): "see above, of lanes that are locked by then",
    ("release_lane", "state = 2"): "see above",
    ("finish_deliveries", "l.state = 2"): "see above",
    ("finish_deliveries", "l.state = 2, wherever it stands"): "see above",
    ("schedule_retry", "state = 2"): "see above",
    ("confirm_not_applied", "l.state = 2"): "see above",
    ("dead_letter_delivery", "state = 2"): "see above",
    ("park_lane", "state = 2"): "see above",
    ("finish_deliveries", "l.lease_id = a.lease_id"): "said where lanes are locked and again where they move",
    ("lock_lane", "lease_id = $2"): "only waits; the statement that follows asks again",
    ("replay_parked", "lane.state = 3"): "asked above already; here against a lane that went on meanwhile",
}


class Mutant(NamedTuple):
    """A statement that lacks one predicate."""

    file: str
    name: str
    what: str
    sql: str

    def __str__(self) -> str:
        return f"{self.file}.sql {self.name} without {self.what}"


def mutants(file: str = "queue") -> Iterator[Mutant]:
    """Every fence of every statement dropped in turn; what a statement says twice also in both places at once."""
    made = queries(file)
    for name in made:
        if name in ONLY_READ:
            continue
        sql = made[name]
        found = [one for one in _PREDICATE.finditer(sql) if _BEFORE.search(sql[: one.start()])]
        for one in found:
            yield Mutant(file, name, one["what"], _without(sql, [one]))
        for what, times in Counter(one["what"] for one in found).items():
            if times > 1:
                same = [one for one in found if one["what"] == what]
                yield Mutant(file, name, f"{what}, wherever it stands", _without(sql, same))


def _without(sql: str, predicates: list[re.Match[str]]) -> str:
    for one in reversed(predicates):
        kind = {"lease_id": "uuid", "head_seq": "bigint"}.get(one["column"], "smallint")
        # a parameter stays, or the statement would not even be understood
        instead = f"{one['value']}::{kind} is not null" if one["value"].startswith("$") else "true"
        sql = f"{sql[: one.start()]}({instead} /* {one['what']} */){sql[one.end() :]}"
    return sql


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """The statement is the mutant, for whoever asks for it meanwhile."""
    made: Queries = queries(mutant.file)
    right = made._statements[mutant.name]
    made._statements[mutant.name] = mutant.sql
    try:
        yield
    finally:
        made._statements[mutant.name] = right


def noticed_by_model(ground: Ground, mutant: Mutant, examples: int) -> bool:
    """Whether the model tells it from the right one."""
    with mutated(mutant):
        try:
            play(ground, examples=examples, fixed=True, phases=(Phase.generate,))
        except Exception:  # noqa: BLE001
            return True
    return False


def noticed_by_tests(mutant: Mutant, server_dsn: str) -> bool:
    """Whether a test of the queue fails with it."""
    environ = {
        **os.environ,
        "POINTSMAN_TEST_DATABASE_URL": server_dsn,
        "MUTANT": json.dumps(mutant),
        "PYTHONPATH": str(ROOT / "tests"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "mutation.plugin", "-x", "-q", *TESTS],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        check=False,
    )
    return done.returncode == 1
